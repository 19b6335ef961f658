//! L4, the background service: one process per home that runs the engine and serves its socket.
//!
//! # Life cycle
//!
//! ```text
//!  a command ──probe──▶ answers, same version ───────────────────────────▶ use it
//!      │                answers, older, no call up ──▶ stop it ─┐
//!      └─nobody──▶ start lock ──▶ probe again ──▶ spawn `daemon run --detached`
//!                                                     │  one line through the pipe:
//!                                                     ▼  ready, already running, or *its* error
//!  daemon run: home lock ▶ log ▶ engine ▶ settings kept ▶ socket ▶ ready
//!                 … until SIGTERM, SIGINT or a client's `stop` …
//!              socket closed ▶ engine stopped (bounded) ▶ lock released
//! ```
//!
//! # Invariants
//!
//! * However many commands start at once, one daemon lives: starting needs the start lock, running the home lock. One
//!   that comes late says so and touches nothing.
//! * A daemon survives the shell and the process group that started it: it has a session of its own.
//! * A socket that can be connected to is one whose engine is ready.
//! * It stays until it is stopped.

mod connect;
pub mod install;
pub mod keys;
mod line;
mod log;
mod memory;
mod metrics;
mod run;
mod service;
mod stop;

use std::ffi::OsString;
use std::future::Future;

use tokio::sync::watch;

pub use self::connect::{Started, absolute, connect, start};
pub use self::line::Line;
pub use self::log::{Follower, tail};
pub use self::run::{Options, Outcome, run, run_with};
pub use self::service::{Ready, Service, host};
pub use self::stop::{Stopped, probe, stop};
use crate::api::Error;
pub use crate::engine::code::running as running_code;
use crate::engine::{self, Engine, Handle};
use crate::home::{Home, Settings};

/// The version that a daemon and its clients compare.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How this program is started: what to put before `daemon run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The program: this one, or the Python interpreter.
    pub program: OsString,
    /// What comes before our own arguments: for Python, `-m p2p_comm`.
    pub args: Vec<OsString>,
}

/// An engine as the daemon sees it: something to ask, and to stop.
pub trait Hosted: Send + 'static {
    /// How to ask it.
    fn handle(&self) -> Handle;

    /// Changes whenever the settings are taken anew.
    fn reloads(&self) -> watch::Receiver<u64>;

    /// Ends it in order: what was accepted is committed, the presence withdrawn.
    fn stop(self) -> impl Future<Output = ()> + Send;
}

impl Hosted for Engine {
    fn handle(&self) -> Handle {
        Engine::handle(self)
    }

    fn reloads(&self) -> watch::Receiver<u64> {
        Engine::reloads(self)
    }

    async fn stop(self) {
        Engine::stop(&self).await;
    }
}

/// The engine of this home.
fn start_engine(home: Home, settings: Settings) -> Result<Engine, Error> {
    Engine::start(engine::Options { home, settings })
}
