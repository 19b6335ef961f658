//! What an agent announces about itself (kind 30078, NIP-78), read by both generations of agents, and the directory
//! of everybody who is online.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::legacy::{LABEL_LIMIT, cut, forgiving};
use super::{Card, EventId, Millis, Protocol, PublicKey, Rotation};

/// An announcement older than this is no sign of life any more. Agents announce themselves every 110 ± 10 s.
pub const ONLINE_FOR: Duration = Duration::from_secs(300);
/// How far ahead of our clock an announcement may be: relays take up to 900 s.
pub const AHEAD_LIMIT: Duration = Duration::from_secs(900);
/// Most agents remembered. Beyond it, or beyond [`DIRECTORY_BYTES`], the stranger who was not seen for longest is
/// forgotten, and only when there is none somebody who is known: a flood of keys hides nobody that the user knows.
pub const DIRECTORY_LIMIT: usize = 20_000;
/// Bytes of all that is remembered, about. An agent as they are takes 600; one that announces all it may, seven times as
/// much.
const DIRECTORY_BYTES: usize = 24 * 1_024 * 1_024;
/// Bytes of all cards that are kept; whoever comes when they are reached is listed without one. A flood of keys with the
/// largest cards would hold fifteen times as much.
const CARDS_LIMIT: usize = 4 * 1_024 * 1_024;
/// Longest announcement read, bytes of JSON.
pub const CONTENT_LIMIT: usize = 8 * 1_024;
/// Most capabilities kept of one agent, and their bytes.
const CAPABILITIES_LIMIT: usize = 64;
const CAPABILITIES_BYTES: usize = 1_024;
/// Most inbox relays kept of one agent, and the longest address, bytes.
const INBOX_LIMIT: usize = 4;
const ADDRESS_LIMIT: usize = 256;

/// What the content of a presence event says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// The label that the agent goes by. Anybody can claim any.
    pub agent_id: String,
    /// Its display name.
    #[serde(default)]
    pub name: String,
    /// What it says that it can do.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// When it was written, milliseconds; informative only, `created_at` counts.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    pub timestamp: Option<u64>,
    /// Only v2 agents have it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    pub p2p: Option<V2>,
    /// What it says that it does; deployed agents do not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    pub card: Option<Card>,
}

/// The v2 part of an announcement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct V2 {
    /// The versions that the agent speaks.
    #[serde(default)]
    pub v: Vec<u32>,
    /// Where it reads its gift wraps. Somebody else's words: to be checked before they are dialled.
    #[serde(default)]
    pub inbox: Vec<String>,
    /// Bits of proof of work (NIP-13) that it asks of strangers' wraps.
    #[serde(default)]
    pub pow: u8,
    /// The keys that it had before: unverified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<Rotation>,
}

/// Why an announcement was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Longer than any honest one.
    #[error("announcement of {0} bytes")]
    TooLong(usize),
    /// Not JSON, or not of the shape.
    #[error("not an announcement: {0}")]
    Json(#[from] serde_json::Error),
    /// No agent id, or one with control characters.
    #[error("bad agent id")]
    BadAgentId,
}

impl Content {
    /// Reads the content of a presence event.
    ///
    /// # Errors
    /// [`Malformed`] if it is not an announcement.
    pub fn parse(json: &str) -> Result<Self, Malformed> {
        if json.len() > CONTENT_LIMIT {
            return Err(Malformed::TooLong(json.len()));
        }
        let mut content: Self = serde_json::from_str(json)?;
        if !is_agent_id(&content.agent_id) {
            return Err(Malformed::BadAgentId);
        }
        content.name = cut(content.name, LABEL_LIMIT);
        content.capabilities.truncate(CAPABILITIES_LIMIT);
        let mut room = CAPABILITIES_BYTES;
        let capabilities = content.capabilities.into_iter().map(|name| cut(name, LABEL_LIMIT));
        content.capabilities = capabilities
            .take_while(|name| {
                let fits = name.len() <= room;
                room -= if fits { name.len() } else { 0 };
                fits
            })
            .collect();
        content.card = content.card.take().and_then(Card::kept);
        if let Some(p2p) = &mut content.p2p {
            p2p.inbox.retain(|url| url.len() <= ADDRESS_LIMIT && !url.chars().any(char::is_control));
            p2p.inbox.truncate(INBOX_LIMIT);
        }
        Ok(content)
    }

    /// Writes it, for the event's content.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and finite numbers always serialise")
    }

    /// The best dialect that it shows.
    pub fn protocol(&self) -> Protocol {
        if self.p2p.as_ref().is_some_and(|p2p| p2p.v.contains(&2)) { Protocol::V2 } else { Protocol::Legacy }
    }
}

/// An agent id is a label of 1 to 128 characters without control characters, and not only blanks.
pub fn is_agent_id(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= LABEL_LIMIT && !text.chars().any(char::is_control)
}

/// One agent of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: PublicKey,
    /// When it announced itself.
    pub seen: Millis,
    /// What it announced.
    pub content: Content,
    /// The announcement's event id: between two of the same second the lower one wins (NIP-01).
    pub event: EventId,
    /// The user knows nothing of it: it is forgotten before all others.
    pub is_stranger: bool,
}

impl Entry {
    /// About what it costs in memory: itself, its places in the indices, and its texts, without its card.
    fn size(&self) -> usize {
        let text = |text: &String| TEXT_OVERHEAD + text.len();
        let content = &self.content;
        let inbox = content.p2p.iter().flat_map(|p2p| &p2p.inbox);
        let texts = content.capabilities.iter().chain(inbox).chain([&content.name]).map(text);
        ENTRY_OVERHEAD + 2 * text(&content.agent_id) + texts.sum::<usize>()
    }
}

/// Of an entry: its fields, and three places in trees that are two thirds full.
const ENTRY_OVERHEAD: usize = size_of::<Entry>() + 3 * 72;
/// Of a text: its pointer and lengths, and what the allocator adds.
const TEXT_OVERHEAD: usize = size_of::<String>() + 12;

/// Everybody who announced themselves, one entry a key, newest announcement only. Bounded.
#[derive(Debug, Default)]
pub struct Directory {
    by_key: BTreeMap<PublicKey, Entry>,
    by_age: BTreeMap<(Millis, PublicKey), ()>,
    by_id: BTreeMap<(String, PublicKey), ()>,
    /// Whom the user knows nothing of.
    strangers: BTreeSet<(Millis, PublicKey)>,
    /// Bytes of all entries without their cards, and of all cards.
    bytes: usize,
    cards: usize,
}

impl Directory {
    /// Takes an announcement. Returns whether it is news: older ones, and those from the far future, are not.
    pub fn announce(&mut self, mut entry: Entry, now: Millis) -> bool {
        if entry.seen > now + AHEAD_LIMIT || now.since(entry.seen) > ONLINE_FOR {
            return false;
        }
        if let Some(known) = self.by_key.get(&entry.key)
            && (known.seen, entry.event) >= (entry.seen, known.event)
        {
            return false;
        }
        self.forget(&entry.key);
        let room = CARDS_LIMIT - self.cards;
        entry.content.card = entry.content.card.take().filter(|card| card.size() <= room);
        self.cards += card_size(&entry);
        self.bytes += entry.size();
        self.by_age.insert((entry.seen, entry.key), ());
        self.by_id.insert((entry.content.agent_id.clone(), entry.key), ());
        if entry.is_stranger {
            self.strangers.insert((entry.seen, entry.key));
        }
        self.by_key.insert(entry.key, entry);
        self.make_room(DIRECTORY_LIMIT, DIRECTORY_BYTES);
        true
    }

    fn make_room(&mut self, most: usize, bytes: usize) {
        while self.by_key.len() > most || self.bytes > bytes {
            let stranger = self.strangers.first().copied();
            let oldest = stranger.or_else(|| self.by_age.first_key_value().map(|(place, ())| *place));
            let Some((_, key)) = oldest else { return };
            self.forget(&key);
        }
    }

    /// How many are remembered, and about how many bytes they take.
    pub fn extent(&self) -> (usize, usize) {
        (self.by_key.len(), self.bytes + self.cards)
    }

    /// Takes an announcement back, if it is not newer than `at`.
    pub fn retract(&mut self, key: &PublicKey, at: Millis) {
        if self.by_key.get(key).is_some_and(|entry| entry.seen <= at) {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: &PublicKey) {
        if let Some(entry) = self.by_key.remove(key) {
            self.cards -= card_size(&entry);
            self.bytes -= entry.size();
            self.strangers.remove(&(entry.seen, entry.key));
            self.by_age.remove(&(entry.seen, entry.key));
            self.by_id.remove(&(entry.content.agent_id, entry.key));
        }
    }

    /// The latest announcement of a key, if it is online.
    pub fn get(&self, key: &PublicKey, now: Millis) -> Option<&Entry> {
        self.by_key.get(key).filter(|entry| now.since(entry.seen) <= ONLINE_FOR)
    }

    /// Everybody online, most recently seen first.
    pub fn online(&self, now: Millis) -> impl Iterator<Item = &Entry> {
        self.by_age
            .range((now - ONLINE_FOR, PublicKey::default())..)
            .rev()
            .filter_map(|((_, key), ())| self.by_key.get(key))
    }

    /// Everybody online who claims an agent id.
    pub fn claimants<'a>(&'a self, agent_id: &'a str, now: Millis) -> impl Iterator<Item = &'a Entry> {
        self.by_id
            .range((agent_id.to_owned(), PublicKey::default())..)
            .take_while(move |((id, _), ())| id == agent_id)
            .filter_map(move |((_, key), ())| self.get(key, now))
    }

    /// Drops who has not been seen for long. The cost is that of what is dropped.
    pub fn expire(&mut self, now: Millis) {
        while let Some((&(seen, key), ())) = self.by_age.first_key_value()
            && now.since(seen) > ONLINE_FOR
        {
            self.forget(&key);
        }
    }
}

fn card_size(entry: &Entry) -> usize {
    entry.content.card.as_ref().map_or(0, Card::size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Hex;

    const NOW: Millis = Millis::from_secs(1_800_000_000);

    fn entry(key: u8, agent_id: &str, age: u64) -> Entry {
        let content = Content {
            agent_id: agent_id.into(),
            name: String::new(),
            capabilities: vec![],
            timestamp: None,
            p2p: None,
            card: None,
        };
        Entry {
            key: Hex([key; 32]),
            seen: NOW - Duration::from_secs(age),
            content,
            event: Hex([key; 32]),
            is_stranger: true,
        }
    }

    #[test]
    fn the_newest_announcement_of_a_key_counts_and_old_ones_change_nothing() {
        let mut directory = Directory::default();
        assert!(directory.announce(entry(1, "alice", 10), NOW));
        assert!(!directory.announce(entry(1, "stale", 20), NOW));
        assert!(!directory.announce(entry(1, "alice", 10), NOW), "the same event again is no news");
        assert!(directory.announce(entry(1, "alicia", 5), NOW));
        assert_eq!(directory.claimants("alice", NOW).count(), 0);
        assert_eq!(directory.claimants("alicia", NOW).count(), 1);
        assert_eq!(directory.online(NOW).count(), 1);
    }

    #[test]
    fn between_two_of_the_same_second_the_lower_event_id_wins() {
        let mut directory = Directory::default();
        let (mut low, mut high) = (entry(1, "low", 0), entry(1, "high", 0));
        (low.event, high.event) = (Hex([1; 32]), Hex([2; 32]));
        assert!(directory.announce(high.clone(), NOW));
        assert!(directory.announce(low, NOW));
        assert!(!directory.announce(high, NOW));
    }

    #[test]
    fn agents_go_offline_after_five_minutes_and_when_they_say_so() {
        let mut directory = Directory::default();
        directory.announce(entry(1, "alice", 0), NOW);
        directory.announce(entry(2, "bob", 0), NOW);
        directory.retract(&Hex([2; 32]), NOW);
        assert_eq!(
            directory.online(NOW).map(|entry| entry.content.agent_id.as_str()).collect::<Vec<_>>(),
            ["alice"]
        );
        let later = NOW + ONLINE_FOR + Duration::from_secs(1);
        assert_eq!(directory.online(later).count(), 0);
        directory.expire(later);
        assert!(directory.by_key.is_empty() && directory.by_age.is_empty() && directory.by_id.is_empty());
    }

    #[test]
    fn an_announcement_from_the_far_future_or_past_is_not_taken() {
        let mut directory = Directory::default();
        let mut ahead = entry(1, "alice", 0);
        ahead.seen = NOW + Duration::from_secs(901);
        assert!(!directory.announce(ahead, NOW));
        assert!(!directory.announce(entry(1, "alice", 301), NOW));
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_forgets_the_oldest() {
        let mut directory = Directory::default();
        for index in 0..DIRECTORY_LIMIT as u32 + 10 {
            let mut one = entry(0, &format!("agent-{index}"), 0);
            one.key.0[..4].copy_from_slice(&index.to_be_bytes());
            one.seen = NOW - Duration::from_millis(u64::from(DIRECTORY_LIMIT as u32 + 10 - index));
            directory.announce(one, NOW);
        }
        assert_eq!(directory.by_key.len(), DIRECTORY_LIMIT);
        assert_eq!(directory.claimants("agent-0", NOW).count(), 0);
    }

    #[test]
    fn a_flood_hides_nobody_who_is_known_and_costs_no_more_than_its_bytes() {
        let mut directory = Directory::default();
        let mut known = entry(200, "known", 250);
        known.is_stranger = false;
        directory.announce(known, NOW);
        let capabilities = vec!["c".repeat(128); CAPABILITIES_BYTES / 128];
        let count = (DIRECTORY_BYTES / CAPABILITIES_BYTES) as u32;
        for index in 0..count {
            let mut one = entry(0, "flood", 0);
            one.key.0[..4].copy_from_slice(&index.to_be_bytes());
            one.content.capabilities = capabilities.clone();
            directory.announce(one, NOW);
            assert!(directory.bytes <= DIRECTORY_BYTES);
        }
        assert!(directory.by_key.len() < DIRECTORY_LIMIT && directory.by_key.len() > 10_000);
        assert_eq!(directory.claimants("known", NOW).count(), 1);
        directory.make_room(1, DIRECTORY_BYTES);
        assert_eq!(
            directory.online(NOW).map(|one| one.content.agent_id.as_str()).collect::<Vec<_>>(),
            ["known"]
        );
        directory.make_room(0, DIRECTORY_BYTES);
        assert_eq!(directory.extent(), (0, 0));
    }

    #[test]
    fn cards_are_kept_within_a_budget_and_given_back() {
        let card = Card { description: "x".repeat(500), skills: vec![] };
        let mut directory = Directory::default();
        let count = (CARDS_LIMIT / card.size() + 10) as u32;
        for index in 0..count {
            let mut one = entry(0, "a", 0);
            one.key.0[..4].copy_from_slice(&index.to_be_bytes());
            one.content.card = Some(card.clone());
            directory.announce(one, NOW);
        }
        let with_card = |directory: &Directory| {
            directory.by_key.values().filter(|entry| entry.content.card.is_some()).count()
        };
        assert_eq!(with_card(&directory), CARDS_LIMIT / card.size());
        directory.expire(NOW + ONLINE_FOR + Duration::from_secs(1));
        assert_eq!((directory.cards, directory.by_key.len()), (0, 0));
    }

    #[test]
    fn a_card_that_is_none_leaves_the_rest_of_an_announcement_as_it_is() {
        for card in [r#""x""#, r#"{"skills":[7]}"#, "{}", r#"{"skills":[{"id":""}]}"#] {
            let content = Content::parse(&format!(r#"{{"agentId":"a","card":{card}}}"#)).unwrap();
            assert_eq!(content.card, None, "{card}");
        }
        let json = r#"{"agentId":"a","card":{"description":"d","skills":[{"id":"s","more":1}]}}"#;
        let content = Content::parse(json).unwrap();
        assert_eq!(content.card.as_ref().unwrap().skills[0].id, "s");
        assert_eq!(Content::parse(&content.to_json()).unwrap(), content);
    }

    #[test]
    fn hostile_announcements_are_refused_or_cut() {
        for json in [
            "",
            "{}",
            r#"{"agentId":""}"#,
            r#"{"agentId":" "}"#,
            r#"{"agentId":"a\u0000b"}"#,
            r#"{"agentId":7}"#,
            r#"{"agentId":"a","capabilities":"x"}"#,
            r#"{"agentId":"a","capabilities":[1]}"#,
        ] {
            assert!(Content::parse(json).is_err(), "{json}");
        }
        let many =
            serde_json::json!({"agentId": "a", "name": "n".repeat(500), "capabilities": vec!["c"; 500]});
        let content = Content::parse(&many.to_string()).unwrap();
        assert_eq!((content.name.len(), content.capabilities.len()), (LABEL_LIMIT, CAPABILITIES_LIMIT));
        assert_eq!(content.protocol(), Protocol::Legacy);
        assert_eq!(
            Content::parse(r#"{"agentId":"a","p2p":{"v":[2],"inbox":[]}}"#).unwrap().protocol(),
            Protocol::V2
        );
    }
}
