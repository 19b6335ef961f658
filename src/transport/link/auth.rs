//! Telling a relay who we are (NIP-42). One answer at a time: some relays send a challenge for every REQ that they
//! turn away, and the first accepted answer settles them all.

use std::time::Duration;

use nostr_sdk::{ClientMessage, EventBuilder, JsonUtil, Tag, TagKind};
use tokio::time::Instant;

use super::Now;
use super::subscription::claimed_id;
use crate::api::RelayAuth;
use crate::proto::EventId;
use crate::transport::identity::Identity;
use crate::transport::url::RelayId;

/// Answers on one connection. One is the rule, a second follows a challenge that was replaced; a relay that asks
/// more often is asking in a circle.
const MAX_ANSWERS: u32 = 3;

/// The longest challenge that is signed. They are random tokens of some dozen characters.
const MAX_CHALLENGE: usize = 1_024;

/// NIP-42's kind.
const KIND: u16 = 22_242;

pub(super) struct Auth {
    pub state: RelayAuth,
    /// When it was done.
    pub done_at: Option<Instant>,
    answers: u32,
    /// The answer under way, and until when the relay has time for it.
    asked: Option<(EventId, Instant)>,
    /// A challenge that came meanwhile.
    next: Option<String>,
}

/// What became of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    Refused,
    /// Refused, but there is a newer challenge, which this message answers.
    Again(String),
}

impl Auth {
    pub(super) fn new() -> Self {
        Self { state: RelayAuth::None, done_at: None, answers: 0, asked: None, next: None }
    }

    /// A challenge came. Returns the message to send; none if it has to wait or is not worth an answer.
    pub(super) fn challenge(
        &mut self,
        identity: &Identity,
        relay: &RelayId,
        challenge: &str,
        now: Now,
        within: Duration,
    ) -> Option<String> {
        if challenge.len() > MAX_CHALLENGE || self.is_exhausted() {
            return None;
        }
        if self.asked.is_some() {
            self.next = Some(challenge.to_owned());
            return None;
        }
        let tags = [("relay", relay.as_str()), ("challenge", challenge)]
            .map(|(name, value)| Tag::custom(TagKind::custom(name), [value]));
        let event = EventBuilder::new(KIND.into(), "").tags(tags).custom_created_at(now.unix.into());
        let event = event.sign_with_keys(identity.keys()).ok()?;
        self.answers += 1;
        self.asked = Some((claimed_id(&event), now.instant + within));
        self.state = RelayAuth::Required;
        Some(ClientMessage::auth(event).as_json())
    }

    /// Whether the relay has had all the answers it gets.
    pub(super) fn is_exhausted(&self) -> bool {
        self.answers >= MAX_ANSWERS
    }

    pub(super) fn is_pending(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether an OK is about our answer.
    pub(super) fn is_about(&self, id: &EventId) -> bool {
        self.asked.as_ref().is_some_and(|(asked, _)| asked == id)
    }

    /// The relay has let the time for its OK pass. Some never say one (PyPI nostr-relay): what it serves from now on tells
    /// whether it knows us, so it is taken for a yes.
    pub(super) fn unanswered(&mut self, now: Now) {
        self.asked = None;
        self.next = None;
        self.state = RelayAuth::Done;
        self.done_at = Some(now.instant);
    }

    /// The relay decided on our answer.
    pub(super) fn decided(
        &mut self,
        accepted: bool,
        identity: &Identity,
        relay: &RelayId,
        now: Now,
        within: Duration,
    ) -> Answer {
        self.asked = None;
        let next = self.next.take();
        if accepted {
            self.state = RelayAuth::Done;
            self.done_at = Some(now.instant);
            return Answer::Accepted;
        }
        let again = next.and_then(|challenge| self.challenge(identity, relay, &challenge, now, within));
        match again {
            Some(message) => Answer::Again(message),
            None => {
                self.state = RelayAuth::Failed;
                Answer::Refused
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asked.as_ref().map(|(_, by)| *by)
    }

    /// We did not listen for a while: the relay gets its time again.
    pub(super) fn extend(&mut self, by: Duration) {
        if let Some((_, deadline)) = &mut self.asked {
            *deadline += by;
        }
    }
}
