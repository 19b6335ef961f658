//! The ways that frames of files take: how long a round trip over each is, and which of them lets frames get lost.
//!
//! ```text
//!   trusted ── a frame of it is overdue though later ones of other ways have arrived ──► shunned for 1, 2, 4 … 32 s
//!      ▲                                                                                    │
//!      └──────────── one of its frames is acknowledged ◄──── tried with the next frame ◄────┘
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::window::{Landed, Window};
use crate::proto::Millis;

/// The shortest time after which a frame that others have passed by is overdue: relays differ by less.
const LEAST: Duration = Duration::from_millis(200);
/// The same for a way that nothing has come back on yet.
const UNKNOWN: Duration = Duration::from_millis(500);
/// How long a way is shunned for the first time; twice as long each time that it fails again.
const SHUNNED: Duration = Duration::from_secs(1);
/// How often that is doubled at most.
const DOUBLED: u32 = 5;

#[derive(Debug, Clone, Default)]
struct Path {
    /// The smoothed round trip, commit of the peer included.
    round_trip: Option<Duration>,
    /// How often it failed since something came back on it.
    failures: u32,
    shunned_until: Option<Millis>,
    window: Window,
}

/// The ways of one session. None is that of frames which go over two relays.
#[derive(Debug, Clone, Default)]
pub(super) struct Paths(BTreeMap<Option<u8>, Path>);

impl Paths {
    /// A frame that went this way is acknowledged after so long.
    pub(super) fn came(&mut self, path: Option<u8>, after: Duration) {
        let path = self.0.entry(path).or_default();
        path.round_trip = Some(path.round_trip.map_or(after, |before| (before * 7 + after) / 8));
        (path.failures, path.shunned_until) = (0, None);
    }

    /// A frame leaves this way.
    pub(super) fn left(&mut self, path: Option<u8>, bytes: usize) {
        self.0.entry(path).or_default().window.left(bytes);
    }

    /// It is under way no more.
    pub(super) fn landed(&mut self, path: Option<u8>, bytes: usize) {
        if let Some(path) = self.0.get_mut(&path) {
            path.window.landed(bytes);
        }
    }

    /// What an acknowledgement says about a way as a whole.
    pub(super) fn measure(&mut self, path: Option<u8>, landed: Landed, now: Millis) {
        self.0.entry(path).or_default().window.came(landed, now);
    }

    /// A frame of this way is acknowledged, in its turn or not: see [`Window::arrived`].
    pub(super) fn arrived(&mut self, path: Option<u8>, in_turn: bool) {
        self.0.entry(path).or_default().window.arrived(in_turn);
    }

    /// A frame is lost that left this way then.
    pub(super) fn lost(&mut self, path: Option<u8>, sent_at: Millis, now: Millis) {
        if let Some(path) = self.0.get_mut(&path) {
            path.window.lost(sent_at, now);
        }
    }

    /// Whether a way takes one more frame without making others wait.
    pub(super) fn has_room(&self, path: u8) -> bool {
        self.0.get(&Some(path)).is_none_or(|path| path.window.has_room())
    }

    /// Whether what a way delays stands in a queue: see [`window`](super::window).
    pub(super) fn is_orderly(&self, path: u8) -> bool {
        self.0.get(&Some(path)).is_none_or(|path| path.window.is_orderly())
    }

    /// Whether a way that a file takes loses many frames.
    pub(super) fn is_one_lossy(&self) -> bool {
        self.0.iter().any(|(way, path)| way.is_some() && !path.window.is_orderly())
    }

    /// After how long a frame is overdue that later ones have passed by.
    pub(super) fn patience(&self, path: Option<u8>) -> Duration {
        let round_trip = self.0.get(&path).and_then(|path| path.round_trip);
        round_trip.map_or(UNKNOWN, |round_trip| (round_trip * 3).max(LEAST))
    }

    /// A frame that went this way is overdue.
    pub(super) fn failed(&mut self, path: Option<u8>, now: Millis) {
        let path = self.0.entry(path).or_default();
        // What left before it was known counts once.
        if path.shunned_until.is_none_or(|until| until <= now) {
            path.shunned_until = Some(now + SHUNNED * (1 << path.failures.min(DOUBLED)));
            path.failures += 1;
        }
    }

    pub(super) fn is_shunned(&self, path: u8, now: Millis) -> bool {
        let until = self.0.get(&Some(path)).and_then(|path| path.shunned_until);
        until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_loses_frames_is_shunned_for_longer_each_time_and_trusted_when_something_comes_back() {
        let (mut paths, mut now) = (Paths::default(), Millis(1_000_000));
        for seconds in [1, 2, 4, 8, 16, 32, 32] {
            paths.failed(Some(1), now);
            paths.failed(Some(1), now);
            assert!(paths.is_shunned(1, now + Duration::from_millis(seconds * 1_000 - 1)));
            now = now + Duration::from_secs(seconds);
            assert!(!paths.is_shunned(1, now) && !paths.is_shunned(0, now));
        }
        paths.failed(Some(1), now);
        paths.came(Some(1), Duration::from_millis(10));
        assert!(!paths.is_shunned(1, now));
        assert_eq!((paths.patience(Some(1)), paths.patience(Some(0))), (LEAST, UNKNOWN));
    }
}
