//! The envelope of presence (protocol, section 2): kind 30078 to announce, kind 5 to take it back. The content is
//! the engine's.

use nostr_sdk::{Event, Tag, TagKind};

use super::identity::Identity;
use super::signed::{SealError, Signed};
use crate::proto::EventId;

/// NIP-78's application data, an addressable event: one per key and `d` tag.
pub const KIND: u16 = 30_078;
/// NIP-09's deletion.
pub const DELETION: u16 = 5;
/// The tag by which both generations of agents find each other.
pub const TOPIC: &str = "openclaw-p2p";
/// The tag of this generation alone.
const TOPIC_OURS: &str = "p2p-comm";

/// What an announcement says outside its content.
#[derive(Debug, Clone, Copy)]
pub struct Announcement<'a> {
    /// The agent's label; becomes the `d` tag.
    pub agent_id: &'a str,
    /// What it can do; each becomes a `t` tag `cap:…`, so that a relay can filter.
    pub capabilities: &'a [String],
    /// The JSON that other agents read.
    pub content: &'a str,
    /// When relays may forget it (NIP-40), in seconds.
    pub expires: u64,
    /// Leaves out every `t` tag: only who knows the key finds the agent.
    pub unlisted: bool,
    /// The best dialect that the agent speaks; becomes the `v` tag. Whoever shows it is held to it.
    pub version: Option<u32>,
}

/// Signs an announcement.
///
/// # Errors
/// [`SealError::TooLarge`] when content and capabilities exceed what relays take.
pub fn sign(
    identity: &Identity,
    announcement: &Announcement<'_>,
    created_at: u64,
) -> Result<Signed, SealError> {
    let mut tags = vec![tag("d", [announcement.agent_id])];
    if !announcement.unlisted {
        tags.extend(topics());
        tags.extend(announcement.capabilities.iter().map(|name| tag("t", [format!("cap:{name}")])));
    }
    tags.extend(announcement.version.map(|version| tag("v", [version.to_string()])));
    tags.push(tag("expiration", [announcement.expires.to_string()]));
    finish(identity, KIND, announcement.content, tags, created_at)
}

/// Takes an announcement back. It names the event both by id and by address, as relays honour one or the other,
/// and carries the announcements' `t` tag, so that one subscription hears both.
///
/// # Errors
/// [`SealError::TooLarge`] for an agent id that never fitted an announcement.
pub fn retract(
    identity: &Identity,
    announced: EventId,
    agent_id: &str,
    unlisted: bool,
    created_at: u64,
) -> Result<Signed, SealError> {
    let address = format!("{KIND}:{}:{agent_id}", identity.public_key());
    let mut tags = vec![tag("e", [announced.to_string()]), tag("a", [address]), tag("k", [KIND.to_string()])];
    if !unlisted {
        tags.extend(topics());
    }
    finish(identity, DELETION, "", tags, created_at)
}

/// The agent id that a deletion takes back, if it is one of an announcement of its own author.
pub(super) fn retracted_agent_id(event: &Event) -> Option<String> {
    let prefix = format!("{KIND}:{}:", event.pubkey.to_hex());
    event.tags.iter().find_map(|tag| match tag.as_slice() {
        [name, address, ..] if name == "a" => address.strip_prefix(&prefix).map(str::to_owned),
        _ => None,
    })
}

fn topics() -> [Tag; 2] {
    [tag("t", [TOPIC]), tag("t", [TOPIC_OURS])]
}

fn tag<const N: usize>(name: &'static str, values: [impl Into<String>; N]) -> Tag {
    Tag::custom(TagKind::custom(name), values)
}

fn finish(
    identity: &Identity,
    kind: u16,
    content: &str,
    tags: Vec<Tag>,
    created_at: u64,
) -> Result<Signed, SealError> {
    identity
        .sign(kind, content.to_owned(), tags, created_at)
        .map_err(|error| SealError::Crypto(error.to_string()))?
        .try_into()
}

#[cfg(test)]
mod tests {
    use nostr_sdk::JsonUtil;

    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn tags(signed: &Signed) -> Vec<Vec<String>> {
        let event = Event::from_json(&signed.json).unwrap();
        event.verify().unwrap();
        event.tags.iter().map(|tag| tag.as_slice().to_vec()).collect()
    }

    #[test]
    fn an_announcement_carries_the_tags_of_both_generations_and_no_version() {
        let identity = Identity::generate();
        let capabilities = ["search".to_owned(), "code".to_owned()];
        let mut announcement = Announcement {
            agent_id: "alice",
            capabilities: &capabilities,
            content: "{}",
            expires: NOW + 300,
            unlisted: false,
            version: None,
        };
        let listed = sign(&identity, &announcement, NOW).unwrap();
        assert_eq!(
            tags(&listed),
            [
                ["d", "alice"],
                ["t", "openclaw-p2p"],
                ["t", "p2p-comm"],
                ["t", "cap:search"],
                ["t", "cap:code"],
                ["expiration", "1790000300"]
            ]
        );
        announcement.unlisted = true;
        let unlisted = sign(&identity, &announcement, NOW).unwrap();
        assert_eq!(tags(&unlisted), [["d", "alice"], ["expiration", "1790000300"]]);
    }

    #[test]
    fn a_retraction_names_the_announcement_by_id_and_by_address() {
        let identity = Identity::generate();
        let announced = crate::proto::Hex([7; 32]);
        let signed = retract(&identity, announced, "a:b", false, NOW).unwrap();
        let me = identity.public_key();
        assert_eq!(tags(&signed)[0], ["e", &announced.to_string()]);
        assert_eq!(tags(&signed)[1], ["a", &format!("30078:{me}:a:b")]);
        let event = Event::from_json(&signed.json).unwrap();
        assert_eq!(retracted_agent_id(&event).as_deref(), Some("a:b"));
    }

    #[test]
    fn what_no_relay_would_take_is_refused() {
        let content = "x".repeat(70_000);
        let announcement = Announcement {
            agent_id: "a",
            capabilities: &[],
            content: &content,
            expires: NOW,
            unlisted: false,
            version: None,
        };
        assert!(matches!(sign(&Identity::generate(), &announcement, NOW), Err(SealError::TooLarge { .. })));
    }
}
