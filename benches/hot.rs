//! What the hot functions cost in instructions: `scripts/callgrind.sh` runs each under callgrind, a few times and many
//! times, and divides the difference. Instructions do not depend on how busy the machine is, so that two versions of the
//! code can be compared on any day.
//!
//! `cargo bench --bench hot` lists the names; `cargo bench --bench hot -- NAME COUNT` does one of them so often.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark: it talks to who runs it, and stops where it fails"
)]

use std::hint::black_box;
use std::iter::from_fn;

use nostr_sdk::{Event, JsonUtil};
use p2p_comm::api::AgentEntry;
use p2p_comm::proto::v2::body::Content;
use p2p_comm::proto::v2::delivery::{Delivery, Output};
use p2p_comm::proto::v2::signal::Offer;
use p2p_comm::proto::{
    CallId, EventKind, Hex, MessageId, MessageKind, MessageState, Millis, Protocol, PublicKey, Sender,
};
use p2p_comm::store::{NewEvent, NewMessage, Store};
use p2p_comm::transport::v2::handshake::respond;
use p2p_comm::transport::v2::{
    Initiator, Rumor, Session, SessionKey, Terms, WrapKind, WrapOptions, seal_wrap,
};
use p2p_comm::transport::{Identity, Signed, npub};

const NOW: u64 = 1_790_000_000;
const START: Millis = Millis(NOW * 1_000);
const CALL: CallId = Hex([5; 8]);

/// Does something so often.
type Work = fn(usize);

/// A name, and its work.
const HOT: [(&str, Work); 9] = [
    ("build a frame of one message", build),
    ("seal and sign a frame", seal),
    ("parse an event, verify id and signature", verify),
    ("decrypt a frame", open),
    ("take a frame of one message", take),
    ("rows of a message that is said", say_rows),
    ("rows of a message that came", came_rows),
    ("seal a gift wrap", wrap),
    ("an agent of a list, as JSON", listed),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.as_slice() {
        [name, count] => {
            let (_, work) = HOT.iter().find(|(known, _)| known == name).unwrap();
            work(count.parse().unwrap());
        }
        _ => HOT.iter().for_each(|(name, _)| println!("{name}")),
    }
}

fn text() -> String {
    "x".repeat(200)
}

fn message(number: usize) -> MessageId {
    Hex((number as u128).to_be_bytes())
}

/// Both sides of a session.
fn sessions() -> (Session, Session) {
    let (alice, bob): (PublicKey, PublicKey) = (Hex([1; 32]), Hex([2; 32]));
    let key = SessionKey::generate();
    let offer = Offer {
        agent_id: "alice".into(),
        name: String::new(),
        topic: String::new(),
        expires: 0,
        key: key.public_key(),
        noise: [0; 32],
        versions: vec![2],
        relays: vec!["ws://127.0.0.1:7447".into()],
        inbox: vec![],
        traceparent: None,
    };
    let shared = Hex([7; 16]);
    let terms = Terms::of(&offer, &shared, 1, &alice, &bob);
    let (initiator, first) = Initiator::start(key, &terms).unwrap();
    let own = SessionKey::generate();
    let peer = own.public_key();
    let response = respond(own, &terms, &first).unwrap();
    let (session, _) = initiator.finish(&peer, &response.message, &response.hash).unwrap();
    (session, response.session)
}

/// Says something, and returns the frame that carries it.
fn frame(machine: &mut Delivery, number: usize) -> Vec<u8> {
    machine.say(message(number), &Content::Text(text()), None).unwrap();
    from_fn(|| machine.poll_output()).for_each(drop);
    machine.handle_persisted(machine.persist_point(), START);
    machine.poll_transmit(START).unwrap().plaintext
}

fn build(count: usize) {
    for number in 0..count {
        // The peer acknowledges nothing: a machine of its own for each keeps the work the same.
        black_box(frame(&mut Delivery::new(START), number));
    }
}

fn seal(count: usize) {
    let plaintext = frame(&mut Delivery::new(START), 1);
    let (mut session, _) = sessions();
    for number in 0..count {
        black_box(session.seal(0, number as u64, &plaintext, NOW).unwrap());
    }
}

fn sealed() -> (Signed, Session) {
    let plaintext = frame(&mut Delivery::new(START), 1);
    let (mut one, other) = sessions();
    (one.seal(0, 0, &plaintext, NOW).unwrap(), other)
}

fn verify(count: usize) {
    let (signed, _) = sealed();
    for _ in 0..count {
        let event = Event::from_json(&signed.json).unwrap();
        assert!(event.verify_id() && event.verify_signature());
    }
}

fn open(count: usize) {
    let (signed, mut session) = sealed();
    let event = Event::from_json(&signed.json).unwrap();
    let frame = p2p_comm::proto::v2::frame::Frame::decode(&event.content).unwrap();
    for _ in 0..count {
        black_box(session.open(0, &frame).unwrap());
    }
}

fn take(count: usize) {
    let plaintext = frame(&mut Delivery::new(START), 1);
    for _ in 0..count {
        let mut machine = Delivery::new(START);
        machine.handle_frame(0, 0, &plaintext, START);
        let outputs: Vec<Output> = from_fn(|| machine.poll_output()).collect();
        assert!(!outputs.is_empty());
        machine.handle_persisted(machine.persist_point(), START);
        black_box(machine.poll_transmit(START));
    }
}

fn row(number: usize, sender: Sender, state: MessageState) -> NewMessage {
    NewMessage {
        message: message(number),
        call: None,
        peer: Hex([2; 32]),
        sender,
        kind: MessageKind::Text,
        text: text(),
        file: None,
        at: START,
        state,
        seq: Some(number as u64),
    }
}

/// What one transaction writes, so often, in one of its own each.
fn rows(count: usize, mut write: impl FnMut(&mut Store, usize)) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("state.db")).unwrap();
    for number in 0..count {
        store.begin().unwrap();
        write(&mut store, number);
        store.commit().unwrap();
    }
}

fn say_rows(count: usize) {
    let mut machine = Delivery::new(START);
    rows(count, |store, number| {
        store.add_message(&row(number, Sender::Me, MessageState::Queued)).unwrap();
        machine.say(message(number), &Content::Text(text()), None).unwrap();
        apply(store, &mut machine);
    });
}

fn came_rows(count: usize) {
    let (mut one, mut other) = (Delivery::new(START), Delivery::new(START));
    rows(count, |store, number| {
        one.say(message(number), &Content::Text(text()), None).unwrap();
        from_fn(|| one.poll_output()).for_each(drop);
        one.handle_persisted(one.persist_point(), START);
        let sent = one.poll_transmit(START).unwrap();
        other.handle_frame(0, sent.number, &sent.plaintext, START);
        apply(store, &mut other);
        other.handle_persisted(other.persist_point(), START);
        while let Some(ack) = other.poll_transmit(START) {
            one.handle_frame(0, ack.number, &ack.plaintext, START);
        }
        let row = store.add_message(&row(number, Sender::Peer, MessageState::Received)).unwrap();
        let event = NewEvent {
            kind: EventKind::MessageReceived,
            at: START,
            call: Some(CALL),
            message: row,
            ticket: None,
            detail: None,
            own: false,
        };
        store.add_event(&event).unwrap();
    });
}

fn apply(store: &mut Store, machine: &mut Delivery) {
    while let Some(output) = machine.poll_output() {
        if let Output::Persist(change) = output {
            store.apply_delivery(&CALL, &change).unwrap();
        }
    }
}

fn wrap(count: usize) {
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let rumor = Rumor { kind: 25_920, created_at: NOW, tags: vec![], content: text() };
    let options =
        WrapOptions { kind: WrapKind::Stored, sealed_at: NOW, wrapped_at: NOW, expiration: None, work: 0 };
    for _ in 0..count {
        black_box(seal_wrap(&alice, &bob.public_key(), &rumor, &options).unwrap());
    }
}

fn listed(count: usize) {
    let key = Identity::generate().public_key();
    for number in 0..count {
        let entry = AgentEntry {
            id: format!("agent-{number:06}"),
            name: format!("Agent number {number}"),
            pubkey: key,
            npub: npub(&key),
            capabilities: vec!["research".into(), "translation".into()],
            card: None,
            last_seen_s: number as u64,
            protocol: Protocol::V2,
            contact: None,
            pinned: false,
            duplicate_id: false,
            looks_like: None,
        };
        black_box(serde_json::to_vec(&entry).unwrap());
    }
}
