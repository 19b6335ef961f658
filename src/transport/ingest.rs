//! The one way in. Every event of every relay, live or stored, goes through [`Gate::admit`] before anything else
//! sees it: a relay's claims (this is the id, this is what you asked for) are checked, never believed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nostr_sdk::Event;

use super::class::Class;
use super::identity::Identity;
use super::inbound::{Inbound, InboxList, Whereabouts};
use super::url::RelayId;
use super::v2::{SessionEvent, Wrap, WrapKind, inbox, is_frame};
use super::{legacy, presence, rotation};
use crate::mutants::{Mutant, planted};
use crate::proto::presence::DIRECTORY_LIMIT;
use crate::proto::{EventId, Hex, PublicKey};

/// How far ahead of our clock an event may be: strfry's limit, so that nothing comes in which others would refuse.
const MAX_AHEAD_SECS: u64 = 900;

/// The kinds of wraps.
const WRAP: u16 = WrapKind::Stored.number();
const EPHEMERAL: u16 = WrapKind::Ephemeral.number();

/// The longest agent id that is looked at: a label that people type.
const MAX_AGENT_ID: usize = 256;

/// Ids of frames remembered in each half of [`Recent`]: some seconds of the fastest call, half a megabyte.
const MAX_RECENT: usize = 8_192;

/// The largest answer to a question about a key that is looked at: NIP-17 asks for three addresses, and a rotation is
/// smaller.
const MAX_ANSWER: usize = 16 * 1024;

/// Answers whether an id was journalled before. Asked for each event, so it must be quick and never block.
pub type Seen = Arc<dyn Fn(&EventId) -> bool + Send + Sync>;

/// What became of an event at the gate.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Genuine, asked for, and new.
    Deliver(Inbound),
    /// Ours, or journalled before: it counts for paging, and nothing else.
    Known,
    /// Not let in.
    Rejected(Rejection),
}

/// Why an event was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejection {
    #[error("larger than any event of this class")]
    TooLarge,
    #[error("not what was asked for")]
    NotAskedFor,
    #[error("from the future")]
    Future,
    #[error("its content does not have the id that it claims")]
    AlteredId,
    #[error("its signature is not its author's")]
    BadSignature,
    #[error("without a usable agent id")]
    Unlabelled,
    #[error("cannot be decrypted")]
    Undecryptable,
}

impl Rejection {
    /// Only the relay can have done this: an honest one checks before it stores.
    pub(super) fn is_tampering(self) -> bool {
        matches!(self, Self::AlteredId | Self::BadSignature)
    }

    /// The event exists all the same, in its place among the others of its page.
    pub(super) fn counts_for_paging(self) -> bool {
        matches!(self, Self::Unlabelled | Self::Undecryptable | Self::Future)
    }
}

/// What is asked for at this moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub class: Class,
    pub since: u64,
    pub until: Option<u64>,
}

/// What came in lately, over all relays of the sessions: a frame is published to two of them, and handed over once.
/// Forgets the older half when full.
#[derive(Debug)]
pub(super) struct Recent {
    halves: Mutex<(HashSet<EventId>, HashSet<EventId>)>,
    /// Ids in a half.
    most: usize,
}

impl Default for Recent {
    fn default() -> Self {
        Self::of(MAX_RECENT)
    }
}

impl Recent {
    fn of(most: usize) -> Self {
        Self { halves: Mutex::default(), most }
    }

    fn contains(&self, id: &EventId) -> bool {
        let halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.0.contains(id) || halves.1.contains(id)
    }

    /// Returns whether it is new.
    fn insert(&self, id: EventId) -> bool {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if halves.0.len() >= self.most {
            halves.1 = std::mem::take(&mut halves.0);
        }
        !halves.1.contains(&id) && halves.0.insert(id)
    }
}

/// Who is listened for on one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receivers {
    /// Public keys, as tags write them.
    pub keys: Vec<String>,
    /// Changes with the keys.
    pub version: u64,
}

/// Who lets events in.
pub(super) struct Gate {
    identity: Identity,
    receivers: Mutex<Receivers>,
    seen: Option<Seen>,
    recent: Option<Arc<Recent>>,
    /// Announcements whose signature was found good: each comes from every relay, and again with each look around.
    announced: Recent,
    /// Nobody looks at who is online: announcements are not asked for.
    averted: AtomicBool,
}

impl Gate {
    /// The gate of an identity's links: it is the only receiver.
    pub(super) fn new(identity: Identity, seen: Option<Seen>) -> Self {
        let keys = vec![identity.public_key().to_string()];
        let announced = Recent::of(DIRECTORY_LIMIT);
        Self {
            identity,
            receivers: Mutex::new(Receivers { keys, version: 0 }),
            seen,
            recent: None,
            announced,
            averted: AtomicBool::default(),
        }
    }

    /// The gate of one link for sessions. Its identity is made for it, and answers a relay that wants one; whose
    /// sessions they are, it does not know.
    pub(super) fn of_sessions(recent: Arc<Recent>) -> Self {
        let receivers = Mutex::new(Receivers { keys: Vec::new(), version: 0 });
        let announced = Recent::of(0);
        let (identity, averted) = (Identity::generate(), AtomicBool::default());
        Self { identity, receivers, seen: None, recent: Some(recent), announced, averted }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn receivers(&self) -> Receivers {
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes with the receivers: asked for whenever something is to be sent, so nothing is copied.
    pub(super) fn version(&self) -> u64 {
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner).version
    }

    /// Listens for these keys from now on. Returns whether they are others than before.
    pub(super) fn listen(&self, keys: &[PublicKey]) -> bool {
        let keys: Vec<String> = keys.iter().map(PublicKey::to_string).collect();
        let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = receivers.keys != keys;
        if changed {
            receivers.version += 1;
            receivers.keys = keys;
        }
        changed
    }

    /// Whether announcements are asked for.
    pub(super) fn looks(&self) -> bool {
        !self.averted.load(Ordering::Relaxed)
    }

    /// Asks for announcements, or does so no more.
    pub(super) fn look(&self, looks: bool) {
        self.averted.store(!looks, Ordering::Relaxed);
    }

    /// Which of our receivers an event is addressed to.
    fn addressee(&self, event: &Event) -> Option<PublicKey> {
        let receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        event.tags.iter().find_map(|tag| match tag.as_slice() {
            [name, key, ..] if name == "p" && receivers.keys.contains(key) => key.parse().ok(),
            _ => None,
        })
    }

    /// Cheap checks first, the signature (55 µs) and the decryption (as much again) last.
    pub(super) fn admit(
        &self,
        relay: &RelayId,
        asked: Asked,
        event: &Event,
        size: usize,
        now: u64,
    ) -> Verdict {
        let created_at = event.created_at.as_secs();
        if size > asked.class.max_event() {
            return Verdict::Rejected(Rejection::TooLarge);
        }
        if created_at < asked.since
            || asked.until.is_some_and(|until| created_at > until)
            || !asked.class.asks_for(event)
        {
            return Verdict::Rejected(Rejection::NotAskedFor);
        }
        let to = self.addressee(event);
        if asked.class.addressed() && to.is_none() {
            return Verdict::Rejected(Rejection::NotAskedFor);
        }
        if event.pubkey.to_bytes() == self.identity.public_key().0 {
            return Verdict::Known;
        }
        if created_at > now.saturating_add(MAX_AHEAD_SECS) {
            return Verdict::Rejected(Rejection::Future);
        }
        // Before `seen`: a known id must not cover for other content.
        if !has_its_id(event) {
            return Verdict::Rejected(Rejection::AlteredId);
        }
        let id = Hex(event.id.to_bytes());
        let known = self.seen.as_ref().is_some_and(|seen| seen(&id))
            || self.recent.as_ref().is_some_and(|recent| recent.contains(&id));
        if known && !planted(Mutant::DedupSkipped) {
            return Verdict::Known;
        }
        // An id stands for all that is signed: that it was signed once is enough.
        let announces = asked.class == Class::Presence;
        if !(announces && self.announced.contains(&id)) {
            if !is_signed(event) {
                return Verdict::Rejected(Rejection::BadSignature);
            }
            if announces {
                self.announced.insert(id);
            }
        }
        // Two links may have come so far with the same event.
        if self.recent.as_ref().is_some_and(|recent| !recent.insert(id)) {
            return Verdict::Known;
        }
        let me = self.identity.public_key();
        self.open(relay, id, to.unwrap_or(me), event).map_or_else(Verdict::Rejected, Verdict::Deliver)
    }

    /// What a key, and nobody else, says about where it is to be found.
    pub(super) fn admit_whereabouts(
        &self,
        key: &PublicKey,
        event: &Event,
        size: usize,
        now: u64,
    ) -> Result<Whereabouts, Rejection> {
        let created_at = event.created_at.as_secs();
        if size > MAX_ANSWER {
            return Err(Rejection::TooLarge);
        }
        if event.pubkey.to_bytes() != key.0 {
            return Err(Rejection::NotAskedFor);
        }
        if created_at > now.saturating_add(MAX_AHEAD_SECS) {
            return Err(Rejection::Future);
        }
        if !has_its_id(event) {
            return Err(Rejection::AlteredId);
        }
        if !is_signed(event) {
            return Err(Rejection::BadSignature);
        }
        match event.kind.as_u16() {
            inbox::KIND => {
                let list = InboxList { created_at, relays: inbox::relays(event) };
                Ok(Whereabouts { inbox: Some(list), ..Whereabouts::default() })
            }
            rotation::KIND => {
                let rotation = rotation::read(event).ok_or(Rejection::NotAskedFor)?;
                Ok(Whereabouts { rotations: vec![rotation], ..Whereabouts::default() })
            }
            _ => Err(Rejection::NotAskedFor),
        }
    }

    fn open(&self, relay: &RelayId, id: EventId, to: PublicKey, event: &Event) -> Result<Inbound, Rejection> {
        let (relay, from) = (relay.clone(), Hex(event.pubkey.to_bytes()));
        let created_at = event.created_at.as_secs();
        Ok(match event.kind.as_u16() {
            presence::KIND => {
                let agent_id = label(event.tags.identifier().map(str::to_owned))?;
                Inbound::Presence { relay, id, from, created_at, agent_id, content: event.content.clone() }
            }
            presence::DELETION => {
                let agent_id = label(presence::retracted_agent_id(event))?;
                Inbound::Retracted { relay, id, from, created_at, agent_id }
            }
            legacy::KIND => {
                let payload = legacy::open(&self.identity, event).map_err(|_| Rejection::Undecryptable)?;
                Inbound::Direct { relay, id, from, created_at, payload }
            }
            WRAP => Inbound::Wrap { relay, wrap: Wrap::new(event, to) },
            EPHEMERAL if is_frame(&event.content) => {
                Inbound::Frame { relay, event: SessionEvent::new(event, to) }
            }
            EPHEMERAL => Inbound::Ephemeral { relay, wrap: Wrap::new(event, to) },
            _ => return Err(Rejection::NotAskedFor),
        })
    }
}

/// Whether the id that an event claims is that of its content.
pub(super) fn has_its_id(event: &Event) -> bool {
    planted(Mutant::ClaimedIdTrusted) || planted(Mutant::VerificationSkipped) || event.verify_id()
}

/// Whether its author has signed the id that it claims.
pub(super) fn is_signed(event: &Event) -> bool {
    planted(Mutant::VerificationSkipped) || event.verify_signature()
}

fn label(agent_id: Option<String>) -> Result<String, Rejection> {
    agent_id.filter(|id| !id.is_empty() && id.len() <= MAX_AGENT_ID).ok_or(Rejection::Unlabelled)
}

#[cfg(test)]
mod tests {
    use nostr_sdk::{EventBuilder, JsonUtil, Keys, Kind, Tag, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::transport::Signed;

    const NOW: u64 = 1_790_000_000;
    const DIRECT: Asked = Asked { class: Class::Direct, since: NOW - 1_000, until: None };
    const PRESENCE: Asked = Asked { class: Class::Presence, since: NOW - 300, until: None };

    struct World {
        peer: Identity,
        me: Identity,
        gate: Gate,
    }

    impl World {
        fn new() -> Self {
            let me = Identity::generate();
            Self { peer: Identity::generate(), gate: Gate::new(me.clone(), None), me }
        }

        fn message(&self, created_at: u64) -> Event {
            event(&legacy::seal(&self.peer, &self.me.public_key(), "hello", created_at).unwrap())
        }

        fn raw_message(&self, content: &str) -> Event {
            let me = nostr_sdk::PublicKey::from_byte_array(self.me.public_key().0);
            self.peer.sign(legacy::KIND, content.into(), vec![Tag::public_key(me)], NOW).unwrap()
        }

        fn admit(&self, asked: Asked, event: &Event) -> Verdict {
            let relay = RelayId::parse("wss://relay.example").unwrap();
            self.gate.admit(&relay, asked, event, event.as_json().len(), NOW)
        }

        fn refusal(&self, asked: Asked, event: &Event) -> Option<Rejection> {
            match self.admit(asked, event) {
                Verdict::Rejected(rejection) => Some(rejection),
                _ => None,
            }
        }
    }

    fn event(signed: &Signed) -> Event {
        Event::from_json(&signed.json).unwrap()
    }

    fn announce(agent: &Identity, agent_id: &str) -> Event {
        let announcement = presence::Announcement {
            agent_id,
            capabilities: &[],
            content: "{}",
            expires: NOW + 300,
            unlisted: false,
            version: None,
        };
        event(&presence::sign(agent, &announcement, NOW).unwrap())
    }

    #[test]
    fn a_genuine_message_comes_in_decrypted() {
        let world = World::new();
        let verdict = world.admit(DIRECT, &world.message(NOW));
        let Verdict::Deliver(Inbound::Direct { from, payload, created_at, .. }) = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!((from, &*payload, created_at), (world.peer.public_key(), "hello", NOW));
    }

    #[test]
    fn announcements_and_their_retractions_come_in_with_their_label() {
        let world = World::new();
        let announced = announce(&world.peer, "bob");
        assert!(matches!(world.admit(PRESENCE, &announced),
            Verdict::Deliver(Inbound::Presence { agent_id, .. }) if agent_id == "bob"));
        let id = Hex(announced.id.to_bytes());
        let retracted = event(&presence::retract(&world.peer, id, "bob", false, NOW).unwrap());
        assert!(matches!(world.admit(PRESENCE, &retracted),
            Verdict::Deliver(Inbound::Retracted { agent_id, .. }) if agent_id == "bob"));
        assert_eq!(world.refusal(PRESENCE, &announce(&world.peer, "")), Some(Rejection::Unlabelled));
        let long = "x".repeat(257);
        assert_eq!(world.refusal(PRESENCE, &announce(&world.peer, &long)), Some(Rejection::Unlabelled));
    }

    #[test]
    fn nobody_takes_back_what_another_announced() {
        let world = World::new();
        let other = Identity::generate();
        let address = format!("30078:{}:bob", other.public_key());
        let tags = vec![Tag::parse(["a", &address]).unwrap(), Tag::parse(["t", presence::TOPIC]).unwrap()];
        let forged = world.peer.sign(presence::DELETION, String::new(), tags, NOW).unwrap();
        assert_eq!(world.refusal(PRESENCE, &forged), Some(Rejection::Unlabelled));
    }

    #[test]
    fn altered_content_is_found_even_under_a_known_id() {
        let mut world = World::new();
        let genuine = world.message(NOW);
        let known = Hex(genuine.id.to_bytes());
        world.gate = Gate::new(world.me.clone(), Some(Arc::new(move |id: &EventId| *id == known)));
        assert!(matches!(world.admit(DIRECT, &genuine), Verdict::Known));
        let mut altered = genuine.clone();
        altered.content = world.message(NOW).content;
        assert_eq!(world.refusal(DIRECT, &altered), Some(Rejection::AlteredId));
        let mut redated = genuine.clone();
        redated.created_at = Timestamp::from_secs(NOW - 1);
        assert_eq!(world.refusal(DIRECT, &redated), Some(Rejection::AlteredId));
    }

    #[test]
    fn a_signature_of_another_key_or_event_is_refused() {
        let world = World::new();
        let (first, second) = (world.message(NOW), world.message(NOW));
        let mut forged = first.clone();
        forged.sig = second.sig;
        assert_eq!(world.refusal(DIRECT, &forged), Some(Rejection::BadSignature));
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let world = World::new();
        let other = Identity::generate();
        let to_other = event(&legacy::seal(&world.peer, &other.public_key(), "x", NOW).unwrap());
        assert_eq!(world.refusal(DIRECT, &to_other), Some(Rejection::NotAskedFor));
        assert_eq!(world.refusal(PRESENCE, &world.message(NOW)), Some(Rejection::NotAskedFor));
        assert_eq!(world.refusal(DIRECT, &world.message(NOW - 1_001)), Some(Rejection::NotAskedFor));
        let page = Asked { until: Some(NOW - 10), ..DIRECT };
        assert_eq!(world.refusal(page, &world.message(NOW)), Some(Rejection::NotAskedFor));
        let note = EventBuilder::new(Kind::TextNote, "").sign_with_keys(&Keys::generate()).unwrap();
        assert_eq!(world.refusal(PRESENCE, &note), Some(Rejection::NotAskedFor));
    }

    #[test]
    fn the_future_begins_after_a_quarter_of_an_hour() {
        let world = World::new();
        assert!(matches!(world.admit(DIRECT, &world.message(NOW + 900)), Verdict::Deliver(_)));
        assert_eq!(world.refusal(DIRECT, &world.message(NOW + 901)), Some(Rejection::Future));
        assert_eq!(
            world.refusal(DIRECT, &world.message(u64::from(u32::MAX) * 1_000)),
            Some(Rejection::Future)
        );
    }

    #[test]
    fn our_own_events_are_skipped() {
        let world = World::new();
        let own = event(&legacy::seal(&world.me, &world.me.public_key(), "x", NOW).unwrap());
        assert!(matches!(world.admit(DIRECT, &own), Verdict::Known));
    }

    #[test]
    fn an_event_above_the_limit_of_its_class_is_refused() {
        let world = World::new();
        let relay = RelayId::parse("wss://relay.example").unwrap();
        let verdict = world.gate.admit(&relay, DIRECT, &world.message(NOW), 265 * 1024, NOW);
        assert!(matches!(verdict, Verdict::Rejected(Rejection::TooLarge)));
    }

    #[test]
    fn hostile_ciphertexts_are_refused_and_nothing_else() {
        let world = World::new();
        let iv = "AAAAAAAAAAAAAAAAAAAAAA==";
        let contents = [
            String::new(),
            "?iv=".into(),
            format!("?iv={iv}"),
            format!("AAAA?iv={iv}"),
            "AAAA?iv=AAAA".into(),
            format!("!!!!?iv={iv}"),
            format!("AAAAAAAAAAAAAAAAAAAAAA==?iv={iv}"),
            format!("x?iv={iv}?iv={iv}"),
            format!("AAAAAAAAAAAAAAAAAAAAAA==?iv={}", "é".repeat(12)),
        ];
        for content in contents {
            let refusal = world.refusal(DIRECT, &world.raw_message(&content));
            assert_eq!(refusal, Some(Rejection::Undecryptable), "{content}");
        }
        let binary = {
            let me = nostr_sdk::PublicKey::from_byte_array(world.me.public_key().0);
            nostr_sdk::nips::nip04::encrypt(world.peer.keys().secret_key(), &me, [0xff, 0xfe]).unwrap()
        };
        assert_eq!(world.refusal(DIRECT, &world.raw_message(&binary)), Some(Rejection::Undecryptable));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_signed_content_whatever_makes_the_gate_panic(content in r"\PC{0,40}(\?iv=[A-Za-z0-9+/=]{0,26})?") {
            let world = World::new();
            prop_assert!(matches!(
                world.admit(DIRECT, &world.raw_message(&content)),
                Verdict::Rejected(Rejection::Undecryptable)
            ));
        }
    }
}
