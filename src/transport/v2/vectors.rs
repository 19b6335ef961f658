//! The published test vectors of signalling, handshake and session (`tests/vectors/`): made once from fixed keys,
//! read here, and by a decoder of the tests that shares no code with ours.

use nostr_sdk::{Event, JsonUtil};
use serde_json::{Value, json};

use super::*;
use crate::proto::v2::frame;
use crate::proto::v2::signal::{self, Answer, Body, FIRST_MESSAGE, Offer, Signal};
use crate::proto::{Hex, PublicKey};
use crate::transport::{Identity, Signed};

const SIGNALLING: &str = include_str!("../../../tests/vectors/signalling.json");
const HANDSHAKE: &str = include_str!("../../../tests/vectors/handshake.json");
const SESSION: &str = include_str!("../../../tests/vectors/session.json");

const CALLER: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const CALLEE: &str = "0202020202020202020202020202020202020202020202020202020202020202";
const CALLER_SESSION: &str = "0303030303030303030303030303030303030303030303030303030303030303";
const CALLEE_SESSION: &str = "0404040404040404040404040404040404040404040404040404040404040404";
const CALLER_NOISE: [u8; 32] = [5; 32];
const CALLEE_NOISE: [u8; 32] = [6; 32];
const CALL: signal::SharedCallId = Hex([0xca; 16]);
const GENERATION: u32 = 1;
const NOW: u64 = 1_800_000_000;

fn identity(secret: &str) -> Identity {
    Identity::from_secret_hex(secret).unwrap()
}

fn key(secret: &str) -> SessionKey {
    SessionKey::from_secret_hex(secret)
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The whole handshake with fixed keys.
struct Shaken {
    offer: Offer,
    prologue: [u8; 32],
    answer: Answer,
    caller: Session,
    callee: Session,
}

fn shake() -> Shaken {
    let (caller, callee) = (identity(CALLER).public_key(), identity(CALLEE).public_key());
    let mut offer = Offer {
        agent_id: "alice".into(),
        name: "Alice".into(),
        topic: "Grüße".into(),
        expires: NOW + 60,
        key: key(CALLER_SESSION).public_key(),
        noise: [0; FIRST_MESSAGE],
        versions: vec![2],
        relays: vec!["wss://one.example".into(), "wss://two.example/path".into()],
        inbox: vec![],
        traceparent: None,
    };
    let unbound = offer.clone();
    let terms = Terms::of(&unbound, &CALL, GENERATION, &caller, &callee);
    let (initiator, first) = Initiator::start_with(key(CALLER_SESSION), &terms, Some(&CALLER_NOISE)).unwrap();
    offer.noise = first;
    let response = handshake::respond_with(key(CALLEE_SESSION), &terms, &first, Some(&CALLEE_NOISE)).unwrap();
    let invite = Signal { call: CALL, generation: GENERATION, body: Body::Invite(offer.clone()) };
    let answer = Answer {
        agent_id: "bob".into(),
        name: "Bob".into(),
        key: key(CALLEE_SESSION).public_key(),
        noise: response.message,
        relays: vec!["wss://one.example".into()],
        invite: rumor(&invite).id(&caller),
        hash: response.hash,
        replaces: None,
        inbox: vec![],
    };
    let (session, _) = initiator.finish(&answer.key, &answer.noise, &answer.hash).unwrap();
    Shaken { prologue: terms.prologue(), offer, answer, caller: session, callee: response.session }
}

fn rumor(signal: &Signal) -> Rumor {
    Rumor { kind: signal::KIND, created_at: NOW, tags: Vec::new(), content: signal.to_json() }
}

fn signals(shaken: &Shaken) -> Vec<Signal> {
    let reason = || "no-answer".to_owned();
    [
        Body::Invite(shaken.offer.clone()),
        Body::Accept(shaken.answer.clone()),
        Body::Resume(shaken.offer.clone()),
        Body::Cancel { reason: reason() },
        Body::Reject { reason: reason() },
        Body::Busy,
        Body::End { reason: reason() },
    ]
    .map(|body| Signal { call: CALL, generation: GENERATION, body })
    .into()
}

fn wrap(json: &Value) -> Wrap {
    let event = Event::from_json(json.to_string()).unwrap();
    event.verify().unwrap();
    let receiver = event.tags.public_keys().next().unwrap().to_bytes();
    Wrap::new(&event, Hex(receiver))
}

/// The frames that the session vectors hold: epoch, number, text; the first two by the caller.
const FRAMES: [(bool, u64, u64, &str); 4] = [
    (true, 0, 0, "hello"),
    (true, 0, 7, ""),
    (false, 0, 0, "hello yourself"),
    (true, 1, 8, "under a new key"),
];

#[test]
fn every_signalling_vector_is_opened_to_what_it_says() {
    let vectors = parsed(SIGNALLING);
    let expected = signals(&shake());
    let all = vectors["signals"].as_array().unwrap();
    assert_eq!(all.len(), expected.len());
    for (vector, signal) in all.iter().zip(expected) {
        let wrap = wrap(&vector["wrap"]);
        let opened = match signal.body {
            Body::Accept(_) | Body::Reject { .. } | Body::Busy => key(CALLER_SESSION).open_wrap(&wrap),
            _ => open_wrap(&identity(CALLEE), &wrap, 0),
        };
        let opened = opened.unwrap();
        assert_eq!(opened.from.to_string(), vector["from"]);
        assert_eq!(opened.id.to_string(), vector["rumor_id"]);
        assert_eq!(parsed(&opened.rumor.content), vector["signal"]);
        assert_eq!(Signal::parse(&opened.rumor.content).unwrap(), signal);
    }
}

#[test]
fn the_handshake_vector_is_what_the_handshake_gives() {
    let vector = parsed(HANDSHAKE);
    assert_eq!(handshake_vector(), vector);
}

#[test]
fn every_session_vector_is_opened_and_sealed_to_the_same_bytes() {
    let vectors = parsed(SESSION);
    let mut shaken = shake();
    for (vector, (by_caller, epoch, number, text)) in vectors["frames"].as_array().unwrap().iter().zip(FRAMES)
    {
        let event = Event::from_json(vector["event"].to_string()).unwrap();
        event.verify().unwrap();
        let (sender, receiver) = if by_caller {
            (&mut shaken.caller, &mut shaken.callee)
        } else {
            (&mut shaken.callee, &mut shaken.caller)
        };
        let to: PublicKey = Hex(event.tags.public_keys().next().unwrap().to_bytes());
        let read = receiver.read(&SessionEvent::new(&event, to)).unwrap();
        assert_eq!((u64::from(read.epoch), read.number), (epoch, number));
        let plaintext = receiver.open(epoch, &read).unwrap();
        assert_eq!(hex(&plaintext), vector["plaintext"]);
        assert_eq!(frame::unpad(&plaintext).unwrap(), text.as_bytes());
        assert_eq!(sender.sealed(epoch, number, &plaintext).unwrap(), read.ciphertext);
        assert_eq!(hex(&read.ciphertext), vector["ciphertext"]);
    }
}

fn handshake_vector() -> Value {
    let shaken = shake();
    json!({
        "noise": "Noise_NN_25519_ChaChaPoly_SHA256",
        "name": handshake::NAME,
        "call": CALL,
        "gen": GENERATION,
        "caller": identity(CALLER).public_key(),
        "callee": identity(CALLEE).public_key(),
        "caller_session": key(CALLER_SESSION).public_key(),
        "relays": shaken.offer.relays,
        "versions": shaken.offer.versions,
        "prologue": hex(&shaken.prologue),
        "caller_ephemeral_secret": hex(&CALLER_NOISE),
        "callee_ephemeral_secret": hex(&CALLEE_NOISE),
        "message_1": hex(&shaken.offer.noise),
        "message_2": hex(&shaken.answer.noise),
        "hash": shaken.answer.hash,
        "caller_to_callee": shaken.caller.sending_keys(3),
        "callee_to_caller": shaken.callee.sending_keys(3),
    })
}

fn event(signed: &Signed) -> Value {
    parsed(&signed.json)
}

/// Wraps and signatures are random: this is run once, and again when the protocol changes.
#[test]
#[ignore = "writes tests/vectors"]
fn write_the_vectors() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/");
    let write = |name: &str, value: &Value| {
        let text = serde_json::to_string_pretty(value).unwrap() + "\n";
        std::fs::write(format!("{folder}{name}.json"), text).unwrap();
    };
    write("handshake", &handshake_vector());

    let mut shaken = shake();
    let vectors: Vec<Value> = signals(&shaken)
        .iter()
        .map(|signal| {
            let stored = WrapOptions {
                work: if matches!(signal.body, Body::Invite(_)) { 8 } else { 0 },
                ..WrapOptions::at(WrapKind::Stored, NOW)
            };
            let ephemeral = WrapOptions::at(WrapKind::Ephemeral, NOW);
            let (from, to, options) = match signal.body {
                Body::Accept(_) | Body::Reject { .. } | Body::Busy => {
                    (CALLEE, key(CALLER_SESSION).public_key(), ephemeral)
                }
                _ => (CALLER, identity(CALLEE).public_key(), stored),
            };
            let from = identity(from);
            let signed = seal_wrap(&from, &to, &rumor(signal), &options).unwrap();
            json!({
                "signal": parsed(&signal.to_json()),
                "from": from.public_key(),
                "rumor_id": rumor(signal).id(&from.public_key()),
                "wrap": event(&signed),
            })
        })
        .collect();
    write(
        "signalling",
        &json!({
            "caller_secret": CALLER,
            "callee_secret": CALLEE,
            "caller_session_secret": CALLER_SESSION,
            "callee_session_secret": CALLEE_SESSION,
            "signals": vectors,
        }),
    );

    let frames: Vec<Value> = FRAMES
        .iter()
        .map(|(by_caller, epoch, number, text)| {
            let session = if *by_caller { &mut shaken.caller } else { &mut shaken.callee };
            let plaintext = frame::pad(text.as_bytes()).unwrap();
            let sealed = session.seal(*epoch, *number, &plaintext, NOW).unwrap();
            let content = Event::from_json(&sealed.json).unwrap().content;
            json!({
                "sender": if *by_caller { "caller" } else { "callee" },
                "epoch": epoch,
                "number": number,
                "text": text,
                "plaintext": hex(&plaintext),
                "ciphertext": hex(&frame::Frame::decode(&content).unwrap().ciphertext),
                "event": event(&sealed),
            })
        })
        .collect();
    write(
        "session",
        &json!({
            "caller_session_secret": CALLER_SESSION,
            "callee_session_secret": CALLEE_SESSION,
            "caller_to_callee": shaken_keys().0,
            "callee_to_caller": shaken_keys().1,
            "frames": frames,
        }),
    );
}

fn shaken_keys() -> (Value, Value) {
    let shaken = shake();
    (shaken.caller.sending_keys(3), shaken.callee.sending_keys(3))
}
