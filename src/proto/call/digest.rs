//! What strangers did that nobody was woken for, told once: a flood is one alert, with its numbers.
//!
//! ```text
//!   first one beyond the limits ──► gathering ── quiet for 5 s, or a minute after the first ──► told
//!                                      ▲                                                         │
//!                                      └──────── the next one, and at most once an hour ─────────┘
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proto::Millis;

/// So long without another one, and the wave is over.
const QUIET: Duration = Duration::from_secs(5);
/// The owner hears of a wave while it goes on.
const LONGEST: Duration = Duration::from_secs(60);
/// At most one alert in this time: the window of the limits themselves.
const APART: Duration = Duration::from_secs(3_600);

/// One thing that a stranger did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// A call waits in the queue.
    CallWaits,
    /// A call was not answered at all.
    CallDropped,
    /// A message waits in the queue.
    MailWaits,
    /// A message was dropped.
    MailDropped,
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Calls that went into the queue, those that were pushed out again among them.
    pub calls_waiting: u64,
    /// Calls that were not answered at all.
    pub calls_dropped: u64,
    /// Messages that went into the queue, those that were pushed out again among them.
    pub mail_waiting: u64,
    /// Messages that were dropped.
    pub mail_dropped: u64,
}

/// What has been gathered since the owner was told last. Persisted as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digest {
    counts: Counts,
    begun: Option<Millis>,
    last: Millis,
    told: Option<Millis>,
}

impl Digest {
    /// Something happened that is to be told.
    pub fn note(&mut self, what: Turned, now: Millis) {
        let count = match what {
            Turned::CallWaits => &mut self.counts.calls_waiting,
            Turned::CallDropped => &mut self.counts.calls_dropped,
            Turned::MailWaits => &mut self.counts.mail_waiting,
            Turned::MailDropped => &mut self.counts.mail_dropped,
        };
        *count += 1;
        self.begun.get_or_insert(now);
        self.last = now;
    }

    /// When [`Self::take`] has something to give.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let due = (self.begun? + LONGEST).min(self.last + QUIET);
        Some(self.told.map_or(due, |told| due.max(told + APART)))
    }

    /// What is to be told now, and since when it was gathered. Gathering begins anew.
    pub fn take(&mut self, now: Millis) -> Option<(Counts, Millis)> {
        if self.poll_timeout()? > now {
            return None;
        }
        self.told = Some(now);
        let since = self.begun.take()?;
        Some((std::mem::take(&mut self.counts), since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis::from_secs(1_800_000_000);

    #[test]
    fn a_flood_of_a_minute_is_one_alert_with_its_numbers() {
        let mut digest = Digest::default();
        assert_eq!(digest.poll_timeout(), None);
        let mut told = Vec::new();
        for number in 0..10_000_u64 {
            let now = Millis(NOW.0 + number * 6);
            digest.note(if number % 2 == 0 { Turned::CallWaits } else { Turned::MailWaits }, now);
            told.extend(digest.take(now));
        }
        assert!(told.is_empty());
        let (counts, since) = digest.take(NOW + LONGEST).unwrap();
        assert_eq!((counts.calls_waiting, counts.mail_waiting, since), (5_000, 5_000, NOW));
        assert_eq!(digest.take(NOW + LONGEST), None);
    }

    #[test]
    fn a_single_one_is_told_soon_and_the_next_an_hour_later() {
        let mut digest = Digest::default();
        digest.note(Turned::CallDropped, NOW);
        assert_eq!(digest.poll_timeout(), Some(NOW + QUIET));
        assert!(digest.take(NOW).is_none());
        assert_eq!(digest.take(NOW + QUIET).unwrap().0, Counts { calls_dropped: 1, ..Counts::default() });
        digest.note(Turned::MailDropped, NOW + QUIET);
        assert_eq!(digest.poll_timeout(), Some(NOW + QUIET + APART));
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest, "a restart tells nothing twice");
    }
}
