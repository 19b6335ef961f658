//! From an invite and its accept to a session: `Noise_NN_25519_ChaChaPoly_SHA256`.
//!
//! NN authenticates nobody. The two messages travel in sealed, signed rumors, which do; the prologue binds the
//! handshake to everything that the two agreed on, so that a message moved to another call, another pair of agents or
//! another list of versions or relays fails.
//!
//! ```text
//!   prologue = SHA-256( field(NAME) ‖ field(call, 16 B) ‖ u32(gen) ‖ field(caller, 32 B) ‖ field(callee, 32 B)
//!                       ‖ field(S_a, 32 B) ‖ u32(number of relays) ‖ field(relay) …
//!                       ‖ u32(number of versions) ‖ u32(version) … )
//!   field(x) = u32(length of x in bytes) ‖ x            u32: four bytes, big-endian
//! ```
//!
//! Relays and versions are those of the invite, in its order and spelling. The caller is who sent the invite or the
//! resumption: the Noise initiator.

use std::fmt;

use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

use super::cipher::{Receiving, Secret, Sending};
use super::session::{Session, SessionEvent, SessionKey};
use crate::proto::v2::signal::{FIRST_MESSAGE, Offer, SECOND_MESSAGE, SharedCallId};
use crate::proto::{Hex, PublicKey};

/// The protocol's name in the prologue.
pub const NAME: &str = "p2p-comm v2 Noise_NN_25519_ChaChaPoly_SHA256";
/// Noise's own name for it.
const NOISE: &str = "Noise_NN_25519_ChaChaPoly_SHA256";
/// Frames that came before the accept, kept until it is there: some round trips' worth.
const MAX_EARLY: usize = 64;

/// What a handshake is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The call.
    pub call: &'a SharedCallId,
    /// Its generation.
    pub generation: u32,
    /// Who sent the offer.
    pub caller: &'a PublicKey,
    /// Whom it was sent to.
    pub callee: &'a PublicKey,
    /// The session key of the offer.
    pub key: &'a PublicKey,
    /// The relays of the offer.
    pub relays: &'a [String],
    /// The versions of the offer.
    pub versions: &'a [u32],
}

impl<'a> Terms<'a> {
    /// Those of an offer.
    pub fn of(
        offer: &'a Offer,
        call: &'a SharedCallId,
        generation: u32,
        caller: &'a PublicKey,
        callee: &'a PublicKey,
    ) -> Self {
        let (key, relays, versions) = (&offer.key, &offer.relays, &offer.versions);
        Self { call, generation, caller, callee, key, relays, versions }
    }

    /// The prologue, as the module's text defines it.
    pub fn prologue(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        field(&mut hash, NAME.as_bytes());
        field(&mut hash, &self.call.0);
        number(&mut hash, self.generation);
        for key in [self.caller, self.callee, self.key] {
            field(&mut hash, &key.0);
        }
        number(&mut hash, self.relays.len() as u32);
        self.relays.iter().for_each(|relay| field(&mut hash, relay.as_bytes()));
        number(&mut hash, self.versions.len() as u32);
        self.versions.iter().for_each(|version| number(&mut hash, *version));
        hash.finalize().into()
    }
}

fn field(hash: &mut Sha256, bytes: &[u8]) {
    number(hash, bytes.len() as u32);
    hash.update(bytes);
}

fn number(hash: &mut Sha256, number: u32) {
    hash.update(number.to_be_bytes());
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The peer's message does not belong to this handshake: altered, or moved from another one.
    #[error("the handshake failed: {0}")]
    Noise(String),
    /// The two sides did not come to the same end.
    #[error("the two sides of the handshake do not agree")]
    Disagreement,
}

impl From<snow::Error> for HandshakeError {
    fn from(error: snow::Error) -> Self {
        Self::Noise(error.to_string())
    }
}

/// The caller's half, between its offer and the accept. Dropping it erases its keys.
pub struct Initiator {
    noise: Noise,
    key: SessionKey,
    early: Vec<SessionEvent>,
}

impl Initiator {
    /// Begins, and gives the first message for the offer. `terms` must name `key`.
    ///
    /// # Errors
    /// [`HandshakeError`], when the system has no randomness.
    pub fn start(key: SessionKey, terms: &Terms<'_>) -> Result<(Self, [u8; FIRST_MESSAGE]), HandshakeError> {
        Self::start_with(key, terms, None)
    }

    pub(super) fn start_with(
        key: SessionKey,
        terms: &Terms<'_>,
        ephemeral: Option<&[u8; 32]>,
    ) -> Result<(Self, [u8; FIRST_MESSAGE]), HandshakeError> {
        let mut noise = Noise::new(terms, true, ephemeral)?;
        let message = noise.write()?;
        Ok((Self { noise, key, early: Vec::new() }, message))
    }

    /// The session key of the offer: what answers are wrapped to.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    /// Keeps a frame that overtook the accept. What is more than [`MAX_EARLY`] is dropped: its sender has it still.
    pub fn hold(&mut self, frame: SessionEvent) {
        if self.early.len() < MAX_EARLY {
            self.early.push(frame);
        }
    }

    /// Ends the handshake with the accept. Returned beside the session are the frames that came early.
    ///
    /// # Errors
    /// [`HandshakeError`]; the offer is spent then, and a new generation begins with a new one.
    pub fn finish(
        mut self,
        peer: &PublicKey,
        message: &[u8; SECOND_MESSAGE],
        hash: &Hex<32>,
    ) -> Result<(Session, Vec<SessionEvent>), HandshakeError> {
        self.noise.state.read_message(message, &mut [])?;
        let (reached, [ours, theirs]) = self.noise.split();
        if reached != *hash {
            return Err(HandshakeError::Disagreement);
        }
        let session = Session::new(self.key, *peer, Sending::new(ours), Receiving::new(theirs));
        let early = self.early.into_iter().filter(|frame| frame.from == *peer).collect();
        Ok((session, early))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Initiator").field("early", &self.early.len()).finish_non_exhaustive()
    }
}

/// What a callee's side of the handshake gives.
#[derive(Debug)]
pub struct Response {
    /// The session.
    pub session: Session,
    /// The second message, for the accept.
    pub message: [u8; SECOND_MESSAGE],
    /// The handshake's hash, for the accept.
    pub hash: Hex<32>,
}

/// Answers an offer with a session key of one's own.
///
/// # Errors
/// [`HandshakeError`], when the message is none.
pub fn respond(
    key: SessionKey,
    terms: &Terms<'_>,
    message: &[u8; FIRST_MESSAGE],
) -> Result<Response, HandshakeError> {
    respond_with(key, terms, message, None)
}

pub(super) fn respond_with(
    key: SessionKey,
    terms: &Terms<'_>,
    message: &[u8; FIRST_MESSAGE],
    ephemeral: Option<&[u8; 32]>,
) -> Result<Response, HandshakeError> {
    let mut noise = Noise::new(terms, false, ephemeral)?;
    noise.state.read_message(message, &mut [])?;
    let answer = noise.write()?;
    let (hash, [theirs, ours]) = noise.split();
    let session = Session::new(key, *terms.key, Sending::new(ours), Receiving::new(theirs));
    Ok(Response { session, message: answer, hash })
}

/// A handshake state that is overwritten when dropped: snow leaves its chaining key, from which the session's keys
/// follow, where it was.
struct Noise {
    // In a box, so that the secrets stay in one place from the first message to the last.
    state: Box<HandshakeState>,
}

impl Noise {
    fn new(terms: &Terms<'_>, initiator: bool, ephemeral: Option<&[u8; 32]>) -> Result<Self, snow::Error> {
        let state = state(&terms.prologue(), initiator, ephemeral)?;
        Ok(Self { state: Box::new(state) })
    }

    /// The next message, which has no payload.
    fn write<const N: usize>(&mut self) -> Result<[u8; N], HandshakeError> {
        // snow wants room for a tag even where there is none.
        let mut buffer = [0; 2 * SECOND_MESSAGE];
        let length = self.state.write_message(&[], &mut buffer)?;
        buffer[..length].try_into().map_err(|_| HandshakeError::Noise("a message of another length".into()))
    }

    /// The hash, the initiator's key and the responder's.
    fn split(mut self) -> (Hex<32>, [Secret; 2]) {
        let mut hash = Hex([0; 32]);
        hash.0.copy_from_slice(&self.state.get_handshake_hash()[..32]);
        let (initiator, responder) = self.state.dangerously_get_raw_split();
        (hash, [Secret::new(initiator), Secret::new(responder)])
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        // Without randomness or terms, this cannot fail.
        if let Ok(blank) = state(&[], true, None) {
            *self.state = blank;
        }
    }
}

fn state(
    prologue: &[u8],
    initiator: bool,
    ephemeral: Option<&[u8; 32]>,
) -> Result<HandshakeState, snow::Error> {
    let params: NoiseParams = NOISE.parse()?;
    let builder = Builder::with_resolver(params, Box::new(Erasing)).prologue(prologue)?;
    let builder = match ephemeral {
        Some(key) => builder.fixed_ephemeral_key_for_testing_only(key),
        None => builder,
    };
    if initiator { builder.build_initiator() } else { builder.build_responder() }
}

/// snow's own primitives, with keys that are overwritten when dropped.
struct Erasing;

impl CryptoResolver for Erasing {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice).map(|dh| Box::new(ErasedDh(dh)) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice).map(|cipher| Box::new(ErasedCipher(cipher)) as Box<dyn Cipher>)
    }
}

struct ErasedDh(Box<dyn Dh>);

impl Dh for ErasedDh {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn pub_len(&self) -> usize {
        self.0.pub_len()
    }

    fn priv_len(&self) -> usize {
        self.0.priv_len()
    }

    fn set(&mut self, privkey: &[u8]) {
        self.0.set(privkey);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        self.0.generate(rng)
    }

    fn pubkey(&self) -> &[u8] {
        self.0.pubkey()
    }

    fn privkey(&self) -> &[u8] {
        self.0.privkey()
    }

    /// Also refuses a peer's key of small order, which would make the secret zero for everybody.
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        self.0.dh(pubkey, out)?;
        let length = self.0.dh_len().min(out.len());
        if out[..length].iter().all(|byte| *byte == 0) { Err(snow::Error::Dh) } else { Ok(()) }
    }
}

impl Drop for ErasedDh {
    fn drop(&mut self) {
        self.0.set(&[0; 32]);
    }
}

struct ErasedCipher(Box<dyn Cipher>);

impl Cipher for ErasedCipher {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0.set(key);
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        self.0.encrypt(nonce, authtext, plaintext, out)
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        self.0.decrypt(nonce, authtext, ciphertext, out)
    }
}

impl Drop for ErasedCipher {
    fn drop(&mut self) {
        self.0.set(&[0; 32]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(key: &SessionKey) -> Offer {
        Offer {
            agent_id: "alice".into(),
            name: String::new(),
            topic: String::new(),
            expires: 0,
            key: key.public_key(),
            noise: [0; FIRST_MESSAGE],
            versions: vec![2],
            relays: vec!["wss://one.example".into(), "wss://two.example".into()],
            inbox: vec![],
            traceparent: None,
        }
    }

    const CALL: SharedCallId = Hex([7; 16]);
    const ALICE: PublicKey = Hex([1; 32]);
    const BOB: PublicKey = Hex([2; 32]);

    /// Both halves, the callee's with whatever it understood of the offer.
    fn shake(
        understood: impl FnOnce(&mut Offer) -> (SharedCallId, u32, PublicKey),
    ) -> Result<(), HandshakeError> {
        let key = SessionKey::generate();
        let mut offer = offer(&key);
        let sent = offer.clone();
        let terms = Terms::of(&sent, &CALL, 3, &ALICE, &BOB);
        let (initiator, first) = Initiator::start(key, &terms)?;
        let (call, generation, callee) = understood(&mut offer);
        let terms = Terms::of(&offer, &call, generation, &ALICE, &callee);
        let bob = SessionKey::generate();
        let peer = bob.public_key();
        let response = respond(bob, &terms, &first)?;
        initiator.finish(&peer, &response.message, &response.hash).map(|_| ())
    }

    #[test]
    fn a_handshake_succeeds_only_if_both_mean_the_same() {
        assert_eq!(shake(|_| (CALL, 3, BOB)), Ok(()));
        let failed = |result| assert!(matches!(result, Err(HandshakeError::Noise(_))), "{result:?}");
        failed(shake(|_| (Hex([8; 16]), 3, BOB)));
        failed(shake(|_| (CALL, 4, BOB)));
        failed(shake(|_| (CALL, 3, ALICE)));
        failed(shake(|offer| (_ = offer.relays.pop(), (CALL, 3, BOB)).1));
        failed(shake(|offer| (offer.relays.swap(0, 1), (CALL, 3, BOB)).1));
        failed(shake(|offer| (offer.versions.push(3), (CALL, 3, BOB)).1));
        failed(shake(|offer| (offer.key.0[0] ^= 1, (CALL, 3, BOB)).1));
    }

    #[test]
    fn where_one_field_ends_and_the_next_begins_is_part_of_the_prologue() {
        let mut one = offer(&SessionKey::generate());
        let mut two = one.clone();
        (one.relays, two.relays) = (vec!["ab".into(), "c".into()], vec!["a".into(), "bc".into()]);
        assert_ne!(
            Terms::of(&one, &CALL, 0, &ALICE, &BOB).prologue(),
            Terms::of(&two, &CALL, 0, &ALICE, &BOB).prologue()
        );
    }

    #[test]
    fn an_accept_with_another_hash_is_refused() {
        let key = SessionKey::generate();
        let offer = offer(&key);
        let terms = Terms::of(&offer, &CALL, 3, &ALICE, &BOB);
        let (initiator, first) = Initiator::start(key, &terms).unwrap();
        let response = respond(SessionKey::generate(), &terms, &first).unwrap();
        let error = initiator.finish(&BOB, &response.message, &Hex([0; 32])).unwrap_err();
        assert_eq!(error, HandshakeError::Disagreement);
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let key = SessionKey::generate();
        let offer = offer(&key);
        let terms = Terms::of(&offer, &CALL, 3, &ALICE, &BOB);
        assert!(respond(SessionKey::generate(), &terms, &[0; FIRST_MESSAGE]).is_err());
    }

    /// What we do with the split keys is what snow's own transport does with them.
    #[test]
    fn the_frames_keys_are_those_of_noise() {
        let key = SessionKey::generate();
        let offer = offer(&key);
        let terms = Terms::of(&offer, &CALL, 3, &ALICE, &BOB);
        let (ours, theirs) = ([3; 32], [4; 32]);
        let mut reference = state(&terms.prologue(), true, Some(&ours)).unwrap();
        let mut first = [0; 2 * FIRST_MESSAGE];
        reference.write_message(&[], &mut first).unwrap();
        let first = first[..FIRST_MESSAGE].try_into().unwrap();
        let mut response = respond_with(SessionKey::generate(), &terms, first, Some(&theirs)).unwrap();
        reference.read_message(&response.message, &mut []).unwrap();
        assert_eq!(reference.get_handshake_hash()[..32], response.hash.0);
        let mut reference = reference.into_stateless_transport_mode().unwrap();
        let mut buffer = [0; 64];
        for epoch in 0..3 {
            let sealed = response.session.sealed(epoch, 9, b"from bob").unwrap();
            let length = reference.read_message(9, &sealed, &mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"from bob");
            let length = reference.write_message(5, b"from alice", &mut buffer).unwrap();
            assert_eq!(response.session.opened(epoch, 5, &buffer[..length]).unwrap(), b"from alice");
            reference.rekey_incoming();
            reference.rekey_outgoing();
        }
    }
}
