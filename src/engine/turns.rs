//! The turns of the engine: batches of inputs, one transaction each.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::core::{Core, told};
use super::effects::Effect;
use super::handle::Request;
use super::v2::Mined;
use super::works::Worked;
use crate::mutants::{Mutant, planted};
use crate::owner::Report;
use crate::proto::Millis;
use crate::store;
use crate::transport::Inbound;

/// Most inputs handled in one transaction. Enough that a burst shares the disk's sync, few enough that the first
/// caller of a batch does not wait for long (about 10 ms of work).
pub(super) const BATCH: usize = 256;
/// How long the end is put off for peers that have not heard yet that their calls have ended.
const PARTING_TIME: Duration = Duration::from_secs(2);
/// The engine looks around at least this often: for clocks that jump, and for what has expired.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How soon a copy ends that nobody waits for any more.
const STAGING_CHECK: Duration = Duration::from_secs(1);
/// How often old events, ids and undeliverable messages are cleared away.
const HOUSEKEEPING: Duration = Duration::from_secs(600);
/// Pause after a transaction failed before relays are asked again: a full disk does not empty itself at once.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(2);

/// What the engine's thread listens to.
pub(super) struct Inputs {
    pub(super) commands: mpsc::Receiver<Request>,
    pub(super) relays: mpsc::Receiver<Inbound>,
    /// Of the links that listen for the key from before.
    pub(super) earlier: mpsc::Receiver<Inbound>,
    pub(super) owner: mpsc::Receiver<Report>,
    pub(super) mined: mpsc::Receiver<Mined>,
    pub(super) worked: mpsc::Receiver<Worked>,
}

enum Input {
    Command(Request),
    Relay(Inbound),
    Earlier(Inbound),
    Owner(Report),
    Mined(Mined),
    Worked(Worked),
}

impl Inputs {
    /// What there is to do, as soon as there is something; nothing, when the time has come. `listens`: to relays, too.
    /// When it is dropped before its end, nothing is lost.
    async fn gather(&mut self, until: Instant, listens: bool) -> Vec<Input> {
        let first = tokio::select! {
            biased;
            Some(request) = self.commands.recv() => Input::Command(request),
            Some(report) = self.owner.recv() => Input::Owner(report),
            Some(mined) = self.mined.recv() => Input::Mined(mined),
            Some(worked) = self.worked.recv() => Input::Worked(worked),
            Some(inbound) = self.relays.recv(), if listens => Input::Relay(inbound),
            Some(inbound) = self.earlier.recv(), if listens => Input::Earlier(inbound),
            () = tokio::time::sleep_until(until) => return Vec::new(),
        };
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(request) = self.commands.try_recv()
        {
            batch.push(Input::Command(request));
        }
        while listens
            && batch.len() < BATCH
            && let Ok(inbound) = self.relays.try_recv()
        {
            batch.push(Input::Relay(inbound));
        }
        batch
    }
}

impl Core {
    /// Runs until it is told to stop, or until nobody can ask anything any more.
    pub(super) async fn run(mut self, mut inputs: Inputs, mut stop: oneshot::Receiver<oneshot::Sender<()>>) {
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
            let listens = self.retry_at.is_none();
            let batch = tokio::select! {
                biased;
                stopped = &mut stop, if leaving.is_none() => {
                    leaving = Some((stopped.ok(), Instant::now() + PARTING_TIME));
                    // Whoever waits for something is told that it does not come.
                    self.waiters.clear();
                    continue;
                }
                batch = inputs.gather(wake, listens) => batch,
            };
            self.batch(batch);
        };
        self.end_durability();
        self.pump_last();
        self.farewell().await;
        // A receiver that is gone means that nobody waits for the end.
        stopped.map(|sender| sender.send(()));
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
