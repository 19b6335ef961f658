//! Gift wraps (NIP-59), made and opened by hand: kind 21059 has no name in the SDK, and its own unwrapping checks
//! neither the seal's kind and tags nor the rumor's id.
//!
//! ```text
//!   wrap   kind 1059 or 21059, signed by a key made for it, ["p", receiver]
//!    └─ NIP-44, that key to receiver
//!        └─ seal   kind 13, signed by the sender, no tags
//!            └─ NIP-44, sender to receiver
//!                └─ rumor   id, no signature
//! ```

use std::fmt;

use nostr_sdk::nips::nip44;
use nostr_sdk::{Event, JsonUtil, Keys, Kind, Tag, TagKind, Timestamp, UnsignedEvent};

use super::work;
use crate::mutants::{Mutant, planted};
use crate::proto::v2::signal;
use crate::proto::{EventId, Hex, PublicKey};
use crate::transport::identity::Identity;
use crate::transport::ingest::{has_its_id, is_signed};
use crate::transport::signed::{MAX_EVENT, SealError, Signed};

/// NIP-59's seal.
const SEAL: u16 = 13;
/// The most tags of a rumor: a message to a hundred people has a hundred.
const MAX_TAGS: usize = 128;
/// The bytes of a wrap apart from its ciphertext, as an `["EVENT",…]` message: the fields with id, key and signature,
/// `p`, `expiration` and `nonce` tags with the longest values that we write.
const WRAP_ENVELOPE: usize = 540;
/// The bytes of a seal apart from its ciphertext.
const SEAL_ENVELOPE: usize = 340;
/// Version, nonce, length and MAC of a NIP-44 payload.
const NIP44_OVERHEAD: usize = 1 + 32 + 2 + 32;

/// What becomes of a wrap at a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrapKind {
    /// Kept until it expires.
    Stored,
    /// Passed on to who listens, and forgotten.
    Ephemeral,
}

impl WrapKind {
    /// The event's kind.
    pub const fn number(self) -> u16 {
        match self {
            Self::Stored => 1_059,
            Self::Ephemeral => 21_059,
        }
    }
}

/// What is inside: an event without a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rumor {
    /// Its kind.
    pub kind: u16,
    /// When it claims to be made, in seconds: the true time, also where the wrap's is fuzzed.
    pub created_at: u64,
    /// Its tags.
    pub tags: Vec<Vec<String>>,
    /// Its content.
    pub content: String,
}

impl Rumor {
    /// Its id as a rumor of this author: what answers refer to, and what stays the same in every wrap.
    pub fn id(&self, author: &PublicKey) -> EventId {
        let mut unsigned = self.unsigned(author);
        Hex(unsigned.id().to_bytes())
    }

    fn unsigned(&self, author: &PublicKey) -> UnsignedEvent {
        let author = nostr_sdk::PublicKey::from_byte_array(author.0);
        // Only an empty list is no tag, and says nothing.
        let tags = self.tags.iter().filter_map(|tag| Tag::parse(tag).ok());
        UnsignedEvent::new(
            author,
            Timestamp::from_secs(self.created_at),
            Kind::from_u16(self.kind),
            tags,
            self.content.clone(),
        )
    }
}

/// How to wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrapOptions {
    /// Stored or ephemeral.
    pub kind: WrapKind,
    /// The seal's `created_at`, in seconds.
    pub sealed_at: u64,
    /// The wrap's `created_at`, in seconds.
    pub wrapped_at: u64,
    /// When relays may forget the wrap (NIP-40), in seconds.
    pub expiration: Option<u64>,
    /// Bits of proof of work, at most [`work::MOST_WORK`]. Mining blocks: not on a thread that others wait for.
    pub work: u8,
}

impl WrapOptions {
    /// For signals, whose time is no secret: the wrap tells it anyway by its arrival. Stored ones expire.
    pub const fn at(kind: WrapKind, now: u64) -> Self {
        let expiration = match kind {
            WrapKind::Stored => Some(now + signal::LIFETIME.as_secs()),
            WrapKind::Ephemeral => None,
        };
        Self { kind, sealed_at: now, wrapped_at: now, expiration, work: 0 }
    }

    /// For mail (NIP-17): seal and wrap each set back by an offset of the caller's dice.
    ///
    /// Offsets above [`Self::FUZZ`] are cut.
    pub const fn fuzzed(now: u64, seal_offset: u64, wrap_offset: u64) -> Self {
        Self {
            kind: WrapKind::Stored,
            sealed_at: set_back(now, seal_offset),
            wrapped_at: set_back(now, wrap_offset),
            expiration: None,
            work: 0,
        }
    }

    /// The most that times are set back: NIP-59's two days.
    pub const FUZZ: u64 = 2 * 86_400;
}

const fn set_back(now: u64, offset: u64) -> u64 {
    now.saturating_sub(if offset > WrapOptions::FUZZ { WrapOptions::FUZZ } else { offset })
}

/// The longest JSON of a rumor, in bytes, whose wrap relays take. NIP-44 pads to buckets, so this is one too.
pub const fn largest_rumor() -> usize {
    let seal = largest_plaintext(MAX_EVENT - WRAP_ENVELOPE);
    largest_plaintext(seal - SEAL_ENVELOPE)
}

/// The longest plaintext of a NIP-44 payload with so many characters.
const fn largest_plaintext(payload: usize) -> usize {
    let padded = payload / 4 * 3 - NIP44_OVERHEAD;
    let step = padded.next_power_of_two() / 8;
    padded / step * step
}

/// Seals a rumor as the identity and wraps it for a receiver, which is a peer's identity or its session key.
///
/// # Errors
/// [`SealError::TooLarge`] when the rumor is above [`largest_rumor`]; [`SealError::TooMuchWork`];
/// [`SealError::Crypto`] when the receiver's key is no point.
pub fn seal_wrap(
    identity: &Identity,
    receiver: &PublicKey,
    rumor: &Rumor,
    options: &WrapOptions,
) -> Result<Signed, SealError> {
    let to = nostr_sdk::PublicKey::from_byte_array(receiver.0);
    let mut unsigned = rumor.unsigned(&identity.public_key());
    unsigned.ensure_id();
    let size = unsigned.as_json().len();
    if size > largest_rumor() {
        return Err(SealError::TooLarge { size, limit: largest_rumor() });
    }
    let sealed = encrypt(identity.keys(), &to, &unsigned.as_json())?;
    let seal = identity.sign(SEAL, sealed, Vec::new(), options.sealed_at).map_err(crypto)?;

    let author = Identity::generate();
    let content = encrypt(author.keys(), &to, &seal.as_json())?;
    let kind = options.kind.number();
    let mut tags = vec![Tag::public_key(to)];
    if let Some(expiration) = options.expiration {
        tags.push(Tag::custom(TagKind::custom("expiration"), [expiration.to_string()]));
    }
    if options.work > 0 {
        let pubkey = author.public_key().to_string();
        let draft = work::Draft {
            pubkey: &pubkey,
            created_at: options.wrapped_at,
            kind,
            tags: &tags,
            content: &content,
        };
        let nonce = work::mine(&draft, options.work)?;
        tags.push(nonce);
    }
    author.sign(kind, content, tags, options.wrapped_at).map_err(crypto)?.try_into()
}

fn encrypt(keys: &Keys, to: &nostr_sdk::PublicKey, plaintext: &str) -> Result<String, SealError> {
    nip44::encrypt(keys.secret_key(), to, plaintext, nip44::Version::V2).map_err(crypto)
}

fn crypto(error: impl fmt::Display) -> SealError {
    SealError::Crypto(error.to_string())
}

/// A wrap whose own id and signature are verified, unopened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrap {
    /// The event.
    pub id: EventId,
    /// Whom it is for: the `p` tag.
    pub receiver: PublicKey,
    /// When it claims to be made, in seconds; fuzzed by many clients.
    pub created_at: u64,
    /// Bits of work that it proves (NIP-13).
    pub work: u8,
    /// It says when relays may forget it (NIP-40): our signals do, mail does not.
    pub expires: bool,
    author: PublicKey,
    content: String,
}

impl Wrap {
    /// From an event that the gate has verified, to this receiver.
    pub(in crate::transport) fn new(event: &Event, receiver: PublicKey) -> Self {
        Self {
            id: Hex(event.id.to_bytes()),
            receiver,
            created_at: event.created_at.as_secs(),
            work: work::proven(event),
            expires: event.tags.expiration().is_some(),
            author: Hex(event.pubkey.to_bytes()),
            content: event.content.clone(),
        }
    }

    /// Bytes that wait for being opened.
    pub fn size(&self) -> usize {
        self.content.len()
    }
}

/// What was inside a wrap, every layer verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Who sealed it.
    pub from: PublicKey,
    /// The key that it was for.
    pub to: PublicKey,
    /// The rumor.
    pub rumor: Rumor,
    /// The rumor's id.
    pub id: EventId,
    /// The wrap that it came in.
    pub wrap: EventId,
}

/// Why a wrap was not opened, or what was in it not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// Less proof of work than is asked of strangers. Nothing was decrypted.
    #[error("proves {proven} bits of work where {asked} are asked")]
    LacksWork {
        /// What it proves.
        proven: u8,
        /// What is asked.
        asked: u8,
    },
    /// For somebody else.
    #[error("not for this key")]
    OtherReceiver,
    /// The outer layer cannot be decrypted.
    #[error("cannot be decrypted")]
    Undecryptable,
    /// What is inside is no event of kind 13 without tags.
    #[error("holds no seal")]
    NotASeal,
    /// The seal's id or signature is wrong.
    #[error("the seal's signature is not its author's")]
    BadSeal,
    /// The inner layer cannot be decrypted.
    #[error("the seal cannot be decrypted")]
    SealUndecryptable,
    /// What is inside the seal is no rumor.
    #[error("holds no rumor")]
    NotARumor,
    /// The rumor claims another author than the seal's.
    #[error("the rumor is not by who sealed it")]
    OtherAuthor,
    /// The rumor does not have the id that it claims.
    #[error("the rumor does not have the id that it claims")]
    WrongId,
}

/// A wrap whose outer layer is open. Who sealed what is in it is claimed, and not verified yet.
#[derive(Debug)]
pub struct Sealed<'a> {
    wrap: &'a Wrap,
    seal: Event,
}

impl<'a> Sealed<'a> {
    /// Opens the outer layer of a wrap to the identity, which is half of the cost: 0.15 ms, which strangers pay for by
    /// `asked` bits of work and share a [budget](super::DecryptBudget) for.
    ///
    /// # Errors
    /// [`WrapError`]; `LacksWork` and `OtherReceiver` before anything is decrypted.
    pub fn from_wrap(identity: &Identity, wrap: &'a Wrap, asked: u8) -> Result<Self, WrapError> {
        if wrap.work < asked {
            return Err(WrapError::LacksWork { proven: wrap.work, asked });
        }
        if wrap.receiver != identity.public_key() {
            return Err(WrapError::OtherReceiver);
        }
        let author = nostr_sdk::PublicKey::from_byte_array(wrap.author.0);
        let seal = nip44::decrypt(identity.keys().secret_key(), &author, &wrap.content)
            .map_err(|_| WrapError::Undecryptable)?;
        let seal = Event::from_json(seal).map_err(|_| WrapError::NotASeal)?;
        if seal.kind.as_u16() != SEAL || !seal.tags.is_empty() {
            return Err(WrapError::NotASeal);
        }
        Ok(Self { wrap, seal })
    }

    /// Who is said to have sealed it. Anybody can say so: it may be a reason to look no further, and never to trust.
    pub fn claimed(&self) -> PublicKey {
        Hex(self.seal.pubkey.to_bytes())
    }

    /// Verifies the seal, opens it, and verifies all that is in it.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn open(self, identity: &Identity) -> Result<Opened, WrapError> {
        let Self { wrap, seal } = self;
        if !has_its_id(&seal) || !is_signed(&seal) {
            return Err(WrapError::BadSeal);
        }
        let rumor = nip44::decrypt(identity.keys().secret_key(), &seal.pubkey, &seal.content)
            .map_err(|_| WrapError::SealUndecryptable)?;
        let mut rumor = UnsignedEvent::from_json(rumor).map_err(|_| WrapError::NotARumor)?;
        if rumor.tags.len() > MAX_TAGS {
            return Err(WrapError::NotARumor);
        }
        if rumor.pubkey != seal.pubkey {
            return Err(WrapError::OtherAuthor);
        }
        if rumor.verify_id().is_err() && !planted(Mutant::ClaimedIdTrusted) {
            return Err(WrapError::WrongId);
        }
        let id = rumor.id();
        Ok(Opened {
            from: Hex(seal.pubkey.to_bytes()),
            to: wrap.receiver,
            rumor: Rumor {
                kind: rumor.kind.as_u16(),
                created_at: rumor.created_at.as_secs(),
                tags: rumor.tags.iter().map(|tag| tag.as_slice().to_vec()).collect(),
                content: rumor.content,
            },
            id: Hex(id.to_bytes()),
            wrap: wrap.id,
        })
    }
}

/// Opens a wrap to the identity, both layers, and verifies all that is in it.
///
/// # Errors
/// As [`Sealed::from_wrap`] and [`Sealed::open`].
pub fn open_wrap(identity: &Identity, wrap: &Wrap, asked: u8) -> Result<Opened, WrapError> {
    Sealed::from_wrap(identity, wrap, asked)?.open(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn rumor(content: &str) -> Rumor {
        let tags = vec![vec!["p2p-id".to_owned(), "x".to_owned()]];
        Rumor { kind: 25_920, created_at: NOW - 5, tags, content: content.into() }
    }

    fn wrap(signed: &Signed) -> Wrap {
        let event = Event::from_json(&signed.json).unwrap();
        event.verify().unwrap();
        let receiver = event.tags.public_keys().next().unwrap().to_bytes();
        Wrap::new(&event, Hex(receiver))
    }

    /// Wraps whatever as if it were a seal.
    fn wrap_raw(to: &Identity, inside: &str) -> Wrap {
        let author = Identity::generate();
        let key = to.keys().public_key();
        let content = encrypt(author.keys(), &key, inside).unwrap();
        let event = author.sign(1_059, content, vec![Tag::public_key(key)], NOW).unwrap();
        Wrap::new(&event, to.public_key())
    }

    fn seal_raw(from: &Identity, to: &Identity, kind: u16, tags: Vec<Tag>, inside: &str) -> Event {
        let content = encrypt(from.keys(), &to.keys().public_key(), inside).unwrap();
        from.sign(kind, content, tags, NOW).unwrap()
    }

    fn rumor_json(author: &Identity) -> String {
        let mut unsigned = rumor("hello").unsigned(&author.public_key());
        unsigned.ensure_id();
        unsigned.as_json()
    }

    #[test]
    fn the_receiver_learns_who_sent_what_and_the_relay_does_not() {
        let (alice, bob) = (Identity::generate(), Identity::generate());
        let options = WrapOptions { expiration: Some(NOW + 7), ..WrapOptions::at(WrapKind::Stored, NOW) };
        let signed = seal_wrap(&alice, &bob.public_key(), &rumor("hello"), &options).unwrap();
        assert_eq!((signed.kind, signed.created_at), (1_059, NOW));
        assert!(!signed.json.contains(&alice.public_key().to_string()));
        let opened = open_wrap(&bob, &wrap(&signed), 0).unwrap();
        assert_eq!(
            (opened.from, &opened.rumor, opened.wrap),
            (alice.public_key(), &rumor("hello"), signed.id)
        );
        assert_eq!(opened.id, rumor("hello").id(&alice.public_key()));
        assert_eq!(open_wrap(&alice, &wrap(&signed), 0), Err(WrapError::OtherReceiver));
        let again = seal_wrap(&alice, &bob.public_key(), &rumor("hello"), &options).unwrap();
        assert_ne!(again.id, signed.id, "another wrap");
        assert_eq!(open_wrap(&bob, &wrap(&again), 0).unwrap().id, opened.id, "of the same rumor");
    }

    #[test]
    fn mail_is_dated_back_by_the_dice_and_never_further_than_two_days() {
        let (alice, bob) = (Identity::generate(), Identity::generate());
        let options = WrapOptions::fuzzed(NOW, 100, 10 * WrapOptions::FUZZ);
        let signed = seal_wrap(&alice, &bob.public_key(), &rumor("hello"), &options).unwrap();
        assert_eq!((options.sealed_at, signed.created_at), (NOW - 100, NOW - WrapOptions::FUZZ));
        assert_eq!(open_wrap(&bob, &wrap(&signed), 0).unwrap().rumor.created_at, NOW - 5);
    }

    #[test]
    fn the_work_that_is_asked_is_checked_before_anything_else() {
        let (alice, bob) = (Identity::generate(), Identity::generate());
        let options = WrapOptions { work: 8, ..WrapOptions::at(WrapKind::Stored, NOW) };
        let signed = seal_wrap(&alice, &bob.public_key(), &rumor("hello"), &options).unwrap();
        let wrap = wrap(&signed);
        assert_eq!(wrap.work, 8);
        assert!(open_wrap(&bob, &wrap, 8).is_ok());
        assert_eq!(open_wrap(&alice, &wrap, 9), Err(WrapError::LacksWork { proven: 8, asked: 9 }));
    }

    #[test]
    fn the_largest_rumor_fits_an_event_and_one_byte_more_does_not() {
        let (alice, bob) = (Identity::generate(), Identity::generate());
        let options =
            WrapOptions { expiration: Some(u64::MAX), work: 1, ..WrapOptions::at(WrapKind::Stored, NOW) };
        let envelope = {
            let mut unsigned = rumor("").unsigned(&alice.public_key());
            unsigned.ensure_id();
            unsigned.as_json().len()
        };
        let most = largest_rumor() - envelope;
        let seal =
            |length: usize| seal_wrap(&alice, &bob.public_key(), &rumor(&"x".repeat(length)), &options);
        assert!(seal(most).unwrap().message().len() <= MAX_EVENT);
        assert!(matches!(seal(most + 1), Err(SealError::TooLarge { .. })));
        assert_eq!(largest_rumor(), 28_672);
    }

    #[test]
    fn every_layer_that_is_not_as_it_should_be_is_refused_for_its_reason() {
        let (alice, bob, eve) = (Identity::generate(), Identity::generate(), Identity::generate());
        let inside = rumor_json(&alice);
        let refused = |seal: &str| open_wrap(&bob, &wrap_raw(&bob, seal), 0).unwrap_err();
        let good = seal_raw(&alice, &bob, SEAL, vec![], &inside);
        assert!(open_wrap(&bob, &wrap_raw(&bob, &good.as_json()), 0).is_ok());

        assert_eq!(refused("hello"), WrapError::NotASeal);
        assert_eq!(refused(&inside), WrapError::NotASeal, "a rumor without a seal");
        let tagged = seal_raw(&alice, &bob, SEAL, vec![Tag::public_key(bob.keys().public_key())], &inside);
        assert_eq!(refused(&tagged.as_json()), WrapError::NotASeal);
        assert_eq!(refused(&seal_raw(&alice, &bob, 1, vec![], &inside).as_json()), WrapError::NotASeal);

        let mut unsigned = good.clone();
        unsigned.sig = seal_raw(&eve, &bob, SEAL, vec![], &inside).sig;
        assert_eq!(refused(&unsigned.as_json()), WrapError::BadSeal);
        let mut altered = good.clone();
        altered.created_at = Timestamp::from_secs(NOW + 1);
        assert_eq!(refused(&altered.as_json()), WrapError::BadSeal);

        let to_another = seal_raw(&alice, &eve, SEAL, vec![], &inside);
        assert_eq!(refused(&to_another.as_json()), WrapError::SealUndecryptable, "passed on");
        assert_eq!(refused(&seal_raw(&alice, &bob, SEAL, vec![], "{}").as_json()), WrapError::NotARumor);
        let posing = seal_raw(&eve, &bob, SEAL, vec![], &inside);
        assert_eq!(refused(&posing.as_json()), WrapError::OtherAuthor);
        let misnamed = inside.replace("hello", "hullo");
        assert_eq!(refused(&seal_raw(&alice, &bob, SEAL, vec![], &misnamed).as_json()), WrapError::WrongId);
        let crowd =
            rumor_json(&alice).replace(r#""tags":[["#, &format!(r#""tags":[{}["#, r#"["x"],"#.repeat(200)));
        assert_eq!(refused(&seal_raw(&alice, &bob, SEAL, vec![], &crowd).as_json()), WrapError::NotARumor);

        let mut garbled = wrap_raw(&bob, &good.as_json());
        garbled.content = "not base64".into();
        assert_eq!(open_wrap(&bob, &garbled, 0), Err(WrapError::Undecryptable));
    }
}
