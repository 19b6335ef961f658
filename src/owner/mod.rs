//! L2, the human owner: which questions are open, when they are put, and the ways that carry them.
//!
//! ```text
//!   escalate ──► plan ──► at once ─────────────────────► a job a way ──► carried ──► done
//!                  └────► later, with others (digest) ──►      ▲            └──► tried again
//!                                                              └── due ─────────────────┘
//! ```
//!
//! A question goes to every configured way, in their order, each with what became of it. Only a way that the user
//! configured, or the user at a terminal, brings a decision; silence is *no decision*, never a yes.
//!
//! * `nostr:KEY` — a private message (NIP-17). The owner replies with any client. The engine carries it (`engine/owner`).
//! * `exec:PROGRAM` — runs the program, without a shell, with one JSON object on its standard input. If it prints a JSON
//!   object with `"answer"`, that is the owner's decision.
//! * `https://…` (or `http://` on this machine) — POSTs the same JSON, signed ([`webhook`]).
//! * `telegram:123` and the like — OpenClaw's channels, by its command; `apprise:URL` — by PyPI apprise; `desktop`. These
//!   go one way ([`programs`]).
//!
//! What is carried never stands on a command line or in a URL: other users of the machine see those, and they stay in
//! logs. Where a program takes its message in no other way, the message says that there is a question, and not which.
//!
//! Rooms: `desk` (what is open and when it is due, pure), `way` (what a setting names), `programs` and `webhook` (how it is
//! carried), `words` (what the owner reads).

mod desk;
mod programs;
mod way;
mod webhook;
mod words;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::desk::{Desk, JobId, Peer, Plan};
pub use self::programs::runs_in_python;
pub use self::way::Way;
pub use self::words::{Became, which};
use crate::api;
use crate::proto::{CallId, Direction, Hex, Millis, PublicKey, QuietHours, TicketId};
use crate::store::WayId;

/// A question on its way to the owner.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// Its id: the answer names it.
    pub ticket: TicketId,
    /// The agent that asks.
    pub agent: String,
    /// What it asks.
    #[serde(rename = "question")]
    pub words: String,
    /// The answers offered; empty for a free answer.
    pub options: Vec<String>,
    /// The call it came up in.
    pub call: Option<CallId>,
    /// The other agent. What it is called is its own claim, unless it is a contact.
    pub peer: Option<api::Peer>,
    /// The call's topic.
    pub topic: String,
    /// Whose words the topic is: `in` is the peer's.
    #[serde(rename = "topic_by", serialize_with = "as_author")]
    pub direction: Option<Direction>,
    /// When it is too late to answer.
    #[serde(serialize_with = "as_time")]
    pub expires_at: Millis,
}

fn as_time<S: serde::Serializer>(millis: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
    api::Time(*millis).serialize(serializer)
}

#[expect(clippy::ref_option, reason = "as serde hands it over")]
fn as_author<S: serde::Serializer>(direction: &Option<Direction>, serializer: S) -> Result<S::Ok, S::Error> {
    direction
        .map(|direction| match direction {
            Direction::In => "peer",
            Direction::Out => "agent",
        })
        .serialize(serializer)
}

/// Several questions in one message.
#[derive(Debug, Clone, Serialize)]
pub struct Digest {
    /// The agent that asks.
    pub agent: String,
    /// The questions.
    pub questions: Vec<Question>,
    /// How many more there are: they wait at `owner show`.
    pub more: usize,
}

/// Something that the owner should know, and that asks for no decision.
#[derive(Debug, Clone, Serialize)]
pub struct Notice {
    /// The agent.
    pub agent: String,
    /// What it is.
    #[serde(flatten)]
    pub news: News,
}

/// What a notice tells.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum News {
    /// Strangers beyond their limits. Numbers only: nothing that they wrote.
    Strangers(api::Strangers),
    /// The owner is reached in other ways from now on: these.
    Ways(Vec<String>),
}

/// What is carried in one message.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Parcel {
    /// One question.
    Question(Question),
    /// Several.
    Digest(Digest),
    /// None.
    Notice(Notice),
}

/// What is to be carried, and how.
#[derive(Debug, Clone)]
pub struct Errand {
    /// Which job of the desk; none for a notice.
    pub job: Option<JobId>,
    /// The way.
    pub way: Way,
    /// What.
    pub parcel: Parcel,
    /// The same each time that it is tried: the other side knows a repetition by it.
    pub id: String,
    /// When it is tried, seconds.
    pub at: u64,
    /// What signs it, where the way is a webhook.
    pub secret: Option<Vec<u8>>,
}

/// What a way reports to the engine.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which job of the desk.
    pub job: JobId,
    /// The questions that were in it.
    pub asked: Vec<TicketId>,
    /// Why the owner was not reached, or the decisions that the way brought, by question; of a single question, one
    /// without a name.
    pub outcome: Result<Vec<(Option<TicketId>, String)>, String>,
}

impl Errand {
    /// Carries it.
    ///
    /// # Errors
    /// Why the owner was not reached, in words.
    pub async fn run(&self) -> Result<Vec<(Option<TicketId>, String)>, String> {
        self.way.carry(self).await.map_err(|error| error.to_string())
    }
}

/// A configured way.
#[derive(Debug, Clone)]
pub struct Configured {
    /// What rows of the database call it: they do not hold its setting, which may be secret.
    pub id: WayId,
    /// What it is.
    pub way: Way,
}

/// The configured ways, and the questions that are open.
#[derive(Debug, Default)]
pub struct Channels {
    ways: Vec<Configured>,
    /// What became of the last message, by way.
    last: BTreeMap<WayId, Option<String>>,
    /// When the owner is left alone.
    pub quiet: Option<QuietHours>,
    /// What is open, and when it is due.
    pub desk: Desk,
}

impl Channels {
    /// Ways as the settings name them.
    pub fn new(settings: &[String], me: &PublicKey) -> Self {
        let mut channels = Self::default();
        channels.configure(settings, me);
        channels
    }

    /// Takes other ways from now on. The agent's own key is no way: nobody would read it.
    pub fn configure(&mut self, settings: &[String], me: &PublicKey) {
        self.ways.clear();
        for text in settings {
            let configured = Configured { id: way::id(text), way: Way::parse(text, me) };
            if self.ways.iter().all(|way| way.id != configured.id) {
                self.ways.push(configured);
            }
        }
        self.last.clear();
        for Configured { way, .. } in &self.ways {
            if let Some(flaw) = way.flaw() {
                tracing::warn!(%way, %flaw, "the owner is not reached by this way");
            }
        }
    }

    /// The ways, in their order.
    pub fn ways(&self) -> &[Configured] {
        &self.ways
    }

    /// A way that is configured.
    pub fn way(&self, id: &WayId) -> Option<&Way> {
        self.ways.iter().find(|way| way.id == *id).map(|way| &way.way)
    }

    /// How each way is, as far as can be told without a question.
    pub fn state(&self) -> Vec<api::Channel> {
        let state = |Configured { id, way }: &Configured| {
            let last = || self.last.get(id).cloned().flatten();
            let error = way.flaw().map(|flaw| flaw.to_string()).or_else(last);
            api::Channel { channel: way.to_string(), ok: error.is_none(), error }
        };
        self.ways.iter().map(state).collect()
    }

    /// A way has carried something, or has not.
    pub fn note(&mut self, way: &WayId, error: Option<String>) {
        // Only of those that are configured, so that it does not grow.
        if self.way(way).is_some() {
            self.last.insert(*way, error);
        }
    }

    /// No way is configured.
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    /// A webhook is among them: there has to be something to sign with.
    pub fn needs_secret(&self) -> bool {
        self.ways.iter().any(|way| matches!(way.way, Way::Webhook(_)))
    }

    /// Whether this key is an owner's: what it says is about our questions, and decides them.
    pub fn is_owner(&self, key: &PublicKey) -> bool {
        self.ways.iter().any(|way| matches!(&way.way, Way::Nostr(owner) if owner == key))
    }
}

/// The name of a message without a question.
pub fn notice_id(at: Millis) -> String {
    format!("msg_{}", Hex(at.0.to_be_bytes()))
}
