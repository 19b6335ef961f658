//! What the engine answers, one type per shape of `docs/cli.md`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command::Command;
use super::event::Event;
use super::metrics::Metrics;
use super::types::{AgentEntry, Call, Channel, Contact, Message, RelayStatus, Ticket, Transcript};
use super::{Error, Time};
use crate::proto::{PublicKey, StrangerPolicy, Tier};

/// Who this home is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSelf {
    /// The agent id.
    pub id: String,
    /// The display name.
    pub name: String,
    /// The public key.
    pub pubkey: PublicKey,
    /// The same key in NIP-19 form.
    pub npub: String,
    /// What it announces that it can do.
    pub capabilities: Vec<String>,
    /// The home folder.
    pub home: String,
    /// The first 80 bits of the key, to be told to whoever wants to verify it.
    #[serde(default)]
    pub fingerprint: String,
}

/// The process that runs the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// Version of the package.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_s: f64,
    /// The file that it runs, as it was at the start; none where the system does not say.
    #[serde(default)]
    pub code: Option<Code>,
}

/// A file with code: the program, or the extension module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Its path.
    pub file: String,
    /// When it was changed last.
    pub modified: Time,
    /// Bytes.
    pub size: u64,
}

/// How many messages wait for a relay, and how many failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxCount {
    /// Not yet taken by any relay.
    pub queued: u64,
    /// Failed for good.
    pub failed: u64,
}

/// Reply to `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Who this home is.
    pub agent: AgentSelf,
    /// The process that answers.
    pub daemon: DaemonInfo,
    /// Every configured relay.
    pub relays: Vec<RelayStatus>,
    /// At least one relay is connected.
    pub connected: bool,
    /// How far the clock is off, seconds; null without data.
    pub clock_offset_s: Option<f64>,
    /// Live calls, newest first.
    pub calls: Vec<Call>,
    /// Messages of peers that nobody read yet.
    pub unread: u64,
    /// What waits to leave.
    pub outbox: OutboxCount,
    /// The ways to the owner, in the order in which they are tried: whether each could be used now, and what became of
    /// the last question since this process began. A daemon of an older version does not say.
    #[serde(default)]
    pub owner: Vec<Channel>,
    /// Who is let in.
    #[serde(default)]
    pub door: DoorPolicy,
}

/// What the user wants for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DoorPolicy {
    /// What becomes of calls and mail of strangers.
    pub strangers: StrangerPolicy,
    /// Whose calls are taken without asking: of this tier and above; nobody's if null.
    pub auto_accept: Option<Tier>,
}

/// Reply to `list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentList {
    /// Most recently seen first.
    pub agents: Vec<AgentEntry>,
}

/// Reply to `call`, `answer`, `await-call`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReply {
    /// The call as it stands.
    #[serde(flatten)]
    pub call: Call,
    /// The command had been carried out before; nothing was done again.
    #[serde(default)]
    pub already: bool,
    /// The time was up; nothing is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timeout: bool,
}

/// Reply to `await-message`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReply {
    /// The message as it stands.
    #[serde(flatten)]
    pub message: Message,
    /// The time was up; nothing is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timeout: bool,
}

/// Reply to `escalate`, `await-ticket`, `owner-reply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketReply {
    /// The ticket as it stands.
    #[serde(flatten)]
    pub ticket: Ticket,
    /// The time was up; the ticket stays open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timeout: bool,
}

/// Reply to `end`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndReply {
    /// The call, ended.
    pub call: Call,
    /// It had ended before.
    pub already: bool,
    /// What was said.
    pub transcript: Transcript,
}

/// Reply to `inbox`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inbox {
    /// Calls to answer.
    pub ringing: Vec<Call>,
    /// Messages of peers that nobody read yet.
    pub unread: Vec<Message>,
    /// Calls that nobody answered and nobody looked at yet.
    pub missed: Vec<Call>,
    /// The owner's decisions that nobody took yet.
    pub answers: Vec<Ticket>,
    /// Strangers' calls that wait for the user's leave.
    pub queue: Vec<Call>,
    /// Strangers' mail that waits for it: shown as messages once its sender is a contact, or its call is taken.
    #[serde(default)]
    pub mail: Vec<Message>,
    /// Questions that the owner has not decided yet.
    #[serde(default)]
    pub questions: Vec<Ticket>,
}

/// Reply to `wait`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitReply {
    /// Where to continue: `--after` this.
    pub cursor: u64,
    /// What happened; null if the time was up.
    pub event: Option<Event>,
    /// Those after it, as far as they were asked for and are there; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<Event>,
    /// The time was up; nothing is lost.
    pub timeout: bool,
}

/// Reply to `messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// The end of the journal at this moment: what comes later is after it.
    pub cursor: u64,
    /// Oldest first.
    pub messages: Vec<Message>,
}

/// Reply to `calls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Newest first.
    pub calls: Vec<Call>,
}

/// Reply to `contacts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contacts {
    /// By name.
    pub contacts: Vec<Contact>,
}

/// Reply to `questions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// Oldest first; at most the newest 100.
    pub questions: Vec<Ticket>,
}

/// Reply to what only has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// When the commit was done.
    pub at: Time,
}

macro_rules! replies {
    ($($variant:ident),+ $(,)?) => {
        /// A reply. Its JSON is that of the type inside: the command says which one it is.
        #[expect(clippy::large_enum_variant, reason = "a reply is made once and handed on; boxing would only hide it")]
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Reply {
            $(#[doc = concat!("See [`", stringify!($variant), "`].")] $variant($variant),)+
        }

        $(
            impl From<$variant> for Reply {
                fn from(reply: $variant) -> Self {
                    Self::$variant(reply)
                }
            }

            impl TryFrom<Reply> for $variant {
                type Error = Error;

                fn try_from(reply: Reply) -> Result<Self, Error> {
                    match reply {
                        Reply::$variant(reply) => Ok(reply),
                        other => Err(Error::internal(format_args!("unexpected reply: {other:?}"))),
                    }
                }
            }
        )+
    };
}

replies! {
    Status, AgentList, CallReply, Message, MessageReply, TicketReply, EndReply, Inbox, WaitReply, Messages,
    Transcript, Calls, Contacts, Questions, Metrics, Done,
}

impl Reply {
    /// Reads the reply to `command` from its JSON, as it came over the socket.
    ///
    /// # Errors
    /// `internal` if the JSON is not of the shape that the command answers with.
    pub fn decode(command: &Command, json: Value) -> Result<Self, Error> {
        fn read<T: serde::de::DeserializeOwned + Into<Reply>>(json: Value) -> Result<Reply, Error> {
            serde_json::from_value::<T>(json).map(Into::into).map_err(Error::internal)
        }
        match command {
            Command::Status {} => read::<Status>(json),
            Command::List { .. } => read::<AgentList>(json),
            Command::Call { .. } | Command::Answer { .. } | Command::AwaitCall { .. } => {
                read::<CallReply>(json)
            }
            Command::Send { .. } | Command::SendFile { .. } | Command::CancelFile { .. } => {
                read::<Message>(json)
            }
            Command::AwaitMessage { .. } => read::<MessageReply>(json),
            Command::Escalate { .. }
            | Command::AwaitTicket { .. }
            | Command::AwaitWays { .. }
            | Command::OwnerTest {}
            | Command::OwnerReply { .. } => read::<TicketReply>(json),
            Command::End { .. } => read::<EndReply>(json),
            Command::Inbox {} => read::<Inbox>(json),
            Command::Wait { .. } | Command::Untaken { .. } => read::<WaitReply>(json),
            Command::Messages { .. } => read::<Messages>(json),
            Command::Transcript { .. } => read::<Transcript>(json),
            Command::Calls { .. } => read::<Calls>(json),
            Command::Contacts {} | Command::ContactEdit(_) => read::<Contacts>(json),
            Command::Questions {} => read::<Questions>(json),
            Command::Metrics {} => read::<Metrics>(json),
            Command::Commit { .. } | Command::MarkRead { .. } | Command::Pass { .. } | Command::Reload {} => {
                read::<Done>(json)
            }
        }
    }
}
