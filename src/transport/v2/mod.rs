//! The v2 dialect on relays (`docs/protocol.md`, from "v2 signalling" on).
//!
//! ```text
//!   identity ── Pool ───────── presence, inbox relays (10050), gift wraps to us (1059), NIP-42
//!   session keys ── SessionPool ── frames and ephemeral wraps (21059), the inbox relays of a peer (10050), wraps to
//!                                  them; no identity
//!
//!   invite:  Rumor ─ seal_wrap ─▶ 1059 ─▶ callee        key S_a, Noise message 1, relays
//!   accept:  caller ◀─ 21059 to S_a ◀─ seal_wrap        key S_b, Noise message 2, handshake hash
//!            Initiator::finish ─▶ Session ◀─ handshake::respond
//!   frames:  plaintext ─ Session::seal ─▶ 21059 by S_a to S_b ─▶ Session::read, Session::open ─▶ plaintext
//!   mail:    Rumor of kind 14 or 15 ─ seal_wrap ─▶ 1059, with fuzzed times
//! ```
//!
//! Invariants:
//! * The [`SessionPool`] never holds the identity: what it publishes is signed by throw-away keys, and where a relay
//!   wants to know who it is, the answer is a key made for that link.
//! * A [`SessionKey`] and the keys of a [`Session`] exist in memory only. They are not cloned, printed or stored, and
//!   are overwritten when dropped.
//! * What a relay delivers was verified at the gate; what is inside a wrap is verified by [`open_wrap`], all of it,
//!   before anything of it is returned.

mod bucket;
mod budget;
mod cipher;
pub mod handshake;
pub mod inbox;
pub mod mail;
#[cfg(test)]
mod nip44;
mod pool;
mod session;
#[cfg(test)]
mod vectors;
mod work;
mod wrap;

pub(super) use self::bucket::Allowance;
pub use self::budget::DecryptBudget;
pub use self::cipher::CipherError;
pub use self::handshake::{HandshakeError, Initiator, Terms};
pub use self::pool::{SessionOptions, SessionPool, TooManyKeys, Way};
pub(super) use self::session::is_frame;
pub use self::session::{Session, SessionError, SessionEvent, SessionKey};
pub use self::work::{MOST_WORK, mine_within};
pub use self::wrap::{
    Opened, Rumor, Sealed, Wrap, WrapError, WrapKind, WrapOptions, largest_rumor, open_wrap, seal_wrap,
};
