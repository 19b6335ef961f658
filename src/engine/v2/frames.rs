//! The frames of talks: opened, handed to the delivery machine, its outputs carried out; and sealed and sent, once what
//! they say is committed.

use std::time::Duration;

use tokio::time::Instant;

use super::talks::Talk;
use crate::engine::core::Core;
use crate::proto::v2::batch::Kind;
use crate::proto::v2::delivery::{Change, DRAIN_TIME, Delivery, Handled, Output};
use crate::proto::{CallId, Millis};
use crate::store;
use crate::transport::RelayId;
use crate::transport::v2::{SessionEvent, Way};

/// How long a transmission waits for relays that are all gone before it is looked at again; a link that comes up says so
/// by itself.
const NO_RELAY: Duration = Duration::from_secs(1);
/// How long pieces of files wait for sockets that have enough of them.
const NO_ROOM: Duration = Duration::from_millis(5);
/// How long a session waits for its relays before it moves to others. A relay that restarts is back sooner.
const RELAYS_GONE: Duration = Duration::from_secs(10);

impl Core {
    // ---- in ----

    /// A frame to a session key of ours.
    pub(in crate::engine) fn handle_frame(
        &mut self,
        frame: &SessionEvent,
        now: Millis,
    ) -> Result<(), store::Error> {
        let Some(id) = self.lines.keys.get(&frame.to).copied() else { return Ok(()) };
        if let Some(pending) = self.lines.offers.get_mut(&id)
            && pending.initiator.key().public_key() == frame.to
        {
            pending.initiator.hold(frame.clone());
            return Ok(());
        }
        let steady = self.steady();
        let Some(talk) = self.lines.talks.get_mut(&id) else { return Ok(()) };
        let Some(session) = &mut talk.session else { return Ok(()) };
        let opened = session.read(frame).and_then(|read| {
            let epoch = talk.delivery.receive_epoch(read.epoch);
            epoch.map(|epoch| Ok((epoch, read.number, session.open(epoch, &read)?))).transpose()
        });
        let handled = match opened {
            Ok(Some((epoch, number, plaintext))) => {
                stage!("opened");
                let handle = |talk: &mut Talk| talk.delivery.handle_frame(epoch, number, &plaintext, steady);
                let mut handled = handle(talk);
                // It may bring pieces of several files.
                while let Handled::Early(stream) = handled
                    && self.admit_file(&id, stream)?
                    && let Some(talk) = self.lines.talks.get_mut(&id)
                {
                    handled = handle(talk);
                }
                handled
            }
            Ok(None) => Handled::Dropped("there is no key for its epoch"),
            Err(error) => {
                tracing::debug!(call = %id, event = %frame.id, %error, "a frame was not opened");
                return Ok(());
            }
        };
        match handled {
            Handled::Taken => self.board.handle_heard(&id),
            Handled::Dropped(why) => tracing::trace!(call = %id, event = %frame.id, why, "frame dropped"),
            Handled::Early(stream) => tracing::trace!(call = %id, event = %frame.id, stream, "frame dropped"),
            Handled::Malformed(why) => {
                tracing::debug!(call = %id, event = %frame.id, %why, "frame not taken")
            }
        }
        self.drain_talk(&id, now)
    }

    /// Carries out what a delivery machine wants.
    pub(super) fn drain_talk(&mut self, id: &CallId, now: Millis) -> Result<(), store::Error> {
        while let Some(talk) = self.lines.talks.get_mut(id) {
            match talk.delivery.poll_output() {
                Some(Output::Persist(change)) => {
                    self.store.apply_delivery(id, &change)?;
                    match change {
                        Change::Surface { said: Some(said), .. } => self.handle_said(id, said, now)?,
                        Change::Hold(entry) if entry.kind == Kind::Chunk => {
                            self.handle_chunk_ahead(id, &entry)?;
                        }
                        _ => {}
                    }
                }
                Some(Output::ForgetKey { epoch }) => {
                    talk.session.iter_mut().for_each(|session| session.forget(epoch));
                }
                Some(Output::Event(event)) => self.handle_delivery(id, event, now)?,
                None if self.feed_files(id, now)? => {}
                None => break,
            }
        }
        if let Some(talk) = self.lines.talks.get_mut(id) {
            talk.point = talk.delivery.persist_point();
            talk.stirred = true;
        }
        self.settle(now)
    }

    // ---- clock, relays, commit ----

    /// What is due by the clock.
    pub(in crate::engine) fn tick_talks(&mut self, now: Millis) -> Result<(), store::Error> {
        let (steady, instant) = (self.steady(), Instant::now());
        // Whose relays are gone waits for them, so that there is a time at which it looks for them again.
        let moving: Vec<CallId> = match self.lines.pump_at {
            None => Vec::new(),
            Some(_) => {
                let moving =
                    |talk: &Talk| talk.alone_since.is_some_and(|since| since.elapsed() >= RELAYS_GONE);
                let talks = self.lines.talks.iter();
                talks
                    .filter(|(id, talk)| moving(talk) && !self.lines.offers.contains_key(id))
                    .map(|(id, _)| *id)
                    .collect()
            }
        };
        let others_up = !moving.is_empty() && self.sessions.is_up(&self.sessions.ranked());
        for id in moving.into_iter().filter(|_| others_up) {
            tracing::info!(call = %id, "its relays are gone; the session moves to others");
            self.board.renew(&id, now);
        }
        let has_something_to_do = |talk: &Talk| {
            talk.delivery.has_output()
                || talk.ending.is_some_and(|at| at <= instant)
                || talk.delivery.poll_timeout().is_some_and(|(at, _)| at <= steady)
        };
        let mut due = self.lines.talks.due(instant);
        due.retain(|id| self.lines.talks.get(id).is_some_and(has_something_to_do));
        for id in due {
            let Some(talk) = self.lines.talks.get_mut(&id) else { continue };
            talk.delivery.handle_timeout(steady);
            if talk.ending.is_some_and(|at| at <= instant) {
                talk.ending = None;
                talk.delivery.end(steady);
                // Nobody has answered for as long as an end waits.
                if talk.delivery.silence(steady) >= DRAIN_TIME {
                    talk.delivery.cut();
                }
            }
            self.drain_talk(&id, now)?;
        }
        Ok(())
    }

    /// When a talk has something to do by the clock.
    pub(in crate::engine) fn talks_wake(&mut self) -> Option<Instant> {
        let steady = self.steady_clock();
        let due = |talk: &Talk| {
            let is_ready = talk.delivery.has_output() || talk.stirred && talk.session.is_some();
            let by_clock = talk.delivery.poll_timeout().map(|(at, _)| steady.instant_of(at));
            [is_ready.then(Instant::now), talk.ending, by_clock].into_iter().flatten().min()
        };
        self.lines.talks.look(due);
        [self.lines.talks.next_at(), self.lines.pump_at].into_iter().flatten().min()
    }

    /// A relay of sessions serves our keys: there may be a way to a peer again.
    pub(in crate::engine) fn handle_session_link(&mut self, relay: &RelayId) {
        let steady = self.steady();
        let meets = |(_, talk): &(&CallId, &Talk)| talk.relays.contains(relay);
        let meeting: Vec<CallId> = self.lines.talks.iter().filter(meets).map(|(id, _)| *id).collect();
        for id in meeting {
            let Some(talk) = self.lines.talks.get_mut(&id) else { continue };
            talk.delivery.handle_link_up(steady);
            talk.stirred = true;
        }
    }

    /// Before the end: what was taken is told now.
    pub(in crate::engine) fn pump_last(&mut self) {
        let all: Vec<CallId> = self.lines.talks.keys().copied().collect();
        for id in all {
            let Some(talk) = self.lines.talks.get_mut(&id) else { continue };
            talk.delivery.hurry_reads();
            talk.stirred = true;
        }
        self.pump_talks();
    }

    /// The batch is committed: what it made durable may be acknowledged, and what waits may leave.
    pub(in crate::engine) fn pump_talks(&mut self) {
        let (steady, unix) = (self.steady(), self.wall().as_secs());
        let instant = Instant::now();
        let all = self.lines.pump_at.take_if(|at| *at <= instant).is_some();
        let mut pump_at = self.lines.pump_at;
        let due =
            if all { self.lines.talks.keys().copied().collect() } else { self.lines.talks.due(instant) };
        for id in &due {
            if !all && self.lines.talks.get(id).is_none_or(|talk| !talk.stirred) {
                continue;
            }
            let Some(talk) = self.lines.talks.get_mut(id) else { continue };
            talk.stirred = false;
            talk.delivery.handle_persisted(talk.point, steady);
            let Some(session) = &mut talk.session else { continue };
            talk.delivery.handle_budget(self.sessions.is_low(&talk.relays), steady);
            loop {
                let ready = self.sessions.ready_in(&talk.relays);
                talk.alone_since = if ready.is_none() { talk.alone_since.or(Some(instant)) } else { None };
                let wait = ready.unwrap_or(NO_RELAY);
                if wait > Duration::ZERO {
                    pump_at = pump_at.into_iter().chain([instant + wait]).min();
                    break;
                }
                let way = |path| way_of(&talk.delivery, path, steady);
                let open = (0u8..).zip(&talk.relays).any(|(path, _)| way(path).open);
                let held = open && !self.sessions.has_room(&talk.relays, way);
                talk.delivery.hold_files(held || !open);
                let Some(frame) = talk.delivery.poll_transmit(steady) else {
                    // What is under way opens the window when it arrives; only sockets have to be looked at.
                    if held {
                        pump_at = pump_at.into_iter().chain([instant + NO_ROOM]).min();
                    }
                    break;
                };
                let sealed = session.seal(frame.epoch, frame.number, &frame.plaintext, unix);
                stage!("sealed");
                match sealed {
                    Ok(signed) if frame.bulk => {
                        let way = |path| way_of(&talk.delivery, path, steady);
                        match self.sessions.send_bulk(signed, &talk.relays, way) {
                            Some(path) => talk.delivery.handle_sent(frame.number, path),
                            None => {
                                talk.delivery.handle_unsent(frame.number);
                                pump_at = pump_at.into_iter().chain([instant + NO_ROOM]).min();
                                break;
                            }
                        }
                    }
                    Ok(signed) => _ = self.sessions.send(signed, &talk.relays),
                    Err(error) => {
                        tracing::warn!(call = %id, %error, "a frame cannot be sealed");
                        break;
                    }
                }
            }
        }
        self.lines.pump_at = pump_at;
    }
}

/// What a talk knows of the way over one of its relays.
fn way_of(delivery: &Delivery, path: u8, steady: Millis) -> Way {
    Way {
        open: delivery.has_room_on(path),
        shunned: delivery.is_shunned(path, steady),
        lossy: delivery.loses_many(path),
    }
}
