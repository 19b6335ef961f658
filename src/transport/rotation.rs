//! The signatures of a rotation (docs/protocol.md, section 1): an event of the old key, which holds a signature of the
//! new one. Neither alone can state it: who has the old key cannot claim somebody else's, and the other way round.

use nostr_sdk::secp256k1::schnorr::Signature;
use nostr_sdk::secp256k1::{Message, XOnlyPublicKey};
use nostr_sdk::{Event, EventId, Kind, SECP256K1, Tag, TagKind, Tags, Timestamp};
use sha2::{Digest, Sha256};

use super::identity::Identity;
use super::signed::{SealError, Signed};
use crate::proto::{Hex, PublicKey, Rotation};

/// Ours, beside the 25920 of signals, and replaceable: one per key. Not NIP-78's 30078, of which a later announcement
/// takes the place in a link's queue.
pub(super) const KIND: u16 = 15_920;

/// States that `new` takes the place of `old`, at this second.
///
/// # Errors
/// [`SealError::Crypto`] when signing fails.
pub fn sign(old: &Identity, new: &Identity, at: u64) -> Result<Rotation, SealError> {
    let (from, to) = (old.public_key(), new.public_key());
    let proof = Hex(new.keys().sign_schnorr(&agreed(&from, &to, at)).serialize());
    let event = old
        .sign(KIND, proof.to_string(), tags(&to), at)
        .map_err(|error| SealError::Crypto(error.to_string()))?;
    Ok(Rotation { old: from, new: to, at, sig: Hex(event.sig.serialize()), proof })
}

/// Whether both keys have signed it. Takes about 0.1 ms.
pub fn is_genuine(rotation: &Rotation) -> bool {
    let agreed = agreed(&rotation.old, &rotation.new, rotation.at);
    let proven = XOnlyPublicKey::from_slice(&rotation.new.0)
        .and_then(|key| SECP256K1.verify_schnorr(&Signature::from_slice(&rotation.proof.0)?, &agreed, &key));
    rotation.old != rotation.new
        && proven.is_ok()
        && event(rotation).is_some_and(|event| event.verify().is_ok())
}

/// The event that states it, for relays: to be found by who knows the old key only.
///
/// # Errors
/// [`SealError::Crypto`] if it cannot be written down.
pub fn publish(rotation: &Rotation) -> Result<Signed, SealError> {
    event(rotation).ok_or_else(|| SealError::Crypto("not a signature".into()))?.try_into()
}

/// The statement that an event makes, if both keys have signed it. The event itself has been verified.
pub(super) fn read(event: &Event) -> Option<Rotation> {
    let new = event.tags.iter().find_map(|tag| match tag.as_slice() {
        [name, key, ..] if name == "p" => key.parse().ok(),
        _ => None,
    })?;
    let rotation = Rotation {
        old: Hex(event.pubkey.to_bytes()),
        new,
        at: event.created_at.as_secs(),
        sig: Hex(event.sig.serialize()),
        proof: event.content.parse().ok()?,
    };
    is_genuine(&rotation).then_some(rotation)
}

/// What the new key signs: the words, both keys, the time.
fn agreed(old: &PublicKey, new: &PublicKey, at: u64) -> Message {
    Message::from_digest(Sha256::digest(format!("p2p-comm rotation:{old}:{new}:{at}")).into())
}

fn tags(new: &PublicKey) -> Vec<Tag> {
    vec![Tag::custom(TagKind::custom("p"), [new.to_string()])]
}

/// The event as the old key signed it: all but the signature follows from the statement.
fn event(rotation: &Rotation) -> Option<Event> {
    let (key, at) =
        (nostr_sdk::PublicKey::from_byte_array(rotation.old.0), Timestamp::from_secs(rotation.at));
    let (kind, tags, content) =
        (Kind::from_u16(KIND), Tags::from_list(tags(&rotation.new)), rotation.proof.to_string());
    let id = EventId::new(&key, &at, &kind, &tags, &content);
    let sig = Signature::from_slice(&rotation.sig.0).ok()?;
    Some(Event::new(id, key, at, kind, tags, content, sig))
}

#[cfg(test)]
mod tests {
    use nostr_sdk::JsonUtil;

    use super::*;

    const NOW: u64 = 1_790_000_000;

    #[test]
    fn a_rotation_is_signed_by_both_keys_and_survives_its_written_form() {
        let (old, new) = (Identity::generate(), Identity::generate());
        let rotation = sign(&old, &new, NOW).unwrap();
        assert!(is_genuine(&rotation));
        let json = serde_json::to_string(&rotation).unwrap();
        assert!(json.len() < 500, "{json}");
        assert_eq!(serde_json::from_str::<Rotation>(&json).unwrap(), rotation);
        let event = Event::from_json(publish(&rotation).unwrap().json).unwrap();
        event.verify().unwrap();
        assert_eq!(event.pubkey.to_bytes(), old.public_key().0);
        assert_eq!(read(&event), Some(rotation));
        assert!(event.kind.is_replaceable());
    }

    #[test]
    fn neither_key_alone_states_it_and_nothing_of_it_can_be_changed() {
        let [old, new, thief] = [(); 3].map(|()| Identity::generate());
        let good = sign(&old, &new, NOW).unwrap();
        let by_thief = sign(&thief, &new, NOW).unwrap();
        let to_thief = sign(&old, &thief, NOW).unwrap();
        let forged = [
            // A thief of nothing: names itself, or signs for the old key.
            Rotation { new: thief.public_key(), ..good.clone() },
            Rotation { old: thief.public_key(), ..good.clone() },
            Rotation { sig: by_thief.sig, ..good.clone() },
            // A thief of the old key: claims a key whose owner has not agreed.
            Rotation { new: new.public_key(), ..to_thief.clone() },
            Rotation { proof: to_thief.proof, ..good.clone() },
            Rotation { at: NOW + 1, ..good.clone() },
            Rotation { sig: Hex([0; 64]), ..good.clone() },
            Rotation { proof: Hex([0xff; 64]), ..good.clone() },
            Rotation { new: Hex([0xff; 32]), ..good.clone() },
            sign(&old, &old, NOW).unwrap(),
        ];
        // A thief of the old key, who has it sign what it likes.
        for proof in [by_thief.proof, to_thief.proof, Hex([7; 64])] {
            let event = old.sign(KIND, proof.to_string(), tags(&new.public_key()), NOW).unwrap();
            event.verify().unwrap();
            assert_eq!(read(&event), None);
        }
        for (place, rotation) in forged.iter().enumerate() {
            assert!(!is_genuine(rotation), "{place}");
            assert!(event(rotation).is_none_or(|event| read(&event).is_none()), "{place}");
        }
    }
}
