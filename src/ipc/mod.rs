//! L3, the socket: JSON-RPC 2.0, one JSON object a line, so that a program in any language can drive the engine of a
//! home (`docs/ipc.md` is the contract).
//!
//! ```text
//!  client process                                process that runs the engine
//!  Client ── lines ──▶ Unix socket ──▶ Server ── connection ──▶ engine::Handle
//!     ◀───────────────────────────────────┘  one task a connection, one a request in flight
//! ```
//!
//! # Invariants
//!
//! * Only the user who runs the engine is served, whatever the file modes say.
//! * The requests of one connection reach the engine in the order in which they came; they are answered as they are
//!   done. When the connection ends, so do the waits that it asked for.
//! * Whatever a client does costs bounded memory, and nobody but itself its service: a line, the requests in flight and
//!   the connections have limits, and who does not read is disconnected.
//! * A client whose request was not answered knows whether the daemon said no, or is gone ([`Lost`]).

mod client;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod lines;
mod server;
mod wire;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::client::{Client, Lost, Submitted};
pub use self::server::Server;
use crate::api::AgentSelf;

/// Longest request line. A text of 1 MiB (the longest that any dialect carries) in which JSON escapes every byte takes
/// 6 MiB; larger files go by path.
pub const REQUEST_LIMIT: usize = 8 * 1024 * 1024;
/// Longest reply line that a client takes: a transcript of thousands of long messages.
const REPLY_LIMIT: usize = 256 * 1024 * 1024;
/// Requests of one connection that wait for their reply; further ones are read when one of these is done.
pub const IN_FLIGHT_LIMIT: usize = 256;
/// Connections at once, and at most a quarter of the descriptors that the process may have: an agent with its hooks and
/// waits uses a handful, and the relays, the database and files need theirs.
pub const CONNECTIONS_LIMIT: usize = 256;
/// How long a daemon has to answer `hello` (docs/guarantees.md: a stopped process is noticed in 5 s).
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a command that does not block may take: relays have 10 s, and a slow disk some more.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How much later than its own timeout a blocking command may answer.
const BLOCKING_SLACK: Duration = Duration::from_secs(10);

/// Who serves a socket: the answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the package.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// The home folder.
    pub home: String,
    /// The agent.
    pub agent: AgentSelf,
}
