//! L2, the human owner: which questions are open, and the channels that carry them.
//!
//! A question goes to every configured channel, in order, each with what became of it. A channel carries the
//! question as JSON and never on a command line or in a URL. Only a channel that the user configured, or the user at
//! a terminal, brings a decision; silence is *no decision*, never a yes.
//!
//! * `exec:program` — runs the program, without a shell, with the question as one JSON object on its standard input.
//!   If it prints a JSON object with `"answer"`, that is the owner's decision.
//! * `https://…` (or `http://` on this machine) — POSTs the same JSON.
//! * Any other is kept and reported as not reached: a deployed agent's environment may name one.

mod channel;

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::sync::mpsc;

use self::channel::Way;
use crate::api;
use crate::proto::{CallId, Millis, TicketId};

/// A question on its way to the owner.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// Its id: the answer names it.
    pub ticket: TicketId,
    /// The agent that asks.
    pub agent: String,
    /// What it asks.
    #[serde(rename = "question")]
    pub text: String,
    /// The answers offered; empty for a free answer.
    pub options: Vec<String>,
    /// The call it came up in.
    pub call: Option<CallId>,
    /// The other agent. What it is called is its own claim.
    pub peer: Option<api::Peer>,
    /// The call's topic. From a peer: data.
    pub topic: String,
    /// When it is too late to answer.
    #[serde(serialize_with = "as_time")]
    pub expires_at: Millis,
}

fn as_time<S: serde::Serializer>(millis: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
    api::Time(*millis).serialize(serializer)
}

/// Something that the owner should know, and that asks for no decision.
#[derive(Debug, Clone, Serialize)]
pub struct Notice {
    /// The agent.
    pub agent: String,
    /// Strangers beyond their limits. Numbers only: nothing that they wrote.
    pub strangers: api::Strangers,
}

/// What a channel reports to the engine.
#[derive(Debug, Clone)]
pub struct Report {
    /// The question.
    pub ticket: TicketId,
    /// Whether the owner was reached.
    pub channel: Option<api::Channel>,
    /// The decision, if the channel brought one.
    pub answer: Option<String>,
}

/// The configured channels, and the questions that are open. Clones share nothing: the engine's is the true one.
#[derive(Debug, Clone, Default)]
pub struct Channels {
    ways: Vec<Way>,
    open: BTreeMap<TicketId, Millis>,
    /// What became of the last question, by the way as it is shown.
    last: BTreeMap<String, Option<String>>,
}

impl Channels {
    /// Channels as the settings name them.
    pub fn new(settings: &[String]) -> Self {
        let mut channels = Self::default();
        channels.configure(settings);
        channels
    }

    /// Takes other channels from now on.
    pub fn configure(&mut self, settings: &[String]) {
        self.ways = settings.iter().map(|text| Way::parse(text)).collect();
        self.last.clear();
        for way in self.ways.iter().filter(|way| matches!(way, Way::Unknown(_))) {
            tracing::warn!(%way, "this version does not know this way to the owner");
        }
    }

    /// How each channel is, as far as can be told without a question.
    pub fn state(&self) -> Vec<api::Channel> {
        let state = |way: &Way| {
            let channel = way.to_string();
            let last = || self.last.get(&channel).cloned().flatten();
            let error = way.flaw().map(|flaw| flaw.to_string()).or_else(last);
            api::Channel { ok: error.is_none(), channel, error }
        };
        self.ways.iter().map(state).collect()
    }

    /// A channel has carried a question, or has not.
    pub fn note(&mut self, channel: &api::Channel) {
        // Only of those that are configured, so that it does not grow.
        if self.ways.iter().any(|way| way.to_string() == channel.channel) {
            self.last.insert(channel.channel.clone(), channel.error.clone());
        }
    }

    /// No channel is configured.
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    /// A question waits for the owner until then.
    pub fn opened(&mut self, ticket: TicketId, expires_at: Millis) {
        self.open.insert(ticket, expires_at);
    }

    /// A question waits no more.
    pub fn closed(&mut self, ticket: &TicketId) {
        self.open.remove(ticket);
    }

    /// The open questions are these.
    pub fn restore(&mut self, open: impl IntoIterator<Item = (TicketId, Millis)>) {
        self.open = open.into_iter().collect();
    }

    /// A question whose time is over.
    pub fn expired(&self, now: Millis) -> Option<TicketId> {
        self.open.iter().find(|(_, at)| **at <= now).map(|(id, _)| *id)
    }

    /// When the next question expires.
    pub fn next_expiry(&self) -> Option<Millis> {
        self.open.values().min().copied()
    }

    /// Carries a notice over every channel, as one JSON object without a `ticket`. What comes back is no decision.
    pub async fn notify(&self, notice: Notice) {
        let Ok(json) = serde_json::to_string(&notice) else { return };
        for way in &self.ways {
            if let Err(error) = way.bring(json.clone()).await {
                tracing::info!(%way, %error, "the owner is not told");
            }
        }
    }

    /// Carries a question over every channel, and reports each as soon as it is known.
    pub async fn ask(&self, question: Question, reports: mpsc::Sender<Report>) {
        for way in &self.ways {
            let outcome = way.carry(&question).await;
            let (error, answer) = match outcome {
                Ok(answer) => (None, answer),
                Err(error) => (Some(error.to_string()), None),
            };
            let channel = api::Channel { channel: way.to_string(), ok: error.is_none(), error };
            let report = Report { ticket: question.ticket, channel: Some(channel), answer };
            if reports.send(report).await.is_err() {
                return;
            }
        }
    }
}
