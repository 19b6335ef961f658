mod damage;
mod upgrade;

use super::messages::{READ_THERE, ROW_OF_OURS, UNREAD_OF_CALL};
use super::*;
use crate::proto::call::Call;
use crate::proto::{CallId, Direction, EventKind, MessageId, MessageKind, MessageState, Protocol, Sender};

const NOW: Millis = Millis::from_secs(1_800_000_000);
const PEER: crate::proto::PublicKey = Hex([2; 32]);

fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("state.db")).unwrap()
}

pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub(super) fn call(id: u8) -> Call {
    Call {
        id: Hex([id; 8]),
        peer: PEER,
        room: format!("room-{id}"),
        direction: Direction::In,
        protocol: Protocol::Legacy,
        agent_id: "bob".into(),
        agent_name: "Bob".into(),
        topic: "topic".into(),
        started_at: NOW,
        ring_until: NOW,
        connected_at: None,
        ended: None,
        next_out: 1,
        next_in: 4,
        closing: Some((9, NOW)),
        gap_until: None,
        queued: false,
    }
}

pub(super) fn said(call: CallId, id: u8) -> NewMessage {
    NewMessage {
        message: Hex([id; 16]),
        call: Some(call),
        peer: PEER,
        sender: Sender::Peer,
        kind: MessageKind::Text,
        text: id.to_string(),
        file: None,
        at: NOW,
        state: MessageState::Received,
        seq: Some(id.into()),
    }
}

fn happened(kind: EventKind, call: Option<CallId>) -> NewEvent {
    NewEvent { kind, at: NOW, call, message: None, ticket: None, detail: None, own: false }
}

#[test]
fn what_was_committed_is_there_after_a_restart_and_what_was_not_is_gone() {
    let folder = folder();
    {
        let mut store = store(&folder);
        store.begin().unwrap();
        store.save_call(&call(1)).unwrap();
        store.commit().unwrap();
        store.begin().unwrap();
        store.save_call(&call(2)).unwrap();
    }
    let store = store(&folder);
    assert_eq!(store.call(&Hex([1; 8])).unwrap().unwrap().call, call(1));
    assert!(store.call(&Hex([2; 8])).unwrap().is_none());
    assert_eq!(store.call_in_room(&PEER, "room-1").unwrap().unwrap().call.id, Hex([1; 8]));
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let folder = folder();
    store(&folder).db.pragma_update(None, "user_version", 99).unwrap();
    let refused = Store::open(&folder.path().join("state.db"));
    assert!(matches!(refused, Err(Error::TooNew { found: 99, .. })), "{refused:?}");
}

#[test]
fn every_commit_is_synced_to_the_disk() {
    let folder = folder();
    let store = store(&folder);
    let setting = |name: &str| store.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(setting("synchronous"), 2);
    let mode: String = store.db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn commits_wait_for_the_system_alone_where_that_is_wanted_also_after_an_error_of_the_disk() {
    let folder = folder();
    let mut store = store(&folder);
    store.set_durability(Durability::Os).unwrap();
    store.reopen().unwrap();
    let synchronous = store.db.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(synchronous, 1);
}

#[test]
fn the_log_has_its_full_size_from_the_first_commit_on_and_the_database_does_not_grow_by_it() {
    let folder = folder();
    let mut store = store(&folder);
    store.begin().unwrap();
    store.set_meta("number", 0).unwrap();
    store.commit().unwrap();
    store.log.join();
    let size = || std::fs::metadata(folder.path().join("state.db-wal")).unwrap().len();
    let full = size();
    assert!(full >= u64::from(LOG), "{full}");
    let count =
        |store: &Store| store.db.pragma_query_value(None, "page_count", |row| row.get::<_, u64>(0)).unwrap();
    let before = count(&store);
    assert!(before < 200, "{before}");
    for number in 0..50 {
        store.begin().unwrap();
        store.set_meta("number", number).unwrap();
        store.commit().unwrap();
    }
    assert_eq!((size(), count(&store)), (full, before));
    assert_eq!(store.meta("number").unwrap(), Some(49));
}

#[test]
fn a_message_is_kept_once_whether_it_was_held_back_or_not() {
    let folder = folder();
    let mut store = store(&folder);
    store.save_call(&call(1)).unwrap();
    let id = Hex([1; 8]);
    assert!(store.hold_message(&said(id, 5)).unwrap());
    assert!(!store.hold_message(&said(id, 5)).unwrap());
    assert_eq!(store.held_in(&id).unwrap(), [(Hex([5; 16]), Some(5))]);
    assert_eq!(store.calls_with_held().unwrap(), [id]);
    assert!(store.surface_message(&id, &Hex([5; 16])).unwrap().is_some());
    assert!(store.surface_message(&id, &Hex([5; 16])).unwrap().is_none());
    assert!(store.add_message(&said(id, 5)).unwrap().is_none());
    assert!(!store.hold_message(&said(id, 5)).unwrap());
    assert_eq!(store.call(&id).unwrap().unwrap().messages, 1);
}

#[test]
fn what_is_asked_at_each_message_does_not_look_through_its_call() {
    let folder = folder();
    let store = store(&folder);
    let unread = format!("SELECT row FROM messages WHERE {UNREAD_OF_CALL} ORDER BY row DESC LIMIT ?2");
    for sql in [ROW_OF_OURS, READ_THERE, &unread] {
        let mut statement = store.db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let nothing = vec![None::<u8>; statement.parameter_count()];
        let plan = statement.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3));
        let plan: Vec<String> = plan.unwrap().map(|step| step.unwrap()).collect();
        assert!(!plan.is_empty() && !plan.iter().any(|step| step.contains("(call=?)")), "{sql}: {plan:?}");
    }
}

#[test]
fn numbers_that_are_written_once_a_batch_are_read_as_they_are_in_it_and_go_with_it() {
    let folder = folder();
    let mut store = store(&folder);
    let mut placed = call(1);
    (placed.next_out, placed.next_in) = (1, 1);
    store.save_call(&placed).unwrap();
    let id = Hex([1; 8]);
    let numbers = |store: &Store| {
        let found = store.call(&id).unwrap().unwrap();
        (found.messages, found.call.next_out, found.call.next_in)
    };
    for lost in [true, false] {
        store.begin().unwrap();
        for number in 1..=3 {
            store.add_message(&said(id, number)).unwrap();
            store.number_call(&id, u64::from(number) + 1, 1).unwrap();
        }
        // Read in the middle, and once more written after that.
        assert_eq!(numbers(&store), (3, 4, 1));
        store.number_call(&id, 9, 2).unwrap();
        match lost {
            true => store.rollback(),
            false => store.commit().unwrap(),
        }
        assert_eq!(numbers(&store), if lost { (0, 1, 1) } else { (3, 9, 2) });
    }
}

#[test]
fn unread_is_what_nobody_read() {
    let folder = folder();
    let mut store = store(&folder);
    store.save_call(&call(1)).unwrap();
    for id in 1..=3 {
        store.add_message(&said(Hex([1; 8]), id)).unwrap();
    }
    store.mark_read(&Hex([2; 16]), NOW).unwrap();
    assert_eq!(store.unread_count().unwrap(), 2);
    let words =
        |messages: Vec<StoredMessage>| messages.into_iter().map(|m| m.message.text).collect::<Vec<_>>();
    assert_eq!(words(store.messages(None, true, 10).unwrap()), ["1", "3"]);
    assert_eq!(words(store.messages(Some(&Hex([1; 8])), false, 2).unwrap()), ["2", "3"]);
}

#[test]
fn a_message_advances_from_queued_once() {
    let folder = folder();
    let mut store = store(&folder);
    store.save_call(&call(1)).unwrap();
    let mine = NewMessage { sender: Sender::Me, state: MessageState::Queued, ..said(Hex([1; 8]), 1) };
    store.add_message(&mine).unwrap();
    let id: MessageId = Hex([1; 16]);
    assert!(store.advance_message(&id, MessageState::Relayed, None).unwrap().is_some());
    assert!(store.advance_message(&id, MessageState::Failed, Some("late")).unwrap().is_none());
    assert_eq!(store.my_message(&id).unwrap().unwrap().message.state, MessageState::Relayed);
}

#[test]
fn a_consumer_that_waits_for_one_call_loses_nothing_of_the_others() {
    let folder = folder();
    let mut store = store(&folder);
    let (a, b) = (Hex([1; 8]), Hex([2; 8]));
    let ringing = store.add_event(&happened(EventKind::CallRinging, Some(a))).unwrap();
    let words = store.add_event(&happened(EventKind::MessageReceived, Some(b))).unwrap();
    let ended = store.add_event(&happened(EventKind::CallEnded, Some(b))).unwrap();
    let of_b = Filter { consumer: Some("cli".into()), call: Some(b), ..Filter::default() };
    let any = Filter { consumer: Some("cli".into()), ..Filter::default() };
    let first = |store: &Store, filter: &Filter| store.peek(filter).unwrap().map(|entry| entry.cursor);

    assert_eq!(first(&store, &of_b), Some(words));
    store.take("cli", words).unwrap();
    assert_eq!(first(&store, &of_b), Some(ended));
    assert_eq!(first(&store, &any), Some(ringing));
    store.take("cli", ringing).unwrap();
    assert_eq!(first(&store, &any), Some(ended));
    store.take("cli", ended).unwrap();
    assert_eq!(first(&store, &any), None);
    assert_eq!(
        store.count("SELECT count(*) FROM taken", []).unwrap(),
        0,
        "the low-water mark has passed them"
    );
    let another = Filter { consumer: Some("other".into()), ..Filter::default() };
    assert_eq!(first(&store, &another), Some(ringing), "each consumer has a place of its own");
}

#[test]
fn noise_comes_only_when_asked_for_and_so_does_what_one_did_oneself() {
    let folder = folder();
    let mut store = store(&folder);
    store.add_event(&happened(EventKind::RelayUp, None)).unwrap();
    store.add_event(&NewEvent { own: true, ..happened(EventKind::CallEnded, None) }).unwrap();
    assert!(store.peek(&Filter::default()).unwrap().is_none());
    for kind in [EventKind::RelayUp, EventKind::CallEnded] {
        let asked = Filter { kinds: vec![kind], ..Filter::default() };
        assert_eq!(store.peek(&asked).unwrap().unwrap().event.kind, kind);
    }
}

#[test]
fn noise_behind_what_a_consumer_took_can_still_be_asked_for() {
    let folder = folder();
    let mut store = store(&folder);
    let relayed = || happened(EventKind::MessageRelayed, None);
    let cursors: Vec<_> = (0..3).map(|_| store.add_event(&relayed()).unwrap()).collect();
    let own = NewEvent { own: true, ..happened(EventKind::CallEnded, None) };
    let ended = store.add_event(&own).unwrap();
    let kinds = vec![EventKind::MessageRelayed, EventKind::CallEnded];
    let asked = Filter { consumer: Some("cli".into()), kinds, ..Filter::default() };
    for cursor in cursors.into_iter().chain([ended]) {
        assert_eq!(store.peek(&asked).unwrap().map(|entry| entry.cursor), Some(cursor));
        store.take("cli", cursor).unwrap();
    }
    assert!(store.peek(&asked).unwrap().is_none());
    assert_eq!(
        store.count("SELECT count(*) FROM taken", []).unwrap(),
        0,
        "the low-water mark has passed them"
    );
}

#[test]
fn untaken_is_what_no_consumer_passed_and_nothing_has_settled() {
    let folder = folder();
    let mut store = store(&folder);
    let mut ringing = call(1);
    store.save_call(&ringing).unwrap();
    let ring = store.add_event(&happened(EventKind::CallRinging, Some(ringing.id))).unwrap();
    let row = store.add_message(&said(ringing.id, 1)).unwrap();
    let message = NewEvent { message: row, ..happened(EventKind::MessageReceived, Some(ringing.id)) };
    let message = store.add_event(&message).unwrap();
    let own = NewEvent { own: true, ..happened(EventKind::CallEnded, Some(ringing.id)) };
    store.add_event(&own).unwrap();
    let found = |store: &Store, since| -> Vec<u64> {
        let next = |after: &u64| store.untaken(*after, &[], since).unwrap().map(|entry| entry.cursor);
        std::iter::successors(next(&0), next).collect()
    };
    assert_eq!(found(&store, NOW), [ring, message]);
    assert_eq!(found(&store, NOW + Duration::from_secs(1)), [0; 0], "too old to wake anybody for");
    store.pass("hook:1", message).unwrap();
    assert_eq!(found(&store, NOW), [ring, message], "who only watches takes nothing");
    ringing.connected_at = Some(NOW);
    store.save_call(&ringing).unwrap();
    assert_eq!(found(&store, NOW), [message], "it rings no more");
    store.mark_read(&Hex([1; 16]), NOW).unwrap();
    assert_eq!(found(&store, NOW), [0; 0]);
    let again = store.add_event(&happened(EventKind::ContactKeyChanged, None)).unwrap();
    let gap = store.add_event(&happened(EventKind::Gap, None)).unwrap();
    assert_eq!(found(&store, NOW), [again, gap]);
    assert_eq!(store.untaken(0, &[EventKind::Gap], NOW).unwrap().map(|entry| entry.cursor), Some(gap));
    store.take("cli", gap).unwrap();
    assert_eq!(found(&store, NOW), [again], "taken out of turn");
    store.take("other", again).unwrap();
    assert_eq!(found(&store, NOW), [0; 0]);
}

#[test]
fn who_passes_an_event_passes_all_before_it_and_never_goes_back() {
    let folder = folder();
    let mut store = store(&folder);
    let cursors: Vec<_> = (0..3).map(|_| store.add_event(&happened(EventKind::Gap, None)).unwrap()).collect();
    let filter = Filter { consumer: Some("hook:1".into()), ..Filter::default() };
    let next = |store: &Store| store.peek(&filter).unwrap().map(|entry| entry.cursor);
    store.pass("hook:1", cursors[1]).unwrap();
    assert_eq!(next(&store), Some(cursors[2]));
    store.pass("hook:1", cursors[0]).unwrap();
    assert_eq!(next(&store), Some(cursors[2]));
}

#[test]
fn pruned_events_are_gone_and_cursors_are_never_used_again() {
    let folder = folder();
    let mut store = store(&folder);
    store.add_event(&happened(EventKind::CallRinging, None)).unwrap();
    let last = store.add_event(&happened(EventKind::CallMissed, None)).unwrap();
    store.prune_events(NOW + Duration::from_secs(1)).unwrap();
    assert_eq!((store.pruned().unwrap(), store.last_cursor().unwrap()), (last, last));
    assert_eq!(store.add_event(&happened(EventKind::CallRinging, None)).unwrap(), last + 1);
}

#[test]
fn a_name_belongs_to_one_key() {
    let folder = folder();
    let mut store = store(&folder);
    let named =
        |key: u8| StoredContact { key: Hex([key; 32]), name: Some("bob".into()), ..Default::default() };
    store.save_contact(&named(1)).unwrap();
    store.save_contact(&named(2)).unwrap();
    let contacts = store.contacts().unwrap();
    assert_eq!(contacts[0], named(2));
    assert_eq!(contacts[1].name, None);
}

#[test]
fn what_is_queued_leaves_once_and_cursors_never_go_back() {
    let folder = folder();
    let mut store = store(&folder);
    let out = Outgoing {
        event: Hex([1; 32]),
        kind: 4,
        created_at: 7,
        json: "{}".into(),
        call: Hex([1; 8]),
        message: Some(Hex([1; 16])),
        relays: None,
        at: Millis(0),
    };
    store.enqueue(&out).unwrap();
    assert_eq!(store.outbox().unwrap(), [out]);
    assert_eq!(store.dequeue(&Hex([1; 32])).unwrap(), Some((Hex([1; 8]), Some(Hex([1; 16])))));
    assert_eq!(store.dequeue(&Hex([1; 32])).unwrap(), None);
    store.set_cursor("ws://r", "direct", 9).unwrap();
    store.set_cursor("ws://r", "direct", 5).unwrap();
    assert_eq!(store.cursors().unwrap(), [("ws://r".into(), "direct".into(), 9)]);
    assert!(store.mark_seen(&Hex([1; 32]), NOW).unwrap());
    assert!(!store.mark_seen(&Hex([1; 32]), NOW).unwrap());
}
