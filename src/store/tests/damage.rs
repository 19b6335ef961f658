//! Values that changed on the disk: what a row says is not shown when it is not what was written.

use super::*;
use crate::proto::TicketState;
use crate::proto::call::Line;
use crate::proto::v2::batch::{Entry, Kind};
use crate::proto::v2::delivery::{Change, Queued};
use crate::proto::v2::parcel::{Parcel, Secret};

fn ticket() -> StoredTicket {
    StoredTicket {
        id: Hex([5; 4]),
        call: Some(Hex([1; 8])),
        question: "May I spend 40 EUR?".into(),
        options: "[]".into(),
        state: TicketState::Answered,
        answer: Some("no".into()),
        channels: "[]".into(),
        at: NOW,
        expires_at: NOW,
        taken: false,
        message: None,
        release: Millis(2),
        asked: true,
        digest: false,
    }
}

fn entry(seq: u64, id: u8, body: &str) -> Entry {
    Entry { stream: 1, seq, kind: Kind::Text, id: Hex([id; 16]), body: body.into() }
}

/// A store with something of everything that is shown or said.
fn filled(folder: &tempfile::TempDir) -> Store {
    let mut store = store(folder);
    store.save_call(&call(1)).unwrap();
    let row = store.add_message(&said(Hex([1; 8]), 1)).unwrap();
    store.hold_message(&said(Hex([1; 8]), 7)).unwrap();
    let event = NewEvent { message: row, ..happened(EventKind::MessageReceived, Some(Hex([1; 8]))) };
    store.add_event(&event).unwrap();
    store.add_event(&happened(EventKind::CallEnded, Some(Hex([1; 8])))).unwrap();
    store.save_ticket(&ticket()).unwrap();
    for (seq, body) in [(1, "spend nothing"), (2, "spend little")] {
        let queued = Queued { entry: entry(seq, seq as u8, body), deadline: None };
        store.apply_delivery(&Hex([1; 8]), &Change::Queue(queued)).unwrap();
    }
    store.apply_delivery(&Hex([1; 8]), &Change::Hold(entry(9, 9, "later"))).unwrap();
    store
}

fn damage(store: &Store, sql: &str) {
    assert_eq!(store.db.execute(sql, []).unwrap(), 1, "{sql}");
}

#[test]
fn what_was_written_is_read_and_may_be_written_again() {
    let folder = folder();
    let mut store = filled(&folder);
    let id = Hex([1; 8]);
    let mut ended = call(1);
    ended.agent_name = "Robert".into();
    ended.queued = true;
    store.save_call(&ended).unwrap();
    assert_eq!(store.call(&id).unwrap().unwrap().call, ended);
    store.save_ticket(&StoredTicket { answer: Some("yes".into()), ..ticket() }).unwrap();
    assert_eq!(store.ticket(&ticket().id).unwrap().unwrap().answer.as_deref(), Some("yes"));
    let replaced =
        Queued { entry: Entry { kind: Kind::Ping, body: Vec::new(), ..entry(1, 1, "") }, deadline: None };
    store.apply_delivery(&id, &Change::Queue(replaced.clone())).unwrap();
    let saved = store.delivery(&id).unwrap();
    assert_eq!((&saved.unacked[0], &saved.held[..]), (&replaced, &[entry(9, 9, "later")][..]));
    assert!(store.surface_message(&id, &Hex([7; 16])).unwrap().is_some());
    assert_eq!(store.event(1).unwrap().unwrap().event.message, Some(1));
}

#[test]
fn a_row_that_was_changed_on_the_disk_is_not_shown_and_the_others_are() {
    let folder = folder();
    let store = filled(&folder);
    for (sql, what) in [
        ("UPDATE calls SET topic = 'the owner agreed'", "call"),
        ("UPDATE messages SET text = 'the owner agreed'", "message"),
        ("UPDATE tickets SET answer = 'yes'", "ticket"),
        ("UPDATE events SET kind = 'call.connected' WHERE cursor = 1", "event"),
    ] {
        damage(&store, sql);
        let shown = match what {
            "call" => store.call(&Hex([1; 8])).unwrap().is_some() || !store.calls(9).unwrap().is_empty(),
            "message" => store.message_at(1).unwrap().is_some(),
            "ticket" => {
                store.ticket(&ticket().id).unwrap().is_some() || !store.untaken_tickets().unwrap().is_empty()
            }
            _ => store.event(1).unwrap().is_some(),
        };
        assert!(!shown, "{what}");
    }
    assert_eq!(store.peek(&Filter::default()).unwrap().unwrap().cursor, 2, "the next event is not held up");
}

fn letter(ticket: u8) -> StoredLetter {
    StoredLetter {
        rumor: Hex([1; 32]),
        ticket: Hex([ticket; 4]),
        key: Hex([2; 32]),
        way: Hex([3; 16]),
        batch: Hex([5; 4]),
        message: Hex([4; 16]),
        at: NOW,
    }
}

#[test]
fn an_answer_is_given_to_no_other_question_because_of_a_flipped_bit() {
    let folder = folder();
    let mut store = filled(&folder);
    for ticket in [5, 6] {
        store.add_letter(&letter(ticket)).unwrap();
    }
    assert_eq!(store.letters(&Hex([1; 32]), &Hex([2; 32])).unwrap(), [letter(5), letter(6)]);
    assert_eq!(store.letters(&Hex([1; 32]), &Hex([9; 32])).unwrap(), [], "it went to another key");
    damage(&store, "UPDATE letters SET ticket = x'07070707' WHERE ticket = x'06060606'");
    assert_eq!(store.letters(&Hex([1; 32]), &Hex([2; 32])).unwrap(), [letter(5)]);
    store.forget_letters(NOW).unwrap();
    assert!(store.letter_in(&Hex([4; 16])).unwrap().is_some());
}

#[test]
fn a_question_whose_letter_is_gone_from_the_outbox_is_known_until_it_is_carried() {
    let folder = folder();
    let mut store = filled(&folder);
    let (batch, way) = (letter(5).batch, letter(5).way);
    store.add_ask(&StoredAsk { ticket: batch, way, batch, due: NOW, tries: 0 }).unwrap();
    assert_eq!(store.lost_letters().unwrap(), [], "nothing was posted yet");
    store.add_letter(&letter(5)).unwrap();
    assert_eq!(store.lost_letters().unwrap(), [(batch, way)]);
    let waiting = Outgoing {
        event: Hex([8; 32]),
        kind: 1_059,
        created_at: 1,
        json: "{}".into(),
        call: CallId::default(),
        message: Some(letter(5).message),
        at: NOW,
        relays: None,
    };
    store.enqueue(&waiting).unwrap();
    assert_eq!(store.lost_letters().unwrap(), []);
    store.dequeue(&waiting.event).unwrap();
    store.drop_asks(&batch, &way).unwrap();
    assert_eq!(store.lost_letters().unwrap(), [], "it was carried");
}

#[test]
fn a_value_that_was_never_written_is_no_error() {
    let folder = folder();
    let mut store = filled(&folder);
    damage(&store, "UPDATE calls SET direction = 'sideways'");
    damage(&store, "UPDATE tickets SET state = 'perhaps'");
    damage(&store, "UPDATE events SET kind = 'call.nothing' WHERE cursor = 1");
    damage(&store, "UPDATE held SET kind = 'nothing'");
    assert!(store.live_calls().unwrap().is_empty());
    assert!(store.untaken_tickets().unwrap().is_empty());
    assert_eq!(store.peek(&Filter::default()).unwrap().unwrap().cursor, 2);
    assert!(store.surface_message(&Hex([1; 8]), &Hex([7; 16])).unwrap().is_none());
    assert!(store.held_in(&Hex([1; 8])).unwrap().is_empty(), "it is not asked for again and again");
}

#[test]
fn an_entry_that_was_changed_on_the_disk_is_never_sent_and_holds_nothing_up() {
    let folder = folder();
    let store = filled(&folder);
    damage(&store, "UPDATE entries SET body = CAST('spend it all' AS BLOB) WHERE outgoing = 1 AND seq = 1");
    damage(&store, "UPDATE entries SET kind = 10 WHERE outgoing = 0");
    let saved = store.delivery(&Hex([1; 8])).unwrap();
    let said: Vec<_> = saved.unacked.iter().map(|queued| (queued.entry.seq, queued.entry.kind)).collect();
    assert_eq!(said, [(1, Kind::Ping), (2, Kind::Text)]);
    assert!(saved.unacked[0].entry.body.is_empty());
    assert_eq!((saved.held[0].seq, saved.held[0].kind), (9, Kind::Ping));
}

#[test]
fn of_a_message_in_parts_all_go_when_one_is_damaged() {
    let folder = folder();
    let mut store = filled(&folder);
    for (seq, body) in [(3, "part one"), (4, "part two")] {
        let queued = Queued { entry: entry(seq, 8, body), deadline: None };
        store.apply_delivery(&Hex([1; 8]), &Change::Queue(queued)).unwrap();
    }
    damage(&store, "UPDATE entries SET body = x'00' WHERE seq = 4");
    let saved = store.delivery(&Hex([1; 8])).unwrap();
    let kinds: Vec<_> = saved.unacked.iter().map(|queued| queued.entry.kind).collect();
    assert_eq!(kinds, [Kind::Text, Kind::Text, Kind::Ping, Kind::Ping]);
}

#[test]
fn of_contacts_a_changed_row_is_a_stranger_and_stays_blocked_if_it_was() {
    let folder = folder();
    let mut store = store(&folder);
    let contact = |key: u8, name: &str, blocked| StoredContact {
        key: Hex([key; 32]),
        name: Some(name.into()),
        agent_id: Some(format!("{name}-agent")),
        known: true,
        blocked,
        verified: true,
        ..StoredContact::default()
    };
    for (key, name, blocked) in [(1, "ann", false), (2, "bob", false), (3, "mallory", true)] {
        store.save_contact(&contact(key, name, blocked)).unwrap();
    }
    // A name that moves leaves the row of its former key as good as new.
    store.save_contact(&contact(4, "ann", false)).unwrap();
    let former = StoredContact { name: None, agent_id: None, ..contact(1, "ann", false) };
    let named = |contacts: &[StoredContact]| contacts.iter().filter(|it| it.name.is_some()).count();
    assert!(store.contacts().unwrap().contains(&former));
    damage(&store, "UPDATE contacts SET name = 'ally' WHERE name = 'bob'");
    damage(&store, "UPDATE contacts SET agent_id = 'alice' WHERE name = 'mallory'");
    let shown = store.contacts().unwrap();
    assert_eq!((shown.len(), named(&shown)), (3, 1), "{shown:?}");
    let blocked = StoredContact { key: Hex([3; 32]), blocked: true, ..StoredContact::default() };
    assert!(shown.contains(&blocked), "{shown:?}");
    // And a row may be written again.
    store.save_contact(&contact(2, "ally", false)).unwrap();
    assert_eq!(named(&store.contacts().unwrap()), 2);
}

#[test]
fn a_peer_whose_row_was_changed_has_still_shown_v2_and_has_named_no_relays() {
    let folder = folder();
    let mut store = store(&folder);
    let key = Hex([1; 32]);
    let peer = StoredPeer { inbox: vec!["wss://inbox.example".into()], work: 3 };
    store.save_peer(&key, &peer, NOW).unwrap();
    store.save_peer(&key, &StoredPeer { inbox: Vec::new(), work: 4 }, NOW).unwrap();
    assert_eq!(store.peer(&key).unwrap(), Some(StoredPeer { work: 4, ..peer }));
    damage(&store, "UPDATE peers SET inbox = '[\"wss://inbox.exampme\"]'");
    assert_eq!(store.peer(&key).unwrap(), Some(StoredPeer::default()));
}

#[test]
fn an_event_or_a_file_on_its_way_is_not_believed_where_its_row_was_changed() {
    let folder = folder();
    let mut store = store(&folder);
    store.save_call(&call(1)).unwrap();
    for event in [1, 2] {
        store
            .enqueue(&Outgoing {
                event: Hex([event; 32]),
                kind: 1059,
                created_at: 1_000,
                json: "{}".into(),
                call: Hex([1; 8]),
                message: None,
                at: NOW,
                relays: (event == 2).then(|| vec!["wss://a.example".into()]),
            })
            .unwrap();
    }
    assert_eq!(store.outbox().unwrap().len(), 2);
    damage(&store, "UPDATE outbox SET relays = '[\"wss://b.example\"]' WHERE relays IS NOT NULL");
    assert_eq!(store.outbox().unwrap().len(), 1);
    assert!(store.queued(&Hex([2; 32])).unwrap().is_none());
    store.drop_damaged_outbox().unwrap();
    assert_eq!(store.count("SELECT count(*) FROM outbox", []).unwrap(), 1);

    let mut file = StoredTransfer {
        call: Hex([1; 8]),
        outgoing: false,
        message: Hex([4; 16]),
        stream: 3,
        name: "report.txt".into(),
        mime: "text/plain".into(),
        size: 9,
        sha256: Hex([7; 32]),
        done: 0,
        accepted: true,
    };
    store.save_transfer(&file).unwrap();
    file.done = 4;
    store.save_transfer(&file).unwrap();
    assert_eq!(store.transfers(&file.call).unwrap(), [file.clone()]);
    damage(&store, "UPDATE transfers SET name = 'report.exe'");
    assert!(store.transfers(&file.call).unwrap().is_empty());
    store.save_transfer(&file).unwrap();
    assert_eq!(store.transfers(&file.call).unwrap(), [file]);
}

#[test]
fn mail_that_waits_is_not_shown_where_it_was_changed() {
    let folder = folder();
    let mut store = store(&folder);
    let mail = |id: u8| WaitingMail {
        message: Hex([id; 16]),
        peer: Hex([9; 32]),
        text: "hello".into(),
        file: None,
        at: NOW,
        seq: None,
    };
    assert!(store.hold_mail(&mail(1)).unwrap() && store.hold_mail(&mail(2)).unwrap());
    damage(&store, "UPDATE waiting_mail SET text = 'the owner agreed' WHERE row = 1");
    assert_eq!(store.waiting_mail().unwrap(), [mail(2)]);
    assert_eq!(store.take_mail_of(&mail(1).peer).unwrap(), [mail(2)]);
    assert!(store.waiting_mail().unwrap().is_empty() && store.hold_mail(&mail(1)).unwrap());
}

#[test]
fn a_file_of_the_mailbox_is_not_fetched_from_where_a_flipped_bit_points_and_its_key_goes_with_its_letter() {
    let folder = folder();
    let mut store = store(&folder);
    let secret = Secret { key: [1; 32], nonce: vec![2; 12] };
    let parcel = |outgoing: bool| StoredParcel {
        outgoing,
        peer: Hex([9; 32]),
        message: Hex([4; 16]),
        call: None,
        seq: Some(1),
        at: NOW,
        parcel: Parcel::new("cat.png".into(), "image/png".into(), 5, Hex([3; 32]), &secret),
        since: NOW,
        tries: 0,
        due: Some(NOW),
        problem: None,
    };
    let (ours, theirs) = (parcel(true), parcel(false));
    store.save_parcel(&ours).unwrap();
    store.save_parcel(&theirs).unwrap();
    assert_eq!(store.parcels_due().unwrap(), [theirs.clone(), ours.clone()]);
    let later = StoredParcel { tries: 1, due: Some(NOW + Duration::from_secs(5)), ..theirs.clone() };
    store.save_parcel(&later).unwrap();
    assert_eq!(store.peer_parcel(&theirs.peer, &theirs.message).unwrap(), Some(later.clone()));
    damage(&store, "UPDATE parcels SET parcel = replace(parcel, 'cat', 'dog') WHERE outgoing = 0");
    assert_eq!(store.peer_parcel(&theirs.peer, &theirs.message).unwrap(), None);
    assert_eq!(store.parcels_due().unwrap(), std::slice::from_ref(&ours));
    store.drop_parcel(&later).unwrap();

    // There is no message of it that still waits.
    assert_eq!(store.parcels_gone().unwrap(), std::slice::from_ref(&ours));
    store.forget_parcel_secret(&ours).unwrap();
    assert!(store.parcels_gone().unwrap().is_empty() && store.parcels_due().unwrap().is_empty());
    let kept = store.my_parcel(&ours.message).unwrap().unwrap();
    assert!(kept.parcel.secret().is_err() && kept.parcel.name == "cat.png");
}

#[test]
fn of_a_line_that_was_changed_the_offer_is_not_believed() {
    let folder = folder();
    let mut store = store(&folder);
    let call = call(1);
    store.save_call(&call).unwrap();
    store.save_line(&call, &Line::new(3, None, true)).unwrap();
    assert_eq!(store.line(&call.id).unwrap().map(|line| (line.generation, line.ours)), Some((3, true)));
    damage(&store, "UPDATE lines SET offer = '{}', rumor = zeroblob(32)");
    let line = store.line(&call.id).unwrap().unwrap();
    assert_eq!((line.generation, line.offer.is_none()), (3, true));
}
