//! Frames of the peer: which were seen, which are committed, what to acknowledge and when (RFC 9000, 13.2).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::ACK_MERGE_TIME;
use crate::proto::Millis;
use crate::proto::v2::batch::{Ack, RANGES_LIMIT};

/// A number this far below the largest is too old: the peer gave it up long ago.
pub(super) const NUMBER_WINDOW: u64 = 1_024;
/// Most frames that wait for their commit. A peer of ours has no more under way.
const PENDING_LIMIT: usize = 256;

/// What is known of a frame number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Never,
    /// Seen, and its entries are not committed yet.
    Pending,
    Committed,
    /// Below the window, or there is no room to remember it.
    NotTaken(&'static str),
}

#[derive(Debug, Clone)]
struct Pending {
    point: u64,
    at: Millis,
}

/// The frames received in one handshake.
#[derive(Debug, Clone, Default)]
pub(super) struct Receipts {
    pending: BTreeMap<u64, Pending>,
    /// Committed numbers within the window: first of each range to its last.
    committed: BTreeMap<u64, u64>,
    /// The largest committed number, and when it came.
    largest: Option<(u64, Millis)>,
    /// The largest number seen, committed or not.
    top: Option<u64>,
    /// Nothing below is reported again: the peer has seen it reported.
    report_from: u64,
    /// When an acknowledgement is due.
    due: Option<Millis>,
    /// It is due.
    wanted: bool,
}

impl Receipts {
    pub(super) fn check(&self, number: u64) -> Seen {
        if self.pending.contains_key(&number) {
            return Seen::Pending;
        }
        if self.is_committed(number) {
            return Seen::Committed;
        }
        if self.top.is_some_and(|top| number.saturating_add(NUMBER_WINDOW) <= top) {
            return Seen::NotTaken("its number is below the window");
        }
        if self.pending.len() >= PENDING_LIMIT {
            return Seen::NotTaken("too many frames wait for their commit");
        }
        Seen::Never
    }

    fn is_committed(&self, number: u64) -> bool {
        self.committed.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    /// Whether everything below `number` that the window holds has been committed.
    pub(super) fn has_all_below(&self, number: u64) -> bool {
        let oldest = self.top.map_or(0, |top| top.saturating_sub(NUMBER_WINDOW - 1));
        number <= oldest
            || self.committed.range(..=oldest).next_back().is_some_and(|(_, last)| *last >= number - 1)
    }

    /// A frame with entries: acknowledged once `point` is durable.
    pub(super) fn take(&mut self, number: u64, point: u64, now: Millis) {
        self.top = self.top.max(Some(number));
        self.pending.insert(number, Pending { point, at: now });
    }

    /// A frame without entries: nothing to commit, and it asks for no acknowledgement.
    pub(super) fn take_quiet(&mut self, number: u64, now: Millis) {
        self.top = self.top.max(Some(number));
        self.insert(number, now);
    }

    /// Everything up to `durable` is committed: what waited for it is acknowledged, now or merged with others.
    pub(super) fn commit(&mut self, durable: u64, budget_low: bool, now: Millis) {
        let is_committed =
            |(number, pending): (&u64, &Pending)| (pending.point <= durable).then_some((*number, pending.at));
        let committed: Vec<(u64, Millis)> = self.pending.iter().filter_map(is_committed).collect();
        for (number, at) in committed {
            self.pending.remove(&number);
            self.insert(number, at);
            self.report_from = self.report_from.min(number);
            let due = if budget_low { now + ACK_MERGE_TIME } else { now };
            self.due = Some(self.due.map_or(due, |before| before.min(due)));
        }
        self.handle_timeout(now);
    }

    /// A frame came again: the peer missed the acknowledgement.
    pub(super) fn repeat(&mut self, number: u64) {
        self.report_from = self.report_from.min(number);
        self.wanted = true;
    }

    /// The peer has seen that everything up to `number` was reported.
    pub(super) fn reported(&mut self, number: u64) {
        self.report_from = self.report_from.max(number.saturating_add(1));
    }

    /// Forgets frames whose entries will not be committed: the peer sends them again.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
    }

    fn insert(&mut self, number: u64, at: Millis) {
        if self.largest.is_none_or(|(largest, _)| largest < number) {
            self.largest = Some((number, at));
        }
        let mut range = number..=number;
        if let Some((first, last)) = self.committed.range(..number).next_back()
            && last.checked_add(1) == Some(number)
        {
            range = *first..=number;
        }
        if let Some(after) = number.checked_add(1)
            && let Some(last) = self.committed.remove(&after)
        {
            range = *range.start()..=last;
        }
        self.committed.insert(*range.start(), *range.end());
        let oldest = self.top.unwrap_or(number).saturating_sub(NUMBER_WINDOW - 1);
        // The lowest range goes when it is below the window as a whole; cut, it would be no smaller.
        while self.committed.first_key_value().is_some_and(|(_, last)| *last < oldest) {
            self.committed.pop_first();
        }
    }

    pub(super) fn is_ack_wanted(&self) -> bool {
        self.wanted
    }

    pub(super) fn poll_timeout(&self) -> Option<Millis> {
        self.due
    }

    pub(super) fn handle_timeout(&mut self, now: Millis) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.wanted = true;
        }
    }

    /// There is no reason to merge any more.
    pub(super) fn hurry(&mut self, now: Millis) {
        self.due = self.due.map(|due| due.min(now));
        self.handle_timeout(now);
    }

    /// What to acknowledge, for a frame that is about to leave.
    pub(super) fn report(&self, now: Millis) -> Option<Ack> {
        let (_, at) = self.largest?;
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for (first, last) in self.committed.iter().rev().take(RANGES_LIMIT) {
            if *last < self.report_from {
                break;
            }
            ranges.push(*first..=*last);
        }
        (!ranges.is_empty()).then(|| Ack { delay: now.since(at), ranges })
    }

    /// The frame has left.
    pub(super) fn sent(&mut self) {
        self.due = None;
        self.wanted = false;
    }
}
