//! The legacy dialect's envelope: kind 4, NIP-04, to one `p` (protocol, section 3). What is inside is the engine's.

use nostr_sdk::nips::nip04;
use nostr_sdk::{Event, Tag};

use super::identity::Identity;
use super::signed::{MAX_EVENT, SealError, Signed};
use crate::proto::PublicKey;

/// NIP-04's encrypted direct message.
pub const KIND: u16 = 4;

/// The bytes of a kind-4 event to one receiver apart from its ciphertext: the fields with id, key, signature and
/// one `p` tag in hex, a `created_at` of ten digits, `?iv=` with 24 characters, and `["EVENT",]` around it.
const ENVELOPE: usize = 452;

/// The longest plaintext, in bytes, that [`seal`] takes. NIP-04 pads it to whole blocks of 16 bytes (at least one
/// byte of padding), base64 makes 4 characters of 3 bytes.
pub const fn largest_plaintext() -> usize {
    let ciphertext = (MAX_EVENT - ENVELOPE) / 4 * 3;
    ciphertext / 16 * 16 - 1
}

/// Encrypts and signs a payload for a peer.
///
/// # Errors
/// [`SealError::TooLarge`] above [`largest_plaintext`]; [`SealError::Crypto`] when the key is no point.
pub fn seal(
    identity: &Identity,
    peer: &PublicKey,
    plaintext: &str,
    created_at: u64,
) -> Result<Signed, SealError> {
    let receiver = nostr_sdk::PublicKey::from_byte_array(peer.0);
    let content = nip04::encrypt(identity.keys().secret_key(), &receiver, plaintext)
        .map_err(|error| SealError::Crypto(error.to_string()))?;
    identity
        .sign(KIND, content, vec![Tag::public_key(receiver)], created_at)
        .map_err(|error| SealError::Crypto(error.to_string()))?
        .try_into()
}

/// Decrypts a verified kind-4 event to us. Its content is malleable; its signature is what vouches for it.
pub(super) fn open(identity: &Identity, event: &Event) -> Result<String, nip04::Error> {
    nip04::decrypt(identity.keys().secret_key(), &event.pubkey, event.content.as_str())
}

#[cfg(test)]
mod tests {
    use nostr_sdk::JsonUtil;

    use super::*;

    const NOW: u64 = 1_790_000_000;

    #[test]
    fn the_peer_reads_what_was_sealed_for_it() {
        let (alice, bob) = (Identity::generate(), Identity::generate());
        let signed = seal(&alice, &bob.public_key(), r#"{"type":"room_message"}"#, NOW).unwrap();
        let event = Event::from_json(&signed.json).unwrap();
        event.verify().unwrap();
        assert_eq!((signed.kind, signed.created_at), (4, NOW));
        assert_eq!(signed.id.to_string(), event.id.to_hex());
        assert_eq!(event.tags.first().unwrap().as_slice(), ["p", &bob.public_key().to_string()]);
        assert_eq!(open(&bob, &event).unwrap(), r#"{"type":"room_message"}"#);
    }

    #[test]
    fn the_largest_plaintext_fits_and_one_byte_more_does_not() {
        let (alice, bob) = (Identity::generate(), Identity::generate());
        let most = largest_plaintext();
        let fits = seal(&alice, &bob.public_key(), &"x".repeat(most), NOW).unwrap();
        assert!(fits.message().len() <= MAX_EVENT);
        let error = seal(&alice, &bob.public_key(), &"x".repeat(most + 1), NOW).unwrap_err();
        assert!(matches!(error, SealError::TooLarge { limit: MAX_EVENT, .. }), "{error}");
        assert_eq!(most, 48_799);
    }

    #[test]
    fn a_key_that_is_no_point_is_an_error() {
        let nobody = crate::proto::Hex([0xff; 32]);
        assert!(matches!(seal(&Identity::generate(), &nobody, "", NOW), Err(SealError::Crypto(_))));
    }
}
