//! A conversation with a relay that may say anything (see [`crate::fuzz`]).

use std::time::Duration;

use tokio::time::Instant;

use super::conversation::Conversation;
use super::{Leave, Link, Now};

/// One connection's conversation, driven by hand.
pub(in crate::transport) struct Relayed<'a> {
    conversation: Conversation<'a>,
    now: Now,
    /// Names of the subscriptions that were opened, in order.
    subscriptions: Vec<String>,
}

/// The connection is over.
#[derive(Debug)]
pub(in crate::transport) struct Over;

impl<'a> Relayed<'a> {
    pub(in crate::transport) fn new(link: &'a Link, instant: Instant, unix: u64) -> Self {
        let now = Now { instant, unix };
        let conversation = Conversation::new(link, now);
        let mut relayed = Self { conversation, now, subscriptions: Vec::new() };
        relayed.drain();
        relayed
    }

    pub(in crate::transport) fn unix(&self) -> u64 {
        self.now.unix
    }

    /// A frame comes; `%n` in it is the name of the n-th subscription, counted from the newest.
    pub(in crate::transport) fn receive(&mut self, text: &str) -> Result<(), Over> {
        let mut text = text.to_owned();
        for (place, name) in self.subscriptions.iter().rev().take(10).enumerate() {
            text = text.replace(&format!("%{place}"), name);
        }
        let outcome = self.conversation.receive(&text, self.now);
        self.conversation.alive();
        self.after(outcome)
    }

    pub(in crate::transport) fn pass(&mut self, time: Duration) -> Result<(), Over> {
        self.now.instant += time;
        self.now.unix += time.as_secs();
        let outcome = self.conversation.tick(self.now);
        if self.conversation.take_ping() {
            self.conversation.pong(self.now);
        }
        let outcome = self.after(outcome);
        assert!(
            outcome.is_err() || self.conversation.deadline(self.now) > self.now.instant,
            "a deadline that has passed is gone after a tick"
        );
        outcome
    }

    fn after(&mut self, outcome: Result<(), Leave>) -> Result<(), Over> {
        self.drain();
        outcome.map_err(|leave| {
            self.conversation.end(&leave);
            self.drain();
            Over
        })
    }

    fn drain(&mut self) {
        while let Some(frame) = self.conversation.next_frame(self.now) {
            let parsed = serde_json::from_str::<Vec<serde_json::Value>>(&frame);
            if let Ok([verb, name, ..]) = parsed.as_deref()
                && verb == "REQ"
                && let Some(name) = name.as_str()
            {
                self.subscriptions.push(name.to_owned());
            }
        }
        while self.conversation.next_delivery().is_some() {}
    }
}
