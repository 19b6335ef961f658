//! Session events that go out at once and wait for no OK: whether one arrived, the peer's acknowledgement tells, and
//! what was in a lost one goes out again in another. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::transport::signed::Signed;
use crate::transport::v2::Allowance;

/// Frames that wait for one socket: two windows of one call.
const MAX_FRAMES: usize = 512;
/// Bytes of them: two windows of one call.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of pieces of files that wait for one socket: what a fast relay takes in some milliseconds. More would only wait
/// here instead of where it can still go another way.
const MAX_BULK: usize = 512 * 1024;
/// A frame older than this is not sent any more: relays refuse ephemeral events above 60 s, and what was in it has
/// been sent anew.
const MAX_AGE_SECS: u64 = 30;

/// What one link has of them.
#[derive(Debug)]
pub(in crate::transport) struct Frames {
    queue: VecDeque<Arc<Signed>>,
    /// Pieces of files: they leave when nothing else waits.
    bulk: VecDeque<Arc<Signed>>,
    bytes: usize,
    bulk_bytes: usize,
    allowance: Allowance,
    turned_at: Option<Instant>,
    doubted_until: Option<Instant>,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            bulk: VecDeque::new(),
            bytes: 0,
            bulk_bytes: 0,
            allowance: Allowance::new(),
            turned_at: None,
            doubted_until: None,
        }
    }

    pub(in crate::transport) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.bulk.is_empty()
    }

    /// Whether the relay refused a frame lately, for a reason that will not pass soon.
    pub(in crate::transport) fn is_doubted(&self, now: Instant) -> bool {
        self.doubted_until.is_some_and(|until| now < until)
    }

    /// Queues a frame, if the relay's allowance and the queue have room.
    pub(in crate::transport) fn push(&mut self, frame: &Arc<Signed>, now: Instant) -> bool {
        self.turn(now);
        let fits = self.queue.len() < MAX_FRAMES && self.bytes + frame.json.len() <= MAX_BYTES;
        if !fits || !self.allowance.take() {
            return false;
        }
        self.bytes += frame.json.len();
        self.queue.push_back(frame.clone());
        true
    }

    /// Queues a piece of a file, as [`Self::push`]; behind everything else.
    pub(in crate::transport) fn push_bulk(&mut self, frame: &Arc<Signed>, now: Instant) -> bool {
        self.turn(now);
        if !self.has_room() || !self.allowance.take() {
            return false;
        }
        self.bulk_bytes += frame.json.len();
        self.bulk.push_back(frame.clone());
        true
    }

    /// Whether one more piece of a file may wait.
    pub(in crate::transport) fn has_room(&self) -> bool {
        self.bulk_bytes < MAX_BULK
    }

    /// Bytes of pieces of files that wait.
    pub(in crate::transport) fn bulk_bytes(&self) -> usize {
        self.bulk_bytes
    }

    /// The next frame to send.
    pub(super) fn next(&mut self, unix: u64) -> Option<Arc<Signed>> {
        loop {
            let frame = match self.queue.pop_front() {
                Some(frame) => {
                    self.bytes -= frame.json.len();
                    frame
                }
                None => {
                    let frame = self.bulk.pop_front()?;
                    self.bulk_bytes -= frame.json.len();
                    frame
                }
            };
            if unix <= frame.created_at.saturating_add(MAX_AGE_SECS) {
                return Some(frame);
            }
        }
    }

    /// The connection is over. What waited is not sent over the next one: its sender sends it anew.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.bulk.clear();
        (self.bytes, self.bulk_bytes) = (0, 0);
    }

    /// Whether it is time to send less and put more into each frame.
    pub(in crate::transport) fn is_low(&mut self, now: Instant) -> bool {
        self.turn(now);
        self.allowance.is_low()
    }

    /// When the relay's allowance has room for the next frame.
    pub(in crate::transport) fn ready_at(&mut self, now: Instant) -> Instant {
        self.turn(now);
        now + self.allowance.wait()
    }

    pub(super) fn rate_limited(&mut self, now: Instant) {
        self.turn(now);
        self.allowance.refused();
    }

    pub(super) fn doubt(&mut self, until: Instant) {
        self.doubted_until = Some(until);
    }

    fn turn(&mut self, now: Instant) {
        let before = self.turned_at.replace(now).unwrap_or(now);
        self.allowance.elapsed(now.saturating_duration_since(before));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::Hex;

    const NOW: u64 = 1_790_000_000;

    fn frame(number: u8, created_at: u64, size: usize) -> Arc<Signed> {
        Arc::new(Signed { id: Hex([number; 32]), kind: 21_059, created_at, json: "x".repeat(size) })
    }

    #[test]
    fn frames_leave_in_order_and_what_waited_too_long_does_not_leave() {
        let (mut frames, now) = (Frames::new(), Instant::now());
        for number in 0..3 {
            assert!(frames.push(&frame(number, NOW + 10 * u64::from(number), 10), now));
        }
        assert_eq!(frames.next(NOW + 35).unwrap().id, Hex([1; 32]));
        assert_eq!(frames.next(NOW + 35).unwrap().id, Hex([2; 32]));
        assert!(frames.next(NOW + 35).is_none() && frames.is_empty() && frames.bytes == 0);
    }

    #[test]
    fn pieces_of_files_leave_after_all_else_and_few_of_them_wait() {
        let (mut frames, now) = (Frames::new(), Instant::now());
        let pushed = (0..100).filter(|_| frames.push_bulk(&frame(1, NOW, 50_000), now)).count();
        assert!((pushed - 1) * 50_000 < MAX_BULK && pushed * 50_000 >= MAX_BULK);
        assert!(!frames.has_room() && frames.push(&frame(2, NOW, 10), now));
        assert_eq!(frames.next(NOW).unwrap().id, Hex([2; 32]));
        assert_eq!(frames.next(NOW).unwrap().id, Hex([1; 32]));
        assert!(frames.has_room());
    }

    #[test]
    fn the_queue_is_bounded_in_number_and_bytes_and_a_cut_empties_it() {
        let (mut frames, now) = (Frames::new(), Instant::now());
        let pushed = (0..1_000).filter(|_| frames.push(&frame(0, NOW, 10), now)).count();
        assert_eq!(pushed, MAX_FRAMES);
        frames.clear();
        let pushed = (0..500).filter(|_| frames.push(&frame(0, NOW, 60_000), now)).count();
        assert!(pushed * 60_000 <= MAX_BYTES && (pushed + 1) * 60_000 > MAX_BYTES);
    }

    #[test]
    fn a_relay_that_says_rate_limited_gets_its_peace() {
        let (mut frames, now) = (Frames::new(), Instant::now());
        assert!(frames.push(&frame(0, NOW, 10), now) && !frames.is_low(now));
        frames.rate_limited(now);
        assert!(frames.is_low(now) && !frames.push(&frame(1, NOW, 10), now));
        let ready = frames.ready_at(now);
        assert!(ready > now && frames.push(&frame(1, NOW, 10), ready));
        frames.doubt(now + Duration::from_secs(60));
        assert!(frames.is_doubted(now) && !frames.is_doubted(now + Duration::from_secs(60)));
    }
}
