//! Every user-visible ability, once: the engine handles it, the command line has a verb for it, `Agent` a method.
//!
//! On the socket a command is the `method` and the `params` of JSON-RPC 2.0 (`docs/ipc.md`).

use serde::{Deserialize, Serialize};

use super::{Error, ErrorKind};
use crate::proto::text::quote;
use crate::proto::{CallId, EventKind, MessageId, MessageState, TicketId, TraceParent};

/// The consumer that `wait` continues when no other is named.
pub const DEFAULT_CONSUMER: &str = "cli";

/// What a front end asks of the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Who am I, which relays, which calls. Reply: [`super::Status`].
    Status {},
    /// Who is online. Reply: [`super::AgentList`].
    List {
        /// Only agents that announce it.
        #[serde(default)]
        capability: Option<String>,
        /// At most this many.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Rings an agent, and returns once the ring is on its way. Reply: [`super::CallReply`].
    Call {
        /// Agent id, contact's name, npub, nprofile or hex key.
        agent: String,
        /// What it is about.
        #[serde(default)]
        topic: String,
        /// The caller's own name for the call: the same id again returns the same call.
        #[serde(default)]
        client_id: Option<String>,
        /// The trace that it is part of (W3C Trace Context): told to a callee of v2.
        #[serde(default)]
        traceparent: Option<TraceParent>,
    },
    /// Blocks until a call rings no more, or the time is up. Reply: [`super::CallReply`].
    AwaitCall {
        /// The call.
        call: CallId,
        /// Seconds.
        timeout_s: f64,
    },
    /// Accepts or rejects a ringing call. Reply: [`super::CallReply`].
    Answer {
        /// The call; the only one that rings if absent.
        #[serde(default)]
        call: Option<CallId>,
        /// Accept, or reject.
        accept: bool,
        /// Words for the caller, with a rejection.
        #[serde(default)]
        reason: String,
    },
    /// Says something. Returns once it is committed. Reply: [`super::types::Message`].
    Send {
        /// The words.
        text: String,
        /// The call; the only connected one if absent.
        #[serde(default)]
        call: Option<CallId>,
        /// An agent instead of a call.
        #[serde(default)]
        to: Option<String>,
        /// The sender's own id: the same id again is the same message.
        #[serde(default)]
        client_id: Option<MessageId>,
        /// Refuses at once if this state can never be known in the call's dialect.
        #[serde(default)]
        wait: Option<MessageState>,
        /// The trace that it is part of (W3C Trace Context): told to the peer in a call of v2.
        #[serde(default)]
        traceparent: Option<TraceParent>,
    },
    /// Sends a file: the bytes in base64, or a path on this machine. Reply: [`super::types::Message`].
    SendFile {
        /// The name that the peer sees; from the path if absent.
        #[serde(default)]
        name: Option<String>,
        /// The bytes, base64 (RFC 4648, padded).
        #[serde(default)]
        content: Option<String>,
        /// Or an absolute path.
        #[serde(default)]
        path: Option<String>,
        /// MIME type; guessed from the name if absent.
        #[serde(default)]
        mime: Option<String>,
        /// The call; the only connected one if absent.
        #[serde(default)]
        call: Option<CallId>,
        /// An agent instead of a call: without one, the file goes to its mailbox.
        #[serde(default)]
        to: Option<String>,
    },
    /// Cancels a file that is under way, one of ours or one of the peer's; both sides are told. Reply:
    /// [`super::types::Message`].
    CancelFile {
        /// The message that it is.
        message: MessageId,
    },
    /// Blocks until a message has come as far as `state` (or failed), or the time is up. Reply: [`super::MessageReply`].
    AwaitMessage {
        /// The message.
        message: MessageId,
        /// `relayed`, `delivered` or `read`.
        state: MessageState,
        /// Seconds.
        timeout_s: f64,
    },
    /// Asks the human owner, and tells the peer. Reply: [`super::TicketReply`].
    Escalate {
        /// The question.
        question: String,
        /// The answers offered; empty for a free answer.
        #[serde(default)]
        options: Vec<String>,
        /// The call; the only connected one, or none, if absent.
        #[serde(default)]
        call: Option<CallId>,
        /// Seconds until the ticket expires.
        #[serde(default)]
        expires_s: Option<f64>,
    },
    /// Blocks until the owner decided or the ticket expired, or the time is up. Reply: [`super::TicketReply`].
    AwaitTicket {
        /// The ticket.
        ticket: TicketId,
        /// Seconds.
        timeout_s: f64,
    },
    /// Blocks until every way to the owner has said what became of a ticket, or the time is up. Reply:
    /// [`super::TicketReply`].
    AwaitWays {
        /// The ticket.
        ticket: TicketId,
        /// Seconds.
        timeout_s: f64,
    },
    /// Ends a call, or takes back a ring. Reply: [`super::EndReply`].
    End {
        /// The call; the only live one if absent.
        #[serde(default)]
        call: Option<CallId>,
    },
    /// What waits for this agent. Marks nothing. Reply: [`super::Inbox`].
    Inbox {},
    /// Blocks until there is an event, or the time is up. Peeks: [`Command::Commit`] takes it. Reply: [`super::WaitReply`].
    Wait {
        /// Whose place in the journal to continue. Without a consumer, `after` is required.
        #[serde(default)]
        consumer: Option<String>,
        /// Only events after this cursor; 0 is the oldest kept.
        #[serde(default)]
        after: Option<u64>,
        /// Only events of this call.
        #[serde(default)]
        call: Option<CallId>,
        /// Only these kinds; empty is every kind that does not have to be asked for.
        #[serde(default)]
        kinds: Vec<EventKind>,
        /// How many further events that are there already the reply may bring, at most 256: who reads a stream reads ahead.
        #[serde(default)]
        ahead: usize,
        /// Seconds; 0 returns at once.
        timeout_s: f64,
    },
    /// Takes an event that `Wait` showed: the consumer does not see it again, and a message counts as read. Reply: [`super::Done`].
    Commit {
        /// Whose place moves; without one only the reading is noted.
        #[serde(default)]
        consumer: Option<String>,
        /// The event's cursor.
        cursor: u64,
    },
    /// Blocks until there is an event that nobody has taken, or the time is up: no consumer has passed it, and what it
    /// tells of is still open (the call rings, the message is unread). Of the last day only, and nothing that this side
    /// did itself. Takes nothing: it is what a wake is decided by. Reply: [`super::WaitReply`].
    Untaken {
        /// Only events after this cursor; 0 is the oldest kept.
        #[serde(default)]
        after: u64,
        /// Only these kinds; empty is every kind that does not have to be asked for.
        #[serde(default)]
        kinds: Vec<EventKind>,
        /// Seconds; 0 returns at once.
        timeout_s: f64,
    },
    /// Moves a consumer past an event and all before it. Nothing counts as read or looked at: for who only watches.
    /// Reply: [`super::Done`].
    Pass {
        /// Whose place moves.
        consumer: String,
        /// The event's cursor.
        cursor: u64,
    },
    /// Messages, the newest `limit`, oldest first. Reply: [`super::Messages`].
    Messages {
        /// Of this call only.
        #[serde(default)]
        call: Option<CallId>,
        /// Only those of peers that nobody read yet.
        #[serde(default)]
        unread: bool,
        /// At most this many.
        limit: usize,
    },
    /// Marks messages as read. Reply: [`super::Done`].
    MarkRead {
        /// Which.
        messages: Vec<MessageId>,
    },
    /// The whole of a call. Reply: [`super::types::Transcript`].
    Transcript {
        /// The call; the newest if absent.
        #[serde(default)]
        call: Option<CallId>,
    },
    /// Calls, newest first. Reply: [`super::Calls`].
    Calls {
        /// At most this many.
        limit: usize,
    },
    /// The contact book. Reply: [`super::Contacts`].
    Contacts {},
    /// Changes the contact book. Reply: [`super::Contacts`].
    ContactEdit(ContactEdit),
    /// Questions that a person may still decide. Reply: [`super::Questions`].
    Questions {},
    /// Asks the owner's channels a test question that needs no answer. Reply: [`super::TicketReply`].
    OwnerTest {},
    /// The owner's decision, from a terminal. Reply: [`super::TicketReply`].
    OwnerReply {
        /// The ticket.
        ticket: TicketId,
        /// The decision.
        answer: String,
    },
    /// Figures for whoever watches over the agent. Reply: [`super::Metrics`].
    Metrics {},
    /// Takes settings that changed in `config.toml`, those that count at once. Reply: [`super::Done`].
    Reload {},
}

impl Command {
    /// Every text in it that its sender chose freely, and that may be stored, shown to others or published. Not a
    /// file's bytes, which are looked at once they are decoded or read.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Self::List { capability, .. } => capability.iter().map(String::as_str).collect(),
            Self::Call { agent, topic, client_id, traceparent: _ } => {
                [agent, topic].into_iter().chain(client_id).map(String::as_str).collect()
            }
            Self::Answer { reason, .. } => vec![reason],
            Self::Send { text, to, .. } => [text].into_iter().chain(to).map(String::as_str).collect(),
            Self::SendFile { name, path, mime, .. } => {
                [name, path, mime].into_iter().flatten().map(String::as_str).collect()
            }
            Self::Escalate { question, options, .. } => {
                [question].into_iter().chain(options).map(String::as_str).collect()
            }
            Self::OwnerReply { answer, .. } => vec![answer],
            Self::Wait { consumer, .. } | Self::Commit { consumer, .. } => {
                consumer.iter().map(String::as_str).collect()
            }
            Self::Pass { consumer, .. } => vec![consumer],
            Self::ContactEdit(edit) => match edit {
                ContactEdit::Add { name, key } | ContactEdit::Verify { name, key } => vec![name, key],
                ContactEdit::Remove { name } => vec![name],
                ContactEdit::Block { key }
                | ContactEdit::Unblock { key }
                | ContactEdit::AllowLegacy { key } => vec![key],
            },
            // No wildcard: whoever adds a command says what is in it.
            Self::Status {}
            | Self::AwaitCall { .. }
            | Self::CancelFile { .. }
            | Self::AwaitMessage { .. }
            | Self::AwaitTicket { .. }
            | Self::AwaitWays { .. }
            | Self::End { .. }
            | Self::Inbox {}
            | Self::Untaken { .. }
            | Self::Messages { .. }
            | Self::MarkRead { .. }
            | Self::Transcript { .. }
            | Self::Calls { .. }
            | Self::Contacts {}
            | Self::Questions {}
            | Self::OwnerTest {}
            | Self::Metrics {}
            | Self::Reload {} => Vec::new(),
        }
    }
}

/// Reads the id of a call. What is no id names no call.
///
/// # Errors
/// `unknown-call`.
pub fn call_id(text: Option<&str>) -> Result<Option<CallId>, Error> {
    text.map(|text| {
        text.parse().map_err(|_| {
            Error::new(
                ErrorKind::UnknownCall,
                format!("there is no call {}", quote(text)),
                "an id has 16 hex characters; see: p2p-comm calls",
            )
        })
    })
    .transpose()
}

/// One change of the contact book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ContactEdit {
    /// Names a key; its agent id is pinned, if it announces one.
    Add {
        /// The user's name for it.
        name: String,
        /// npub, nprofile, hex, or an agent id that is online.
        key: String,
    },
    /// Forgets a name. What is pinned or blocked stays.
    Remove {
        /// The user's name for it.
        name: String,
    },
    /// Lets nothing of a key in.
    Block {
        /// The key, or a name for it.
        key: String,
    },
    /// Lets it in again.
    Unblock {
        /// The key, or a name for it.
        key: String,
    },
    /// Moves a name, and the agent id pinned with it, to another key, or confirms that it is this one.
    Verify {
        /// The contact's name or the pinned agent id.
        name: String,
        /// The right key.
        key: String,
    },
    /// Allows legacy calls to a key that has shown v2.
    AllowLegacy {
        /// The key, or a name for it.
        key: String,
    },
}
