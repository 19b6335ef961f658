//! What waits for one relay, in order. Filled by [`Pool::publish`](crate::transport::Pool::publish) from anywhere,
//! emptied by the link, one event at a time. Pure.
//!
//! The head stays in the queue until the relay has spoken: whatever happens to the connection, the same bytes go
//! out again over the next one.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::proto::EventId;
use crate::transport::inbound::Outcome;
use crate::transport::presence;
use crate::transport::signed::Signed;

/// Events that wait for one relay. A conversation is hundreds; a day without the relay at the rate of legacy relays
/// (12 a minute) is 17,000, of which the engine's own outbox keeps what does not fit here.
pub(super) const MAX_EVENTS: usize = 4_096;

/// Bytes that wait for one relay. The bytes are shared between links.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug)]
struct Entry {
    event: Arc<Signed>,
    unanswered: u32,
    errors: u32,
}

/// The queue of one link.
#[derive(Debug, Default)]
pub(in crate::transport) struct Outbox {
    queue: VecDeque<Entry>,
    ids: HashSet<EventId>,
    bytes: usize,
    /// The head is with the relay.
    in_flight: bool,
}

impl Outbox {
    pub(in crate::transport) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Gives everything up; returns the ids.
    pub(in crate::transport) fn clear(&mut self) -> Vec<EventId> {
        let ids = self.queue.iter().map(|entry| entry.event.id).collect();
        *self = Self::default();
        ids
    }

    /// Queues an event; tells which others had to go. An event that waits already keeps its place.
    pub(in crate::transport) fn push(&mut self, event: Arc<Signed>) -> Vec<(EventId, Outcome)> {
        let mut gone = Vec::new();
        if self.ids.contains(&event.id) {
            return gone;
        }
        if event.kind == presence::KIND
            && let Some(older) = self.waiting().find(|index| self.queue[*index].event.kind == presence::KIND)
        {
            gone.push((self.replace(older, event), Outcome::Superseded));
            return gone;
        }
        self.bytes += event.json.len();
        self.ids.insert(event.id);
        self.queue.push_back(Entry { event, unanswered: 0, errors: 0 });
        while (self.queue.len() > MAX_EVENTS || self.bytes > MAX_BYTES)
            && let Some(oldest) = self.waiting().next()
        {
            gone.extend(self.remove(oldest).map(|id| (id, Outcome::Dropped)));
        }
        gone
    }

    /// The next event to send, now in flight; none while another one is.
    pub(super) fn take(&mut self) -> Option<Arc<Signed>> {
        if self.in_flight {
            return None;
        }
        let head = self.queue.front()?;
        self.in_flight = true;
        Some(head.event.clone())
    }

    /// The relay decided on the event in flight.
    pub(super) fn settle(&mut self) {
        if std::mem::take(&mut self.in_flight) {
            self.remove(0);
        }
    }

    /// The event in flight is to be sent again; nobody's fault.
    pub(super) fn put_back(&mut self) {
        self.in_flight = false;
    }

    /// The event in flight met silence or a cut. Returns its id if that was once too often, and it left the queue.
    pub(super) fn unanswered(&mut self, most: u32) -> Option<EventId> {
        if !std::mem::take(&mut self.in_flight) {
            return None;
        }
        let head = self.queue.front_mut()?;
        head.unanswered += 1;
        if head.unanswered >= most { self.remove(0) } else { None }
    }

    /// The relay failed at the event in flight. Returns whether it may have another try.
    pub(super) fn failed(&mut self, most: u32) -> bool {
        let Some(head) = self.queue.front_mut().filter(|_| self.in_flight) else { return false };
        head.errors += 1;
        let again = head.errors <= most;
        self.in_flight = !again;
        again
    }

    /// The places that are not in flight, oldest first.
    fn waiting(&self) -> std::ops::Range<usize> {
        usize::from(self.in_flight)..self.queue.len()
    }

    fn replace(&mut self, index: usize, event: Arc<Signed>) -> EventId {
        let entry = &mut self.queue[index];
        let old = entry.event.id;
        self.bytes = self.bytes - entry.event.json.len() + event.json.len();
        self.ids.remove(&old);
        self.ids.insert(event.id);
        *entry = Entry { event, unanswered: 0, errors: 0 };
        old
    }

    fn remove(&mut self, index: usize) -> Option<EventId> {
        let entry = self.queue.remove(index)?;
        self.bytes -= entry.event.json.len();
        self.ids.remove(&entry.event.id);
        Some(entry.event.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Hex;

    fn event(number: u64, kind: u16, size: usize) -> Arc<Signed> {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        Arc::new(Signed { id: Hex(id), kind, created_at: number, json: "x".repeat(size) })
    }

    #[test]
    fn events_leave_in_order_and_one_at_a_time() {
        let mut outbox = Outbox::default();
        let (first, second) = (event(1, 4, 10), event(2, 4, 10));
        assert!(outbox.push(first.clone()).is_empty() && outbox.push(second.clone()).is_empty());
        assert_eq!(outbox.take(), Some(first.clone()));
        assert_eq!(outbox.take(), None);
        outbox.put_back();
        assert_eq!(outbox.take(), Some(first));
        outbox.settle();
        assert_eq!(outbox.take(), Some(second));
        outbox.settle();
        assert!(outbox.is_empty() && outbox.bytes == 0 && outbox.ids.is_empty());
        outbox.settle();
    }

    #[test]
    fn an_event_that_waits_already_is_not_queued_twice() {
        let mut outbox = Outbox::default();
        outbox.push(event(1, 4, 10));
        outbox.push(event(1, 4, 10));
        assert_eq!(outbox.queue.len(), 1);
    }

    #[test]
    fn a_full_queue_drops_its_oldest_but_never_what_is_in_flight() {
        let mut outbox = Outbox::default();
        (0..MAX_EVENTS as u64).for_each(|number| assert!(outbox.push(event(number, 4, 1)).is_empty()));
        let head = outbox.take().unwrap();
        assert_eq!(outbox.push(event(99_999, 4, 1)), [(event(1, 4, 1).id, Outcome::Dropped)]);
        outbox.put_back();
        assert_eq!(outbox.take(), Some(head));
    }

    #[test]
    fn the_bytes_that_wait_are_bounded_too() {
        let mut outbox = Outbox::default();
        let gone: usize = (0..300).map(|number| outbox.push(event(number, 4, 65_000)).len()).sum();
        assert!(outbox.bytes <= MAX_BYTES);
        assert_eq!(gone + outbox.queue.len(), 300);
    }

    #[test]
    fn only_the_newest_announcement_waits_in_the_place_of_the_older() {
        let mut outbox = Outbox::default();
        outbox.push(event(1, presence::KIND, 10));
        outbox.push(event(2, 4, 10));
        assert_eq!(outbox.push(event(3, presence::KIND, 20)), [(event(1, 4, 1).id, Outcome::Superseded)]);
        assert_eq!(outbox.take(), Some(event(3, presence::KIND, 20)));
        assert!(outbox.push(event(4, presence::KIND, 10)).is_empty(), "what is in flight is not replaced");
    }

    #[test]
    fn an_event_that_meets_only_silence_makes_room_for_the_next() {
        let mut outbox = Outbox::default();
        outbox.push(event(1, 4, 10));
        outbox.push(event(2, 4, 10));
        assert_eq!(outbox.unanswered(2), None, "nothing is in flight");
        outbox.take();
        assert_eq!(outbox.unanswered(2), None);
        outbox.take();
        assert_eq!(outbox.unanswered(2), Some(event(1, 4, 10).id));
        assert_eq!(outbox.take(), Some(event(2, 4, 10)));
    }

    #[test]
    fn an_event_that_the_relay_fails_at_gets_its_tries() {
        let mut outbox = Outbox::default();
        outbox.push(event(1, 4, 10));
        for again in [true, true, false] {
            outbox.take();
            assert_eq!(outbox.failed(2), again);
        }
        outbox.settle();
        assert!(outbox.is_empty());
    }
}
