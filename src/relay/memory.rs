//! The store in memory.
//!
//! Why not the `MemoryDatabase` that comes with nostr-relay-builder: it scans every event for a tag query, keeps
//! the ids of whatever was deleted or replaced for good, refuses a fresh addressable event while the clock has
//! not reached the date of an older deletion, takes older ones back afterwards, looks at the first of several
//! `#d` values only, and serves expired events. An agent's presence, replaced every two minutes and deleted when
//! it stops, meets all of them.
//!
//! Invariants:
//! * each event is in [`Shelf::events`] and in every index that its id, date, author, kind, tags, coordinate and
//!   expiration ask for, or in none of them;
//! * there is no list of deletions: a stored deletion request (kind 5) *is* the memory of it, found by its tags;
//! * at most [`MAX_EVENTS`] and [`MAX_WEIGHT`]: the oldest events make room.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nostr_relay_builder::prelude::nostr::filter::MatchEventOptions;
use nostr_relay_builder::prelude::{
    Alphabet, Backend, BoxedFuture, DatabaseError, DatabaseEventStatus, Event, EventId, Events, Filter, Kind,
    NostrDatabase, PublicKey, RejectedReason, SaveEventStatus, SingleLetterTag, Timestamp,
};

/// Events kept: the figure of nostr-relay-builder's own store, some weeks of a busy machine.
const MAX_EVENTS: usize = 75_000;

/// Bytes kept, about (see [`weight`]): what a relay that runs beside the agents may take of a small machine.
const MAX_WEIGHT: usize = 256 * 1024 * 1024;

/// What an event costs beside its strings: its fixed fields, and its places in the indices.
const EVENT_OVERHEAD: usize = 1_024;

/// What a tag costs beside its strings: vectors, and its place in an index.
const TAG_OVERHEAD: usize = 256;

/// The order in which events are served: newest first, then by id (NIP-01).
type Rank = (Reverse<Timestamp>, EventId);

/// What a replaceable or addressable event replaces: kind, author and identifier.
type Coordinate = (Kind, PublicKey, String);

/// All events, in memory only.
#[derive(Debug)]
pub(super) struct Memory {
    shelf: Mutex<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    events: HashMap<EventId, Event>,
    newest: BTreeSet<Rank>,
    authors: HashMap<PublicKey, BTreeSet<Rank>>,
    kinds: HashMap<Kind, BTreeSet<Rank>>,
    tags: HashMap<(SingleLetterTag, String), BTreeSet<Rank>>,
    coordinates: HashMap<Coordinate, EventId>,
    expirations: BTreeSet<(Timestamp, EventId)>,
    weight: usize,
    max_events: usize,
    max_weight: usize,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self::with_capacity(MAX_EVENTS, MAX_WEIGHT)
    }

    fn with_capacity(max_events: usize, max_weight: usize) -> Self {
        let shelf = Shelf {
            events: HashMap::new(),
            newest: BTreeSet::new(),
            authors: HashMap::new(),
            kinds: HashMap::new(),
            tags: HashMap::new(),
            coordinates: HashMap::new(),
            expirations: BTreeSet::new(),
            weight: 0,
            max_events,
            max_weight,
        };
        Self { shelf: Mutex::new(shelf) }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn save(&mut self, event: &Event, now: Timestamp) -> SaveEventStatus {
        self.expire(now);
        if let Some(reason) = self.objection(event, now) {
            return SaveEventStatus::Rejected(reason);
        }
        if let Some(replaced) = coordinate(event).and_then(|place| self.coordinates.get(&place)).copied() {
            self.remove(&replaced);
        }
        if event.kind == Kind::EventDeletion {
            self.delete_targets(event);
        }
        self.insert(event.clone());
        while self.events.len() > self.max_events || self.weight > self.max_weight {
            let Some(&(_, oldest)) = self.newest.last() else { break };
            self.remove(&oldest);
        }
        SaveEventStatus::Success
    }

    fn objection(&self, event: &Event, now: Timestamp) -> Option<RejectedReason> {
        if event.kind.is_ephemeral() {
            Some(RejectedReason::Ephemeral)
        } else if self.events.contains_key(&event.id) {
            Some(RejectedReason::Duplicate)
        } else if event.is_expired_at(&now) {
            Some(RejectedReason::Expired)
        } else if self.is_deleted(event) {
            Some(RejectedReason::Deleted)
        } else if self.is_outdated(event) {
            Some(RejectedReason::Replaced)
        } else {
            None
        }
    }

    /// Whether its author asked for the deletion of this event (NIP-09): by id, or by a coordinate at a date not
    /// before its own. A deletion request itself cannot be deleted.
    fn is_deleted(&self, event: &Event) -> bool {
        if event.kind == Kind::EventDeletion {
            return false;
        }
        let requests = |tag: Alphabet, value: String| {
            let ranks = self.tags.get(&(SingleLetterTag::lowercase(tag), value));
            ranks
                .into_iter()
                .flatten()
                .filter_map(|(_, id)| self.events.get(id))
                .filter(|request| request.kind == Kind::EventDeletion && request.pubkey == event.pubkey)
        };
        let by_coordinate = coordinate(event).is_some_and(|(kind, author, identifier)| {
            requests(Alphabet::A, format!("{kind}:{author}:{identifier}"))
                .any(|request| request.created_at >= event.created_at)
        });
        by_coordinate || requests(Alphabet::E, event.id.to_hex()).next().is_some()
    }

    /// Whether a newer event, or one of the same second with a lower id (NIP-01), has its place.
    fn is_outdated(&self, event: &Event) -> bool {
        let holder = coordinate(event).and_then(|place| self.coordinates.get(&place));
        let holder = holder.and_then(|id| self.events.get(id));
        holder.is_some_and(|holder| rank(holder) < rank(event))
    }

    fn delete_targets(&mut self, request: &Event) {
        let by_id = request.tags.event_ids().copied();
        let by_coordinate = request.tags.coordinates().filter_map(|target| {
            let place = (target.kind, target.public_key, target.identifier.clone());
            let event = self.events.get(self.coordinates.get(&place)?)?;
            (event.created_at <= request.created_at).then_some(event.id)
        });
        let targets: Vec<EventId> = by_id.chain(by_coordinate).collect();
        for id in targets {
            let own = self
                .events
                .get(&id)
                .is_some_and(|event| event.pubkey == request.pubkey && event.kind != Kind::EventDeletion);
            if own {
                self.remove(&id);
            }
        }
    }

    fn insert(&mut self, event: Event) {
        let rank = rank(&event);
        self.newest.insert(rank);
        self.authors.entry(event.pubkey).or_default().insert(rank);
        self.kinds.entry(event.kind).or_default().insert(rank);
        for key in tag_keys(&event) {
            self.tags.entry(key).or_default().insert(rank);
        }
        if let Some(place) = coordinate(&event) {
            self.coordinates.insert(place, event.id);
        }
        if let Some(expiration) = event.tags.expiration() {
            self.expirations.insert((*expiration, event.id));
        }
        self.weight += weight(&event);
        self.events.insert(event.id, event);
    }

    fn remove(&mut self, id: &EventId) {
        let Some(event) = self.events.remove(id) else { return };
        let rank = rank(&event);
        self.newest.remove(&rank);
        take_out(&mut self.authors, &event.pubkey, &rank);
        take_out(&mut self.kinds, &event.kind, &rank);
        for key in tag_keys(&event) {
            take_out(&mut self.tags, &key, &rank);
        }
        if let Some(place) = coordinate(&event) {
            self.coordinates.remove(&place);
        }
        if let Some(expiration) = event.tags.expiration() {
            self.expirations.remove(&(*expiration, event.id));
        }
        self.weight -= weight(&event);
    }

    /// Forgets what is past its expiration (NIP-40).
    fn expire(&mut self, now: Timestamp) {
        while let Some(&(expiration, id)) = self.expirations.first()
            && expiration < now
        {
            self.remove(&id);
        }
    }

    /// The events that match, newest first, as many as the filter's limit allows.
    fn find<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Event> {
        let newest = (Reverse(filter.until.unwrap_or(Timestamp::max())), EventId::all_zeros());
        let since = filter.since.unwrap_or(Timestamp::zero());
        let id = |&(_, id): &Rank| id;
        let candidates: Box<dyn Iterator<Item = EventId>> =
            match filter.ids.as_ref().filter(|ids| !ids.is_empty()) {
                Some(ids) => {
                    let ranks: BTreeSet<Rank> =
                        ids.iter().filter_map(|id| self.events.get(id)).map(rank).collect();
                    Box::new(ranks.into_iter().map(|(_, id)| id))
                }
                None => match &self.narrowest(filter)[..] {
                    [ranks] => Box::new(ranks.range(newest..).map(id)),
                    several => {
                        let merged: BTreeSet<&Rank> =
                            several.iter().flat_map(|ranks| ranks.range(newest..)).collect();
                        Box::new(merged.into_iter().map(id))
                    }
                },
            };
        candidates
            .filter_map(|id| self.events.get(&id))
            .take_while(move |event| event.created_at >= since)
            .filter(|event| filter.match_event(event, MatchEventOptions::new()))
            .take(filter.limit.unwrap_or(usize::MAX))
    }

    /// The index entries that hold every event the filter can match, from the index where they are fewest. An
    /// empty list in a filter restricts nothing, as in `Filter::match_event`.
    fn narrowest(&self, filter: &Filter) -> Vec<&BTreeSet<Rank>> {
        let authors = filter.authors.as_ref().filter(|authors| !authors.is_empty());
        let authors =
            authors.map(|authors| authors.iter().filter_map(|author| self.authors.get(author)).collect());
        let kinds = filter.kinds.as_ref().filter(|kinds| !kinds.is_empty());
        let kinds = kinds.map(|kinds| kinds.iter().filter_map(|kind| self.kinds.get(kind)).collect());
        let tags = filter.generic_tags.iter().map(|(name, values)| {
            values.iter().filter_map(|value| self.tags.get(&(*name, value.clone()))).collect()
        });
        let choices = authors.into_iter().chain(kinds).chain(tags);
        let fewest = choices.min_by_key(|choice: &Vec<&BTreeSet<Rank>>| -> usize {
            choice.iter().map(|ranks| ranks.len()).sum()
        });
        fewest.unwrap_or_else(|| vec![&self.newest])
    }
}

fn rank(event: &Event) -> Rank {
    (Reverse(event.created_at), event.id)
}

fn coordinate(event: &Event) -> Option<Coordinate> {
    let replaces = event.kind.is_replaceable() || event.kind.is_addressable();
    replaces.then(|| {
        let identifier = event.tags.identifier().filter(|_| event.kind.is_addressable()).unwrap_or_default();
        (event.kind, event.pubkey, identifier.to_owned())
    })
}

/// The tags that filters can ask for: those of one letter, by their first value.
fn tag_keys(event: &Event) -> impl Iterator<Item = (SingleLetterTag, String)> {
    event.tags.iter().filter_map(|tag| Some((tag.single_letter_tag()?, tag.content()?.to_owned())))
}

/// About what an event costs in memory; each tag of one letter is stored a second time, as a key.
fn weight(event: &Event) -> usize {
    let tag = |tag: &[String]| TAG_OVERHEAD + 2 * tag.iter().map(|part| part.len() + 32).sum::<usize>();
    EVENT_OVERHEAD + event.content.len() + event.tags.iter().map(|entry| tag(entry.as_slice())).sum::<usize>()
}

fn take_out<K: Eq + Hash>(index: &mut HashMap<K, BTreeSet<Rank>>, key: &K, rank: &Rank) {
    if let Some(ranks) = index.get_mut(key) {
        ranks.remove(rank);
        if ranks.is_empty() {
            index.remove(key);
        }
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxedFuture<'a, Result<T, DatabaseError>> {
    Box::pin(std::future::ready(Ok(value)))
}

impl NostrDatabase for Memory {
    fn backend(&self) -> Backend {
        Backend::Memory
    }

    fn save_event<'a>(&'a self, event: &'a Event) -> BoxedFuture<'a, Result<SaveEventStatus, DatabaseError>> {
        ready(self.shelf().save(event, Timestamp::now()))
    }

    /// Never `Deleted`: whether a deletion counts depends on the author, which an id does not tell.
    fn check_id<'a>(
        &'a self,
        id: &'a EventId,
    ) -> BoxedFuture<'a, Result<DatabaseEventStatus, DatabaseError>> {
        let known = self.shelf().events.contains_key(id);
        ready(if known { DatabaseEventStatus::Saved } else { DatabaseEventStatus::NotExistent })
    }

    fn event_by_id<'a>(&'a self, id: &'a EventId) -> BoxedFuture<'a, Result<Option<Event>, DatabaseError>> {
        ready(self.shelf().events.get(id).cloned())
    }

    fn count(&self, filter: Filter) -> BoxedFuture<'_, Result<usize, DatabaseError>> {
        let mut shelf = self.shelf();
        shelf.expire(Timestamp::now());
        ready(shelf.find(&filter).count())
    }

    fn query(&self, filter: Filter) -> BoxedFuture<'_, Result<Events, DatabaseError>> {
        let mut shelf = self.shelf();
        shelf.expire(Timestamp::now());
        let mut events = Events::new(&filter);
        events.extend(shelf.find(&filter).cloned());
        ready(events)
    }

    fn delete(&self, filter: Filter) -> BoxedFuture<'_, Result<(), DatabaseError>> {
        let mut shelf = self.shelf();
        let ids: Vec<EventId> = shelf.find(&filter).map(|event| event.id).collect();
        for id in &ids {
            shelf.remove(id);
        }
        ready(())
    }

    fn wipe(&self) -> BoxedFuture<'_, Result<(), DatabaseError>> {
        self.delete(Filter::new())
    }
}

#[cfg(test)]
mod tests {
    use nostr_relay_builder::prelude::{EventBuilder, Keys, Tag};
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(NOW.as_secs().checked_add_signed(seconds).expect("a small offset"))
    }

    fn event(keys: &Keys, kind: u16, created_at: Timestamp, tags: &[&[&str]]) -> Event {
        let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).expect("a tag"));
        let builder = EventBuilder::new(Kind::from(kind), "").tags(tags).allow_self_tagging();
        builder.custom_created_at(created_at).sign_with_keys(keys).expect("signed")
    }

    fn save(store: &Memory, event: &Event) -> SaveEventStatus {
        store.shelf().save(event, NOW)
    }

    fn ids(store: &Memory, filter: Filter) -> Vec<EventId> {
        store.shelf().find(&filter).map(|event| event.id).collect()
    }

    const SAVED: SaveEventStatus = SaveEventStatus::Success;
    const DELETED: SaveEventStatus = SaveEventStatus::Rejected(RejectedReason::Deleted);
    const REPLACED: SaveEventStatus = SaveEventStatus::Rejected(RejectedReason::Replaced);

    #[test]
    fn the_newest_of_an_addressable_event_is_kept_and_an_older_one_does_not_come_back() {
        let (store, keys) = (Memory::new(), Keys::generate());
        let [old, new] = [at(-2), at(-1)].map(|date| event(&keys, 30_078, date, &[&["d", "a"]]));
        let other = event(&keys, 30_078, at(-3), &[&["d", "b"]]);
        for event in [&old, &new, &other] {
            assert_eq!(save(&store, event), SAVED);
        }
        assert_eq!(save(&store, &old), REPLACED);
        assert_eq!(ids(&store, Filter::new().kind(Kind::from(30_078))), [new.id, other.id]);
        let both = Filter::new().kind(Kind::from(30_078)).author(keys.public_key()).identifiers(["a", "b"]);
        assert_eq!(ids(&store, both), [new.id, other.id]);
    }

    #[test]
    fn of_two_replaceable_events_of_one_second_the_lower_id_stays() {
        let (store, keys) = (Memory::new(), Keys::generate());
        let mut pair = [event(&keys, 10_050, NOW, &[&["x", "1"]]), event(&keys, 10_050, NOW, &[&["x", "2"]])];
        pair.sort_by_key(|event| event.id);
        assert_eq!(save(&store, &pair[1]), SAVED);
        assert_eq!(save(&store, &pair[0]), SAVED);
        assert_eq!(save(&store, &pair[1]), REPLACED);
        assert_eq!(ids(&store, Filter::new()), [pair[0].id]);
    }

    #[test]
    fn a_deletion_holds_for_what_arrives_later_and_ends_at_its_own_date() {
        let (store, keys) = (Memory::new(), Keys::generate());
        let place = format!("30078:{}:a", keys.public_key());
        let [before, after] = [at(-5), at(6)].map(|date| event(&keys, 30_078, date, &[&["d", "a"]]));
        let note = event(&keys, 1, at(-9), &[]);
        // Dated ahead of the clock: newer presence must not wait until the clock is there.
        let deletion = event(&keys, 5, at(5), &[&["a", &place], &["e", &note.id.to_hex()]]);
        assert_eq!(save(&store, &deletion), SAVED);
        assert_eq!(save(&store, &before), DELETED);
        assert_eq!(save(&store, &note), DELETED);
        assert_eq!(save(&store, &after), SAVED);
    }

    #[test]
    fn nobody_deletes_the_events_of_another() {
        let (store, keys, stranger) = (Memory::new(), Keys::generate(), Keys::generate());
        let presence = event(&keys, 30_078, at(-5), &[&["d", "a"]]);
        let place = format!("30078:{}:a", keys.public_key());
        let deletion = event(&stranger, 5, NOW, &[&["a", &place], &["e", &presence.id.to_hex()]]);
        assert_eq!(save(&store, &presence), SAVED);
        assert_eq!(save(&store, &deletion), SAVED);
        assert_eq!(ids(&store, Filter::new().kind(Kind::from(30_078))), [presence.id]);
    }

    #[test]
    fn an_expired_event_is_gone_and_not_taken_again() {
        let (store, keys) = (Memory::new(), Keys::generate());
        let expiration = at(10).to_string();
        let event = event(&keys, 1, NOW, &[&["expiration", &expiration]]);
        assert_eq!(save(&store, &event), SAVED);
        store.shelf().expire(at(10));
        assert_eq!(ids(&store, Filter::new()), [event.id]);
        store.shelf().expire(at(11));
        assert_eq!(ids(&store, Filter::new()), []);
        assert_eq!(store.shelf().save(&event, at(11)), SaveEventStatus::Rejected(RejectedReason::Expired));
    }

    #[test]
    fn the_oldest_events_make_room_and_leave_nothing_behind() {
        let (store, keys) = (Memory::with_capacity(2, MAX_WEIGHT), Keys::generate());
        let events = [-3, -1, -2].map(|date| event(&keys, 30_000, at(date), &[&["d", &date.to_string()]]));
        for event in &events {
            assert_eq!(save(&store, event), SAVED);
        }
        assert_eq!(ids(&store, Filter::new()), [events[1].id, events[2].id]);

        let light = Memory::with_capacity(usize::MAX, weight(&events[0]));
        for event in &events {
            assert_eq!(save(&light, event), SAVED);
        }
        assert_eq!(ids(&light, Filter::new()), [events[1].id]);
        light.shelf().remove(&events[1].id);
        let shelf = light.shelf();
        assert!(shelf.newest.is_empty() && shelf.authors.is_empty() && shelf.kinds.is_empty());
        assert!(shelf.tags.is_empty() && shelf.coordinates.is_empty() && shelf.weight == 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_query_by_index_finds_what_a_scan_finds(
            specs in prop::collection::vec((0..3usize, 1..4u16, 0..20i64, 0..3usize), 0..40),
            authors in prop::option::of(prop::collection::vec(0..3usize, 0..3)),
            kinds in prop::option::of(prop::collection::vec(1..4u16, 1..3)),
            tags in prop::option::of(prop::collection::vec(0..3usize, 1..3)),
            (since, until) in (prop::option::of(0..20i64), prop::option::of(0..20i64)),
            limit in prop::option::of(0..10usize),
            by_ids in any::<bool>(),
        ) {
            const VALUES: [&str; 3] = ["red", "green", "blue"];
            let people = [1u8, 2, 3].map(|byte| Keys::parse(&format!("{byte:064x}")).expect("a key"));
            let store = Memory::new();
            let mut events = Vec::new();
            for (author, kind, date, tag) in specs {
                let event = event(&people[author], kind + 10, at(-date), &[&["t", VALUES[tag]]]);
                if save(&store, &event) == SAVED {
                    events.push(event);
                }
            }
            let mut filter = Filter { since: since.map(|date| at(-date)), until: until.map(|date| at(-date)), ..Filter::new() };
            if let Some(authors) = authors {
                filter = filter.authors(authors.into_iter().map(|author| people[author].public_key()));
            }
            if let Some(kinds) = kinds {
                filter = filter.kinds(kinds.into_iter().map(|kind| Kind::from(kind + 10)));
            }
            if let Some(tags) = tags {
                filter = filter.hashtags(tags.into_iter().map(|tag| VALUES[tag]));
            }
            if by_ids {
                filter = filter.ids(events.iter().step_by(2).map(|event| event.id));
            }
            let mut scanned: Vec<&Event> =
                events.iter().filter(|event| filter.match_event(event, MatchEventOptions::new())).collect();
            scanned.sort_by_key(|event| rank(event));
            scanned.truncate(limit.unwrap_or(usize::MAX));
            let scanned: Vec<EventId> = scanned.into_iter().map(|event| event.id).collect();
            filter.limit = limit;
            prop_assert_eq!(ids(&store, filter), scanned);
        }
    }
}
