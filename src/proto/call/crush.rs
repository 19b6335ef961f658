//! A queue of strangers in which nobody stays long enough to be looked at: each place has been taken by somebody else
//! within a minute. Whoever comes now would be pushed out by the next one, so it is not worth what it costs to open what
//! they send. It is over by itself: a minute later there is room, or a place for another 32.

use std::collections::VecDeque;
use std::time::Duration;

use super::door::QUEUE_LIMIT;
use crate::proto::Millis;

/// As long as a call rings: who is pushed out earlier has rung in vain.
const LOOK: Duration = Duration::from_secs(60);

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// That of calls.
    Calls,
    /// That of messages.
    Mail,
}

/// See the module. In memory only: after a restart it takes one more turn of the queue.
#[derive(Debug, Default)]
pub struct Crush {
    pushed_out: VecDeque<Millis>,
}

impl Crush {
    /// Somebody who had one place has lost it. One key that pushes out itself is no crush, or it could keep out others.
    pub(super) fn note(&mut self, now: Millis) {
        if self.pushed_out.len() == QUEUE_LIMIT {
            self.pushed_out.pop_front();
        }
        self.pushed_out.push_back(now);
    }

    /// Whether it lasts.
    pub(super) fn lasts(&self, now: Millis) -> bool {
        self.pushed_out.len() == QUEUE_LIMIT
            && self.pushed_out.front().is_some_and(|at| now.since(*at) < LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis::from_secs(1_800_000_000);

    #[test]
    fn it_begins_when_every_place_has_changed_hands_and_ends_a_minute_later() {
        let mut crush = Crush::default();
        for _ in 1..QUEUE_LIMIT {
            crush.note(NOW);
            assert!(!crush.lasts(NOW));
        }
        crush.note(NOW + Duration::from_secs(1));
        assert!(crush.lasts(NOW + Duration::from_secs(1)));
        assert!(crush.lasts(NOW + LOOK - Duration::from_millis(1)));
        assert!(!crush.lasts(NOW + LOOK));
        // Where strangers come one every two seconds, each has its minute.
        for number in 0..1_000 {
            let at = NOW + LOOK * 2 + Duration::from_secs(2) * number;
            crush.note(at);
            assert!(!crush.lasts(at));
        }
    }
}
