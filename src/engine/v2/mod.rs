//! Calls of the v2 dialect: signals in gift wraps, a session of throw-away keys, a mailbox for what a call left unsaid.
//!
//! ```text
//!   1059 wrap ──► backlog ──► opened ──► signal ──► switchboard ──► Output::Signal ──► wrapped, sent
//!                 (budget)          └──► mail ────► journal
//!   21059 to a session key ──► accept ──► handshake ──► Talk ◄──► delivery machine ──► frames
//! ```
//!
//! The switchboard (`proto::call::signals`) decides; here are the keys. What lives only in memory, and why that is
//! enough:
//!
//! | what | lost in a crash | then |
//! |---|---|---|
//! | an offer of ours: its handshake and session key | yes, on purpose | a new one, a generation higher |
//! | a session's keys | yes, on purpose | `resume`: a new handshake, the same streams |
//! | what was said and not acknowledged | no: rows of `entries` | goes out under the new keys, the same ids |
//! | wraps that wait to be opened | yes | not marked as seen: the relay hands them out again |
//!
//! Rooms: `signals` (out and in), `wraps` (what waits to be opened), `talks` (calls' conversations and what comes of
//! them), `frames` (theirs, in and out), `files`, `arrivals` (files of the peer), `pace` (how fast they move), `mail`, `parcels` (its larger files), `peers` (who speaks what, and
//! where they read their wraps).

mod arrivals;
mod files;
#[cfg(test)]
mod files_tests;
mod frames;
mod mail;
mod pace;
mod parcels;
mod peers;
mod schedule;
mod signals;
mod talks;
#[cfg(test)]
mod tests;
mod wraps;

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use tokio::time::Instant;

pub(super) use self::mail::mail_to;
pub(super) use self::parcels::parcel_file;
pub(super) use self::peers::{Dialect, nowhere};

use self::arrivals::Arrival;
use self::pace::Paces;
use self::parcels::Parcels;
use self::peers::Lookup;
use self::schedule::Talks;
use self::signals::{Answered, Pending};
use self::wraps::Backlog;
use crate::proto::call::Line;
use crate::proto::{CallId, EventId, MessageId, PublicKey, TraceParent};
use crate::transport::Signed;
use crate::transport::v2::{DecryptBudget, Rumor};

/// Wraps that are being mined at a time: each has a core to itself for up to some seconds.
const MINING: usize = 16;

/// A wrap to somebody's inbox, before it is sealed.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Letter {
    /// Whose inbox.
    pub to: PublicKey,
    /// What is in it.
    pub rumor: Rumor,
    /// Where it is published: addresses as their owner wrote them.
    pub relays: Vec<String>,
    /// Bits of proof of work.
    pub work: u8,
    /// Its time is no secret, or is (mail).
    pub dated: bool,
    /// What it is about.
    pub about: About,
}

impl Letter {
    /// The call that it belongs to; all zeros outside of any.
    fn call(&self) -> CallId {
        match self.about {
            About::Offer(call) | About::Kept { call, .. } => call,
        }
    }
}

/// What a letter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum About {
    /// An offer of this call: made anew after a crash, so it is not kept.
    Offer(CallId),
    /// What is kept until a relay has it.
    Kept {
        /// The call; all zeros outside of any.
        call: CallId,
        /// The message; none for a signal.
        message: Option<MessageId>,
    },
}

/// A letter that was sealed elsewhere, since its proof of work took long.
#[derive(Debug)]
pub(in crate::engine) struct Mined {
    pub letter: Letter,
    pub sealed: Result<Signed, String>,
}

/// Everything of v2 that lives only in memory.
pub(in crate::engine) struct Lines {
    /// Calls that are up, or drain.
    talks: Talks,
    /// Offers of ours that wait for their acceptance.
    offers: BTreeMap<CallId, Pending>,
    /// What we answered to offers, to be said again.
    answers: BTreeMap<CallId, Answered>,
    /// Whose each session key is.
    keys: BTreeMap<PublicKey, CallId>,
    /// Published offers, and the relays that refused each.
    published: BTreeMap<EventId, (CallId, usize)>,
    backlog: Backlog,
    /// For wraps to session keys, which relays know and could flood.
    answer_budget: DecryptBudget,
    lookups: BTreeMap<PublicKey, Lookup>,
    /// Files of peers that are being written.
    arrivals: BTreeMap<(CallId, MessageId), Arrival>,
    /// Of rings of ours that are being placed: their row is not there yet.
    pub(in crate::engine) traces: BTreeMap<CallId, TraceParent>,
    /// Those that are all here and are being checked.
    keeping: BTreeSet<(CallId, MessageId)>,
    /// When each last had a piece more than before.
    moved: BTreeMap<(CallId, MessageId), Instant>,
    paces: Paces,
    /// Files that go by a server of blobs.
    pub(in crate::engine) parcels: Parcels,
    /// Which handshake each call's row has: a row is written when that changes, not with each message.
    saved: BTreeMap<CallId, (u32, Option<EventId>, bool)>,
    /// When a relay lets a frame through again.
    pump_at: Option<Instant>,
    /// Handshakes are to be begun for whatever has none: after a start, and after a batch was lost.
    renew: bool,
    mined: mpsc::Sender<Mined>,
}

impl Lines {
    /// With nothing in it, and the channel by which mined wraps come back.
    pub(in crate::engine) fn new() -> (Self, mpsc::Receiver<Mined>) {
        let (mined, inputs) = mpsc::channel(MINING);
        let lines = Self {
            talks: Talks::default(),
            offers: BTreeMap::new(),
            answers: BTreeMap::new(),
            keys: BTreeMap::new(),
            published: BTreeMap::new(),
            backlog: Backlog::default(),
            answer_budget: DecryptBudget::default(),
            lookups: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            traces: BTreeMap::new(),
            keeping: BTreeSet::new(),
            moved: BTreeMap::new(),
            paces: Paces::default(),
            parcels: Parcels::default(),
            saved: BTreeMap::new(),
            pump_at: None,
            renew: true,
            mined,
        };
        (lines, inputs)
    }

    /// Whether a line differs from its row; it is the row's from now on.
    pub(in crate::engine) fn is_new(&mut self, id: &CallId, line: &Line) -> bool {
        let row = (line.generation, line.offer.as_ref().map(|offer| offer.rumor), line.ours);
        self.saved.insert(*id, row) != Some(row)
    }

    /// Rows may have been rolled back.
    pub(in crate::engine) fn forget_saved(&mut self) {
        self.saved.clear();
    }
}
