//! Which events were journalled: asked by the links before they verify and decrypt one that comes again.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use crate::proto::EventId;
use crate::transport::Seen;

/// The newest ids, shared with the links. Only a filter: the database decides what is new.
#[derive(Debug, Clone)]
pub(super) struct SeenEvents {
    ids: Arc<RwLock<Ids>>,
}

#[derive(Debug, Default)]
struct Ids {
    set: HashSet<EventId>,
    order: VecDeque<EventId>,
    limit: usize,
}

impl SeenEvents {
    /// The newest ones, newest first, of which at most `limit` are kept.
    pub(super) fn new(newest_first: Vec<EventId>, limit: usize) -> Self {
        let seen = Self { ids: Arc::new(RwLock::new(Ids { limit, ..Ids::default() })) };
        for id in newest_first.into_iter().rev() {
            seen.insert(id);
        }
        seen
    }

    pub(super) fn insert(&self, id: EventId) {
        let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        if !ids.set.insert(id) {
            return;
        }
        ids.order.push_back(id);
        if ids.order.len() > ids.limit
            && let Some(oldest) = ids.order.pop_front()
        {
            ids.set.remove(&oldest);
        }
    }

    /// The question, as the links ask it.
    pub(super) fn filter(&self) -> Seen {
        let ids = self.ids.clone();
        Arc::new(move |id| ids.read().unwrap_or_else(PoisonError::into_inner).set.contains(id))
    }
}
