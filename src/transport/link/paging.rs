//! Walking back through a relay's stored events, page by page. Pure: ids and times in, the next `until` out.
//!
//! A relay answers a REQ with its newest events and stops at a limit of its own, without a word. So the walk goes
//! on from the oldest `created_at` that came, *inclusive* because a page may end in the middle of a second, until a
//! page brings nothing new:
//!
//! ```text
//!   until = none      9 8 8 7            limit of 4 reached inside second 7
//!   until = 7         7 7 6 5            one of the sevens is known
//!   until = 5         5                  nothing new, and shorter than other pages: the end
//! ```
//!
//! If nothing is new although the page is as long as any other, one second may hold more than the relay serves:
//! the walk steps over that second. It is a gap if something older follows, or if the page was so long that a limit
//! is the likely reason.

use std::collections::HashSet;

use crate::mutants::{Mutant, planted};
use crate::proto::EventId;

/// Ids remembered of one second. More do not fit any relay's page; a relay that sends more is lying, and the
/// second is called a gap.
const MAX_EDGE: usize = 10_000;

/// The same second may be asked for so often while it keeps bringing new ids; an honest relay repeats itself.
const MAX_SAME_SECOND: u32 = 16;

/// One walk through the stored events of a subscription.
#[derive(Debug)]
pub(super) struct Paging {
    since: u64,
    full_page: usize,
    /// The newest `created_at` asked for; none for the first page.
    until: Option<u64>,
    /// Ids known at second `until`.
    known: HashSet<EventId>,
    /// The oldest second of this page, and the ids that it brought there.
    oldest: Option<u64>,
    at_oldest: HashSet<EventId>,
    /// How many events came in this page, how many of them new.
    count: usize,
    fresh: usize,
    /// The longest page so far: a shorter one was not cut by the relay's limit.
    longest: usize,
    /// Pages in a row that stayed in one second.
    same_second: u32,
    /// A second that was stepped over, and the length of its page.
    stepped_over: Option<(u64, usize)>,
}

/// What follows a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The `until` of the next page, or the end.
    pub next: Option<u64>,
    /// A second that holds more than the relay serves.
    pub gap: Option<u64>,
}

impl Paging {
    /// Begins a walk back to `since`. A page of `full_page` events in one second counts as cut.
    pub(super) fn new(since: u64, full_page: usize) -> Self {
        Self {
            since,
            full_page,
            until: None,
            known: HashSet::new(),
            oldest: None,
            at_oldest: HashSet::new(),
            count: 0,
            fresh: 0,
            longest: 0,
            same_second: 0,
            stepped_over: None,
        }
    }

    /// The newest `created_at` that the current page may bring.
    pub(super) fn until(&self) -> Option<u64> {
        self.until
    }

    /// Notes an event of the current page.
    pub(super) fn saw(&mut self, id: EventId, created_at: u64) {
        self.count += 1;
        if self.until != Some(created_at) || !self.known.contains(&id) {
            self.fresh += 1;
        }
        if self.oldest.is_none_or(|oldest| created_at < oldest) {
            self.oldest = Some(created_at);
            self.at_oldest.clear();
        }
        if self.oldest == Some(created_at) && self.at_oldest.len() < MAX_EDGE {
            self.at_oldest.insert(id);
        }
    }

    /// The relay said that the page is over.
    pub(super) fn page_ended(&mut self) -> Turn {
        if planted(Mutant::NoPaging) {
            return Turn { next: None, gap: None };
        }
        let Some(oldest) = self.oldest.take() else {
            // Nothing at all came: the end. What was stepped over last was a gap if its page was suspiciously long.
            let gap = self.stepped_over.filter(|(_, length)| *length >= self.full_page);
            return Turn { next: None, gap: gap.map(|(second, _)| second) };
        };
        let (count, fresh) = (std::mem::take(&mut self.count), std::mem::take(&mut self.fresh));
        let at_oldest = std::mem::take(&mut self.at_oldest);
        // Something older followed, so the relay did cut the page before.
        let gap = self.stepped_over.take().map(|(second, _)| second);
        self.same_second = if self.until == Some(oldest) { self.same_second + 1 } else { 0 };

        if fresh > 0 && self.same_second < MAX_SAME_SECOND {
            self.longest = self.longest.max(count);
            if self.until == Some(oldest) && self.known.len() < MAX_EDGE {
                self.known.extend(at_oldest);
            } else {
                self.known = at_oldest;
            }
            return Turn { next: self.within(Some(oldest)), gap };
        }
        if fresh == 0 && count < self.longest {
            return Turn { next: None, gap };
        }
        self.stepped_over = Some((oldest, count));
        self.same_second = 0;
        self.known.clear();
        let next = self.within(oldest.checked_sub(1));
        let last = if next.is_none() && count >= self.full_page { Some(oldest) } else { None };
        Turn { next, gap: gap.or(last) }
    }

    fn within(&mut self, until: Option<u64>) -> Option<u64> {
        self.until = until.filter(|until| *until >= self.since);
        self.until
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::Hex;

    fn id(number: usize) -> EventId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        Hex(bytes)
    }

    /// What an honest relay with a limit answers: the newest events first.
    fn page(stored: &[u64], since: u64, until: Option<u64>, limit: usize) -> Vec<(EventId, u64)> {
        let mut found: Vec<_> = stored
            .iter()
            .enumerate()
            .filter(|(_, at)| **at >= since && until.is_none_or(|until| **at <= until))
            .map(|(number, at)| (id(number), *at))
            .collect();
        found.sort_by_key(|(id, at)| (std::cmp::Reverse(*at), *id));
        found.truncate(limit);
        found
    }

    /// Walks to the end; returns the ids found, the gaps named, and the pages it took.
    fn walk(
        stored: &[u64],
        since: u64,
        limit: usize,
        full_page: usize,
    ) -> (HashSet<EventId>, Vec<u64>, usize) {
        let mut paging = Paging::new(since, full_page);
        let (mut found, mut gaps, mut pages) = (HashSet::new(), Vec::new(), 0);
        loop {
            pages += 1;
            assert!(pages < 10_000, "the walk does not end");
            for (id, at) in page(stored, since, paging.until(), limit) {
                paging.saw(id, at);
                found.insert(id);
            }
            let turn = paging.page_ended();
            gaps.extend(turn.gap);
            if turn.next.is_none() {
                return (found, gaps, pages);
            }
        }
    }

    #[test]
    fn an_empty_relay_takes_one_page_and_a_few_events_take_two() {
        assert_eq!(walk(&[], 0, 500, 100).2, 1);
        assert_eq!(walk(&[5, 6, 7], 0, 500, 100).2, 2);
    }

    #[test]
    fn a_page_that_ends_inside_a_second_loses_nothing() {
        let (found, gaps, _) = walk(&[9, 8, 8, 7, 7, 7, 6, 5], 0, 4, 100);
        assert_eq!((found.len(), gaps), (8, vec![]));
    }

    #[test]
    fn a_second_with_more_than_a_page_is_named_and_the_walk_goes_on() {
        let (found, gaps, _) = walk(&[9, 7, 7, 7, 7, 7, 3, 2], 0, 3, 100);
        assert_eq!(gaps, [7]);
        assert!(found.contains(&id(6)) && found.contains(&id(7)));
    }

    #[test]
    fn a_full_second_with_nothing_older_is_named_only_if_a_limit_is_likely() {
        assert_eq!(walk(&[7; 200], 0, 100, 100).1, [7]);
        assert_eq!(walk(&[7; 200], 7, 100, 100).1, [7]);
        assert_eq!(walk(&[7; 3], 0, 500, 100).1, [] as [u64; 0]);
    }

    #[test]
    fn a_relay_that_ignores_until_does_not_hold_the_walk() {
        let mut paging = Paging::new(0, 100);
        for turn in 0.. {
            assert!(turn < 100);
            (0..5).for_each(|number| paging.saw(id(number + 5 * turn), 7));
            if paging.page_ended().next.is_none_or(|until| until < 7) {
                break;
            }
        }
    }

    proptest! {
        #[test]
        fn every_event_is_found_or_its_second_is_named(
            stored in prop::collection::vec(0u64..12, 0..60), since in 0u64..6, limit in 1usize..9,
        ) {
            let (found, gaps, _) = walk(&stored, since, limit, limit);
            for (number, at) in stored.iter().enumerate().filter(|(_, at)| **at >= since) {
                prop_assert!(found.contains(&id(number)) || gaps.contains(at), "second {at}, gaps {gaps:?}");
            }
            for gap in &gaps {
                prop_assert!(stored.iter().filter(|at| *at == gap).count() >= limit, "no gap at {gap}");
            }
        }
    }
}
