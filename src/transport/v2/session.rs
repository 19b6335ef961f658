//! One side of a call's encrypted session: a throw-away key that signs, the peer's that is signed to, and the keys of
//! the handshake. Nothing in it names an identity; nothing of it is ever stored. When it is dropped, what was said
//! under it can be read by nobody any more.

use std::fmt;

use nostr_sdk::{Event, Tag};

use super::cipher::{CipherError, Receiving, Sending};
use super::wrap::{Opened, Wrap, WrapError, open_wrap};
use crate::proto::v2::frame::Frame;
use crate::proto::v2::{Malformed, frame};
use crate::proto::{EventId, Hex, PublicKey};
use crate::transport::identity::Identity;
use crate::transport::signed::{SealError, Signed};

/// The kind of frames, and of ephemeral wraps: what begins with the frames' prefix is a frame.
pub(in crate::transport) const KIND: u16 = 21_059;

/// A secp256k1 key for one handshake. Neither cloned nor printed nor stored; erased when dropped.
pub struct SessionKey(Identity);

impl SessionKey {
    /// A fresh one.
    pub fn generate() -> Self {
        Self(Identity::generate())
    }

    /// The public key: where frames and answers are sent.
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    /// Opens an ephemeral wrap to this key: an accept, a reject, a busy.
    ///
    /// # Errors
    /// As [`open_wrap`].
    pub fn open_wrap(&self, wrap: &Wrap) -> Result<Opened, WrapError> {
        open_wrap(&self.0, wrap, 0)
    }

    #[cfg(test)]
    pub(super) fn from_secret_hex(secret: &str) -> Self {
        Self(Identity::from_secret_hex(secret).unwrap())
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionKey")
    }
}

/// A verified event with a frame in it, unopened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEvent {
    /// The event.
    pub id: EventId,
    /// The session key that signed it.
    pub from: PublicKey,
    /// The session key that it is for.
    pub to: PublicKey,
    /// When it claims to be made, in seconds.
    pub created_at: u64,
    /// The frame as it was written.
    pub content: String,
}

impl SessionEvent {
    /// From an event that the gate has verified.
    pub(in crate::transport) fn new(event: &Event, to: PublicKey) -> Self {
        Self {
            id: Hex(event.id.to_bytes()),
            from: Hex(event.pubkey.to_bytes()),
            to,
            created_at: event.created_at.as_secs(),
            content: event.content.clone(),
        }
    }
}

/// Why a frame was not sealed, or not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// From or to another key than this session's.
    #[error("not of this session")]
    Stranger,
    /// Not a frame.
    #[error("not a frame: {0}")]
    Malformed(#[from] Malformed),
    /// No key for it, or not encrypted with it.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// Signing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// One side of a session.
pub struct Session {
    key: SessionKey,
    peer: PublicKey,
    sending: Sending,
    receiving: Receiving,
}

impl Session {
    pub(super) fn new(key: SessionKey, peer: PublicKey, sending: Sending, receiving: Receiving) -> Self {
        Self { key, peer, sending, receiving }
    }

    /// Our session key: what to listen to.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    /// The peer's session key.
    pub fn peer(&self) -> &PublicKey {
        &self.peer
    }

    /// Seals a padded plaintext into an event. A number is used once in a session. An epoch that is newer than the
    /// last one erases the key before it.
    ///
    /// # Errors
    /// [`SessionError`], when the epoch is over or the plaintext too large.
    pub fn seal(
        &mut self,
        epoch: u64,
        number: u64,
        plaintext: &[u8],
        created_at: u64,
    ) -> Result<Signed, SessionError> {
        let ciphertext = self.sealed(epoch, number, plaintext)?;
        let content = Frame { epoch: epoch as u8, number, ciphertext }.encode();
        let to = nostr_sdk::PublicKey::from_byte_array(self.peer.0);
        let event = self
            .key
            .0
            .sign(KIND, content, vec![Tag::public_key(to)], created_at)
            .map_err(|error| SealError::Crypto(error.to_string()))?;
        Ok(event.try_into()?)
    }

    /// The frame in an event, if it is from this session's peer. Its epoch has eight bits: which one it means, the
    /// delivery knows.
    ///
    /// # Errors
    /// [`SessionError::Stranger`], [`SessionError::Malformed`].
    pub fn read(&self, event: &SessionEvent) -> Result<Frame, SessionError> {
        if event.from != self.peer || event.to != self.key.public_key() {
            return Err(SessionError::Stranger);
        }
        Ok(Frame::decode(&event.content)?)
    }

    /// Decrypts a frame: a padded plaintext. The same frame can be opened again.
    ///
    /// # Errors
    /// [`SessionError::Cipher`]; nothing has changed then.
    pub fn open(&mut self, epoch: u64, frame: &Frame) -> Result<Vec<u8>, SessionError> {
        Ok(self.opened(epoch, frame.number, &frame.ciphertext)?)
    }

    /// Erases the peer's keys of this epoch and all before: nothing more is to come under them.
    pub fn forget(&mut self, epoch: u64) {
        self.receiving.forget(epoch);
    }

    pub(super) fn sealed(
        &mut self,
        epoch: u64,
        number: u64,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, CipherError> {
        self.sending.seal(epoch, number, plaintext)
    }

    /// The keys of the first epochs that leave, in hex.
    #[cfg(test)]
    pub(super) fn sending_keys(&self, epochs: usize) -> serde_json::Value {
        self.sending.keys(epochs).into()
    }

    pub(super) fn opened(
        &mut self,
        epoch: u64,
        number: u64,
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, CipherError> {
        self.receiving.open(epoch, number, ciphertext)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Session")
    }
}

/// Whether the content of a kind 21059 event is a frame, or else a wrap.
pub(in crate::transport) fn is_frame(content: &str) -> bool {
    content.starts_with(frame::PREFIX)
}
