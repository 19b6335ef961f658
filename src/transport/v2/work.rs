//! Proof of work (NIP-13): what a stranger pays before anybody decrypts its wrap.

use std::fmt::Write as _;

use nostr_sdk::nips::nip13::get_leading_zero_bits;
use nostr_sdk::{Event, Tag, TagKind};
use sha2::{Digest, Sha256};

use crate::transport::signed::SealError;

/// The most bits that are mined for a peer: a million hashes of a few kilobytes, some seconds of one core.
pub const MOST_WORK: u8 = 20;

/// Tries beyond the expected number, as a power of two: that none of them fits happens once in e^128 times.
const PATIENCE: u8 = 7;

/// The work that an event proves: what it committed to, if its id keeps the promise. Work without a commitment
/// would be luck.
pub(super) fn proven(event: &Event) -> u8 {
    let promised = event.tags.iter().find_map(|tag| match tag.as_slice() {
        [name, _, bits, ..] if name == "nonce" => bits.parse().ok(),
        _ => None,
    });
    let found = get_leading_zero_bits(event.id.as_bytes());
    promised.filter(|promised| *promised <= found).unwrap_or(0)
}

/// What is hashed for the id of an event, apart from its nonce (NIP-01).
pub(super) struct Draft<'a> {
    pub pubkey: &'a str,
    pub created_at: u64,
    pub kind: u16,
    pub tags: &'a [Tag],
    /// Base64 only: nothing in it needs an escape.
    pub content: &'a str,
}

/// Finds the `nonce` tag that gives a draft's id so many leading zero bits.
///
/// # Errors
/// [`SealError::TooMuchWork`] above [`MOST_WORK`].
pub(super) fn mine(draft: &Draft<'_>, bits: u8) -> Result<Tag, SealError> {
    if bits > MOST_WORK {
        return Err(SealError::TooMuchWork { bits, limit: MOST_WORK });
    }
    let tags: Vec<&[String]> = draft.tags.iter().map(Tag::as_slice).collect();
    let tags = serde_json::to_string(&tags).map_err(|error| SealError::Crypto(error.to_string()))?;
    let tags = tags.trim_end_matches(']');
    // The last tag lost its bracket with the list's.
    let (open, close) = if draft.tags.is_empty() { ("[", "") } else { (tags, "],") };
    let mut head = Sha256::new();
    let Draft { pubkey, created_at, kind, content, .. } = draft;
    head.update(format!(r#"[0,"{pubkey}",{created_at},{kind},{open}{close}["nonce",""#));
    let tail = format!(r#"","{bits}"]],"{content}"]"#);
    let mut nonce = String::new();
    for number in 0..1u64 << (bits + PATIENCE) {
        nonce.clear();
        // Writing to a string cannot fail.
        let _ = write!(nonce, "{number}");
        let id = head.clone().chain_update(&nonce).chain_update(&tail).finalize();
        if get_leading_zero_bits(id) >= bits {
            return Ok(Tag::custom(TagKind::custom("nonce"), [nonce, bits.to_string()]));
        }
    }
    Err(SealError::Crypto("no proof of work was found".into()))
}

/// The bits to mine for a peer that asks for some: what it asks, if that is within what is mined at all.
pub fn mine_within(asked: u8) -> Option<u8> {
    (asked <= MOST_WORK).then_some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Identity;

    const NOW: u64 = 1_790_000_000;

    fn mined(tags: Vec<Tag>, bits: u8) -> Event {
        let author = Identity::generate();
        let pubkey = author.public_key().to_string();
        let draft = Draft { pubkey: &pubkey, created_at: NOW, kind: 1_059, tags: &tags, content: "QUJD" };
        let nonce = mine(&draft, bits).unwrap();
        author.sign(1_059, "QUJD".into(), [tags.clone(), vec![nonce]].concat(), NOW).unwrap()
    }

    #[test]
    fn the_work_that_was_mined_is_the_work_that_is_proven() {
        let tags = vec![Tag::parse(["p", "ab"]).unwrap(), Tag::parse(["expiration", "7"]).unwrap()];
        assert_eq!(proven(&mined(tags, 10)), 10);
        assert_eq!(proven(&mined(vec![], 9)), 9);
    }

    #[test]
    fn luck_without_a_commitment_and_a_commitment_without_work_prove_nothing() {
        let author = Identity::generate();
        let lucky = (0..).map(|nonce: u32| {
            let tags = vec![Tag::parse(["nonce", &nonce.to_string()]).unwrap()];
            author.sign(1_059, String::new(), tags, NOW).unwrap()
        });
        let lucky = lucky.into_iter().find(|event| get_leading_zero_bits(event.id.as_bytes()) >= 4).unwrap();
        assert_eq!(proven(&lucky), 0);
        let boast = Tag::parse(["nonce", "1", "200"]).unwrap();
        assert_eq!(proven(&author.sign(1_059, String::new(), vec![boast], NOW).unwrap()), 0);
    }

    #[test]
    fn more_than_we_mine_is_not_begun() {
        let draft = Draft { pubkey: "", created_at: 0, kind: 1, tags: &[], content: "" };
        assert!(matches!(mine(&draft, 21), Err(SealError::TooMuchWork { bits: 21, limit: 20 })));
        assert_eq!((mine_within(20), mine_within(21)), (Some(20), None));
    }
}
