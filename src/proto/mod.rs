//! L0, pure: the names of things, wire payloads, the call machine. No clock, no randomness, no IO, no async; the
//! time is always the last argument.

mod ids;
mod time;

pub use ids::{CallId, EventId, Hex, MessageId, NotHex, PublicKey, TicketId};
pub use time::Millis;
