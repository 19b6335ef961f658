//! L0, pure: the names of things, wire payloads, the call machine. No clock, no randomness, no IO, no async; the
//! time is always the last argument.

pub mod authority;
pub mod call;
mod card;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod ids;
pub mod legacy;
mod lookalike;
mod names;
pub mod presence;
mod quiet;
pub mod rotation;
mod secret;
pub mod text;
mod time;
mod trace;
pub mod v2;
mod words;

pub use card::{CARD_LIMIT, Card, DESCRIPTION_LIMIT, SKILLS_LIMIT, Skill, read_skill};
pub use ids::{CallId, EventId, Hex, MessageId, NotHex, PublicKey, TicketId, fingerprint};
pub use lookalike::skeleton;
pub use names::{NAME_LIMIT, safe_file_name};
pub use quiet::{NoHours, QuietHours};
pub use rotation::Rotation;
pub use secret::{SecretText, wipe};
pub use time::Millis;
pub use trace::{NoTraceParent, TRACE_LENGTH, TraceParent};
pub use words::{
    CallState, Direction, Durability, EndReason, EventKind, MessageKind, MessageState, Protocol, Sender,
    StrangerPolicy, TicketState, Tier,
};
