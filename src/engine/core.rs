//! The state of an agent, and how one command is asked.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::asking::Asking;
use super::audit::Audit;
use super::book::Book;
use super::clock::{self, Steady};
use super::earlier::Earlier;
use super::effects::Effect;
use super::handle::Request;
use super::metrics::{Count, Tally};
use super::outlook::Outlook;
use super::presence::Announcer;
use super::seen::SeenEvents;
use super::v2::Lines;
use super::waiting::{Waiter, Waiting};
use super::works::Works;
use crate::api::{Error, ErrorKind, Reply};
use crate::home::{Home, Settings};
use crate::owner::{self, Report};
use crate::proto::Rotation;
use crate::proto::authority::Role;
use crate::proto::call::{Myself, Switchboard};
use crate::proto::presence::Directory;
use crate::proto::{EventId, Millis};
use crate::store::{self, NewEvent, Store};
use crate::transport::v2::SessionPool;
use crate::transport::{Identity, Pool, RelayId};

/// Most commands that block at once, over all front ends.
const WAITERS: usize = 4_096;
/// From here on, what the relays agree on about our clock is believed: less is what a header of whole seconds and a slow
/// handshake make.
const CLOCK_SLACK_S: f64 = 5.0;
/// From here on, a person should look at the clock.
const CLOCK_OFF_S: f64 = 20.0;

/// Why a command was not carried out.
pub(super) enum Fault {
    /// The user is told, and nothing has changed.
    Api(Error),
    /// The batch is lost.
    Store(store::Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Api(error)
    }
}

impl From<store::Error> for Fault {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// What a command handler says.
#[expect(clippy::large_enum_variant, reason = "made once for each command and taken apart at once")]
pub(super) enum Answer {
    /// Done.
    Now(Reply),
    /// Not yet: asked again when something of this topic happens, and for the last time at `until`.
    Wait { until: Instant, topic: Topic },
}

impl<T: Into<Reply>> From<T> for Answer {
    fn from(reply: T) -> Self {
        Self::Now(reply.into())
    }
}

/// What a blocked command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// Anything new in the journal, or a change of a call, message or ticket.
    Journal,
    /// A relay's state, or who is online.
    Relays,
    /// A copy of a file of ours was made.
    Files,
}

/// What the engine asks of itself is no request.
pub(super) const NO_REQUEST: u64 = u64::MAX;

/// How a command is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) now: Millis,
    /// On whose behalf it is asked.
    pub(super) role: Role,
    /// Which request it is: the same each time that it is asked.
    pub(super) number: u64,
    /// It has been asked before and has waited.
    pub(super) first: bool,
    /// It has waited as long as it would: it must answer now.
    pub(super) last: bool,
    /// Since when it is asked.
    pub(super) since: Instant,
}

/// All state of an agent.
pub(super) struct Core {
    pub(super) home: Home,
    pub(super) settings: Settings,
    pub(super) identity: Identity,
    pub(super) me: Myself,
    pub(super) started: Instant,
    steady: Steady,
    /// By how much the relays' clock is ahead of ours, where they agree that it is.
    clock_ahead_ms: i64,
    /// Whether they agree what time it is, as this batch was begun.
    pub(super) clock_agreed: bool,
    pub(super) store: Store,
    pub(super) board: Switchboard,
    pub(super) directory: Directory,
    pub(super) book: Book,
    pub(super) pool: Pool,
    pub(super) sessions: SessionPool,
    pub(super) lines: Lines,
    /// A call went into the queue of strangers in this batch.
    pub(super) queue_grew: bool,
    /// Where we read our wraps was told since the start.
    pub(super) inbox_published: bool,
    /// The statements that lead from this agent's earlier keys to this one.
    pub(super) rotations: Vec<Rotation>,
    /// The key from before, while it is listened to.
    pub(super) earlier: Option<Earlier>,
    pub(super) seen: SeenEvents,
    pub(super) owner: owner::Channels,
    pub(super) asking: Asking,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) announcer: Announcer,
    pub(super) audit: Audit,
    pub(super) tally: Tally,
    /// Which relays refused an event that none has taken yet, and the last words about it.
    pub(super) refusals: BTreeMap<EventId, BTreeMap<RelayId, String>>,
    /// Second of the last signed event, and how many share it.
    pub(super) last_second: (u64, usize),
    /// When to publish again what no relay answered.
    pub(super) republish_at: Option<Instant>,
    pub(super) outlook: Outlook,
    pub(super) effects: Vec<Effect>,
    /// Topics of which something happened in this batch.
    pub(super) stirred: Vec<Topic>,
    /// The events of this batch, if anybody waits.
    pub(super) news: Vec<NewEvent>,
    pub(super) waiters: Vec<Waiter>,
    /// How often the settings were taken anew: others in this process have some of their own.
    pub(super) reloads: watch::Sender<u64>,
    /// How many requests there were.
    requests: u64,
    /// What is done to files beside the engine's thread.
    pub(super) works: Works,
    pub(super) housekeeping_at: Instant,
    pub(super) retry_at: Option<Instant>,
}

/// What a core is made of; the rest starts empty.
pub(super) struct Parts {
    pub(super) home: Home,
    pub(super) settings: Settings,
    pub(super) identity: Identity,
    pub(super) rotations: Vec<Rotation>,
    pub(super) earlier: Option<Earlier>,
    pub(super) me: Myself,
    pub(super) store: Store,
    pub(super) board: Switchboard,
    pub(super) book: Book,
    pub(super) pool: Pool,
    pub(super) sessions: SessionPool,
    pub(super) lines: Lines,
    pub(super) seen: SeenEvents,
    pub(super) owner: owner::Channels,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) works: Works,
}

impl Core {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { home, settings, identity, me, store, board, book, pool, sessions, lines, .. } = parts;
        let Parts { seen, owner, reports, rotations, earlier, works, .. } = parts;
        Self {
            audit: Audit::new(&settings),
            tally: Tally::default(),
            home,
            settings,
            identity,
            me,
            started: Instant::now(),
            steady: Steady::begin(),
            clock_ahead_ms: 0,
            clock_agreed: false,
            store,
            board,
            directory: Directory::default(),
            book,
            pool,
            sessions,
            lines,
            queue_grew: false,
            inbox_published: false,
            rotations,
            earlier,
            seen,
            owner,
            asking: Asking::default(),
            reports,
            announcer: Announcer::new(),
            refusals: BTreeMap::new(),
            last_second: (0, 0),
            republish_at: Some(Instant::now()),
            outlook: Outlook::new(),
            effects: Vec::new(),
            stirred: Vec::new(),
            news: Vec::new(),
            waiters: Vec::new(),
            reloads: watch::Sender::new(0),
            requests: 0,
            works,
            housekeeping_at: Instant::now(),
            retry_at: None,
        }
    }

    /// The time by which silence and round trips are measured.
    pub(super) fn steady(&self) -> Millis {
        self.steady.now()
    }

    /// The clock of [`Self::steady`].
    pub(super) fn steady_clock(&self) -> Steady {
        self.steady
    }

    /// What the wall clock says, set right by what the relays agree on: what we sign is dated by it, and who is online
    /// judged.
    pub(super) fn wall(&self) -> Millis {
        let (now, ahead) = (clock::now(), self.clock_ahead_ms);
        Millis(now.0.saturating_add_signed(ahead))
    }

    /// Looks at what the relays say about our clock.
    pub(super) fn check_clock(&mut self) {
        let told = self.pool.clock();
        self.clock_agreed = told.agreed;
        let off = told.offset_s.filter(|off| told.agreed && off.abs() >= CLOCK_SLACK_S);
        let ahead = off.map_or(0, |off| (off * 1_000.0) as i64);
        // A header has whole seconds: what changes by less is as it was.
        if ahead.abs_diff(self.clock_ahead_ms) < (CLOCK_SLACK_S * 1_000.0) as u64 {
            return;
        }
        self.clock_ahead_ms = ahead;
        match off {
            Some(off) if off.abs() >= CLOCK_OFF_S => {
                tracing::warn!(off_s = off, "the clock is off; what is sent is dated by the relays' clock");
            }
            _ => tracing::info!(off_s = off, "the clock is dated by the relays'"),
        }
        self.announcer.soon();
    }

    /// Carries out one command; `since` tells for how long it has been waiting.
    pub(super) fn dispatch(
        &mut self,
        request: Request,
        waiting: Option<&Waiting>,
        now: Millis,
    ) -> Result<(), store::Error> {
        let number = waiting.map_or(self.requests, |waiting| waiting.number);
        self.requests += u64::from(waiting.is_none());
        let attempt = Attempt {
            now,
            role: request.role,
            number,
            first: waiting.is_none(),
            last: waiting.is_some_and(|waiting| waiting.until <= Instant::now()),
            since: waiting.map_or_else(Instant::now, |waiting| waiting.since),
        };
        let result = match self.carry_out(&request.command, attempt) {
            Ok(Answer::Now(reply)) => Ok(reply),
            Ok(Answer::Wait { until, topic }) if self.waiters.len() < WAITERS => {
                // Whoever is asked for the last time, and still waits, has a reason.
                let before = waiting.filter(|_| !attempt.last);
                let until = before.map_or(until, |waiting| waiting.until.min(until));
                self.waiters.push(Waiter { request, number, since: attempt.since, until, topic });
                return Ok(());
            }
            Ok(Answer::Wait { .. }) => {
                Err(Error::internal(format_args!("more than {WAITERS} commands wait at once")))
            }
            Err(Fault::Api(error)) => Err(error),
            Err(Fault::Store(error)) => {
                self.effects.push(Effect::Reply(request.reply, Err(told(&error))));
                return Err(error);
            }
        };
        self.effects.push(Effect::Reply(request.reply, result));
        Ok(())
    }

    /// Whether a relay is connected at which agents meet.
    pub(super) fn is_connected(&self) -> bool {
        self.pool.is_connected()
    }

    /// Writes an event into the journal, and wakes whoever waits for it once it is committed.
    pub(super) fn tell(&mut self, event: NewEvent) -> Result<(), store::Error> {
        let cursor = self.store.add_event(&event)?;
        self.stir(Topic::Journal);
        self.effects.push(Effect::Count(Count::Journal(event.kind)));
        if self.audit.is_on() {
            self.effects.push(Effect::Audit(cursor));
        }
        if !self.waiters.is_empty() {
            self.news.push(event);
        }
        Ok(())
    }

    pub(super) fn stir(&mut self, topic: Topic) {
        if !self.stirred.contains(&topic) {
            self.stirred.push(topic);
        }
    }
}

/// A fault of the store as the user hears of it.
pub(super) fn told(error: &store::Error) -> Error {
    let text = error.to_string();
    match error {
        store::Error::Full(_) => Error::new(
            ErrorKind::DiskFull,
            text,
            "free some space, then run the command again: nothing was accepted",
        ),
        store::Error::Io { .. } => Error::new(
            ErrorKind::IoError,
            text,
            "run the command again: nothing was accepted. If it stays so, p2p-comm doctor says what the system lacks",
        ),
        store::Error::Damaged { .. } => Error::new(
            ErrorKind::DatabaseDamaged,
            text,
            "start the daemon anew (p2p-comm daemon stop): it keeps the damaged file aside, and carries over what can \
             be read; the identity is in another file and is not touched",
        ),
        store::Error::TooNew { .. } => Error::new(
            ErrorKind::VersionMismatch,
            text,
            "update this program: pip install --upgrade p2p-comm",
        ),
        store::Error::Sqlite(_) => Error::internal(text),
    }
}
