//! What a link's actor and the pool share: the queue of events to publish, and how the link is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Now;
use super::echo::Proof;
use super::frames::Frames;
use super::outbox::Outbox;
use crate::api::{RelayStatus, SessionLink};
use crate::transport::class::Class;
use crate::transport::ingest::{Gate, Rejection};
use crate::transport::status::unknown;
use crate::transport::tuning::Tuning;
use crate::transport::url::RelayId;
use crate::transport::v2::inbox;

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) enum Role {
    /// Everything of the identity.
    Identity {
        /// Agents meet here: announcements, and the legacy dialect.
        meets: bool,
        /// Gift wraps to us are read here.
        inbox: bool,
    },
    /// Sessions; the identity is not known here.
    Sessions {
        /// Somebody else named the relay: only a public address is dialled.
        foreign: bool,
    },
}

impl Role {
    /// What is asked on such a link, in the order of the subscriptions.
    pub(in crate::transport) const fn classes(self) -> &'static [Class] {
        match self {
            Self::Identity { meets: true, inbox: true } => Class::OF_IDENTITY,
            Self::Identity { meets: true, inbox: false } => Class::OF_MEETING,
            Self::Identity { meets: false, inbox: true } => Class::OF_INBOX,
            Self::Identity { meets: false, inbox: false } => &[],
            Self::Sessions { .. } => Class::OF_SESSIONS,
        }
    }

    pub(in crate::transport) const fn is_identity(self) -> bool {
        matches!(self, Self::Identity { .. })
    }

    /// Whether an event of this kind is published here: everything of the identity's where agents meet; where only
    /// wraps are read, nothing but the list that says so.
    pub(in crate::transport) const fn publishes(self, kind: u16) -> bool {
        match self {
            Self::Identity { meets, .. } => meets || kind == inbox::KIND,
            Self::Sessions { .. } => true,
        }
    }

    /// Whether agents meet at this relay.
    pub(in crate::transport) const fn meets(self) -> bool {
        matches!(self, Self::Identity { meets: true, .. })
    }

    pub(in crate::transport) const fn is_foreign(self) -> bool {
        matches!(self, Self::Sessions { foreign: true })
    }
}

/// One relay, as its actor and the pool know it.
pub(in crate::transport) struct Link {
    pub relay: RelayId,
    pub role: Role,
    pub gate: Arc<Gate>,
    pub tuning: Arc<Tuning>,
    /// Wakes the actor when something was queued.
    pub queued: Notify,
    /// Ends its wait before it dials again.
    pub(super) nudged: Notify,
    desk: Mutex<Desk>,
}

impl Link {
    pub(in crate::transport) fn new(
        relay: RelayId,
        role: Role,
        gate: Arc<Gate>,
        tuning: Arc<Tuning>,
        cursors: [Option<u64>; Class::ALL.len()],
    ) -> Self {
        let desk = Mutex::new(Desk::new(&relay, cursors));
        Self { relay, role, gate, tuning, queued: Notify::new(), nudged: Notify::new(), desk }
    }

    /// Never held across an await. What it guards is consistent after each statement, so a panic elsewhere does
    /// not make it unusable.
    pub(in crate::transport) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The relay can be reached: no need to wait before it is dialled again. Changes nothing for one that is connected.
    pub(in crate::transport) fn nudge(&self) {
        self.nudged.notify_waiters();
    }

    /// Now, by the relay's clock where ours is off.
    pub(super) fn now(&self) -> Now {
        Now::read().by_clock(self.desk().clock_offset)
    }

    pub(super) fn failed(&self, error: impl Into<String>) {
        self.desk().status.error = Some(error.into());
    }
}

/// The shared part of a link's state.
pub(in crate::transport) struct Desk {
    pub outbox: Outbox,
    pub frames: Frames,
    /// The receivers that this connection is subscribed to, its stored events told.
    pub heard: Vec<String>,
    pub pause: Pause,
    /// Whether this connection carries live events.
    pub proof: Proof,
    pub status: RelayStatus,
    /// The relay's clock less ours in seconds, as the last handshake told it.
    pub clock_offset: Option<f64>,
    /// An event was refused for its time over this connection or, if there is none, the last one.
    pub turned_away_for_time: bool,
    /// Up to where each class is journalled.
    pub cursors: [Option<u64>; Class::ALL.len()],
    /// Which classes were told to their end since the start.
    pub synced: [bool; Class::ALL.len()],
    pub counters: Counters,
}

impl Desk {
    fn new(relay: &RelayId, cursors: [Option<u64>; Class::ALL.len()]) -> Self {
        Self {
            outbox: Outbox::default(),
            frames: Frames::new(),
            heard: Vec::new(),
            pause: Pause::default(),
            proof: Proof::default(),
            status: unknown(relay),
            clock_offset: None,
            turned_away_for_time: false,
            cursors,
            synced: [false; Class::ALL.len()],
            counters: Counters::default(),
        }
    }

    /// A connection is there: what was known of the relay's clock is void.
    pub(super) fn begin(&mut self, clock_offset: Option<f64>) {
        self.clock_offset = clock_offset;
        self.turned_away_for_time = false;
    }

    /// How a link for sessions is.
    pub(in crate::transport) fn session(&self) -> SessionLink {
        let RelayStatus { connected, auth, error, .. } = self.status.clone();
        let (echo_ms, error) = match (&self.proof, error) {
            (Proof::Awaited, error) => (None, error),
            (Proof::Came(ms), error) => (Some(*ms), error),
            (Proof::Missing(why), Some(error)) if *why != error => (None, Some(format!("{why}: {error}"))),
            (Proof::Missing(why), _) => (None, Some(why.clone())),
        };
        SessionLink { connected, auth, echo_ms, error }
    }

    /// How fit the link is to carry frames.
    pub(in crate::transport) fn standing(&self, now: Instant) -> Standing {
        match &self.proof {
            _ if !self.status.connected => Standing::Down,
            _ if self.frames.is_doubted(now) => Standing::Doubted,
            Proof::Came(_) => Standing::Proven,
            Proof::Awaited => Standing::Unproven,
            Proof::Missing(_) => Standing::Doubted,
        }
    }
}

/// How fit a link is to carry frames, the fittest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::transport) enum Standing {
    /// An event came back over it.
    Proven,
    /// Connected so lately that none could.
    Unproven,
    /// None came back, or it refused a frame lately.
    Doubted,
    Down,
}

/// How long to leave a relay in peace that asked for it. Outlives the connection: a new one has the same budget.
#[derive(Debug, Default)]
pub(in crate::transport) struct Pause {
    wait: Duration,
    until: Option<Instant>,
}

impl Pause {
    /// Doubles the wait and begins it.
    pub(super) fn begin(&mut self, now: Instant, first: Duration, most: Duration) {
        self.wait = (self.wait * 2).clamp(first, most);
        self.until = Some(now + self.wait);
    }

    /// The relay takes events again.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// The end of the wait, if it is still to come.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

/// What a link threw away, by reason. Each is also one DEBUG line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub struct Counters {
    pub unparsable: u64,
    pub unknown_subscription: u64,
    pub not_asked_for: u64,
    pub too_large: u64,
    pub from_the_future: u64,
    pub altered: u64,
    pub unlabelled: u64,
    pub undecryptable: u64,
    pub stray_ok: u64,
    pub notices: u64,
    pub challenges_ignored: u64,
}

impl Counters {
    pub(super) fn count(&mut self, rejection: Rejection) {
        let counter = match rejection {
            Rejection::TooLarge => &mut self.too_large,
            Rejection::NotAskedFor => &mut self.not_asked_for,
            Rejection::Future => &mut self.from_the_future,
            Rejection::AlteredId | Rejection::BadSignature => &mut self.altered,
            Rejection::Unlabelled => &mut self.unlabelled,
            Rejection::Undecryptable => &mut self.undecryptable,
        };
        *counter += 1;
    }
}
