//! L1, the vocabulary of every front end: commands, replies, events, errors. Data only.
//!
//! A user-visible ability is one [`Command`], handled in the engine, with one verb of the command line and one
//! method of Python's `Agent`. Its JSON is the contract of `docs/cli.md` and `docs/ipc.md`: the engine's
//! `Handle` and the socket's `Client` answer the same [`Reply`] to the same command.

mod command;
mod error;
mod event;
mod json;
mod metrics;
mod reply;
mod time;
pub mod types;

pub use command::{Command, ContactEdit, DEFAULT_CONSUMER, call_id};
pub use error::{Error, ErrorKind};
pub use event::{Event, KeyChanged, Progress, RelayNote, Strangers};
pub use json::to_json;
pub use metrics::{Metric, MetricKind, Metrics, Sample};
pub use reply::{
    AgentList, AgentSelf, CallReply, Calls, Code, Contacts, DaemonInfo, Done, DoorPolicy, EndReply, Inbox,
    MessageReply, Messages, OutboxCount, Questions, Reply, Status, TicketReply, WaitReply,
};
pub use time::Time;
pub use types::{
    AgentEntry, Call, Channel, Contact, File, Message, Peer, RelayAuth, RelayStatus, SessionLink, Ticket,
    Transcript, Via,
};

pub use crate::proto::{
    CallState, Direction, EndReason, EventKind, MessageKind, MessageState, Protocol, Sender, TicketState,
    Tier,
};
