//! How many wraps of unknown senders are opened. A wrap's outer key is random, so who sent it is known only after the
//! work is done; this bounds the work that strangers can cause.

use super::bucket::Bucket;
use crate::proto::Millis;

/// Wraps a second, in the long run: 6 % of a core at 0.3 ms each. Less would protect the core better and its owner worse:
/// a flood of ten thousand in a minute would keep a contact's ring, which looks like any other, waiting behind it.
const RATE: f64 = 200.0;
/// Wraps at once: what waits for an agent that comes back is opened without delay.
const BURST: f64 = 400.0;

/// The budget for opening wraps. What finds it empty waits; nothing is lost.
#[derive(Debug, Clone)]
pub struct DecryptBudget {
    bucket: Bucket,
    at: Option<Millis>,
}

impl Default for DecryptBudget {
    fn default() -> Self {
        Self { bucket: Bucket::new(RATE, BURST), at: None }
    }
}

impl DecryptBudget {
    /// Pays for opening one wrap; false if there is nothing left.
    pub fn take(&mut self, now: Millis) -> bool {
        self.turn(now);
        self.bucket.take()
    }

    /// The wrap just opened was one of a contact's, or part of a call that is known: it costs nothing.
    pub fn give_back(&mut self) {
        self.bucket.give_back();
    }

    /// When the next wrap can be opened; `now` if at once.
    pub fn ready_at(&mut self, now: Millis) -> Millis {
        self.turn(now);
        // Rounded up, so that there is a token by then.
        Millis(now.0 + self.bucket.wait().as_micros().div_ceil(1_000) as u64)
    }

    /// A clock that went back gives nothing, and takes nothing.
    fn turn(&mut self, now: Millis) {
        let before = self.at.replace(now).unwrap_or(now);
        self.bucket.elapsed(now.since(before));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Millis = Millis::from_secs(1_800_000_000);

    #[test]
    fn four_hundred_wraps_are_opened_at_once_and_then_two_hundred_a_second() {
        let mut budget = DecryptBudget::default();
        assert_eq!((0..600).filter(|_| budget.take(NOW)).count(), 400);
        assert_eq!(budget.ready_at(NOW), NOW + Duration::from_millis(5));
        let later = NOW + Duration::from_secs(1);
        assert_eq!((0..600).filter(|_| budget.take(later)).count(), 200);
        let ready = budget.ready_at(later);
        assert!(!budget.take(later) && budget.take(ready));
    }

    #[test]
    fn what_a_contact_sends_costs_nothing() {
        let mut budget = DecryptBudget::default();
        for _ in 0..1_000 {
            assert!(budget.take(NOW));
            budget.give_back();
        }
    }

    #[test]
    fn a_clock_that_jumps_neither_fills_beyond_the_burst_nor_stops_the_flow() {
        let mut budget = DecryptBudget::default();
        while budget.take(NOW) {}
        let back = NOW - Duration::from_secs(86_400);
        assert!(!budget.take(back));
        assert!(budget.take(back + Duration::from_secs(1)));
        let ahead = NOW + Duration::from_secs(86_400);
        assert_eq!((0..600).filter(|_| budget.take(ahead)).count(), 400);
    }
}
