//! The keys of a session, by epoch, and what they encrypt.
//!
//! A handshake gives one key for each direction. The key of the next epoch is Noise's REKEY of the last one (section
//! 11.3): one way, so who takes a key learns nothing of the epochs before. ChaCha20-Poly1305 with the frame's number
//! as its nonce; numbers go on over epochs, so no key ever sees a nonce twice.
//!
//! The cipher itself is snow's. Its transport states cannot hold two epochs of one direction, nor do they erase
//! themselves, and so the keys are kept here.

use std::collections::BTreeMap;
use std::hint::black_box;

use snow::params::CipherChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::Cipher;

/// Bytes of a key.
const KEY: usize = 32;
/// Bytes that encryption adds.
const TAG: usize = 16;
/// The nonce that REKEY uses: no frame may.
const REKEY: u64 = u64::MAX;
/// How many epochs ahead of the newest one is believed: the sender waits for an acknowledgement before each, so it is
/// one ahead at most.
const AHEAD: u64 = 2;
/// Keys of old epochs kept, if nobody says earlier that they can go.
const KEPT: usize = 4;

/// Why a frame was not sealed, or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// An epoch that is over, or too far ahead.
    #[error("no key for epoch {0}")]
    Epoch(u64),
    /// The one number that no frame can have.
    #[error("the frame numbers are used up")]
    Number,
    /// Not encrypted with this key.
    #[error("cannot be decrypted")]
    Undecryptable,
}

/// 32 secret bytes, overwritten when dropped.
pub(super) struct Secret([u8; KEY]);

impl Secret {
    pub(super) fn new(bytes: [u8; KEY]) -> Self {
        Self(bytes)
    }

    /// The key of the next epoch.
    fn next(&self) -> Self {
        let mut out = [0; KEY + TAG];
        self.cipher().encrypt(REKEY, &[], &[0; KEY], &mut out);
        let mut next = [0; KEY];
        next.copy_from_slice(&out[..KEY]);
        out.fill(0);
        black_box(&out);
        Self(next)
    }

    fn cipher(&self) -> Wiped<dyn Cipher> {
        let mut cipher = DefaultResolver
            .resolve_cipher(&CipherChoice::ChaChaPoly)
            .expect("Cargo.toml turns this cipher on");
        cipher.set(&self.0);
        Wiped(cipher)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the optimiser from leaving out a store that nobody reads.
        black_box(&self.0);
    }
}

/// A cipher that forgets its key when dropped.
struct Wiped<T: Cipher + ?Sized>(Box<T>);

impl<T: Cipher + ?Sized> std::ops::Deref for Wiped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Cipher + ?Sized> Drop for Wiped<T> {
    fn drop(&mut self) {
        self.0.set(&[0; KEY]);
    }
}

/// The direction that leaves: only the newest key.
pub(super) struct Sending {
    epoch: u64,
    key: Secret,
}

impl Sending {
    pub(super) fn new(key: Secret) -> Self {
        Self { epoch: 0, key }
    }

    /// Encrypts under the key of an epoch. The keys of the epochs before are gone then.
    pub(super) fn seal(&mut self, epoch: u64, number: u64, plaintext: &[u8]) -> Result<Vec<u8>, CipherError> {
        if number == REKEY {
            return Err(CipherError::Number);
        }
        if epoch < self.epoch || epoch > self.epoch + AHEAD {
            return Err(CipherError::Epoch(epoch));
        }
        while self.epoch < epoch {
            self.key = self.key.next();
            self.epoch += 1;
        }
        let mut out = vec![0; plaintext.len() + TAG];
        let length = self.key.cipher().encrypt(number, &[], plaintext, &mut out);
        out.truncate(length);
        Ok(out)
    }
}

#[cfg(test)]
impl Sending {
    /// The keys of so many epochs from the current one on, in hex.
    pub(super) fn keys(&self, epochs: usize) -> Vec<String> {
        let mut key = Secret::new(self.key.0);
        let hex = |key: &Secret| crate::proto::Hex(key.0).to_string();
        (0..epochs).map(|_| (hex(&key), key = key.next()).0).collect()
    }
}

/// The direction that comes in: the newest key, and older ones until they are forgotten.
pub(super) struct Receiving {
    keys: BTreeMap<u64, Secret>,
    newest: u64,
}

impl Receiving {
    pub(super) fn new(key: Secret) -> Self {
        Self { keys: BTreeMap::from([(0, key)]), newest: 0 }
    }

    /// Decrypts under the key of an epoch. A newer epoch begins only with a frame that proves it.
    pub(super) fn open(
        &mut self,
        epoch: u64,
        number: u64,
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, CipherError> {
        if number == REKEY || ciphertext.len() < TAG {
            return Err(CipherError::Undecryptable);
        }
        if epoch <= self.newest {
            let key = self.keys.get(&epoch).ok_or(CipherError::Epoch(epoch))?;
            return decrypt(key, number, ciphertext);
        }
        if epoch > self.newest + AHEAD {
            return Err(CipherError::Epoch(epoch));
        }
        let newest = self.keys.get(&self.newest).ok_or(CipherError::Epoch(epoch))?;
        let mut fresh = vec![newest.next()];
        for _ in self.newest + 1..epoch {
            fresh.extend(fresh.last().map(Secret::next));
        }
        let key = fresh.last().ok_or(CipherError::Epoch(epoch))?;
        let plaintext = decrypt(key, number, ciphertext)?;
        self.keys.extend((self.newest + 1..).zip(fresh));
        self.newest = epoch;
        while self.keys.len() > KEPT {
            self.keys.pop_first();
        }
        Ok(plaintext)
    }

    /// Erases the keys of this epoch and all before; never the newest one.
    pub(super) fn forget(&mut self, epoch: u64) {
        self.keys.retain(|of, _| *of > epoch || *of == self.newest);
    }
}

fn decrypt(key: &Secret, number: u64, ciphertext: &[u8]) -> Result<Vec<u8>, CipherError> {
    let mut out = vec![0; ciphertext.len() - TAG];
    key.cipher().decrypt(number, &[], ciphertext, &mut out).map_err(|_| CipherError::Undecryptable)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Sending, Receiving) {
        (Sending::new(Secret::new([7; KEY])), Receiving::new(Secret::new([7; KEY])))
    }

    #[test]
    fn frames_are_opened_in_any_order_and_more_than_once() {
        let (mut sending, mut receiving) = pair();
        let sealed: Vec<_> = (0..3).map(|n| sending.seal(0, n, &[n as u8; 5]).unwrap()).collect();
        for n in [2, 0, 1, 0] {
            assert_eq!(receiving.open(0, n, &sealed[n as usize]).unwrap(), [n as u8; 5]);
        }
        assert_eq!(receiving.open(0, 1, &sealed[0]), Err(CipherError::Undecryptable), "another number");
        let mut altered = sealed[0].clone();
        altered[0] ^= 1;
        assert_eq!(receiving.open(0, 0, &altered), Err(CipherError::Undecryptable));
        assert_eq!(receiving.open(0, 0, &[0; 3]), Err(CipherError::Undecryptable));
    }

    #[test]
    fn an_old_epoch_is_read_until_it_is_forgotten_and_never_written_again() {
        let (mut sending, mut receiving) = pair();
        let old = sending.seal(0, 0, b"old").unwrap();
        let new = sending.seal(1, 1, b"new").unwrap();
        assert_eq!(sending.seal(0, 2, b"x"), Err(CipherError::Epoch(0)));
        assert_eq!(receiving.open(1, 1, &new).unwrap(), b"new");
        assert_eq!(receiving.open(0, 0, &old).unwrap(), b"old");
        receiving.forget(0);
        assert_eq!(receiving.open(0, 0, &old), Err(CipherError::Epoch(0)));
        receiving.forget(1);
        assert_eq!(receiving.open(1, 1, &new).unwrap(), b"new", "the newest key stays");
    }

    #[test]
    fn a_forged_epoch_changes_nothing() {
        let (mut sending, mut receiving) = pair();
        let sealed = sending.seal(0, 0, b"x").unwrap();
        assert_eq!(receiving.open(1, 0, &sealed), Err(CipherError::Undecryptable));
        assert_eq!(receiving.open(3, 0, &sealed), Err(CipherError::Epoch(3)));
        assert_eq!((receiving.newest, receiving.keys.len()), (0, 1));
        assert_eq!(receiving.open(0, 0, &sealed).unwrap(), b"x");
    }

    #[test]
    fn an_epoch_without_a_frame_is_stepped_over_and_old_keys_are_bounded() {
        let (mut sending, mut receiving) = pair();
        for epoch in (0..40).step_by(2) {
            let sealed = sending.seal(epoch, epoch, b"x").unwrap();
            assert_eq!(receiving.open(epoch, epoch, &sealed).unwrap(), b"x");
        }
        assert_eq!(receiving.keys.len(), KEPT);
    }

    #[test]
    fn the_number_that_makes_the_next_key_is_never_a_frames() {
        let (mut sending, mut receiving) = pair();
        assert_eq!(sending.seal(0, u64::MAX, b"x"), Err(CipherError::Number));
        assert_eq!(receiving.open(0, u64::MAX, &[0; 32]), Err(CipherError::Undecryptable));
    }
}
