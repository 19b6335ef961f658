//! What becomes of what we send: events of the outbox, one at a time and each until its OK, and frames, which wait for
//! none.

use tokio::time::Instant;
use tracing::debug;

use super::{Conversation, prefix, words};
use crate::proto::EventId;
use crate::transport::clock;
use crate::transport::inbound::{Inbound, Outcome, Published};
use crate::transport::link::{Delivery, Now, Role};

/// Our event that is with the relay.
pub(super) struct Flight {
    pub id: EventId,
    pub sent_at: Instant,
    pub decide_by: Instant,
    /// The relay wants to know us first.
    pub unauthenticated: bool,
}

impl Conversation<'_> {
    /// Sends the next event, if the relay is free for it.
    pub(in crate::transport::link) fn publish(&mut self, now: Now) {
        if self.flight.is_some() {
            return;
        }
        let mut desk = self.link.desk();
        if desk.pause.until(now.instant).is_some() {
            return;
        }
        let Some(event) = desk.outbox.take() else { return };
        drop(desk);
        self.effects.frames.push_back(event.message());
        self.flight = Some(Flight {
            id: event.id,
            sent_at: now.instant,
            decide_by: now.instant + self.link.tuning.ok_within,
            unauthenticated: false,
        });
    }

    /// The relay decided on an event, ours if it is honest.
    pub(super) fn decided(&mut self, id: EventId, accepted: bool, message: &str, now: Now) {
        if self.auth.is_about(&id) {
            return self.auth_decided(accepted, message, now);
        }
        let link = self.link;
        let tuning = &link.tuning;
        let Some(flight) = self.flight.as_mut().filter(|flight| flight.id == id) else {
            if matches!(link.role, Role::Sessions { .. }) {
                return self.frame_decided(&id, accepted, message, now);
            }
            link.desk().counters.stray_ok += 1;
            debug!(event = %id, "an OK for nothing in flight");
            return;
        };
        let sent_at = flight.sent_at;
        match prefix(message) {
            _ if accepted => {
                self.measured(now.instant - sent_at);
                self.settle(Outcome::Accepted, now);
            }
            "duplicate" => self.settle(Outcome::Accepted, now),
            "rate-limited" => {
                let mut desk = link.desk();
                desk.outbox.put_back();
                desk.pause.begin(now.instant, tuning.pause_first, tuning.pause_most);
                desk.status.error = Some(words(message));
                self.flight = None;
            }
            "auth-required" if self.auth.done_at.is_some_and(|done_at| sent_at < done_at) => self.resend(now),
            "auth-required" if self.auth.is_pending() || !self.auth.is_exhausted() => {
                flight.unauthenticated = true;
                flight.decide_by = now.instant + tuning.ok_within;
            }
            "error" => {
                let mut desk = link.desk();
                desk.status.error = Some(words(message));
                if desk.outbox.failed(tuning.tries_error) {
                    desk.pause.begin(now.instant, tuning.pause_first, tuning.pause_most);
                    self.flight = None;
                } else {
                    drop(desk);
                    self.settle(Outcome::Refused { reason: words(message) }, now);
                }
            }
            _ => self.settle(Outcome::Refused { reason: words(message) }, now),
        }
    }

    /// The relay said something about a frame. Nothing waits for it; a no tells what to expect of the next ones.
    fn frame_decided(&mut self, id: &EventId, accepted: bool, message: &str, now: Now) {
        if accepted || matches!(prefix(message), "duplicate" | "auth-required") {
            return;
        }
        if let Some(echo) = self.echo.as_mut().filter(|echo| echo.is_about(id)) {
            echo.missing(self.link, words(message), now);
        }
        debug!(message = words(message), "a frame was not taken");
        let mut desk = self.link.desk();
        desk.status.error = Some(words(message));
        if prefix(message) == "rate-limited" {
            desk.frames.rate_limited(now.instant);
        } else {
            desk.frames.doubt(now.instant + self.link.tuning.doubt);
        }
    }

    /// The event in flight is done with.
    pub(super) fn settle(&mut self, outcome: Outcome, now: Now) {
        let Some(flight) = self.flight.take() else { return };
        let mut desk = self.link.desk();
        desk.outbox.settle();
        desk.pause.end();
        match &outcome {
            Outcome::Accepted => desk.status.accepted += 1,
            Outcome::Refused { reason } => {
                debug!(event = %flight.id, reason, "an event of ours was not taken");
                desk.status.refused += 1;
                desk.status.refusal = Some(reason.clone());
                desk.turned_away_for_time |= clock::is_about_time(reason);
            }
            // The outbox tells these by itself; a relay decides yes or no.
            Outcome::Unanswered | Outcome::Dropped | Outcome::Superseded => {}
        }
        drop(desk);
        self.published(flight.id, outcome);
        self.publish(now);
    }

    pub(super) fn resend(&mut self, now: Now) {
        self.flight = None;
        self.link.desk().outbox.put_back();
        self.publish(now);
    }

    pub(super) fn published(&mut self, id: EventId, outcome: Outcome) {
        let published = Published { relay: self.link.relay.clone(), id, outcome };
        self.effects.deliver.push_back(Delivery::Inbound(Inbound::Published(published)));
    }
}
