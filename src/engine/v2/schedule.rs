//! Which talks have something to do. A daemon with a thousand calls does not look at all of them for each message of one.
//!
//! Whoever changes a talk gets it from here, and so a talk that was not handed out since it was looked at has its place in
//! the order still: only those that were are looked at anew.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::talks::Talk;
use crate::proto::CallId;

/// All talks, in the order of their calls and in that of what is due.
#[derive(Default)]
pub(super) struct Talks {
    all: BTreeMap<CallId, Talk>,
    /// Handed out to be changed since they were looked at.
    touched: BTreeSet<CallId>,
    /// The others, as far as they have something to do by the clock.
    order: BTreeSet<(Instant, CallId)>,
    places: BTreeMap<CallId, Instant>,
}

impl Talks {
    pub(super) fn get(&self, id: &CallId) -> Option<&Talk> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &CallId) -> Option<&mut Talk> {
        let talk = self.all.get_mut(id)?;
        self.touched.insert(*id);
        Some(talk)
    }

    pub(super) fn contains_key(&self, id: &CallId) -> bool {
        self.all.contains_key(id)
    }

    pub(super) fn insert(&mut self, id: CallId, talk: Talk) {
        self.touched.insert(id);
        self.all.insert(id, talk);
    }

    pub(super) fn remove(&mut self, id: &CallId) -> Option<Talk> {
        self.touched.remove(id);
        self.place(id, None);
        self.all.remove(id)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &CallId> {
        self.all.keys()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Talk> {
        self.all.values()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CallId, &Talk)> {
        self.all.iter()
    }

    /// Puts everything that was changed in its place; `due` says when it has something to do.
    pub(super) fn look(&mut self, due: impl Fn(&Talk) -> Option<Instant>) {
        for id in std::mem::take(&mut self.touched) {
            let at = self.all.get(&id).and_then(&due);
            self.place(&id, at);
        }
    }

    fn place(&mut self, id: &CallId, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.places.insert(*id, at),
            None => self.places.remove(id),
        };
        if let Some(before) = before {
            self.order.remove(&(before, *id));
        }
        self.order.extend(at.map(|at| (at, *id)));
    }

    /// When the first has something to do; right after [`Self::look`].
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Those that have something to do, and those that were changed, in the order of their calls.
    pub(super) fn due(&self, now: Instant) -> BTreeSet<CallId> {
        let due = self.order.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        due.chain(self.touched.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::v2::delivery::Delivery;
    use crate::proto::{Hex, Millis};

    fn talk(ending: Option<Instant>) -> Talk {
        Talk {
            delivery: Delivery::new(Millis::from_secs(1_800_000_000)),
            session: None,
            relays: Vec::new(),
            point: 0,
            stirred: false,
            ending,
            sending: 0,
            away: false,
            alone_since: None,
            trace: None,
            unread_from: 0,
            read: None,
        }
    }

    fn ids(numbers: &[u8]) -> BTreeSet<CallId> {
        numbers.iter().map(|number| Hex([*number; 8])).collect()
    }

    #[test]
    fn what_is_due_is_what_was_changed_or_whose_time_has_come() {
        let now = Instant::now();
        let at = |seconds| Some(now + Duration::from_secs(seconds));
        let mut talks = Talks::default();
        for (number, ending) in [(1, at(5)), (2, None), (3, at(2)), (4, at(9))] {
            talks.insert(Hex([number; 8]), talk(ending));
        }
        assert_eq!(talks.due(now), ids(&[1, 2, 3, 4]), "nobody has looked at them yet");
        talks.look(|talk| talk.ending);
        assert_eq!((talks.next_at(), talks.due(now)), (at(2), ids(&[])));
        assert_eq!(talks.due(now + Duration::from_secs(5)), ids(&[1, 3]));

        talks.get_mut(&Hex([3; 8])).unwrap().ending = at(7);
        talks.get_mut(&Hex([2; 8])).unwrap().ending = at(1);
        talks.get_mut(&Hex([1; 8])).unwrap().ending = None;
        assert_eq!(talks.due(now), ids(&[1, 2, 3]), "who changes one need not say so");
        talks.look(|talk| talk.ending);
        assert_eq!((talks.next_at(), talks.due(now + Duration::from_secs(8))), (at(1), ids(&[2, 3])));
        talks.remove(&Hex([2; 8]));
        assert_eq!(talks.next_at(), at(7));
        talks.remove(&Hex([3; 8]));
        talks.remove(&Hex([4; 8]));
        assert_eq!((talks.next_at(), talks.due(now + Duration::from_secs(99))), (None, ids(&[])));
    }
}
