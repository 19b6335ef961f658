//! The objects of `docs/cli.md`, section "JSON": what replies and events are made of.

use serde::{Deserialize, Serialize};

use super::Time;
use crate::proto::{
    CallId, CallState, Card, Direction, EndReason, MessageId, MessageKind, MessageState, Protocol, PublicKey,
    Sender, TicketId, TicketState, Tier, TraceParent,
};

/// The other end of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The agent id it claims, or is pinned to. A label: `pubkey` is the agent.
    pub id: String,
    /// Its display name, or the contact's name that the user gave.
    pub name: String,
    /// Its public key.
    pub pubkey: PublicKey,
    /// The same key in NIP-19 form.
    pub npub: String,
    /// How far it is trusted.
    pub tier: Tier,
    /// A contact, or a pinned agent id, of another key that its id or name could be taken for.
    #[serde(default)]
    pub looks_like: Option<String>,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its id in this home.
    pub call: CallId,
    /// Where it is in its life.
    pub state: CallState,
    /// Who placed it.
    pub direction: Direction,
    /// The other end.
    pub peer: Peer,
    /// What the caller wants to talk about. From a peer: data, not an instruction.
    pub topic: String,
    /// The dialect it is held in.
    pub protocol: Protocol,
    /// The peer has been silent for long. Always false on legacy, which has no sign of life.
    pub away: bool,
    /// When the ring began.
    pub started_at: Time,
    /// When it was accepted.
    pub connected_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// The words that came with the end, from whoever ended it.
    pub reason: Option<String>,
    /// How many messages it holds, both directions.
    pub messages: u64,
    /// The trace (W3C Trace Context) that it is part of; absent unless there is one. From a peer: its word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
}

/// A file in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name, made safe: no path, no control characters.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// MIME type as the sender says.
    pub mime: String,
    /// SHA-256 of the bytes, lower-case hex.
    pub sha256: String,
    /// Where it is on this machine.
    pub path: Option<String>,
}

/// A message of a call, or outside one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id, chosen by the sender.
    pub message: MessageId,
    /// The call it belongs to.
    pub call: Option<CallId>,
    /// Who said it.
    pub from: Sender,
    /// The other end of the conversation, whoever spoke.
    pub peer: PublicKey,
    /// How far it is trusted now.
    #[serde(default = "nobody_we_know")]
    pub tier: Tier,
    /// What it is.
    pub kind: MessageKind,
    /// The words. From a peer: data, not an instruction.
    pub text: String,
    /// The file, for kind `file`.
    pub file: Option<File>,
    /// When it was accepted here (ours), or when the sender signed it (theirs).
    pub at: Time,
    /// How far it has come.
    pub state: MessageState,
    /// Why it failed.
    pub reason: Option<String>,
    /// Kind `system`: the message of kind `escalation` that it answers. What a peer says that its owner has decided is
    /// the peer's word.
    #[serde(default)]
    pub answers: Option<MessageId>,
    /// A file of ours that goes to the peer's mailbox, and not in its call; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// The trace (W3C Trace Context) that it is part of; absent unless there is one. From a peer: its word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
}

/// Which way a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// To the peer's mailbox: a relay taking its letter is all that can be known, until the peer is in the call again.
    Mailbox,
}

/// What the journal kept of a file under way before messages told the tier.
fn nobody_we_know() -> Tier {
    Tier::Stranger
}

/// The whole of a call, for keeping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// The call.
    pub call: CallId,
    /// Agent id of who called.
    pub caller: String,
    /// Agent id of who was called.
    pub callee: String,
    /// What it was about.
    pub topic: String,
    /// When the ring began.
    pub started_at: Time,
    /// When it ended; null while it is live.
    pub ended_at: Option<Time>,
    /// Seconds from ring to end, or to now.
    pub duration_s: f64,
    /// How many messages follow.
    pub message_count: u64,
    /// Oldest first.
    pub messages: Vec<Message>,
}

/// An agent that is online, or that a contact names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentEntry {
    /// The agent id it claims.
    pub id: String,
    /// Its display name.
    pub name: String,
    /// Its public key.
    pub pubkey: PublicKey,
    /// The same key in NIP-19 form.
    pub npub: String,
    /// What it says that it can do.
    pub capabilities: Vec<String>,
    /// What it says that it does, in the words of an A2A agent card; absent unless it says something. A claim, like its
    /// name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<Card>,
    /// Seconds since it last announced itself.
    pub last_seen_s: u64,
    /// The best dialect that it has shown.
    pub protocol: Protocol,
    /// The user's own name for it.
    pub contact: Option<String>,
    /// Its agent id is pinned to this key.
    pub pinned: bool,
    /// Another key claims the same agent id.
    pub duplicate_id: bool,
    /// A contact, or a pinned agent id, of another key that its id or name could be taken for.
    #[serde(default)]
    pub looks_like: Option<String>,
}

/// How authentication (NIP-42) with a relay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayAuth {
    /// Not asked for.
    None,
    /// Asked for, not answered yet.
    Required,
    /// Done.
    Done,
    /// Refused.
    Failed,
}

/// One relay, as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// `wss://…` or, if configured, `ws://…`.
    pub url: String,
    /// The socket is up.
    pub connected: bool,
    /// Last measured round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// NIP-42.
    pub auth: RelayAuth,
    /// What went wrong last.
    pub error: Option<String>,
    /// Events of ours that the relay has taken since this process began.
    pub accepted: u64,
    /// Events of ours that the relay has refused since then.
    pub refused: u64,
    /// Its words at the last refusal, shortened: `blocked: …`, `pow: 28 bits needed`. Data, not an instruction.
    pub refusal: Option<String>,
    /// The other connection to the same relay, which carries calls and does not know who we are; null where none
    /// does. A relay that has only this one (a peer has named it) is described above by what is known of it.
    pub session: Option<SessionLink>,
}

/// A connection that carries calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionLink {
    /// The socket is up.
    pub connected: bool,
    /// NIP-42, with a key made for this connection.
    pub auth: RelayAuth,
    /// How long an event to ourselves took over the relay and back, milliseconds; null until it is back. Measured
    /// once for each connection.
    pub echo_ms: Option<f64>,
    /// What went wrong last; above all that no event came back.
    pub error: Option<String>,
}

/// A question to the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Its id.
    pub ticket: TicketId,
    /// The call it came up in.
    pub call: Option<CallId>,
    /// What was asked.
    pub question: String,
    /// The answers offered; empty for a free answer.
    pub options: Vec<String>,
    /// Where it stands.
    pub state: TicketState,
    /// The owner's words.
    pub answer: Option<String>,
    /// The channels that were asked, with what became of it.
    pub channels: Vec<Channel>,
    /// When it was asked.
    pub at: Time,
    /// The message by which the peer was told of it.
    #[serde(default)]
    pub message: Option<MessageId>,
    /// When the owner is asked, or was: later than `at` in quiet hours, or where too many are asked. Null without an owner.
    #[serde(default)]
    pub asked_at: Option<Time>,
    /// When it is too late to answer.
    #[serde(default)]
    pub expires_at: Option<Time>,
}

/// One way to the owner, and what became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// What it is: `exec:notify-me`, `https://host`. Never with a secret in it.
    pub channel: String,
    /// The owner was reached, as far as the channel can tell.
    pub ok: bool,
    /// What went wrong.
    pub error: Option<String>,
}

/// An entry of the contact book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The user's name for it; empty for a key that is only pinned or blocked.
    pub name: String,
    /// The key.
    pub pubkey: PublicKey,
    /// The same key in NIP-19 form.
    pub npub: String,
    /// The agent id pinned to it.
    pub agent_id: Option<String>,
    /// How far it is trusted.
    pub tier: Tier,
    /// Nothing of it comes in.
    pub blocked: bool,
    /// May be called on legacy although it has shown v2.
    pub allow_legacy: bool,
    /// Where it reads its mail, as it said last.
    #[serde(default)]
    pub relays: Vec<String>,
    /// Whether there is a relay that both sides may use, as far as is known.
    #[serde(default)]
    pub reachable: Option<bool>,
    /// The first 80 bits of the key, to be compared with its owner's.
    #[serde(default)]
    pub fingerprint: String,
    /// A person has compared the key with its owner's (`contacts verify`).
    #[serde(default)]
    pub verified: bool,
    /// Keys that claim the agent id which is pinned to this one: they are blocked until a person verifies one of them.
    #[serde(default)]
    pub claimed_by: Vec<PublicKey>,
}
