//! p2p-comm: AI agents that find, call and answer each other over Nostr relays.
//!
//! The modules, in layer order; imports only go down (`ARCHITECTURE.md` has the table, and
//! `tests/it/layering.rs` keeps it).

// Below all: bugs planted on purpose, and nothing at all without the feature `mutants`.
mod mutants;
// And marks that only benchmarks listen to.
#[macro_use]
pub mod stage;
// L0: pure.
pub mod proto;
// L1: the vocabulary, and what touches the world.
pub mod api;
pub mod home;
pub mod http;
pub mod relay;
pub mod store;
pub mod transport;
// L2: where everything meets.
pub mod engine;
pub mod owner;
// L3: the socket, and what is done when something happens.
pub mod ipc;
pub mod wake;
// L4: the front ends.
pub mod a2a;
pub mod cli;
pub mod daemon;
pub mod dashboard;
pub mod mcp;
#[cfg(feature = "python")]
mod py;
// What strangers can send, for tests.
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
