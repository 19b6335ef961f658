//! How much of files may be under way on one way: as much as leaves room for others (LEDBAT, RFC 6817, by round trips).
//!
//! What is under way beyond what a way holds stands in a queue somewhere on it: a socket, an uplink, a relay. A text that
//! is said then stands behind it. So the round trip is watched: by how much it is above the shortest one is what the queue
//! takes, and that is kept near [`QUEUE`].
//!
//! A queue keeps its order and loses nothing. A way on which frames overtake each other, or many of them never arrive,
//! delays them for another reason, which a smaller window does not help: round trips say nothing until enough frames
//! have come in their turn.
//!
//! ```text
//!   start: twice as much each round trip ── a queue is seen ──► a little more each round trip without a queue,
//!                                                               a little less with one, half if it is long
//! ```

use std::time::Duration;

use super::WINDOW_BYTES;
use crate::proto::Millis;

/// What the queue of files may take: RFC 6817's figure. A talk hardly notices it.
const QUEUE: Duration = Duration::from_millis(100);
/// A frame with a piece of a file, padded.
const FRAME: usize = 32 << 10;
/// What may always be under way, and before anything has come back: one frame on the way while the peer commits another.
const LEAST: usize = 2 * FRAME;
/// What may be under way on a way whose round trips say nothing: 512 KiB. More would be lost at once where a relay hangs
/// up, and less would not be enough where a second goes by until something comes back.
const LOSSY: usize = 16 * FRAME;
/// How many frames in their turn make up for one out of its turn: a way that loses less than every ninth is a queue.
const OUT_OF_TURN: u32 = 8;
/// From here on, two frames out of turn lately, a way is none.
const DISORDER: u32 = 2 * OUT_OF_TURN;
/// How many frames in their turn it takes at most until round trips are believed again.
const ORDERLY: u32 = 64;
/// For how long the shortest round trip is believed, at least; for twice as long at most. A way that has become longer
/// looks like a queue until then.
const BELIEVED: Duration = Duration::from_secs(120);

/// Frames of one way that an acknowledgement is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landed {
    /// All of them.
    pub(super) bytes: usize,
    /// When the newest one had left, and its size.
    pub(super) sent_at: Millis,
    pub(super) size: usize,
    /// How long it took, without the peer's commit.
    pub(super) round_trip: Duration,
}

/// The window of one way.
#[derive(Debug, Clone)]
pub(super) struct Window {
    limit: usize,
    under_way: usize,
    starting: bool,
    /// By how much the last round trip was longer than the shortest.
    queue: Duration,
    /// The shortest round trip, lately and in the time before.
    shortest: [Option<Duration>; 2],
    turned_at: Option<Millis>,
    /// When it was halved last: what had left before says the same once more.
    halved_at: Option<Millis>,
    /// How many frames have to come in their turn until there is nothing to make up for.
    disorder: u32,
    /// Its round trips say something about a queue.
    orderly: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            limit: LEAST,
            under_way: 0,
            starting: true,
            queue: Duration::ZERO,
            shortest: [None; 2],
            turned_at: None,
            halved_at: None,
            disorder: 0,
            orderly: true,
        }
    }
}

impl Window {
    /// Whether one more frame may leave.
    pub(super) fn has_room(&self) -> bool {
        self.under_way + FRAME <= if self.orderly { self.limit } else { self.limit.max(LOSSY) }
    }

    /// Whether frames keep their order on this way, and arrive.
    pub(super) fn is_orderly(&self) -> bool {
        self.orderly
    }

    /// A frame has left.
    pub(super) fn left(&mut self, bytes: usize) {
        self.under_way += bytes;
    }

    /// A frame is acknowledged, or taken for lost.
    pub(super) fn landed(&mut self, bytes: usize) {
        self.under_way = self.under_way.saturating_sub(bytes);
    }

    /// A frame is acknowledged: in its turn, or after one that left later, or while the one before it is still missing.
    pub(super) fn arrived(&mut self, in_turn: bool) {
        self.disorder = match in_turn {
            true => self.disorder.saturating_sub(1),
            false => (self.disorder + OUT_OF_TURN).min(ORDERLY),
        };
        self.orderly = self.disorder == 0 || self.orderly && self.disorder < DISORDER;
    }

    /// Frames are acknowledged; they count as under way no more.
    pub(super) fn came(&mut self, landed: Landed, now: Millis) {
        // A shorter frame has a shorter round trip, which says nothing about the others.
        if !self.orderly || landed.size < FRAME {
            return;
        }
        self.turn(landed.round_trip, now);
        let shortest = self.shortest.into_iter().flatten().min().unwrap_or(landed.round_trip);
        let queue = landed.round_trip.saturating_sub(shortest);
        self.queue = queue;
        if queue >= QUEUE * 2 || self.starting && queue >= QUEUE {
            return self.halve(landed.sent_at, now);
        }
        // What nobody used has not been tried.
        if (self.under_way + landed.bytes) * 2 < self.limit {
            return;
        }
        if self.starting {
            self.limit = (self.limit + landed.bytes).min(WINDOW_BYTES);
        } else {
            // By one frame each round trip, if there is no queue at all.
            let room = 1.0 - queue.as_secs_f64() / QUEUE.as_secs_f64();
            let step = room * (FRAME * landed.bytes) as f64 / self.limit as f64;
            self.limit = ((self.limit as f64 + step) as usize).clamp(LEAST, WINDOW_BYTES);
        }
    }

    /// A frame is taken for lost, which left then. A relay loses frames for many reasons; without a queue it was not ours.
    pub(super) fn lost(&mut self, sent_at: Millis, now: Millis) {
        if self.orderly && self.queue >= QUEUE {
            self.halve(sent_at, now);
        }
    }

    fn halve(&mut self, sent_at: Millis, now: Millis) {
        if self.halved_at.is_none_or(|at| at < sent_at) {
            (self.limit, self.starting) = ((self.limit / 2).max(LEAST), false);
            self.halved_at = Some(now);
        }
    }

    fn turn(&mut self, round_trip: Duration, now: Millis) {
        if self.turned_at.is_none_or(|at| now.since(at) >= BELIEVED) {
            self.turned_at = Some(now);
            self.shortest = [None, self.shortest[0]];
        }
        let lately = &mut self.shortest[0];
        *lately = Some(lately.map_or(round_trip, |shortest| shortest.min(round_trip)));
    }
}
