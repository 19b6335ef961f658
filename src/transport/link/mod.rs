//! One relay, one actor.
//!
//! ```text
//!              ┌───────────── backoff 0.25 s … 12 s, jittered ◀─────────────┐
//!              ▼                                                            │
//!   start ─▶ dial ─▶ TCP, TLS, WebSocket ─▶ conversation ─▶ lost, mute, lying, clock jumped
//!                                                │
//!                                              stop ─▶ drain ≤ 2 s ─▶ closed
//! ```
//!
//! | file | what | pure |
//! |---|---|---|
//! | `actor` | dials, reads, writes, waits; the only place with a socket and a clock | |
//! | `conversation` | one connection's protocol: frames and times in, frames and deliveries out | yes |
//! | `subscription` | one class: the open REQ, stored pages, order | yes |
//! | `paging` | how to walk back through what a relay stored | yes |
//! | `auth` | NIP-42 | yes |
//! | `echo` | whether a relay carries live events | yes |
//! | `lookup` | one-shot questions | yes |
//! | `outbox` | what waits to be published, in order, each until its OK | yes |
//! | `frames` | what is published without waiting for an OK | yes |
//! | `desk` | what the actor shares with the pool, behind one short lock | yes |
//! | `socket` | TCP with NODELAY and QUICKACK, TLS, limits | |
//!
//! **Backpressure.** What comes in is handed over through the engine's bounded channel. While that is full the
//! actor does not read its socket, so the relay feels it; nothing is dropped for lag. It still writes and still
//! hears the pool. The relay's deadlines stand still meanwhile, and as a relay may drop what it cannot send, a long
//! stall is followed by asking for the stored events again.
//!
//! **Roles.** A link is the identity's or carries sessions, never both. A link for sessions has a key of its own for
//! NIP-42, one REQ for whatever session keys the pool listens for at the moment, and publishes frames that wait for
//! nothing; it tells the engine neither of its comings and goings nor of a frame's fate, but that its keys are heard
//! (`Synced`), each time that they are. It proves by itself that the relay carries what it is for.
//!
//! **Order.** Within one link: stored messages oldest first, then live ones; `Synced` after what it speaks of;
//! events of ours in the order of their publishing, one at a time.

mod actor;
mod auth;
mod conversation;
mod desk;
mod echo;
mod frames;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod lookup;
mod outbox;
mod paging;
mod socket;
mod subscription;

use std::time::{SystemTime, UNIX_EPOCH};

use nostr_sdk::secp256k1::rand;
use tokio::time::Instant;

pub(super) use self::actor::{Actor, Command, Control};
pub use self::desk::Counters;
pub(super) use self::desk::{Link, Role, Standing};
pub(super) use self::subscription::Waiter;
use super::inbound::Inbound;
use super::question::Told;
use crate::proto::Hex;

/// A clock that is off by less is as right as a `Date` header can tell: whole seconds, and a slow handshake.
pub(super) const CLOCK_SLACK_S: f64 = 5.0;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// For waiting.
    pub instant: Instant,
    /// For `created_at`: seconds since 1970.
    pub unix: u64,
}

impl Now {
    pub(super) fn read() -> Self {
        // A clock before 1970 is as wrong as a clock can be; the relays will say so.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { instant: Instant::now(), unix }
    }

    /// The same moment by the clock of somebody who is so many seconds ahead: what it is told is dated by its clock, so
    /// that it is taken although ours is wrong. The fraction of a second that every clock is off changes nothing.
    fn by_clock(self, ahead_s: Option<f64>) -> Self {
        match ahead_s.filter(|ahead| ahead.abs() >= CLOCK_SLACK_S) {
            Some(ahead) => Self { unix: self.unix.saturating_add_signed(ahead as i64), ..self },
            None => self,
        }
    }
}

/// Something for the engine's channel, in order.
#[derive(Debug)]
enum Delivery {
    Inbound(Inbound),
    /// What a refresh waits for is in the channel, or a page of it.
    Answered(Waiter, Told),
}

/// Why a conversation is over.
#[derive(Debug, thiserror::Error)]
enum Leave {
    #[error("the relay closed the connection")]
    Closed,
    #[error("connection lost: {0}")]
    Lost(String),
    #[error("the relay did not answer a published event")]
    Mute,
    #[error("no sign of life")]
    Silent,
    #[error("the relay does not read what it is sent")]
    Stuck,
    #[error("the relay alters events")]
    Tampered,
    #[error("dialled anew on purpose")]
    Redial,
    #[error("stopped")]
    Stopped,
}

impl Leave {
    /// Whether it was our wish, not the relay's doing.
    fn is_ours(&self) -> bool {
        matches!(self, Self::Redial | Self::Stopped)
    }

    /// Whether dialling again at once would meet the same: the backoff goes on growing.
    fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::Mute | Self::Tampered | Self::Stuck)
    }
}

/// A name that no relay can guess.
fn random_name() -> String {
    Hex(rand::random::<[u8; 8]>()).to_string()
}
