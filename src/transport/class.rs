//! What is asked of a relay. Each class is a REQ of its own: some relays silently starve a filter that mixes
//! direct messages with other kinds (protocol, section 7).

use std::fmt;

use nostr_sdk::{Alphabet, Event, Filter, Kind, SingleLetterTag, Timestamp};

use super::tuning::Tuning;
use super::{legacy, presence};
use crate::proto::PublicKey;

/// One kind of subscription. Gift wraps and session frames will be further ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Who is online: announcements and their retractions, of everybody.
    Presence,
    /// Legacy messages to us.
    Direct,
}

impl Class {
    /// Every class, in the order of the subscriptions.
    pub const ALL: [Self; 2] = [Self::Presence, Self::Direct];

    /// Its name, for a cursor's row.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Direct => "direct",
        }
    }

    /// Whether stored events are put in order before they are handed over, so that a call comes before its
    /// messages. Announcements replace each other: their order is their `created_at`.
    pub(super) const fn ordered(self) -> bool {
        matches!(self, Self::Direct)
    }

    /// Whether relays may serve it only to who has authenticated, so that an answer before that proves nothing.
    pub(super) const fn private(self) -> bool {
        matches!(self, Self::Direct)
    }

    /// The largest event of this class that is looked at. Deployed agents send files of up to 147 kB, which is
    /// 261 kB as an event; an announcement is a label, a name and a list of words.
    pub(super) const fn max_event(self) -> usize {
        match self {
            Self::Presence => 16 * 1024,
            Self::Direct => 264 * 1024,
        }
    }

    /// From which `created_at` on events are asked for.
    pub(super) fn since(self, cursor: Option<u64>, now: u64, tuning: &Tuning) -> u64 {
        match self {
            Self::Presence => now.saturating_sub(tuning.presence_age.as_secs()),
            Self::Direct => cursor.unwrap_or(now).min(now).saturating_sub(tuning.direct_look_back.as_secs()),
        }
    }

    /// The REQ's filter.
    pub(super) fn filter(self, me: &PublicKey, since: u64, limit: usize) -> Filter {
        let filter = Filter::new().since(Timestamp::from_secs(since)).limit(limit);
        match self {
            Self::Presence => filter
                .kinds([Kind::from_u16(presence::KIND), Kind::from_u16(presence::DELETION)])
                .custom_tag(SingleLetterTag::lowercase(Alphabet::T), presence::TOPIC),
            Self::Direct => filter
                .kind(Kind::from_u16(legacy::KIND))
                .custom_tag(SingleLetterTag::lowercase(Alphabet::P), me.to_string()),
        }
    }

    /// Whether an event is what [`Self::filter`] asks for, apart from its time: a relay's word is not enough.
    pub(super) fn asks_for(self, me: &str, event: &Event) -> bool {
        let kind = event.kind.as_u16();
        match self {
            Self::Presence => {
                matches!(kind, presence::KIND | presence::DELETION) && tagged(event, "t", presence::TOPIC)
            }
            Self::Direct => kind == legacy::KIND && tagged(event, "p", me),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

fn tagged(event: &Event, name: &str, value: &str) -> bool {
    event
        .tags
        .iter()
        .any(|tag| matches!(tag.as_slice(), [first, second, ..] if first == name && second == value))
}
