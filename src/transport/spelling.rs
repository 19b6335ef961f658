//! The secret key as it leaves a home and enters one: `nsec1…` (NIP-19), and `ncryptsec1…` under a password (NIP-49).

use nostr_sdk::nips::nip19::ToBech32;
use nostr_sdk::nips::nip49::{EncryptedSecretKey, Error as Nip49Error, KeySecurity};
use nostr_sdk::{FromBech32, SecretKey};

use super::identity::Identity;
use crate::proto::SecretText;

/// What the text of a NIP-49 key begins with.
pub const ENCRYPTED_PREFIX: &str = "ncryptsec1";
/// What the text of a bare secret key begins with.
pub const PLAIN_PREFIX: &str = "nsec1";
/// The logarithm of scrypt's rounds: 64 MiB and about 0.1 s a guess by the table of NIP-49, and what other clients
/// write. Read is what costs up to four times as much, [`EncryptedSecretKey::MAX_LOG_N`].
const LOG_ROUNDS: u8 = 16;

/// A text that gives no secret key. Never quotes it.
#[derive(Debug, thiserror::Error)]
pub enum SpellingError {
    /// Cut off, mistyped, or something else.
    #[error("it holds no whole nsec1… or ncryptsec1… key")]
    Form,
    /// Another password, or altered bytes; the two cannot be told apart.
    #[error("it does not open with this password")]
    Password,
    /// Its password is stretched longer than anybody should wait, or be made to.
    #[error("opening it would take 2^{0} rounds of scrypt; at most 2^18 are taken")]
    TooCostly(u8),
    /// The key could not be encrypted.
    #[error("the key cannot be encrypted: {0}")]
    Encryption(#[source] Nip49Error),
}

impl Identity {
    /// `nsec1…`.
    pub fn nsec(&self) -> SecretText {
        let Ok(text) = self.keys().secret_key().to_bech32();
        SecretText::new(text)
    }

    /// `ncryptsec1…`, which opens with the password alone. Takes about 0.1 s and 64 MiB.
    ///
    /// # Errors
    /// [`SpellingError::Encryption`], which a lack of memory may cause.
    pub fn encrypted(&self, password: &SecretText) -> Result<String, SpellingError> {
        // The key has lain in a file that is not encrypted, which is what NIP-49 means by weak.
        let key = EncryptedSecretKey::new(
            self.keys().secret_key(),
            password.expose(),
            LOG_ROUNDS,
            KeySecurity::Weak,
        )
        .map_err(SpellingError::Encryption)?;
        key.to_bech32().map_err(|_| SpellingError::Form)
    }

    /// Reads `nsec1…`.
    ///
    /// # Errors
    /// [`SpellingError::Form`].
    pub fn from_nsec(text: &str) -> Result<Self, SpellingError> {
        SecretKey::from_bech32(text).map(Self::from_secret_key).map_err(|_| SpellingError::Form)
    }

    /// Opens `ncryptsec1…`. Takes 0.1 to 0.5 s and up to 256 MiB.
    ///
    /// # Errors
    /// All but [`SpellingError::Encryption`].
    pub fn from_encrypted(text: &str, password: &SecretText) -> Result<Self, SpellingError> {
        let key = EncryptedSecretKey::from_bech32(text).map_err(|_| SpellingError::Form)?;
        match key.decrypt(password.expose()) {
            Ok(secret) => Ok(Self::from_secret_key(secret)),
            Err(Nip49Error::LogNTooBig { log_n, .. }) => Err(SpellingError::TooCostly(log_n)),
            Err(Nip49Error::ChaCha20Poly1305(_)) => Err(SpellingError::Password),
            Err(_) => Err(SpellingError::Form),
        }
    }
}

/// Whether a text holds a whole key of NIP-49, whoever's it is and in whatever case.
pub(super) fn holds_encrypted_key(text: &[u8]) -> bool {
    /// Bech32 of the prefix, 91 bytes and the checksum (NIP-49).
    const LENGTH: usize = 162;
    /// Where the prefix has its rarest letter.
    const RARE: usize = 3;
    let prefix = ENCRYPTED_PREFIX.as_bytes();
    let [small, large] = [prefix[RARE], prefix[RARE].to_ascii_uppercase()];
    memchr::memchr2_iter(small, large, text).any(|at| {
        let window = at.checked_sub(RARE).and_then(|from| text.get(from..from + LENGTH));
        window.filter(|window| window[..prefix.len()].eq_ignore_ascii_case(prefix)).is_some_and(|window| {
            std::str::from_utf8(window)
                .is_ok_and(|text| EncryptedSecretKey::from_bech32(&text.to_ascii_lowercase()).is_ok())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
    }

    fn refused(result: Result<Identity, SpellingError>) -> String {
        result.err().unwrap().to_string()
    }

    /// From NIP-49.
    const VECTOR: &str = "ncryptsec1qgg9947rlpvqu76pj5ecreduf9jxhselq2nae2kghhvd5g7dgjtcxfqtd67p9m0w57lspw8gsq6yphnm8623nsl8xn9j4jdzz84zm3frztj3z7s35vpzmqf6ksu8r89qk5z2zxfmu5gv8th8wclt0h4p";

    #[test]
    fn the_vector_of_nip_49_opens_and_its_password_is_normalised() {
        let identity = Identity::from_encrypted(VECTOR, &password("nostr")).unwrap();
        assert_eq!(
            identity.secret_hex().expose(),
            "3501454135014541350145413501453fefb02227e449e57cf4d3a3ce05378683"
        );
        let composed = identity.encrypted(&password("\u{c5}")).unwrap();
        assert!(Identity::from_encrypted(&composed, &password("A\u{30a}")).is_ok());
    }

    #[test]
    fn a_bare_key_survives_its_spelling() {
        let identity = Identity::generate();
        let again = Identity::from_nsec(identity.nsec().expose()).unwrap();
        assert_eq!(again.public_key(), identity.public_key());
        assert!(identity.nsec().expose().starts_with(PLAIN_PREFIX));
    }

    #[test]
    fn what_does_not_open_says_why_and_quotes_nothing() {
        assert_eq!(
            refused(Identity::from_encrypted(VECTOR, &password("Nostr"))),
            "it does not open with this password"
        );
        for text in ["", "nsec1", "ncryptsec1", &VECTOR[..100], "npub1abc"] {
            let why = "it holds no whole nsec1… or ncryptsec1… key";
            assert_eq!(refused(Identity::from_encrypted(text, &password("nostr"))), why);
            assert_eq!(refused(Identity::from_nsec(text)), why);
        }
    }

    #[test]
    fn a_key_that_asks_for_gigabytes_is_refused_at_once() {
        let mut bytes = EncryptedSecretKey::from_bech32(VECTOR).unwrap().as_vec();
        bytes[1] = 25;
        let costly = EncryptedSecretKey::from_slice(&bytes).unwrap().to_bech32().unwrap();
        let why = refused(Identity::from_encrypted(&costly, &password("nostr")));
        assert!(why.contains("2^25"), "{why}");
    }

    #[test]
    fn a_whole_encrypted_key_is_recognised_in_a_text_and_talk_of_one_is_not() {
        assert!(holds_encrypted_key(format!("here: {VECTOR}!").as_bytes()));
        assert!(!holds_encrypted_key(VECTOR.replace("qgg", "qqq").as_bytes()));
        assert!(!holds_encrypted_key(b"a key in NIP-49 begins with ncryptsec1 and has 162 characters"));
    }
}
