//! L4, the door for clients of A2A 1.0 (Agent2Agent): each agent on Nostr has an address on the loopback, where a stock
//! client finds its card and sends it a message as a task.
//!
//! ```text
//!  client ── SendMessage ──▶ /agents/NAME/ ─▶ call, once it is taken: send ─▶ Line ── socket ──▶ daemon
//!     ▲                                                                        │
//!     └── task: state, history, artifacts ◀── the call, read anew each time ◀──┘
//! ```
//!
//! A **task is a call**: its id is the call's, its context the peer's key. Nothing about it is kept here, so it outlives
//! this process; what waits for the call to be taken is all that is lost with it.
//!
//! | call | task |
//! |---|---|
//! | rings | submitted |
//! | connected, and it is the agent's turn | working |
//! | connected, and the agent has said something | input-required |
//! | the agent hung up | completed |
//! | rejected, busy | rejected |
//! | no answer, lost, failed | failed |
//! | ended by CancelTask | canceled |
//!
//! # Invariants
//!
//! * A web page reaches nothing (`http::guard`), and another user of this machine nothing without the token.
//! * A message of the same id is one call and one message, however often it is sent.
//! * Only calls that were placed from here to that agent are its tasks.

mod cards;
mod incoming;
mod rpc;
mod server;
mod tasks;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tokio::net::TcpListener;

use self::server::Server;
use crate::api::Error;
use crate::daemon::{Launcher, Line};
use crate::http;

/// What the door is opened with.
pub struct Options {
    /// The home, if not the default one.
    pub folder: Option<PathBuf>,
    /// How a daemon is started.
    pub launcher: Launcher,
    /// 0 takes any free one.
    pub port: u16,
    /// Whoever comes needs a token.
    pub guarded: bool,
}

/// A door that is about to be opened.
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
    server: Server,
    token: Option<http::Secret>,
}

impl Door {
    /// Takes a port.
    ///
    /// # Errors
    /// `invalid-value` if the port is taken.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let wanted = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), options.port);
        let (listener, address) = http::listen(wanted).await?;
        let token = options.guarded.then(http::Secret::fresh);
        let line = Line::new(options.folder, options.launcher);
        let server = Server::new(line, format!("http://{address}"), token.clone());
        Ok(Self { listener, address, server, token })
    }

    /// Where it is: the card of the door is below, and `agents/NAME/` for each agent.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What goes behind `Authorization: Bearer`.
    pub fn token(&self) -> Option<&str> {
        self.token.as_ref().map(http::Secret::reveal)
    }

    /// Serves it for ever.
    pub async fn serve(self) {
        let router = http::guard(self.server.router(), http::Names::Loopback(self.address.port()));
        http::serve(self.listener, router).await;
    }
}
