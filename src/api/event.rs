//! What happens, as `wait` prints it and as Python streams yield it.

use serde::{Deserialize, Serialize};

use super::Time;
use super::types::{Call, Message, Ticket};
use crate::proto::{CallId, EventKind, PublicKey};

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
    /// `message.*`, `file.*`, `escalation.received`: the message as it stands now; of a file that is only offered or under
    /// way, what was said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// `file.progress`: how far the file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
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
    /// `strangers.digest`: how often strangers called and wrote beyond their limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strangers: Option<Strangers>,
}

impl Event {
    /// Whether any of its members says what it is about, as every event's does whose rows are whole.
    pub fn is_about_something(&self) -> bool {
        self.message.is_some()
            || self.call_state.is_some()
            || self.escalation.is_some()
            || self.key_changed.is_some()
            || self.relay.is_some()
            || self.strangers.is_some()
    }
}

/// What strangers did beyond their limits, since the owner was told last. At most once an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strangers {
    /// When the first one came.
    pub since: Time,
    /// Calls that went into the queue; of these the queue still has 32 at most.
    pub calls_waiting: u64,
    /// Calls that were not answered at all.
    pub calls_dropped: u64,
    /// Messages that went into the queue; of these it still has 32 at most.
    pub mail_waiting: u64,
    /// Messages that were dropped.
    pub mail_dropped: u64,
    /// Bits of proof of work that strangers are asked for now.
    pub work: u8,
}

/// How far a file is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes that are here; of a file of ours, bytes that the peer has.
    pub done: u64,
    /// Bytes of the whole.
    pub size: u64,
    /// Bytes a second, lately.
    #[serde(default)]
    pub bytes_per_s: f64,
    /// Seconds until it is whole, at this rate; null if it stands still.
    #[serde(default)]
    pub left_s: Option<f64>,
}

impl Progress {
    /// So much of so much, at this rate, in bytes a second.
    pub fn new(done: u64, size: u64, rate: f64) -> Self {
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let left = size.saturating_sub(done) as f64;
        let left_s = (rate > 0.0).then(|| tenths(left / rate));
        Self { done, size, bytes_per_s: rate.round(), left_s }
    }
}

/// Another key claims an agent id that is pinned, or has taken the place of the key that had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChanged {
    /// The agent id.
    pub agent_id: String,
    /// The key that has it; that had it, if the claim was followed.
    pub pinned: PublicKey,
    /// The key that claims it.
    pub claimed_by: PublicKey,
    /// The old key has signed that the other takes its place: the pin and the user's name have moved. Otherwise the key
    /// that claims it is blocked, until a person verifies it.
    #[serde(default)]
    pub followed: bool,
}

/// Something about a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayNote {
    /// Its URL.
    pub url: String,
    /// What it said, or what was noticed.
    pub detail: String,
}
