//! The clock and the dice: read here, and handed down as values.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{Offset, TimeZone};

use tokio::time::Instant;

use crate::proto::{Hex, MessageId, Millis};

/// What the wall clock says.
pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(since.as_millis() as u64)
}

/// How many seconds the clock on the wall of this machine is ahead of UTC at a moment.
pub(super) fn local_offset(at: Millis) -> i64 {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    let moment = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    i64::from(chrono::Local.offset_from_utc_datetime(&moment.naive_utc()).fix().local_minus_utc())
}

/// A clock that does not jump: the wall clock's time at the start, and what has passed since by the monotonic clock. For
/// waiting, where a suspend or a clock that is set must not look like the peer's silence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steady {
    wall: Millis,
    started: Instant,
}

impl Steady {
    /// Begins now.
    pub(super) fn begin() -> Self {
        Self { wall: now(), started: Instant::now() }
    }

    pub(super) fn now(&self) -> Millis {
        self.wall + self.started.elapsed()
    }

    /// The moment of a time of this clock.
    pub(super) fn instant_of(&self, at: Millis) -> Instant {
        self.started + at.since(self.wall)
    }
}

/// A fresh id.
pub(super) fn fresh<const N: usize>() -> Hex<N> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness once it is up");
    Hex(bytes)
}

/// A fresh id for a message. Its first 48 bits are the time in milliseconds, as in a UUID of version 7 (RFC 9562): so new
/// messages stand side by side in the index of ids, and a burst writes a few pages of it instead of one each.
pub(super) fn fresh_message(now: Millis) -> MessageId {
    let mut id: MessageId = fresh();
    id.0[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
    id
}

/// A fresh room: a UUID, as deployed agents make it.
pub(super) fn fresh_room() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A number below `bound`; for jitter, so a slight bias is no harm.
pub(super) fn below(bound: u64) -> u64 {
    u64::from_be_bytes(fresh::<8>().0) % bound.max(1)
}
