//! Who we are on the relays: the secret key, and the written forms of public keys.

use std::fmt;
use std::sync::Arc;

use nostr_sdk::nips::nip19::{Nip19, ToBech32};
use nostr_sdk::{Event, EventBuilder, FromBech32, Keys, Kind, SecretKey, Tag, Timestamp};

use super::leak::Spellings;
use crate::proto::{Hex, PublicKey, SecretText};

/// A text that is no key. Never quotes the text: it might be a secret one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither 64 hex characters nor a bech32 form.
    #[error("a key is 64 hex characters, an npub1… or an nprofile1…")]
    Form,
    /// A secret key where a public one belongs.
    #[error("this is a secret key: never show it to anybody")]
    Secret,
    /// 32 bytes that are no point of the curve.
    #[error("these 32 bytes are no public key of the curve secp256k1")]
    NotOnCurve,
    /// 32 bytes that are no secret key: zero, or not below the curve's order.
    #[error("the secret key must be 64 hex characters, above zero and below the order of secp256k1")]
    NotASecretKey,
}

/// A secp256k1 key pair. Clones share one secret, which is erased when the last of them goes.
#[derive(Clone)]
pub struct Identity {
    keys: Arc<Keys>,
    spellings: Spellings,
}

impl Identity {
    /// A fresh key from the operating system's randomness.
    pub fn generate() -> Self {
        Self { keys: Arc::new(Keys::generate()), spellings: Spellings::default() }
    }

    /// The key that an identity file holds.
    ///
    /// # Errors
    /// [`KeyError::NotASecretKey`]; the text is not repeated.
    pub fn from_secret_hex(text: &str) -> Result<Self, KeyError> {
        if text.len() != 2 * SecretKey::LEN {
            return Err(KeyError::NotASecretKey);
        }
        let secret = SecretKey::from_hex(text).map_err(|_| KeyError::NotASecretKey)?;
        Ok(Self::from_secret_key(secret))
    }

    pub(super) fn from_secret_key(secret: SecretKey) -> Self {
        Self { keys: Arc::new(Keys::new(secret)), spellings: Spellings::default() }
    }

    /// The public key: the agent.
    pub fn public_key(&self) -> PublicKey {
        Hex(self.keys.public_key().to_bytes())
    }

    /// The secret key for the identity file.
    pub fn secret_hex(&self) -> SecretText {
        SecretText::new(self.keys.secret_key().to_secret_hex())
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn spellings(&self) -> &Spellings {
        &self.spellings
    }

    /// Signs an event. Self-tagging is allowed: a `p` tag is never dropped in silence.
    pub(super) fn sign(
        &self,
        kind: u16,
        content: String,
        tags: Vec<Tag>,
        created_at: u64,
    ) -> Result<Event, nostr_sdk::event::builder::Error> {
        EventBuilder::new(Kind::from_u16(kind), content)
            .tags(tags)
            .allow_self_tagging()
            .custom_created_at(Timestamp::from_secs(created_at))
            .sign_with_keys(&self.keys)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({})", self.public_key())
    }
}

/// The NIP-19 form of a public key.
pub fn npub(key: &PublicKey) -> String {
    let Ok(text) = nostr_sdk::PublicKey::from_byte_array(key.0).to_bech32();
    text
}

/// Reads a public key as people write it: `npub1…`, `nprofile1…`, either with `nostr:` before it, or 64 hex.
///
/// # Errors
/// What is none of these, or no point of the curve. A secret key is recognised and named as such.
pub fn parse_key(text: &str) -> Result<PublicKey, KeyError> {
    let text = text.trim();
    let text = text.strip_prefix("nostr:").unwrap_or(text);
    let bytes = match text.parse::<PublicKey>() {
        Ok(key) => key.0,
        Err(_) => match Nip19::from_bech32(text) {
            Ok(Nip19::Pubkey(key)) => key.to_bytes(),
            Ok(Nip19::Profile(profile)) => profile.public_key.to_bytes(),
            Ok(Nip19::Secret(_)) => return Err(KeyError::Secret),
            Ok(_) | Err(_) => return Err(KeyError::Form),
        },
    };
    nostr_sdk::PublicKey::from_byte_array(bytes).xonly().map_err(|_| KeyError::NotOnCurve)?;
    Ok(Hex(bytes))
}

#[cfg(test)]
mod tests {
    use nostr_sdk::nips::nip19::Nip19Profile;

    use super::*;

    #[test]
    fn an_identity_survives_its_written_form_and_never_prints_its_secret() {
        let identity = Identity::generate();
        let secret = identity.secret_hex();
        let again = Identity::from_secret_hex(secret.expose()).unwrap();
        assert_eq!(again.public_key(), identity.public_key());
        assert!(!format!("{identity:?}").contains(secret.expose()));
    }

    #[test]
    fn what_is_no_secret_key_is_refused() {
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        for text in ["", "00", &"0".repeat(64), &"g".repeat(64), order, &"é".repeat(32)] {
            assert_eq!(Identity::from_secret_hex(text).unwrap_err(), KeyError::NotASecretKey, "{text}");
        }
    }

    #[test]
    fn every_written_form_of_a_key_is_read() {
        let identity = Identity::generate();
        let key = identity.public_key();
        let profile = Nip19Profile::new(identity.keys().public_key(), []).to_bech32().unwrap();
        let forms = [
            key.to_string(),
            key.to_string().to_uppercase(),
            npub(&key),
            format!("nostr:{}", npub(&key)),
            format!(" {profile}\n"),
            format!("nostr:{profile}"),
        ];
        for text in forms {
            assert_eq!(parse_key(&text), Ok(key), "{text}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused_for_its_own_reason() {
        let nsec = Identity::generate().keys().secret_key().to_bech32().unwrap();
        assert_eq!(parse_key(&nsec), Err(KeyError::Secret));
        assert_eq!(parse_key(&"f".repeat(64)), Err(KeyError::NotOnCurve));
        for text in ["", "bob", "npub1", "npub1qqqqqqqqqqqqqqqq", "nostr:", "note1abc"] {
            assert_eq!(parse_key(text), Err(KeyError::Form), "{text}");
        }
    }
}
