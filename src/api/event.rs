//! What happens, as `wait` prints it and as Python streams yield it.

use serde::{Deserialize, Serialize};

use super::Time;
use super::types::{Call, Message, Ticket};
use crate::proto::{CallId, PublicKey, words};

words! {
    /// The kinds of event. Append-only.
    pub enum EventKind {
        /// A peer calls.
        CallRinging = "call.ringing",
        /// A call that we placed was accepted, or one that rang here was.
        CallConnected = "call.connected",
        /// The callee declined, or is busy.
        CallRejected = "call.rejected",
        /// A call is over.
        CallEnded = "call.ended",
        /// A peer called, and nobody answered.
        CallMissed = "call.missed",
        /// A text came.
        MessageReceived = "message.received",
        /// A relay took a message of ours.
        MessageRelayed = "message.relayed",
        /// The peer's daemon has a message of ours.
        MessageDelivered = "message.delivered",
        /// The peer's application took a message of ours.
        MessageRead = "message.read",
        /// A message of ours will not arrive.
        MessageFailed = "message.failed",
        /// A peer wants to send a file.
        FileOffered = "file.offered",
        /// A file moves.
        FileProgress = "file.progress",
        /// A file came, whole and verified.
        FileReceived = "file.received",
        /// A file will not come.
        FileFailed = "file.failed",
        /// The peer asks its human owner.
        EscalationReceived = "escalation.received",
        /// Our owner decided, or the time for it is over.
        EscalationAnswered = "escalation.answered",
        /// Another key claims a pinned agent id.
        ContactKeyChanged = "contact.key-changed",
        /// The peer has been silent for long.
        PeerAway = "peer.away",
        /// The peer is back.
        PeerBack = "peer.back",
        /// Something may have been missed; the event says where.
        Gap = "gap",
        /// A relay is connected.
        RelayUp = "relay.up",
        /// A relay is gone.
        RelayDown = "relay.down",
    }
}

impl EventKind {
    /// Comes only when asked for by name: noise to somebody who waits for a conversation.
    pub const fn only_when_asked(self) -> bool {
        matches!(self, Self::RelayUp | Self::RelayDown | Self::FileProgress | Self::MessageRelayed)
    }
}

/// One event of the journal. Which of the optional members is there follows from the kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the journal of this home: rises, never reused.
    pub cursor: u64,
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub at: Time,
    /// The call it belongs to.
    pub call: Option<CallId>,
    /// `message.*`, `file.*`, `escalation.received`: the message as it stands now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// `call.*`, `peer.*`: the call as it stands now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_state: Option<Call>,
    /// `escalation.answered`: the ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Ticket>,
    /// `contact.key-changed`: who claims whose name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_changed: Option<KeyChanged>,
    /// `relay.*`, `gap`: the relay, and what it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayNote>,
}

/// Another key claims an agent id that is pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChanged {
    /// The agent id.
    pub agent_id: String,
    /// The key that has it.
    pub pinned: PublicKey,
    /// The key that claims it.
    pub claimed_by: PublicKey,
}

/// Something about a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayNote {
    /// Its URL.
    pub url: String,
    /// What it said, or what was noticed.
    pub detail: String,
}
