//! Recognises the agent's own secret key in what is about to leave this machine.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use nostr_sdk::nips::nip19::ToBech32;

use super::identity::Identity;
use super::spelling::holds_encrypted_key;

impl Identity {
    /// Whether bytes hold the secret key: raw, in hex of any case, as `nsec1…`, or in base64 (of the key or of its
    /// hex). A key under a password (NIP-49) counts too: nobody can tell whose it is. A guard against an agent that is
    /// talked into it; not against an owner who wants it.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let secret = self.keys().secret_key();
        let (raw, hex) = (secret.to_secret_bytes(), secret.to_secret_hex());
        let Ok(nsec) = secret.to_bech32();
        let folded = bytes.to_ascii_lowercase();
        // Without the last characters, which depend on what follows.
        let base64 = [&raw[..30], hex.as_bytes()]
            .map(|secret| [STANDARD_NO_PAD.encode(secret), URL_SAFE_NO_PAD.encode(secret)])
            .concat();
        holds(bytes, &raw)
            || holds(&folded, hex.as_bytes())
            || holds(&folded, nsec.as_bytes())
            || holds_encrypted_key(&folded)
            || base64.iter().any(|text| holds(bytes, &text.as_bytes()[..40]))
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::proto::SecretText;

    #[test]
    fn the_secret_key_is_recognised_in_five_encodings_and_other_text_is_not() {
        let identity = Identity::generate();
        let hex = identity.secret_hex();
        let raw = identity.keys().secret_key().to_secret_bytes();
        let nsec = identity.keys().secret_key().to_bech32().unwrap();
        let encodings = [
            hex.expose().to_owned(),
            hex.expose().to_uppercase(),
            nsec,
            STANDARD.encode(raw),
            STANDARD.encode(hex.expose()),
        ];
        for text in encodings {
            assert!(identity.is_in(format!("my key is {text}, keep it").as_bytes()));
        }
        assert!(identity.is_in(&raw));
        let encrypted = identity.encrypted(&SecretText::new("guess me".into())).unwrap();
        assert!(identity.is_in(encrypted.to_uppercase().as_bytes()));
        assert!(!identity.is_in(identity.public_key().to_string().as_bytes()));
        assert!(!identity.is_in(b""));
    }
}
