//! Where an agent reads its wraps: kind 10050 (NIP-17).

use nostr_sdk::{Event, Tag, TagKind};

use crate::transport::identity::Identity;
use crate::transport::signed::{SealError, Signed};
use crate::transport::url::RelayId;

/// The list of inbox relays, replaceable.
pub const KIND: u16 = 10_050;
/// Most relays that a list of ours names: NIP-17 asks for one to three.
pub const PUBLISHED: usize = 3;
/// Most relays of a peer's list that are looked at.
pub const READ: usize = 4;

/// Signs the list: the first [`PUBLISHED`] of the relays.
///
/// # Errors
/// [`SealError`] when signing fails.
pub fn sign(identity: &Identity, relays: &[RelayId], created_at: u64) -> Result<Signed, SealError> {
    let tag = |relay: &RelayId| Tag::custom(TagKind::custom("relay"), [relay.as_str()]);
    let tags = relays.iter().take(PUBLISHED).map(tag).collect();
    identity
        .sign(KIND, String::new(), tags, created_at)
        .map_err(|error| SealError::Crypto(error.to_string()))?
        .try_into()
}

/// The addresses of a list, as its author wrote them: an attacker's input, to be checked before they are dialled.
pub(in crate::transport) fn relays(event: &Event) -> Vec<String> {
    let relay = |tag: &Tag| match tag.as_slice() {
        [name, url, ..] if name == "relay" && RelayId::parse(url).is_ok() => Some(url.clone()),
        _ => None,
    };
    event.tags.iter().filter_map(relay).take(READ).collect()
}

#[cfg(test)]
mod tests {
    use nostr_sdk::JsonUtil;

    use super::*;

    const NOW: u64 = 1_790_000_000;

    #[test]
    fn a_list_names_three_relays_and_is_read_back() {
        let identity = Identity::generate();
        let urls: Vec<_> = (0..5).map(|n| format!("wss://{n}.example")).collect();
        let all: Vec<_> = urls.iter().map(|url| RelayId::parse(url).unwrap()).collect();
        let signed = sign(&identity, &all, NOW).unwrap();
        assert_eq!(signed.kind, KIND);
        assert_eq!(relays(&Event::from_json(&signed.json).unwrap()), urls[..3]);
    }

    #[test]
    fn of_a_strangers_list_four_addresses_are_read_and_what_is_none_is_not() {
        let author = Identity::generate();
        let mut tags =
            vec![Tag::parse(["relay", "http://a.example"]).unwrap(), Tag::parse(["relay"]).unwrap()];
        tags.extend((0..9).map(|n| Tag::parse(["relay", &format!("wss://{n}.example")]).unwrap()));
        let event = author.sign(KIND, String::new(), tags, NOW).unwrap();
        assert_eq!(relays(&event).len(), 4);
    }
}
