//! Whether a relay carries live events: one to ourselves, over the relay and back. Without it, a relay that takes
//! frames, says OK and delivers none is found out only in a call.
//!
//! ```text
//!   connected ─▶ REQ told to its end ─▶ sent ──▶ back: proven
//!                     ▲                  │
//!                     │                  └────▶ refused, or 10 s over: missing ──┐
//!                     └── a new REQ, authenticated, five minutes over ◀──────────┘
//! ```
//!
//! The event is what a frame is: of the same kind, and from and to a key that the relay has never seen authenticated.
//! A relay that serves this kind only to who has authenticated for it carries no session, and must not pass. The key is
//! made for the connection, so that it ties no two of them together. Pure.

use nostr_sdk::{Event, PublicKey, Tag};
use tokio::time::Instant;

use super::subscription::{Effects, claimed_id};
use super::{Link, Now, random_name};
use crate::proto::EventId;
use crate::transport::identity::Identity;
use crate::transport::signed::Signed;
use crate::transport::v2::WrapKind;

/// What it begins with: neither a frame (`#p2p1.`) nor a wrap (base64). Something random follows, for relays pass over an
/// event that they have seen.
const PREFIX: &str = "#p2p-echo.";

/// What is said of a relay from which none came back.
pub(in crate::transport) const MISSING: &str = "no echo of a live event";

/// What is known of the relay of this connection.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::transport) enum Proof {
    /// Nothing yet.
    #[default]
    Awaited,
    /// It came back, after so many milliseconds.
    Came(f64),
    /// It was refused, or its time is over.
    Missing(String),
}

pub(super) struct Echo {
    identity: Identity,
    /// The last one sent, and when.
    sent: Option<(EventId, Instant)>,
    /// When it is missing.
    by: Option<Instant>,
    /// When a missing one is sent again.
    again_at: Option<Instant>,
    back: bool,
}

impl Echo {
    pub(super) fn new(link: &Link, now: Now) -> Self {
        link.desk().proof = Proof::Awaited;
        let by = Some(now.instant + link.tuning.echo_within);
        Self { identity: Identity::generate(), sent: None, by, again_at: None, back: false }
    }

    /// Whom to listen for, as tags write it.
    pub(super) fn receiver(&self) -> String {
        self.identity.public_key().to_string()
    }

    /// Whether an event claims to be one of these. Nobody else has the key, so it is at best a copy.
    pub(super) fn is_ours(&self, event: &Event) -> bool {
        event.pubkey.to_bytes() == self.identity.public_key().0
    }

    /// Whether an OK is about the last one.
    pub(super) fn is_about(&self, id: &EventId) -> bool {
        self.sent.as_ref().is_some_and(|(sent, _)| sent == id)
    }

    /// Sends one, unless one has come back.
    pub(super) fn send(&mut self, link: &Link, now: Now, effects: &mut Effects) {
        if self.back {
            return;
        }
        let me = PublicKey::from_byte_array(self.identity.public_key().0);
        let kind = WrapKind::Ephemeral.number();
        let content = format!("{PREFIX}{}", random_name());
        let event = self.identity.sign(kind, content, vec![Tag::public_key(me)], now.unix);
        let Some(event) = event.ok().and_then(|event| Signed::try_from(event).ok()) else { return };
        effects.frames.push_back(event.message());
        self.sent = Some((event.id, now.instant));
        self.by = Some(now.instant + link.tuning.echo_within);
        self.again_at = None;
    }

    /// A live event of ours came. What the relay had stored of it proves nothing, nor does an older one.
    pub(super) fn came(&mut self, link: &Link, event: &Event, now: Now) {
        let Some((_, sent_at)) = self.sent.filter(|(id, _)| *id == claimed_id(event)) else { return };
        if !std::mem::replace(&mut self.back, true) {
            (self.by, self.again_at) = (None, None);
            let took = now.instant.saturating_duration_since(sent_at);
            link.desk().proof = Proof::Came(took.as_secs_f64() * 1_000.0);
        }
    }

    /// It will not come.
    pub(super) fn missing(&mut self, link: &Link, why: String, now: Now) {
        if !self.back {
            self.by = None;
            self.again_at = Some(now.instant + link.tuning.echo_again);
            link.desk().proof = Proof::Missing(why);
        }
    }

    /// Does what is due. Returns whether one is to be sent.
    pub(super) fn tick(&mut self, link: &Link, now: Now) -> bool {
        if self.by.is_some_and(|by| by <= now.instant) {
            self.missing(link, MISSING.into(), now);
        }
        self.again_at.take_if(|at| *at <= now.instant).is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by.or(self.again_at)
    }

    /// We did not listen for a while: the relay gets its time again.
    pub(super) fn extend(&mut self, by: std::time::Duration) {
        self.by = self.by.map(|at| at + by);
        self.sent = self.sent.map(|(id, at)| (id, at + by));
    }
}
