//! Announcing this agent: every 110 ± 10 s, with a `created_at` that always rises.

use std::time::Duration;

use tokio::time::Instant;

use super::clock;
use super::core::Core;
use super::effects::Effect;
use crate::proto::presence::{AHEAD_LIMIT, CONTENT_LIMIT, Content, ONLINE_FOR, V2};
use crate::proto::v2::signal::VERSION;
use crate::proto::{CARD_LIMIT, Card, EventId, Millis, read_skill};
use crate::store;
use crate::transport::{Signed, presence};

/// Users are promised two minutes.
const PERIOD: Duration = Duration::from_secs(100);
/// Agents that started together shall not announce themselves together.
const JITTER: Duration = Duration::from_secs(20);
/// How long the first announcement waits for relays that agree what time it is. They say it as they are connected; a
/// presence dated by a clock that is hours ahead would be turned away.
const CLOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Where the last `created_at` is remembered.
const META: &str = "presence_at";

/// How long until the next announcement.
pub(super) fn pause() -> Duration {
    PERIOD + Duration::from_millis(clock::below(JITTER.as_millis() as u64))
}

/// When this agent announces itself next.
#[derive(Debug)]
pub(super) struct Announcer {
    next_at: Instant,
    last: Option<(EventId, u64)>,
}

impl Announcer {
    /// The first announcement is due at once.
    pub(super) fn new() -> Self {
        Self { next_at: Instant::now(), last: None }
    }

    pub(super) fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Something that others should see has changed.
    pub(super) fn soon(&mut self) {
        self.next_at = Instant::now();
    }
}

impl Core {
    pub(super) fn announce_if_due(&mut self, now: Millis) -> Result<(), store::Error> {
        let instant = Instant::now();
        let patient_until = self.started + CLOCK_PATIENCE;
        if self.announcer.last.is_none() && instant < patient_until {
            if !self.clock_agreed {
                self.announcer.next_at = patient_until;
                return Ok(());
            }
        } else if self.announcer.next_at > instant {
            return Ok(());
        }
        self.announcer.next_at = instant + pause();
        self.publish_inbox(now);
        let mut content = Content {
            agent_id: self.me.agent_id.clone(),
            name: self.me.name.clone(),
            capabilities: self.settings.capabilities.clone(),
            timestamp: Some(now.0),
            p2p: Some(V2 {
                v: vec![VERSION],
                inbox: self.own_inbox(),
                pow: self.asked_work(),
                rotations: self.rotations.clone(),
            }),
            card: self.card(),
        };
        let mut json = content.to_json();
        if json.len() > CONTENT_LIMIT && content.card.take().is_some() {
            tracing::warn!(bytes = json.len(), "the announcement is too long for its description and skills");
            json = content.to_json();
        }
        if self.identity.is_in(json.as_bytes()) {
            tracing::warn!("the name or a capability holds the agent's own secret key: nothing is announced");
            return Ok(());
        }
        let created_at = above(self.store.meta(META)?.unwrap_or(0), now.as_secs());
        let announcement = presence::Announcement {
            agent_id: &self.me.agent_id,
            capabilities: &self.settings.capabilities,
            content: &json,
            expires: created_at + ONLINE_FOR.as_secs(),
            unlisted: false,
            version: Some(VERSION),
        };
        match presence::sign(&self.identity, &announcement, created_at) {
            Ok(signed) => {
                self.store.set_meta(META, created_at)?;
                self.announcer.last = Some((signed.id, created_at));
                self.effects.push(Effect::Publish(signed));
            }
            Err(error) => tracing::warn!(%error, "this agent cannot be announced"),
        }
        Ok(())
    }

    /// What the user has this agent say that it does.
    fn card(&self) -> Option<Card> {
        let settings = &self.settings;
        // The settings were checked as they were read.
        let skills = settings.skills.iter().filter_map(|line| read_skill(line).ok()).collect();
        let card = Card { description: settings.description.clone().unwrap_or_default(), skills };
        let size = card.size();
        if size > CARD_LIMIT {
            tracing::warn!(size, limit = CARD_LIMIT, "description and skills are too long to be announced");
        }
        card.kept()
    }

    /// Takes the last announcement back, for an orderly stop.
    pub(super) fn retraction(&mut self, now: Millis) -> Option<Signed> {
        let (event, last) = self.announcer.last?;
        let created_at = now.as_secs().max(last + 1);
        // The next start announces itself above this.
        if let Err(error) = self.store.set_meta(META, created_at) {
            tracing::warn!(%error, "the time of the retraction is not kept");
        }
        presence::retract(&self.identity, event, &self.me.agent_id, false, created_at).ok()
    }
}

/// The time of the next announcement: above the last one, also over restarts. One that lies where no relay and no reader
/// follows was dated by a clock that was wrong: to stay above it would be to be seen by nobody until that time has come.
fn above(last: u64, now: u64) -> u64 {
    if last <= now + AHEAD_LIMIT.as_secs() { now.max(last + 1) } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn announcements_rise_unless_the_last_one_was_dated_by_a_clock_that_was_wrong() {
        assert_eq!(above(0, NOW), NOW);
        assert_eq!(above(NOW, NOW), NOW + 1);
        assert_eq!(above(NOW + 600, NOW), NOW + 601, "relays and readers follow so far");
        assert_eq!(above(NOW + 86_400, NOW), NOW);
    }
}
