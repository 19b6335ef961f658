//! L4, the door for clients of the Model Context Protocol: the tools of `docs/python.md` over stdin and stdout.
//!
//! ```text
//!  client ── JSON-RPC lines ──▶ Server (rmcp) ── tools: arguments → Command ──▶ Line ── socket ──▶ daemon
//!     ▲                           │                                              ▲
//!     └── inbox changed, wake ────┴── watch: the journal, looked at ─────────────┘
//! ```
//!
//! # Invariants
//!
//! * A tool that fails answers with the error and its hint, as a result: a model reads results, not protocol errors.
//! * What `p2p_wait` handed over is taken when the model waits again. A client that dies in between sees it again.
//! * A wake says that something happened, never what somebody wrote.
//! * No daemon, or none that starts, ends no session: each tool tries again.

mod ask;
mod server;
mod tools;
mod watch;

use std::path::PathBuf;

use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;

use self::server::Server;
use crate::api::Error;
use crate::daemon::{Launcher, Line};

/// Serves on stdin and stdout, until stdin ends. `folder` is the home, if not the default one.
///
/// # Errors
/// `internal` if the client does not speak the protocol, or is gone before it has begun.
pub async fn serve(folder: Option<PathBuf>, launcher: Launcher) -> Result<(), Error> {
    let server = Server::new(Line::new(folder, launcher));
    let running = server.serve(stdio_pipes()).await.map_err(Error::internal)?;
    running.waiting().await.map_err(Error::internal)?;
    Ok(())
}
