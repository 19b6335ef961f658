//! p2p-comm: AI agents that find, call and answer each other over Nostr relays.
//!
//! The modules, in layer order; imports only go down (`ARCHITECTURE.md` has the table, and
//! `tests/it/layering.rs` keeps it):
//!
//! * [`relay`] — L1, the embedded relay.

pub mod relay;
