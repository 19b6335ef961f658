//! What is asked of a relay. Each class is a REQ of its own: some relays silently starve a filter that mixes
//! direct messages with other kinds (docs/protocol.md, section 4).

use std::fmt;

use nostr_sdk::{Alphabet, Event, Filter, Kind, SingleLetterTag, Timestamp};

use super::tuning::Tuning;
use super::v2::WrapKind;
use super::{legacy, presence};
use crate::mutants::{Mutant, planted};

/// One kind of subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Who is online: announcements and their retractions, of everybody.
    Presence,
    /// Legacy messages to us.
    Direct,
    /// Gift wraps to us.
    Wrap,
    /// Frames and ephemeral wraps to our session keys.
    Session,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Presence, Self::Direct, Self::Wrap, Self::Session];
    /// What is asked on a connection of the identity to a relay where agents meet and wraps are read.
    pub(super) const OF_IDENTITY: &[Self] = &[Self::Presence, Self::Direct, Self::Wrap];
    /// The same where agents only meet.
    pub(super) const OF_MEETING: &[Self] = &[Self::Presence, Self::Direct];
    /// The same where wraps are only read.
    pub(super) const OF_INBOX: &[Self] = &[Self::Wrap];
    /// What is asked on the connections of session keys.
    pub(super) const OF_SESSIONS: &[Self] = &[Self::Session];

    /// Its name, for a cursor's row.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Direct => "direct",
            Self::Wrap => "wrap",
            Self::Session => "session",
        }
    }

    /// Whether stored events are put in order before they are handed over, so that a call comes before its
    /// messages. Announcements replace each other: their order is their `created_at`. Frames have numbers.
    pub(super) const fn ordered(self) -> bool {
        matches!(self, Self::Direct | Self::Wrap)
    }

    /// Whether relays may serve it only to who has authenticated, so that an answer before that proves nothing.
    pub(super) const fn private(self) -> bool {
        matches!(self, Self::Direct | Self::Wrap)
    }

    /// Whether something that a relay does not serve is missed for good: whoever sent a frame sends what was in it
    /// again, and who is online announces it again within two minutes. (Announcements replace each other while they
    /// are read page by page, which looks like a gap.)
    pub(super) const fn has_gaps(self) -> bool {
        matches!(self, Self::Direct | Self::Wrap)
    }

    /// The largest event of this class that is looked at. Deployed agents send files of up to 147 kB, which is
    /// 261 kB as an event; an announcement is a label, a name and a list of words; NIP-44 takes 64 KiB, which is
    /// 86 KiB as a wrap; frames stay below what strfry takes.
    pub(super) const fn max_event(self) -> usize {
        match self {
            Self::Presence => 16 * 1024,
            Self::Direct => 264 * 1024,
            Self::Wrap => 88 * 1024,
            Self::Session => 64 * 1024,
        }
    }

    /// From which `created_at` on events are asked for.
    pub(super) fn since(self, cursor: Option<u64>, now: u64, tuning: &Tuning) -> u64 {
        let cursor = cursor.unwrap_or(now).min(now);
        match self {
            Self::Direct | Self::Wrap if planted(Mutant::SinceLastSeen) => cursor,
            Self::Presence => now.saturating_sub(tuning.presence_age.as_secs()),
            Self::Direct => cursor.saturating_sub(tuning.direct_look_back.as_secs()),
            Self::Wrap => cursor.saturating_sub(tuning.wrap_look_back.as_secs()),
            Self::Session => now.saturating_sub(tuning.session_look_back.as_secs()),
        }
    }

    /// The REQ's filter; for what is addressed, to these receivers.
    pub(super) fn filter(self, receivers: &[String], since: u64, limit: usize) -> Filter {
        let filter = Filter::new().since(Timestamp::from_secs(since)).limit(limit);
        let addressed = |filter: Filter, kind: u16| {
            filter
                .kind(Kind::from_u16(kind))
                .custom_tags(SingleLetterTag::lowercase(Alphabet::P), receivers.iter().cloned())
        };
        match self {
            Self::Presence => filter
                .kinds([Kind::from_u16(presence::KIND), Kind::from_u16(presence::DELETION)])
                .custom_tag(SingleLetterTag::lowercase(Alphabet::T), presence::TOPIC),
            Self::Direct => addressed(filter, legacy::KIND),
            Self::Wrap => addressed(filter, WrapKind::Stored.number()),
            Self::Session => addressed(filter, WrapKind::Ephemeral.number()),
        }
    }

    /// Whether an event is of a kind that [`Self::filter`] asks for, and of the right topic: a relay's word is not
    /// enough.
    pub(super) fn asks_for(self, event: &Event) -> bool {
        let kind = event.kind.as_u16();
        match self {
            Self::Presence => {
                matches!(kind, presence::KIND | presence::DELETION) && tagged(event, "t", presence::TOPIC)
            }
            Self::Direct => kind == legacy::KIND,
            Self::Wrap => kind == WrapKind::Stored.number(),
            Self::Session => kind == WrapKind::Ephemeral.number(),
        }
    }

    /// Whether its events are addressed, by a `p` tag.
    pub(super) const fn addressed(self) -> bool {
        !matches!(self, Self::Presence)
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
