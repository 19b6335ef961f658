//! The loop: batches of inputs, one transaction each.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
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
use super::v2::{Lines, Mined};
use super::waiting::{Waiter, Waiting};
use super::works::{Worked, Works};
use crate::api::{Error, ErrorKind, Reply};
use crate::home::{Home, Settings};
use crate::mutants::{Mutant, planted};
use crate::owner::{self, Report};
use crate::proto::Rotation;
use crate::proto::authority::Role;
use crate::proto::call::{Myself, Switchboard};
use crate::proto::presence::Directory;
use crate::proto::{EventId, Millis};
use crate::store::{self, NewEvent, Store};
use crate::transport::v2::SessionPool;
use crate::transport::{Identity, Inbound, Pool, RelayId};

/// Most inputs handled in one transaction. Enough that a burst shares the disk's sync, few enough that the first
/// caller of a batch does not wait for long (about 10 ms of work).
pub(super) const BATCH: usize = 256;
/// How long the end is put off for peers that have not heard yet that their calls have ended.
const PARTING_TIME: Duration = Duration::from_secs(2);
/// Most commands that block at once, over all front ends.
const WAITERS: usize = 4_096;
/// The engine looks around at least this often: for clocks that jump, and for what has expired.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How soon a copy ends that nobody waits for any more.
const STAGING_CHECK: Duration = Duration::from_secs(1);
/// How often old events, ids and undeliverable messages are cleared away.
const HOUSEKEEPING: Duration = Duration::from_secs(600);
/// From here on, what the relays agree on about our clock is believed: less is what a header of whole seconds and a slow
/// handshake make.
const CLOCK_SLACK_S: f64 = 5.0;
/// From here on, a person should look at the clock.
const CLOCK_OFF_S: f64 = 20.0;
/// Pause after a transaction failed before relays are asked again: a full disk does not empty itself at once.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(2);

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

/// What the engine's thread listens to.
pub(super) struct Inputs {
    pub(super) commands: mpsc::Receiver<Request>,
    pub(super) relays: mpsc::Receiver<Inbound>,
    /// Of the links that listen for the key from before.
    pub(super) earlier: mpsc::Receiver<Inbound>,
    pub(super) owner: mpsc::Receiver<Report>,
    pub(super) mined: mpsc::Receiver<Mined>,
    pub(super) worked: mpsc::Receiver<Worked>,
    pub(super) stop: oneshot::Receiver<oneshot::Sender<()>>,
}

enum Input {
    Command(Request),
    Relay(Inbound),
    Earlier(Inbound),
    Owner(Report),
    Mined(Mined),
    Worked(Worked),
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
    housekeeping_at: Instant,
    retry_at: Option<Instant>,
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

    /// Runs until it is told to stop, or until nobody can ask anything any more.
    pub(super) async fn run(mut self, mut inputs: Inputs) {
        // Whoever asked for the end, and when it is no longer put off.
        let mut leaving: Option<(Option<oneshot::Sender<()>>, Instant)> = None;
        let stopped = loop {
            let mut wake = self.next_wake();
            // What was submitted before the end is carried out.
            let is_done = inputs.commands.is_empty() && self.has_parted();
            if let Some((stopped, _)) = leaving.take_if(|(_, until)| is_done || *until <= Instant::now()) {
                break stopped;
            }
            if let Some((_, until)) = leaving {
                wake = wake.min(until);
            }
            let first = tokio::select! {
                biased;
                stopped = &mut inputs.stop, if leaving.is_none() => {
                    leaving = Some((stopped.ok(), Instant::now() + PARTING_TIME));
                    // Whoever waits for something is told that it does not come.
                    self.waiters.clear();
                    continue;
                }
                Some(request) = inputs.commands.recv() => Some(Input::Command(request)),
                Some(report) = inputs.owner.recv() => Some(Input::Owner(report)),
                Some(mined) = inputs.mined.recv() => Some(Input::Mined(mined)),
                Some(worked) = inputs.worked.recv() => Some(Input::Worked(worked)),
                Some(inbound) = inputs.relays.recv(), if self.retry_at.is_none() => Some(Input::Relay(inbound)),
                Some(inbound) = inputs.earlier.recv(), if self.retry_at.is_none() => Some(Input::Earlier(inbound)),
                () = tokio::time::sleep_until(wake) => None,
            };
            let mut batch: Vec<Input> = first.into_iter().collect();
            while batch.len() < BATCH
                && let Ok(request) = inputs.commands.try_recv()
            {
                batch.push(Input::Command(request));
            }
            while self.retry_at.is_none()
                && batch.len() < BATCH
                && let Ok(inbound) = inputs.relays.try_recv()
            {
                batch.push(Input::Relay(inbound));
            }
            self.batch(batch);
        };
        self.end_durability();
        self.pump_last();
        self.farewell().await;
        // A receiver that is gone means that nobody waits for the end.
        stopped.map(|sender| sender.send(()));
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
    fn check_clock(&mut self) {
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

    fn next_wake(&mut self) -> Instant {
        let now = Instant::now();
        let wall = self.wall();
        let wraps = self.wraps_wake(wall);
        let in_wall = |at: Millis| now + at.since(wall);
        let deadlines = [
            Some(now + HEARTBEAT),
            Some(self.announcer.next_at()),
            Some(self.housekeeping_at),
            self.republish_at,
            self.retry_at,
            self.board.poll_timeout().map(|(at, _)| in_wall(at)),
            // What could not be committed is not tried again and again: a full disk does not empty itself at once.
            self.owner_wake(wall).map(in_wall).filter(|_| self.retry_at.is_none()),
            self.parcels_wake().map(in_wall).filter(|_| self.retry_at.is_none()),
            self.board.door().poll_timeout().map(in_wall),
            self.waiters.iter().map(|waiter| waiter.until).min(),
            wraps.filter(|_| self.retry_at.is_none()),
            self.talks_wake().filter(|_| self.retry_at.is_none()),
            self.offers_wake().filter(|_| self.retry_at.is_none()),
            self.lookups_wake(),
            self.earlier_wake(),
            self.outlook_wake(),
            // Whoever waits for a copy may leave.
            self.works.staging.is_busy().then(|| now + STAGING_CHECK),
        ];
        deadlines.into_iter().flatten().min().unwrap_or(now)
    }

    /// Handles inputs in one transaction, then lets the effects out, or says why there are none.
    fn batch(&mut self, batch: Vec<Input>) {
        stage!("batch");
        self.check_clock();
        let now = self.wall();
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry_at = None;
        }
        let done = self.transact(batch, now).and_then(|()| self.sync_arrivals());
        if planted(Mutant::AckBeforeCommit) {
            self.pump_talks();
        }
        stage!("handled");
        let committed = done.and_then(|()| self.store.commit());
        stage!("committed");
        let is_committed = committed.is_ok();
        self.conclude(committed);
        // Whoever waits comes before the frames: sealing an acknowledgement takes longer than the answer.
        if !self.stirred.is_empty() {
            self.wake(now);
        }
        self.wake_expired(now);
        if is_committed {
            self.pump_talks();
        }
        self.board.evict_idle();
    }

    fn transact(&mut self, batch: Vec<Input>, now: Millis) -> Result<(), store::Error> {
        let mut inputs = batch.into_iter();
        let handled = self.store.begin().and_then(|()| inputs.try_for_each(|input| self.handle(input, now)));
        if let Err(error) = &handled {
            // What comes after it in the batch is not carried out either, and whoever asked for it is told.
            let requests = inputs.filter_map(|input| match input {
                Input::Command(request) => Some(request),
                _ => None,
            });
            self.refuse(requests, error);
        }
        handled.and_then(|()| self.say_reads(now)).and_then(|()| self.tick(now))
    }

    fn handle(&mut self, input: Input, now: Millis) -> Result<(), store::Error> {
        match input {
            Input::Command(request) => self.dispatch(request, None, now),
            Input::Relay(inbound) => self.handle_inbound(inbound, now),
            Input::Earlier(inbound) => {
                self.handle_earlier(inbound);
                Ok(())
            }
            Input::Owner(report) => self.handle_report(report, now),
            Input::Mined(mined) => self.handle_mined(mined, now),
            Input::Worked(worked) => self.handle_worked(worked, now),
        }
    }

    /// Tells whoever asked for these that nothing of it was done.
    pub(super) fn refuse(&mut self, requests: impl Iterator<Item = Request>, error: &store::Error) {
        self.effects.extend(requests.map(|request| Effect::Reply(request.reply, Err(told(error)))));
    }

    /// What is due by the clock.
    fn tick(&mut self, now: Millis) -> Result<(), store::Error> {
        let instant = Instant::now();
        self.renew_lines(now)?;
        self.open_wraps(now)?;
        self.leave_earlier();
        self.ask_again();
        self.board.handle_timeout(now);
        self.settle(now)?;
        self.tick_talks(now)?;
        self.give_up_offers(now)?;
        self.tidy_staging();
        self.fail_stalled_arrivals(now)?;
        self.tick_parcels(now)?;
        self.trim_queue(now)?;
        self.tick_door(now)?;
        self.expire_tickets(now)?;
        self.put_questions(now)?;
        self.announce_if_due(now)?;
        self.rest_outlook();
        if self.republish_at.is_some_and(|at| at <= instant) {
            self.republish()?;
        }
        if self.housekeeping_at <= instant {
            self.housekeeping_at = instant + HOUSEKEEPING;
            self.clear_away(now)?;
        }
        Ok(())
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

    /// A batch is committed, and lets out what it did; or it is lost. Frames are sealed afterwards.
    pub(super) fn conclude(&mut self, committed: Result<(), store::Error>) {
        match committed {
            Ok(()) => self.let_out(),
            Err(error) => {
                self.abandon(error);
                self.let_out();
            }
        }
    }

    /// The batch is lost: whoever waits for a reply hears why, and memory is made equal to the database again.
    fn abandon(&mut self, error: store::Error) {
        tracing::warn!(%error, "a batch was not committed");
        self.store.rollback();
        for effect in &mut self.effects {
            if let Effect::Reply(_, reply) = effect {
                *reply = Err(told(&error));
            }
        }
        self.effects.retain(|effect| matches!(effect, Effect::Reply(..)));
        self.stirred.clear();
        self.news.clear();
        let reopened = match &error {
            store::Error::Io { .. } => self.store.reopen(),
            _ => Ok(()),
        };
        // As long as the disk takes nothing, the connection from before knows what was committed: without that, memory
        // would go on with what was lost, and acknowledge it.
        if let Err(error) = reopened {
            tracing::warn!(%error, "the database cannot be opened anew");
        }
        if let Err(error) = self.restore() {
            tracing::error!(%error, "the database cannot be read back");
        }
        // Relays are not listened to for a moment, and then asked again from the cursors, which have not moved.
        self.retry_at = Some(Instant::now() + RETRY_AFTER_FAULT);
        self.pool.redial();
        self.sessions.redial();
        if let Some(earlier) = &self.earlier {
            earlier.redial();
        }
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

    /// Tells relays that this agent goes, and lets what is under way leave.
    async fn farewell(mut self) {
        if let Some(retraction) = self.retraction(self.wall()) {
            self.publish(retraction);
        }
        let earlier = async {
            if let Some(earlier) = &self.earlier {
                earlier.stop().await;
            }
        };
        tokio::join!(self.pool.stop(), self.sessions.stop(), earlier);
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
