//! Frames of ours: what is under way, what is lost, how long a round trip takes (RFC 9002, much simplified).
//!
//! ```text
//!            acknowledged ──────────────────────────────► settled
//!   sent ──┤                                                ▲
//!            three later ones acknowledged, or too long ──► lost   (its entries go out again in another frame)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::paths::Paths;
use super::window::Landed;
use super::{Key, LOSS_TIME, LOSS_TIME_LIMIT, WINDOW_BYTES, WINDOW_FRAMES};
use crate::proto::Millis;
use crate::proto::v2::batch::Ack;
use crate::proto::v2::frame::PLAINTEXT_LIMIT;

/// A frame is lost when this many later ones have been acknowledged (RFC 9002, 6.1.1): less is reordering.
const REORDER_FRAMES: usize = 3;
/// Most frames remembered: an acknowledgement that comes after its frame was given up still counts.
const SENT_LIMIT: usize = 2_048;
/// Frames sent after the loss timer fired, before it fires again: a peer that is gone costs two frames in 30 s.
const PROBES: u8 = 2;

/// A frame that has left and is not acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) at: Millis,
    pub(super) size: usize,
    pub(super) epoch: u64,
    pub(super) entries: Vec<Key>,
    pub(super) ping: bool,
    /// The largest number that it acknowledged.
    pub(super) reported: Option<u64>,
    /// The way that it went; none for two at once.
    pub(super) path: Option<u8>,
    /// The frame that went the same way before it.
    pub(super) after: Option<u64>,
}

/// Adds a number to the largest ones.
fn keep_largest(top: &mut Vec<u64>, number: u64) {
    top.push(number);
    top.sort_unstable_by(|one, other| other.cmp(one));
    top.truncate(REORDER_FRAMES);
}

impl Sent {
    fn is_eliciting(&self) -> bool {
        self.ping || !self.entries.is_empty()
    }
}

/// The frames sent in one handshake.
#[derive(Debug, Clone, Default)]
pub(super) struct Flight {
    next: u64,
    sent: BTreeMap<u64, Sent>,
    /// Frames with entries, neither acknowledged nor lost.
    under_way: BTreeSet<u64>,
    bytes: usize,
    /// The largest acknowledged numbers, largest first.
    top: Vec<u64>,
    /// The same for each way: one may be quicker than another, and what has passed by on it says nothing.
    tops: BTreeMap<Option<u8>, Vec<u64>>,
    /// The newest frame of each way that a file takes.
    newest: BTreeMap<u8, u64>,
    paths: Paths,
    smoothed: Option<Duration>,
    /// How often the loss timer fired since the peer was last heard.
    backoff: u32,
    probes: u8,
}

impl Flight {
    /// The number of the next frame.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The smoothed round trip.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.smoothed
    }

    /// How many frames with entries are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Whether this frame is under way.
    pub(super) fn is_under_way(&self, number: u64) -> bool {
        self.under_way.contains(&number)
    }

    /// Whether the window has room for a frame with entries.
    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < WINDOW_FRAMES
            && self.bytes + PLAINTEXT_LIMIT <= WINDOW_BYTES
            && (self.backoff == 0 || self.probes > 0)
    }

    /// A frame leaves. Returns frames that are forgotten for it while still under way.
    pub(super) fn send(&mut self, sent: Sent) -> Vec<Sent> {
        if sent.is_eliciting() {
            self.under_way.insert(self.next);
            self.bytes += sent.size;
            self.probes = self.probes.saturating_sub(1);
        }
        self.sent.insert(self.next, sent);
        self.next += 1;
        let mut lost = Vec::new();
        while self.sent.len() > SENT_LIMIT
            && let Some((number, sent)) = self.sent.pop_first()
        {
            if self.land(number, &sent) {
                lost.push(sent);
            }
        }
        lost
    }

    /// It is not under way any more. `false` if it was not.
    fn land(&mut self, number: u64, sent: &Sent) -> bool {
        let was_under_way = self.under_way.remove(&number);
        if was_under_way {
            self.bytes -= sent.size;
            self.paths.landed(sent.path, sent.size);
        }
        was_under_way
    }

    /// The frames that are acknowledged for the first time.
    pub(super) fn acknowledge(&mut self, ack: &Ack, now: Millis) -> Vec<Sent> {
        let numbers: Vec<u64> = ack
            .ranges
            .iter()
            .flat_map(|range| self.sent.range(range.clone()).map(|(number, _)| *number))
            .collect();
        let taken: Vec<(u64, Sent)> =
            numbers.into_iter().filter_map(|number| Some((number, self.sent.remove(&number)?))).collect();
        let (mut acknowledged, mut landed) = (Vec::new(), BTreeMap::new());
        let before = self.tops.clone();
        for (number, sent) in taken {
            let first = self.land(number, &sent);
            let overtaken = |top: &Vec<u64>| top.first().is_some_and(|top| number < *top);
            let is_late = before.get(&sent.path).is_some_and(overtaken);
            let is_early = sent.after.is_some_and(|after| self.sent.contains_key(&after));
            self.paths.arrived(sent.path, !is_late && !is_early);
            // One that was given up too early measures as well: otherwise a way that is slow would never be known to be.
            if sent.path.is_some() {
                let round_trip = now.since(sent.at).saturating_sub(ack.delay);
                let this = Landed { bytes: 0, sent_at: sent.at, size: sent.size, round_trip };
                let (newest, all) = landed.entry(sent.path).or_insert((number, this));
                if number > *newest {
                    (*newest, *all) = (number, Landed { bytes: all.bytes, ..this });
                }
                all.bytes += if first { sent.size } else { 0 };
            }
            if ack.largest() == Some(number) && self.top.first().is_none_or(|top| *top < number) {
                // A peer that has slept for a minute says nothing about the way.
                let most = if first { Duration::MAX } else { self.patience() * 2 };
                self.measure(now.since(sent.at).min(most), ack.delay);
            }
            self.paths.came(sent.path, now.since(sent.at));
            keep_largest(self.tops.entry(sent.path).or_default(), number);
            keep_largest(&mut self.top, number);
            acknowledged.push(sent);
        }
        landed.into_iter().for_each(|(path, (_, landed))| self.paths.measure(path, landed, now));
        acknowledged
    }

    fn measure(&mut self, round_trip: Duration, delay: Duration) {
        let sample = round_trip.checked_sub(delay).unwrap_or(round_trip);
        self.smoothed = Some(self.smoothed.map_or(sample, |smoothed| (smoothed * 7 + sample) / 8));
    }

    /// Frames that later acknowledgements have passed by: on the same way; or on any, when they are overdue, and then
    /// their way is in doubt.
    pub(super) fn overtaken(&mut self, now: Millis) -> Vec<Sent> {
        let Some(bound) = self.top.get(REORDER_FRAMES - 1) else { return Vec::new() };
        let mut lost = Vec::new();
        for number in self.under_way.range(..bound) {
            let Some(sent) = self.sent.get(number) else { continue };
            let of_its_way = self.tops.get(&sent.path).and_then(|top| top.get(REORDER_FRAMES - 1));
            if of_its_way.is_some_and(|bound| number < bound) {
                lost.push(*number);
            } else if now.since(sent.at) >= self.paths.patience(sent.path) {
                lost.push(*number);
                self.paths.failed(sent.path, now);
            }
        }
        self.give_up(lost, Some(now))
    }

    /// Which way a frame went.
    pub(super) fn went(&mut self, number: u64, path: u8) {
        if let Some(sent) = self.sent.get_mut(&number) {
            sent.path = Some(path);
            sent.after = self.newest.insert(path, number);
            if self.under_way.contains(&number) {
                self.paths.left(sent.path, sent.size);
            }
        }
    }

    /// A frame that could not leave.
    pub(super) fn stayed(&mut self, number: u64) -> Vec<Sent> {
        self.give_up(vec![number], None)
    }

    /// Whether a way takes one more piece of a file without making others wait.
    pub(super) fn has_room_on(&self, path: u8) -> bool {
        self.paths.has_room(path)
    }

    pub(super) fn is_shunned(&self, path: u8, now: Millis) -> bool {
        self.paths.is_shunned(path, now)
    }

    /// Whether a way that a piece of a file took is none that holds frames up, but one that loses them.
    pub(super) fn loses_many(&self, path: Option<u8>) -> bool {
        path.is_some_and(|path| !self.paths.is_orderly(path))
    }

    /// They are lost, and since when that is known; without it they have never left. They stay known: a late
    /// acknowledgement still counts.
    fn give_up(&mut self, numbers: Vec<u64>, now: Option<Millis>) -> Vec<Sent> {
        let mut lost = Vec::new();
        for number in numbers {
            if let Some(sent) = self.sent.get(&number).cloned()
                && self.land(number, &sent)
            {
                now.iter().for_each(|now| self.paths.lost(sent.path, sent.at, *now));
                lost.push(sent);
            }
        }
        lost
    }

    /// How long a frame may stay unacknowledged when the peer answers.
    pub(super) fn patience(&self) -> Duration {
        self.smoothed.map_or(LOSS_TIME, |smoothed| (smoothed * 2).clamp(LOSS_TIME, LOSS_TIME_LIMIT))
    }

    /// The same where ways lose many frames: to wait for one that comes late costs more there than to send it again.
    fn loss_time(&self) -> Duration {
        match self.paths.is_one_lossy() {
            true => (self.patience() / 2).max(LOSS_TIME),
            false => self.patience(),
        }
    }

    /// A silence says less about the peer where ways lose many frames: the first ones double nothing.
    fn patience_now(&self) -> Duration {
        let doubled = if self.paths.is_one_lossy() { self.backoff.saturating_sub(2) } else { self.backoff };
        self.loss_time().saturating_mul(1 << doubled.min(5)).min(LOSS_TIME_LIMIT)
    }

    pub(super) fn poll_timeout(&self) -> Option<Millis> {
        let oldest = self.sent.get(self.under_way.first()?)?;
        Some(oldest.at + self.patience_now())
    }

    /// Frames that have been under way for too long. The next ones get twice the time.
    pub(super) fn handle_timeout(&mut self, now: Millis) -> Vec<Sent> {
        let lost = self.overdue(self.patience_now(), now);
        lost.iter().filter(|sent| sent.path.is_some()).for_each(|sent| self.paths.failed(sent.path, now));
        if !lost.is_empty() {
            self.backoff = self.backoff.saturating_add(1);
            self.probes = PROBES;
        }
        lost
    }

    /// The peer lives, or there is a way to it again: what could have been answered by now was lost.
    pub(super) fn retry(&mut self, now: Millis) -> Vec<Sent> {
        if self.backoff == 0 {
            return Vec::new();
        }
        self.backoff = 0;
        self.overdue(self.loss_time(), now)
    }

    fn overdue(&mut self, patience: Duration, now: Millis) -> Vec<Sent> {
        let is_overdue = |number: &&u64| self.sent.get(number).is_some_and(|sent| sent.at + patience <= now);
        let overdue = self.under_way.iter().take_while(is_overdue).copied().collect();
        self.give_up(overdue, Some(now))
    }
}
