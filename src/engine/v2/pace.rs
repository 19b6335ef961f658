//! How fast files move, and when that is told: each time is a row in the journal.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::proto::MessageId;
use crate::store::StoredTransfer;

/// A file is told of for the first time when so many bytes of it have moved: a small one is there before.
const FIRST: u64 = 1 << 20;
/// And again after this time, if it moves; and of one that was told of, when all of it has moved.
const AGAIN: Duration = Duration::from_millis(500);
/// How much of the rate of the last moment goes into what is told.
const WEIGHT: f64 = 0.3;

#[derive(Debug)]
struct Pace {
    /// Where it stood when it was looked at first: at the start, or after a restart.
    begun: u64,
    /// When it was told of last, and how far it was.
    told: Option<(Instant, u64)>,
    begun_at: Instant,
    /// Bytes a second, smoothed.
    rate: f64,
}

/// How fast each file under way moves.
#[derive(Debug, Default)]
pub(super) struct Paces(BTreeMap<(bool, MessageId), Pace>);

impl Paces {
    /// A file has come so far. Returns its bytes a second, if it is time to tell that.
    pub(super) fn moved(&mut self, transfer: &StoredTransfer, done: u64, now: Instant) -> Option<f64> {
        let key = (transfer.outgoing, transfer.message);
        let new = Pace { begun: done, told: None, begun_at: now, rate: 0.0 };
        let pace = self.0.entry(key).or_insert(new);
        let due = match pace.told {
            None => done >= pace.begun + FIRST || now >= pace.begun_at + AGAIN,
            Some((at, before)) => done > before && (now >= at + AGAIN || done == transfer.size),
        };
        if !due || done == 0 {
            return None;
        }
        let (since, before) = pace.told.unwrap_or((pace.begun_at, pace.begun));
        let elapsed = now.saturating_duration_since(since).as_secs_f64().max(0.001);
        let lately = done.saturating_sub(before) as f64 / elapsed;
        pace.rate = match pace.told {
            None => lately,
            Some(_) => pace.rate * (1.0 - WEIGHT) + lately * WEIGHT,
        };
        pace.told = Some((now, done));
        Some(pace.rate)
    }

    /// It moves no more.
    pub(super) fn forget(&mut self, transfer: &StoredTransfer) {
        self.0.remove(&(transfer.outgoing, transfer.message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Hex;

    fn transfer() -> StoredTransfer {
        StoredTransfer {
            call: Hex([1; 8]),
            outgoing: true,
            message: Hex([2; 16]),
            stream: 2,
            name: "a".into(),
            mime: String::new(),
            size: 1 << 30,
            sha256: Hex([0; 32]),
            done: 0,
            accepted: true,
        }
    }

    #[test]
    fn a_file_is_told_of_twice_a_second_with_the_rate_at_which_it_moves() {
        let (mut paces, transfer, begun) = (Paces::default(), transfer(), Instant::now());
        let mut told = Vec::new();
        for step in 0..100u64 {
            // 10 MB/s, in pieces of 100 kB.
            let now = begun + Duration::from_millis(step * 10);
            told.extend(paces.moved(&transfer, step * 100_000, now));
        }
        assert_eq!(told.len(), 2, "after the first MiB, and half a second later");
        assert!(told.iter().all(|rate| (9e6..11e6).contains(rate)), "{told:?}");
        let end = begun + Duration::from_millis(1_001);
        assert!(paces.moved(&transfer, transfer.size, end).is_some(), "whoever was told is told of the end");
        paces.forget(&transfer);
        assert_eq!(paces.moved(&transfer, 500_000_000, begun), None, "after a restart it begins anew");
    }
}
