//! The store on disk: LMDB, by the crate nostr-lmdb, and what that crate leaves to us.
//!
//! An event is in the file (and synced) before its author gets the OK, so a relay that is killed comes back with
//! everything it accepted. The crate knows replaceable and addressable events and deletions (NIP-09); it serves
//! expired events (NIP-40), which this room keeps back and removes when it meets them, and it answers queries on
//! the calling thread, which this room moves off the runtime.

use std::path::Path;
use std::sync::Arc;

use nostr_lmdb::NostrLMDB;
use nostr_relay_builder::prelude::{
    Backend, BoxedFuture, DatabaseError, DatabaseEventStatus, Event, EventId, Events, Filter, NostrDatabase,
    SaveEventStatus, Timestamp,
};
use tokio::runtime::Handle;

/// How large the file may grow, in bytes; a whole number of pages, and the most a 32-bit system can map. It
/// grows as it fills; when it is full, new events are refused with `error:`.
const MAX_FILE_BYTES: usize = 0xffff_f000;

/// A folder with an LMDB file in it.
#[derive(Debug)]
pub(super) struct Disk {
    lmdb: Arc<NostrLMDB>,
}

impl Disk {
    /// Opens the store in `folder`, which is created if it is missing.
    pub(super) fn open(folder: &Path) -> Result<Self, DatabaseError> {
        let lmdb = NostrLMDB::builder(folder).map_size(MAX_FILE_BYTES).build()?;
        Ok(Self { lmdb: Arc::new(lmdb) })
    }

    async fn query_blocking(&self, filter: Filter) -> Result<Events, DatabaseError> {
        let (lmdb, runtime) = (Arc::clone(&self.lmdb), Handle::current());
        let query = tokio::task::spawn_blocking(move || runtime.block_on(lmdb.query(filter)));
        query.await.map_err(DatabaseError::backend)?
    }

    /// A full answer: expired events that took the place of others in it are removed, and the query repeated.
    /// Were they only left out, a client that pages until an answer is short would stop too early.
    async fn query_unexpired(&self, filter: Filter) -> Result<Events, DatabaseError> {
        if filter.limit == Some(0) {
            return Ok(Events::new(&filter));
        }
        loop {
            let events = self.query_blocking(filter.clone()).await?;
            let now = Timestamp::now();
            let expired: Vec<EventId> =
                events.iter().filter(|event| event.is_expired_at(&now)).map(|event| event.id).collect();
            if expired.is_empty() {
                return Ok(events);
            }
            self.lmdb.delete(Filter::new().ids(expired)).await?;
        }
    }
}

impl NostrDatabase for Disk {
    fn backend(&self) -> Backend {
        self.lmdb.backend()
    }

    fn save_event<'a>(&'a self, event: &'a Event) -> BoxedFuture<'a, Result<SaveEventStatus, DatabaseError>> {
        self.lmdb.save_event(event)
    }

    fn check_id<'a>(
        &'a self,
        id: &'a EventId,
    ) -> BoxedFuture<'a, Result<DatabaseEventStatus, DatabaseError>> {
        self.lmdb.check_id(id)
    }

    fn event_by_id<'a>(&'a self, id: &'a EventId) -> BoxedFuture<'a, Result<Option<Event>, DatabaseError>> {
        self.lmdb.event_by_id(id)
    }

    fn count(&self, filter: Filter) -> BoxedFuture<'_, Result<usize, DatabaseError>> {
        Box::pin(async move { Ok(self.query_unexpired(filter).await?.len()) })
    }

    fn query(&self, filter: Filter) -> BoxedFuture<'_, Result<Events, DatabaseError>> {
        Box::pin(self.query_unexpired(filter))
    }

    fn delete(&self, filter: Filter) -> BoxedFuture<'_, Result<(), DatabaseError>> {
        self.lmdb.delete(filter)
    }

    fn wipe(&self) -> BoxedFuture<'_, Result<(), DatabaseError>> {
        self.lmdb.wipe()
    }
}
