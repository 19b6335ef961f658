//! The call machine of both dialects: one [`Machine`] a call, all of them on a [`Switchboard`]. What is peculiar to the
//! legacy dialect's payloads is in `switchboard`, to the signals of v2 in `signals`; the names below are legacy's.
//!
//! ```text
//!            place                    ┌──────────────── ring time over ──► ended: no-answer
//!   (we) ───────────► ringing, out ───┼─ call_rejected ─────────────────► ended: rejected | busy
//!                          │          └─ hang_up ───────────────────────► ended: cancelled
//!                     call_accepted
//!                          ▼
//!                      connected ─── hang_up | end_call, all received ──► ended: completed
//!                          ▲
//!                       accept
//!                          │          ┌─ ring time over ────────────────► ended: no-answer   (missed)
//!   call_request ───► ringing, in ────┼─ end_call ──────────────────────► ended: cancelled   (missed)
//!                                     └─ reject ────────────────────────► ended: rejected
//! ```
//!
//! Who is let in at all, and who waits, is `door`; what the owner hears of the others, `digest`.
//!
//! Invariants, kept by the property tests:
//! * An ended call stays ended, and its reason with it.
//! * Only the right key, for the right room, in the right state, moves a call. A relay delivers in any order, any
//!   number of times: what comes too early is held back, what comes again changes nothing.
//! * Messages that carry a `seq` are surfaced in its order, each once. A gap is waited for, [`REORDER_TIME`] at
//!   most, and then shown as a gap. What a peer said in a connected call is kept even if it arrives after the end.
//! * Everything to be persisted comes out before the transmission or the event that depends on it.

mod crush;
mod digest;
mod door;
mod machine;
mod signals;
mod switchboard;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use crush::Queue;
pub use digest::{Counts, Digest, Turned};
pub use door::{Admission, Door, Knock, Leaving, QUEUE_LIMIT, WINDOW, makes_room};
pub use machine::{Call, Ended, Machine, Refused};
pub use signals::{Line, Signalled, Standing};
pub use switchboard::{Limits, Myself, Place, Switchboard};

use super::legacy::Payload;
use super::v2::parcel::Parcel;
use super::{CallId, EventKind, Millis, PublicKey};
use super::{MessageId, MessageKind};

/// How long a call rings. The deployed agents give up after 60 s.
pub const RING_TIME: Duration = Duration::from_secs(60);
/// How many calls are up at once by default; the next caller hears that we are busy. An agent that talks to more
/// peers at a time than this is a rare one, and can raise it.
pub const MAX_CALLS: usize = 16;
/// How much longer a ring is kept here than the caller waits: two clocks, and a relay between them. A deployed
/// caller takes a late `call_accepted`; one of ours takes its ring back by itself.
pub const RING_GRACE: Duration = Duration::from_secs(30);
/// How long a missing message is waited for before those after it are shown. A sender publishes in order and tries
/// again for as long as it lives, so a gap is a relay's reordering (milliseconds) or its loss (for good).
pub const REORDER_TIME: Duration = Duration::from_secs(30);
/// How long a call that the peer ended waits for messages that the peer sent before.
pub const CLOSING_TIME: Duration = Duration::from_secs(10);
/// Most entries held back a call, for their order or for its answer. Honest peers stay far below.
pub const HELD_LIMIT: usize = 256;
/// The same in v2, where only mail is held back: what a whole queue of the peer's comes to, which relays hand out in
/// no order at all.
pub const HELD_LIMIT_V2: usize = super::v2::delivery::QUEUE_ENTRIES;

/// Something a peer said in a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id: the peer's own, or made from the event's id.
    pub id: MessageId,
    /// Its place in the peer's direction of the call. Only peers of ours number theirs.
    pub seq: Option<u64>,
    /// When the peer signed it.
    pub at: Millis,
    /// What it is.
    pub content: Content,
}

/// What a peer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Words.
    Text(String),
    /// A file, its bytes still in base64.
    File {
        /// The name, as the peer says.
        name: String,
        /// MIME type, as the peer says.
        mime: String,
        /// Base64.
        bytes: String,
    },
    /// A file that is elsewhere, and is to be fetched before it is shown.
    Parcel(Box<Parcel>),
    /// A file that was fetched, and is on this disk.
    Kept {
        /// Its name here.
        name: String,
        /// What its row says of it, JSON.
        file: String,
    },
    /// The peer asks its owner.
    Escalation(String),
    /// The peer tells what its owner decided. A peer's words, like all of them.
    OwnerSaid(String),
}

impl Content {
    /// The kind of message that it makes.
    pub fn kind(&self) -> MessageKind {
        match self {
            Self::Text(_) => MessageKind::Text,
            Self::File { .. } | Self::Parcel(_) | Self::Kept { .. } => MessageKind::File,
            Self::Escalation(_) => MessageKind::Escalation,
            Self::OwnerSaid(_) => MessageKind::System,
        }
    }
}

/// What the outside world has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Persist the call as it is now.
    Save(CallId),
    /// Persist the numbers of what was said in it, which have risen: nothing else of it has changed.
    Number(CallId),
    /// Persist what the peer said; show it, or hold it back.
    Store {
        /// The call.
        call: CallId,
        /// What was said.
        entry: Entry,
        /// Show it now.
        surfaced: bool,
    },
    /// Persist that something held back is shown now.
    Surface {
        /// The call.
        call: CallId,
        /// What is shown.
        message: MessageId,
    },
    /// Persist that something held back will never be shown: its call was never answered.
    Discard {
        /// The call.
        call: CallId,
        /// What is dropped.
        message: MessageId,
    },
    /// Sign, persist, publish.
    Transmit {
        /// The call.
        call: CallId,
        /// Who gets it.
        to: PublicKey,
        /// What it says.
        payload: Payload,
    },
    /// Seal, wrap, send: a signal of the v2 dialect. What needs keys is added outside.
    Signal {
        /// The call.
        call: CallId,
        /// What it says.
        signal: Signalled,
    },
    /// Persist that the peer knows the call by this name too.
    Alias {
        /// The call.
        call: CallId,
        /// The other name.
        room: String,
    },
    /// Persist an event, and wake whoever waits for it.
    Event {
        /// The call.
        call: CallId,
        /// What happened.
        kind: EventKind,
        /// A command of this side made it happen: whoever gave the command knows.
        own: bool,
    },
}

/// What became of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It moved a call, or was kept.
    Taken,
    /// It changes nothing, for this reason. Worth a DEBUG line.
    Dropped(&'static str),
}
