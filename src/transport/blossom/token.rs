//! The authorization of one upload (BUD-11): an event of kind 24242, good for one blob, one server and some minutes.
//!
//! It is signed by a key made for it. A server has no need to know which agent a blob is of, and with the identity's key
//! it would have a list of an agent's mail, with times and sizes (decision 14).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nostr_sdk::{JsonUtil, Tag};

use crate::proto::Hex;
use crate::transport::Identity;

/// The event's kind.
const KIND: u16 = 24_242;
/// How long it is good, seconds: a slow upload is begun and done in that time.
const LIFETIME: u64 = 600;
/// By how much its date is set back, seconds: it must not lie ahead of the server's clock.
const SET_BACK: u64 = 60;

/// The value of `Authorization`. `None` if it cannot be signed, which a fresh key can always.
pub(super) fn for_upload(host: &str, blob: &Hex<32>, now: u64) -> Option<String> {
    let tag = |name: &str, value: String| Tag::parse([name.to_owned(), value]).ok();
    let tags = [
        tag("t", "upload".to_owned()),
        tag("x", blob.to_string()),
        tag("expiration", (now + LIFETIME).to_string()),
        tag("server", host.to_owned()),
    ];
    let tags = tags.into_iter().collect::<Option<Vec<_>>>()?;
    let event = Identity::generate()
        .sign(KIND, "Upload a blob".to_owned(), tags, now.saturating_sub(SET_BACK))
        .ok()?;
    Some(format!("Nostr {}", URL_SAFE_NO_PAD.encode(event.as_json())))
}

#[cfg(test)]
mod tests {
    use nostr_sdk::Event;

    use super::*;

    fn event(header: &str) -> Event {
        let json = URL_SAFE_NO_PAD.decode(header.strip_prefix("Nostr ").unwrap()).unwrap();
        Event::from_json(json).unwrap()
    }

    #[test]
    fn a_token_is_for_one_blob_one_server_and_some_minutes_and_of_a_key_of_its_own() {
        let now = 1_800_000_000;
        let header = for_upload("blobs.example", &Hex([5; 32]), now).unwrap();
        let first = event(&header);
        first.verify().unwrap();
        assert_eq!((first.kind.as_u16(), first.created_at.as_secs()), (24_242, now - 60));
        let tags: Vec<Vec<String>> = first.tags.iter().map(|tag| tag.as_slice().to_vec()).collect();
        let blob = "05".repeat(32);
        let wanted =
            [["t", "upload"], ["x", &blob], ["expiration", "1800000600"], ["server", "blobs.example"]];
        assert_eq!(tags, wanted.map(|tag| tag.map(String::from).to_vec()));
        assert!(!first.content.is_empty());
        let second = event(&for_upload("blobs.example", &Hex([5; 32]), now).unwrap());
        assert_ne!(first.pubkey, second.pubkey);
    }
}
