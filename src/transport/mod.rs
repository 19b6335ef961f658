//! L1: relays. The only user of `nostr_sdk` beside `relay`: its event types, its cryptography, its filters. Its
//! relay pool is not used (`docs/decisions/0001-relay-links.md`).
//!
//! ```text
//!                    publish ┌──────────┐ queue ┌──────┐  frames   ┌───────┐
//!   engine ────────────────▶ │   Pool   │ ────▶ │ Link │ ────────▶ │ relay │
//!      ▲                     └──────────┘       │      │ ◀──────── │       │
//!      └──── Inbound, bounded, in order ─────── │ gate │           └───────┘
//!                                               └──────┘  one link a relay
//! ```
//!
//! A [`Pool`] holds one link for each relay (`link/`, whose module text tells the life of one). What comes in passes
//! one gate (`ingest`): asked for, whole, signed, new; then it is decrypted and goes to the engine as [`Inbound`].
//! What goes out is made once by [`legacy::seal`] or [`presence::sign`], is stored by the engine, and published byte
//! for byte until a relay says OK.
//!
//! The v2 dialect has a folder of its own, `v2`: wraps, sessions, and a second pool whose links carry nothing but
//! sessions.
//!
//! Payloads are texts here: what is in them is the engine's. There is no state here that a crash could lose: what
//! was not journalled is fetched again, what got no OK is published again.

pub mod blossom;
mod class;
mod clock;
mod frame;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod identity;
mod inbound;
mod ingest;
mod leak;
pub mod legacy;
mod link;
mod pool;
pub mod presence;
mod question;
pub mod rotation;
mod signed;
mod spelling;
mod status;
#[cfg(test)]
mod tests;
mod tuning;
mod url;
pub mod v2;
mod words;

pub use class::Class;
pub use clock::Clock;
pub use identity::{Identity, KeyError, npub, parse_key};
pub use inbound::{Inbound, InboxList, Outcome, Published, Whereabouts};
pub use ingest::Seen;
pub use leak::LeakSearch;
pub use link::Counters;
pub use pool::{Options, Pool};
pub use signed::{MAX_EVENT, SealError, Signed};
pub use spelling::{ENCRYPTED_PREFIX, PLAIN_PREFIX, SpellingError};
pub use status::joined;
pub use tuning::Tuning;
pub use url::{BadRelayUrl, RelayId, foreign_relay_allowed, is_public};
