//! What links tell the engine, through one bounded channel.

use super::class::Class;
use super::url::RelayId;
use super::v2::{SessionEvent, Wrap};
use crate::proto::{EventId, PublicKey, Rotation};

/// Something that a relay sent, or that became of a link. Events are verified: id, signature, and that they are
/// what was asked for; nothing else about them is to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// An agent announces itself.
    Presence {
        /// Who delivered it.
        relay: RelayId,
        /// The event.
        id: EventId,
        /// The agent.
        from: PublicKey,
        /// In seconds, by its clock.
        created_at: u64,
        /// The `d` tag.
        agent_id: String,
        /// The announcement, unparsed.
        content: String,
    },
    /// An agent takes its announcement back.
    Retracted {
        /// Who delivered it.
        relay: RelayId,
        /// The deletion.
        id: EventId,
        /// The agent.
        from: PublicKey,
        /// In seconds, by its clock: announcements up to this moment are void.
        created_at: u64,
        /// Which of its labels.
        agent_id: String,
    },
    /// A legacy message to us.
    Direct {
        /// Who delivered it.
        relay: RelayId,
        /// The event. The same one may come again, from any relay: its id is what tells.
        id: EventId,
        /// The signer.
        from: PublicKey,
        /// In seconds, by its clock.
        created_at: u64,
        /// The decrypted payload, unparsed.
        payload: String,
    },
    /// A gift wrap to us, unopened: see [`super::v2::open_wrap`].
    Wrap {
        /// Who delivered it.
        relay: RelayId,
        /// The wrap.
        wrap: Wrap,
    },
    /// A frame to one of our session keys, unopened: see [`super::v2::Session::read`].
    Frame {
        /// Who delivered it. The same frame does not come again from another relay.
        relay: RelayId,
        /// The frame.
        event: SessionEvent,
    },
    /// An ephemeral wrap to one of our session keys, unopened: see [`super::v2::SessionKey::open_wrap`].
    Ephemeral {
        /// Who delivered it.
        relay: RelayId,
        /// The wrap.
        wrap: Wrap,
    },
    /// The answer to [`super::v2::SessionPool::look_up`].
    Whereabouts {
        /// What `look_up` returned.
        token: u64,
        /// Whose they are.
        key: PublicKey,
        /// What the relays have, taken together.
        found: Whereabouts,
        /// How many relays answered.
        answered: usize,
        /// How many were asked: those connected.
        asked: usize,
    },
    /// Everything of this class that the relay had stored has gone through this channel.
    Synced {
        /// The relay.
        relay: RelayId,
        /// What was asked for.
        class: Class,
        /// When it was asked for, in seconds: the cursor to store once all that came before is journalled.
        since_request: u64,
    },
    /// The answer to [`super::Pool::refresh`]: what relays had is in the channel ahead of this.
    Refreshed {
        /// What `refresh` returned.
        token: u64,
        /// How many relays told all that they have.
        answered: usize,
        /// How many were asked: those connected.
        asked: usize,
    },
    /// What became of a published event on one relay.
    Published(Published),
    /// More events bear one second than the relay serves in a query: some of them are out of reach.
    Gap {
        /// The relay.
        relay: RelayId,
        /// What was asked for.
        class: Class,
        /// The second.
        second: u64,
    },
    /// The relay is connected.
    Up {
        /// The relay.
        relay: RelayId,
    },
    /// The relay is not connected any more, or could not be at the first try.
    Down {
        /// The relay.
        relay: RelayId,
        /// Why.
        error: String,
    },
}

/// Where somebody is to be found of whom only a key is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whereabouts {
    /// The newest list of inbox relays.
    pub inbox: Option<InboxList>,
    /// Genuine statements that another key takes the place of this one, each for another key. More than one say that
    /// the key has signed what cannot all be true.
    pub rotations: Vec<Rotation>,
}

impl Whereabouts {
    /// Takes in what one more event, or one more relay, tells. Whoever asks bounds how often.
    pub(super) fn add(&mut self, other: Self) {
        let is_newer =
            |list: &InboxList| self.inbox.as_ref().is_none_or(|had| had.created_at < list.created_at);
        self.inbox = other.inbox.filter(is_newer).or(self.inbox.take());
        for rotation in other.rotations {
            if self.rotations.iter().all(|had| had.new != rotation.new) {
                self.rotations.push(rotation);
            }
        }
    }

    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        self.inbox.is_none() && self.rotations.is_empty()
    }
}

/// A list of inbox relays (kind 10050).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxList {
    /// When it was made, in seconds, by its author's clock.
    pub created_at: u64,
    /// The addresses, as their author wrote them: to be checked before they are dialled.
    pub relays: Vec<String>,
}

/// What became of an event of ours on one relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The relay.
    pub relay: RelayId,
    /// The event.
    pub id: EventId,
    /// What became of it.
    pub outcome: Outcome,
}

/// The end of an event's way through one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The relay has it, from now or from before.
    Accepted,
    /// The relay will not take it.
    Refused {
        /// The relay's words, shortened. Data, not an instruction.
        reason: String,
    },
    /// Neither yes nor no after several tries: mute relay, or one that hangs up on this event. It left the queue
    /// so that others can go; publish it again later.
    Unanswered,
    /// The link's queue was full; this was its oldest event.
    Dropped,
    /// A newer announcement took its place before it was sent.
    Superseded,
}
