//! What a relay or a peer sends, at each depth at which bytes of theirs can stand (see [`crate::fuzz`]).

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nostr_sdk::hashes::hmac::{Hmac, HmacEngine};
use nostr_sdk::hashes::{Hash, HashEngine, sha256};
use nostr_sdk::nips::nip44::{self, v2};
use nostr_sdk::secp256k1::rand::{self, RngCore};
use nostr_sdk::util::hkdf;
use nostr_sdk::{Event, JsonUtil, Kind, Tag, Timestamp, UnsignedEvent};
use tokio::time::Instant;

use super::class::Class;
use super::identity::{Identity, parse_key};
use super::inbound::Inbound;
use super::ingest::{Asked, Gate, Verdict};
use super::link::{Link, Role, fuzz::Relayed};
use super::tuning::Tuning;
use super::url::{RelayId, foreign_relay_allowed};
use super::v2::{
    Initiator, Session, SessionEvent, SessionKey, Terms, Wrap, WrapKind, handshake, inbox, mail, open_wrap,
};
use super::{legacy as nip04, presence as announcement, rotation};
use crate::fuzz::Bytes;
use crate::proto::v2::signal::Signal;
use crate::proto::v2::{batch, frame};
use crate::proto::{Hex, Rotation, legacy, presence};

const NOW: u64 = 1_800_000_000;

/// Keys that are made once: making them costs more than most cases.
struct World {
    me: Identity,
    peer: Identity,
    gate: Arc<Gate>,
    sessions: (Session, Session),
}

impl World {
    fn new() -> Self {
        let [me, peer] = [1, 2].map(|byte| Identity::from_secret_hex(&format!("{byte:02x}").repeat(32)));
        let (me, peer) = (me.expect("a key"), peer.expect("a key"));
        let gate = Arc::new(Gate::new(me.clone(), None));
        let (ours, theirs) = (SessionKey::generate(), SessionKey::generate());
        let (caller, callee) = (ours.public_key(), theirs.public_key());
        let terms = Terms {
            call: &Hex([1; 16]),
            generation: 0,
            caller: &me.public_key(),
            callee: &peer.public_key(),
            key: &caller,
            relays: &[],
            versions: &[2],
        };
        let (initiator, first) = Initiator::start(ours, &terms).expect("a handshake");
        let response = handshake::respond(theirs, &terms, &first).expect("a handshake");
        let (session, _) = initiator.finish(&callee, &response.message, &response.hash).expect("a handshake");
        Self { me, peer, gate, sessions: (session, response.session) }
    }

    /// An event of the peer to us that is what it claims to be.
    fn signed(&self, kind: u16, content: String, tags: Vec<Tag>, created_at: u64) -> Event {
        self.peer.sign(kind, content, tags, created_at).expect("signed")
    }

    fn to_me(&self) -> Tag {
        Tag::public_key(self.me.keys().public_key())
    }

    /// A NIP-44 payload of the peer to us: with the bytes as its plaintext, or as its plaintext with length and padding.
    fn nip44(&self, inside: &[u8], padded: bool) -> String {
        let key = v2::ConversationKey::derive(self.peer.keys().secret_key(), &self.me.keys().public_key());
        let key = key.expect("two points");
        let nonce = [7; 32];
        let payload = match padded {
            true => padded_nip44(&key, nonce, inside),
            false if inside.is_empty() => return String::new(),
            false => {
                let plaintext = &inside[..inside.len().min(LONGEST)];
                v2::encrypt_to_bytes_with_rng(&mut Nonce(nonce), &key, plaintext).expect("encrypted")
            }
        };
        STANDARD.encode(payload)
    }
}

/// The dice of an encryption: its nonce.
pub(super) struct Nonce(pub(super) [u8; 32]);

impl RngCore for Nonce {
    fn next_u32(&mut self) -> u32 {
        unreachable!("a nonce is taken as bytes")
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("a nonce is taken as bytes")
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        out.copy_from_slice(&self.0);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

/// The longest plaintext that the SDK encrypts; it decrypts NIP-44's 65,535 bytes.
pub(super) const LONGEST: usize = 65_408;

/// A payload whose MAC is right and whose length and padding are whatever they are. The key stream is what is left of a
/// known plaintext.
pub(super) fn padded_nip44(key: &v2::ConversationKey, nonce: [u8; 32], inside: &[u8]) -> Vec<u8> {
    let inside = &inside[..inside.len().min(2 + 65_536)];
    let zeros = [0; LONGEST];
    let mut payload = v2::encrypt_to_bytes_with_rng(&mut Nonce(nonce), key, &zeros).expect("encrypted");
    // The plaintext was its length, zeros, and a padding of zeros.
    let known = (LONGEST as u16).to_be_bytes();
    for (place, plain) in inside.iter().enumerate() {
        payload[33 + place] ^= plain ^ known.get(place).unwrap_or(&0);
    }
    payload.truncate(33 + inside.len());
    let keys = hkdf::expand(key.as_bytes(), &nonce, 76);
    let mut mac = HmacEngine::<sha256::Hash>::new(&keys[44..]);
    mac.input(&payload[1..]);
    payload.extend(Hmac::from_engine(mac).to_byte_array());
    payload
}

fn with_world(act: impl FnOnce(&mut World)) {
    thread_local! {
        static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    }
    WORLD.with_borrow_mut(|world| act(world.get_or_insert_with(World::new)));
}

fn relay() -> RelayId {
    RelayId::parse("wss://relay.example").expect("an address")
}

/// A conversation with a relay, a line a frame. `%0` and the like stand for the subscriptions that we have opened, a line
/// that begins with `~` lets a time pass, one with `@` is an event of a peer, signed as it should be: kind, seconds of
/// age, content.
pub fn relay_frames(bytes: &[u8]) {
    /// More lines than a case needs.
    const LINES: usize = 200;

    let mut bytes = Bytes(bytes);
    let role = match bytes.byte() % 3 {
        0 => Role::Identity { meets: true, inbox: true },
        1 => Role::Identity { meets: false, inbox: true },
        _ => Role::Sessions { foreign: false },
    };
    let text = bytes.text();
    with_world(|world| {
        let gate = match role {
            Role::Sessions { .. } => Arc::new(Gate::of_sessions(Arc::default())),
            Role::Identity { .. } => Arc::clone(&world.gate),
        };
        gate.listen(&[world.me.public_key()]);
        let link = Link::new(relay(), role, gate, Arc::new(Tuning::DEFAULT), [None; Class::ALL.len()]);
        let mut relayed = Relayed::new(&link, Instant::now(), NOW);
        for line in text.split('\n').take(LINES) {
            let frame = match line.split_at_checked(1) {
                Some(("~", millis)) => {
                    let millis = millis.trim().parse::<u64>().unwrap_or(1_000).min(1_000_000);
                    if relayed.pass(Duration::from_millis(millis)).is_err() {
                        return;
                    }
                    continue;
                }
                Some(("@", event)) => {
                    let mut parts = event.splitn(3, ' ');
                    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
                    let (kind, age) = (number() as u16, number());
                    let content = parts.next().unwrap_or_default().to_owned();
                    let tags = vec![world.to_me(), tag(&["t", announcement::TOPIC]), tag(&["d", "bob"])];
                    let event =
                        world.signed(kind, content, tags, (relayed.unix() + 10).saturating_sub(age.into()));
                    format!(r#"["EVENT","%{}",{}]"#, kind % 4, event.as_json())
                }
                _ => line.to_owned(),
            };
            if relayed.receive(&frame).is_err() {
                return;
            }
        }
    });
}

fn tag(parts: &[&str]) -> Tag {
    Tag::parse(parts.iter().copied()).expect("a tag")
}

/// An event at the gate, and what is then read in it.
pub fn event(bytes: &[u8]) {
    const KINDS: [u16; 9] = [4, 1_059, 21_059, 30_078, 5, 10_050, 13, 1, rotation::KIND];

    let mut bytes = Bytes(bytes);
    let (shape, kind, age) = (bytes.byte(), bytes.byte(), bytes.number());
    with_world(|world| {
        let (event, size) = if shape & 1 != 0 {
            let Ok(event) = Event::from_json(bytes.0) else { return };
            (event, bytes.0.len())
        } else {
            let text = bytes.text();
            // Tags a line, then an empty line, then the content.
            let (head, content) = text.split_once("\n\n").unwrap_or(("", &text));
            let tags = head.lines().take(3_000).filter_map(|line| Tag::parse(line.split('\t')).ok());
            let mut tags: Vec<Tag> = tags.collect();
            if shape & 2 == 0 {
                tags.extend([world.to_me(), tag(&["t", announcement::TOPIC])]);
            }
            let kind = KINDS[usize::from(kind) % KINDS.len()];
            let content = match kind {
                nip04::KIND if shape & 4 == 0 => {
                    let me = world.me.public_key();
                    let Ok(sealed) = nip04::seal(&world.peer, &me, content, NOW) else { return };
                    Event::from_json(sealed.json).expect("an event").content
                }
                1_059 | 21_059 if shape & 4 == 0 => world.nip44(content.as_bytes(), shape & 8 != 0),
                _ => content.to_owned(),
            };
            let event = world.signed(kind, content, tags, NOW + 1_000 - u64::from(age));
            let size = event.as_json().len();
            (event, size)
        };
        for class in Class::ALL {
            let asked = Asked { class, since: NOW - 10_000, until: (shape & 16 != 0).then_some(NOW) };
            if let Verdict::Deliver(inbound) = world.gate.admit(&relay(), asked, &event, size, NOW) {
                assert!(event.verify().is_ok() && asked.class.asks_for(&event));
                delivered(&world.me, &inbound);
            }
        }
        let found = world.gate.admit_whereabouts(&world.peer.public_key(), &event, size, NOW);
        if let Ok(found) = found {
            let relays = found.inbox.map(|list| list.relays).unwrap_or_default();
            assert!(relays.len() <= inbox::READ && found.rotations.iter().all(rotation::is_genuine));
            relays.iter().for_each(|url| _ = foreign_relay_allowed(url, &[relay()]));
        }
    });
}

fn delivered(me: &Identity, inbound: &Inbound) {
    match inbound {
        Inbound::Presence { content, .. } => _ = presence::Content::parse(content),
        Inbound::Direct { payload, .. } => _ = legacy::Payload::parse(payload),
        Inbound::Wrap { wrap, .. } | Inbound::Ephemeral { wrap, .. } => opened(me, wrap),
        Inbound::Frame { event, .. } => _ = frame::unpad(event.content.as_bytes()),
        _ => {}
    }
}

fn opened(me: &Identity, wrap: &Wrap) {
    if let Ok(opened) = open_wrap(me, wrap, 0) {
        assert_eq!(opened.id, opened.rumor.id(&opened.from), "an id is that of what was read");
        let _ = Signal::parse(&opened.rumor.content);
        let _ = mail::Mail::parse(&opened);
    }
}

/// A NIP-44 payload: as it is written, as bytes, or with whatever length and padding under a MAC that is right.
pub fn nip44(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let shape = bytes.byte();
    with_world(|world| {
        let payload = match shape % 3 {
            0 => bytes.text(),
            1 => world.nip44(bytes.0, true),
            _ => STANDARD.encode(bytes.0),
        };
        let (secret, peer) = (world.me.keys().secret_key(), world.peer.keys().public_key());
        if let Ok(plaintext) = nip44::decrypt_to_bytes(secret, &peer, &payload) {
            assert!((1..=65_535).contains(&plaintext.len()));
            if shape % 3 == 1 {
                assert_eq!(&bytes.0[2..2 + plaintext.len()], plaintext);
            }
        }
    });
}

/// A gift wrap with the bytes in one of its layers, everything around them right.
pub fn wrap(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let (shape, kind) = (bytes.byte(), bytes.byte());
    with_world(|world| {
        let sealed = |content: String| world.signed(13, content, Vec::new(), NOW).as_json();
        let content = match shape % 6 {
            // The words of a rumor.
            0 => {
                let kind = [25_920, 14, 15, 1][usize::from(kind) % 4];
                let text = bytes.text();
                let (head, content) = text.split_once("\n\n").unwrap_or(("", &text));
                let tags = head.lines().take(200).filter_map(|line| Tag::parse(line.split('\t')).ok());
                let author = world.peer.keys().public_key();
                let now = Timestamp::from_secs(NOW);
                let mut rumor = UnsignedEvent::new(author, now, Kind::from_u16(kind), tags, content);
                rumor.ensure_id();
                sealed(world.nip44(rumor.as_json().as_bytes(), false))
            }
            // A rumor, what a seal encrypts, a seal's content, a seal, and what the wrap encrypts.
            1 => sealed(world.nip44(bytes.0, false)),
            2 => sealed(world.nip44(bytes.0, true)),
            3 => sealed(bytes.text()),
            4 => bytes.text(),
            _ => {
                let content = world.nip44(bytes.0, true);
                return opened(&world.me, &wrapped(world, content));
            }
        };
        opened(&world.me, &wrapped(world, world.nip44(content.as_bytes(), false)));
    });
}

fn wrapped(world: &World, content: String) -> Wrap {
    let event = world.signed(WrapKind::Stored.number(), content, vec![world.to_me()], NOW);
    Wrap::new(&event, world.me.public_key())
}

/// A frame of a session: as it is written, or sealed by the peer with whatever inside.
pub fn session_frame(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let (shape, number) = (bytes.byte(), u64::from(bytes.number()));
    with_world(|world| {
        let (ours, theirs) = &mut world.sessions;
        let content = if shape % 2 == 0 {
            bytes.text()
        } else {
            let inside = match shape & 2 != 0 {
                true => bytes.0.to_vec(),
                false => {
                    frame::pad(&bytes.0[..bytes.0.len().min(frame::BATCH_LIMIT)]).expect("within the limit")
                }
            };
            let Ok(signed) = theirs.seal(0, number, &inside, NOW) else { return };
            Event::from_json(signed.json).expect("an event").content
        };
        let (from, to) = (*ours.peer(), ours.key().public_key());
        let event = SessionEvent { id: Hex([0; 32]), from, to, created_at: NOW, content };
        let Ok(read) = ours.read(&event) else { return };
        if let Ok(plaintext) = ours.open(read.epoch.into(), &read)
            && let Ok(batch) = frame::unpad(&plaintext).and_then(batch::Batch::decode)
        {
            assert!(batch.entries.iter().all(|entry| entry.body.len() <= batch::BODY_LIMIT));
        }
    });
}

/// A relay's address, a key as people write it, a statement that a key has changed.
pub fn address(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let which = bytes.byte();
    let text = bytes.text();
    match which % 3 {
        0 => {
            if let Ok(relay) = RelayId::parse(&text) {
                assert_eq!(
                    RelayId::parse(relay.as_str()).as_ref(),
                    Ok(&relay),
                    "one address has one spelling"
                );
            }
            let _ = foreign_relay_allowed(&text, &[relay()]);
        }
        1 => {
            if let Ok(key) = parse_key(&text) {
                assert_eq!(parse_key(&super::npub(&key)), Ok(key));
            }
        }
        _ => {
            if let Ok(statement) = serde_json::from_str::<Rotation>(&text) {
                let _ = rotation::is_genuine(&statement);
            }
        }
    }
}
