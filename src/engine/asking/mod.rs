//! Questions on their way to the owner, and answers on their way back.
//!
//! `owner::Desk` says what is due. What is due is carried by a task (`owner::Errand`), or, where the way is a key of
//! Nostr, by the outbox ([`mail`]). A row of `asks` stays until the way has taken the question, it is decided, or its time
//! is over; so a crash asks again rather than not at all.

mod mail;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::clock::{self, fresh};
use super::core::{Core, Topic};
use super::effects::Effect;
use crate::api;
use crate::home::settings::{self, WEBHOOK_SECRET, webhook_key};
use crate::owner::{
    self, Configured, Desk, Errand, JobId, News, Notice, Parcel, Peer, Plan, Question, Report, Way,
};
use crate::proto::call::WINDOW;
use crate::proto::{Millis, PublicKey, TicketId, TicketState, Tier};
use crate::store::{self, StoredAsk, StoredTicket, WayId};

/// Most questions in one message; the rest is counted.
const TOGETHER: usize = 50;
/// How long questions to the owner's key are remembered: a month more than the longest that one is open.
const LETTERS_KEPT: Duration = Duration::from_secs(60 * 24 * 3_600);

/// What lives only in memory.
#[derive(Default)]
pub(super) struct Asking {
    /// Since when it is looked up where an owner's key reads its messages.
    looking: BTreeMap<JobId, Instant>,
    /// When each owner's key was written back to, in the last hour.
    written_back: BTreeMap<PublicKey, Vec<Instant>>,
    /// What the owner is told of once it is no longer quiet. The journal has it, too.
    notice: Option<api::Strangers>,
}

/// A channel as a ticket's row has it: with the way's name, by which a second try finds the first.
#[derive(Serialize, Deserialize)]
struct Carried {
    way: WayId,
    #[serde(flatten)]
    channel: api::Channel,
}

impl Core {
    /// The desk is made equal to the database.
    pub(super) fn restore_owner(&mut self) -> Result<(), store::Error> {
        let open = self.store.open_tickets()?.into_iter().map(|ticket| {
            let plan = Plan { release: ticket.release, digest: ticket.digest };
            (ticket.id, ticket.expires_at, Some(plan).filter(|_| !ticket.asked))
        });
        let alone = self.store.asked_alone(self.wall() - WINDOW)?.into_iter();
        let alone = alone.map(|(at, key)| (at, key.map(|key| Peer { key, tier: self.book.tier(&key) })));
        let (open, alone) = (open.collect::<Vec<_>>(), alone.collect());
        self.owner.desk.restore(open, self.store.asks()?, alone, self.store.last_owner_digest()?);
        Ok(())
    }

    /// A webhook's messages are signed: there is a secret from the moment on at which there is a webhook.
    pub(super) fn need_webhook_secret(&mut self) {
        if !self.owner.needs_secret() || self.settings.owner_webhook_secret.is_some() {
            return;
        }
        let secret = format!("{WEBHOOK_SECRET}{}", STANDARD.encode(fresh::<32>().0));
        match settings::set(&self.home, "owner_webhook_secret", &secret) {
            Ok(_) => self.settings.owner_webhook_secret = Some(secret),
            Err(error) => tracing::warn!(%error, "no secret for the owner's webhook can be kept"),
        }
    }

    /// Until when the owner is left alone, if that is so now.
    pub(super) fn quiet_until(&self, now: Millis) -> Option<Millis> {
        self.owner.quiet?.until(clock::local_offset, now)
    }

    /// When something is due: a question, or the end of its time, or of the quiet.
    pub(super) fn owner_wake(&self, now: Millis) -> Option<Millis> {
        let notice = self.asking.notice.and_then(|_| self.quiet_until(now).or(Some(now)));
        self.owner.desk.poll_timeout().into_iter().chain(notice).min()
    }

    /// Puts what is due.
    pub(super) fn put_questions(&mut self, now: Millis) -> Result<(), store::Error> {
        if self.asking.notice.is_some()
            && self.quiet_until(now).is_none()
            && let Some(strangers) = self.asking.notice.take()
        {
            self.tell_owner(strangers, now)?;
        }
        for batch in self.owner.desk.take_released(now) {
            self.release(&batch, now)?;
        }
        let mut due = self.owner.desk.due(now);
        let looking = std::mem::take(&mut self.asking.looking);
        due.extend(looking.keys().filter(|job| !due.contains(job)).copied().collect::<Vec<_>>());
        self.asking.looking =
            looking.into_iter().filter(|(job, _)| self.owner.desk.job(job).is_some()).collect();
        // In the order in which the user named the ways.
        let place = |way: &WayId| self.owner.ways().iter().position(|configured| configured.id == *way);
        due.sort_by_key(|(batch, way)| (*batch, place(way)));
        for job in due {
            self.carry(job, now)?;
        }
        Ok(())
    }

    /// The ways have a batch from now on.
    fn release(&mut self, batch: &[TicketId], now: Millis) -> Result<(), store::Error> {
        let Some(first) = batch.first().copied() else { return Ok(()) };
        for id in batch {
            if let Some(ticket) = self.store.ticket(id)? {
                self.store.save_ticket(&StoredTicket { asked: true, ..ticket })?;
            }
        }
        let ways: Vec<WayId> = self.owner.ways().iter().map(|way| way.id).collect();
        for way in ways {
            for ticket in batch {
                let ask = StoredAsk { ticket: *ticket, way, batch: first, due: now, tries: 0 };
                self.store.add_ask(&ask)?;
            }
            self.owner.desk.add((first, way), batch.to_vec(), now);
        }
        Ok(())
    }

    /// Has a job carried.
    fn carry(&mut self, job: JobId, now: Millis) -> Result<(), store::Error> {
        let (batch, id) = job;
        // A way that the user has taken away since, or questions that are closed, are carried no further.
        let Some((way, parcel)) = self.owner.way(&id).cloned().zip(self.parcel(&job)?) else {
            return self.let_go(&job);
        };
        match way {
            Way::Nostr(key) => self.write_to_owner(job, &key, &parcel, now),
            way => {
                let errand = Errand {
                    job: Some(job),
                    way,
                    parcel,
                    id: format!("msg_{batch}"),
                    at: now.as_secs(),
                    secret: self.webhook_key(),
                };
                self.effects.push(Effect::AskOwner(errand));
                Ok(())
            }
        }
    }

    fn webhook_key(&self) -> Option<Vec<u8>> {
        self.settings.owner_webhook_secret.as_deref().and_then(webhook_key)
    }

    fn let_go(&mut self, job: &JobId) -> Result<(), store::Error> {
        self.owner.desk.finish(job);
        self.asking.looking.remove(job);
        self.store.drop_asks(&job.0, &job.1)
    }

    /// What is to be carried in one message.
    fn parcel(&self, job: &JobId) -> Result<Option<Parcel>, store::Error> {
        let tickets = self.owner.desk.job(job).map(|job| job.tickets.clone()).unwrap_or_default();
        let mut questions = Vec::new();
        for id in &tickets {
            if let Some(ticket) = self.store.ticket(id)?.filter(|ticket| ticket.state == TicketState::Waiting)
            {
                questions.push((ticket.at, self.question(&ticket)?));
            }
        }
        // What the agent asks for itself comes first, and what strangers have caused last.
        let trust = |question: &Question| question.peer.as_ref().map_or(Tier::Contact, |peer| peer.tier);
        questions.sort_by(|(at, one), (then, other)| {
            (trust(other), at, one.ticket).cmp(&(trust(one), then, other.ticket))
        });
        let mut questions: Vec<Question> = questions.into_iter().map(|(_, question)| question).collect();
        Ok(match questions.len() {
            0 => None,
            1 => questions.pop().map(Parcel::Question),
            count => {
                questions.truncate(TOGETHER);
                let more = count - questions.len();
                Some(Parcel::Digest(owner::Digest { agent: self.me.agent_id.clone(), questions, more }))
            }
        })
    }

    fn question(&self, ticket: &StoredTicket) -> Result<Question, store::Error> {
        let call = match ticket.call {
            Some(id) => self.store.call(&id)?.map(|stored| stored.call),
            None => None,
        };
        let call = call.as_ref();
        Ok(Question {
            ticket: ticket.id,
            agent: self.me.agent_id.clone(),
            words: ticket.question.clone(),
            options: serde_json::from_str(&ticket.options).unwrap_or_default(),
            call: ticket.call,
            peer: call.map(|call| self.peer(&call.peer, &call.agent_id, &call.agent_name)),
            topic: call.map(|call| call.topic.clone()).unwrap_or_default(),
            direction: call.map(|call| call.direction),
            expires_at: ticket.expires_at,
        })
    }

    /// Lets an errand go.
    pub(super) fn run_errand(&mut self, errand: Errand) {
        if let Some(job) = errand.job {
            self.owner.desk.begin(job);
        }
        let reports = self.reports.clone();
        tokio::spawn(async move {
            let outcome = errand.run().await;
            if let Some(job) = errand.job {
                let report = Report { job, asked: errand.parcel.tickets(), outcome };
                // An error means that the engine is gone.
                _ = reports.send(report).await;
            } else if let Err(error) = outcome {
                tracing::info!(way = %errand.way, error, "the owner is not told");
            }
        });
    }

    /// A way to the owner says how it went, and may bring decisions.
    pub(super) fn handle_report(&mut self, report: Report, now: Millis) -> Result<(), store::Error> {
        let Report { job, asked, outcome } = report;
        self.owner.desk.end(&job);
        let (error, answers) = match outcome {
            Ok(answers) => (None, answers),
            Err(error) => (Some(error), Vec::new()),
        };
        self.note_carried(&job, &asked, error, now)?;
        for (named, answer) in answers {
            let only = asked.first().filter(|_| asked.len() == 1);
            let Some(id) = named.as_ref().or(only).filter(|id| asked.contains(id)) else {
                tracing::warn!("an answer of the owner's way names no question that it was asked");
                continue;
            };
            if let Some(ticket) = self.store.ticket(id)? {
                self.answer_of_owner(ticket, &answer, now)?;
            }
        }
        Ok(())
    }

    /// A way has taken what it was to carry, or has not, and may be tried again.
    fn note_carried(
        &mut self,
        job: &JobId,
        asked: &[TicketId],
        error: Option<String>,
        now: Millis,
    ) -> Result<(), store::Error> {
        self.stir(Topic::Journal);
        let (batch, id) = job;
        self.owner.note(id, error.clone());
        let Some(way) = self.owner.way(id).cloned() else { return self.let_go(job) };
        for ticket in asked {
            if let Some(ticket) = self.store.ticket(ticket)? {
                let channel =
                    api::Channel { channel: way.to_string(), ok: error.is_none(), error: error.clone() };
                let channels = self.with_channel(&ticket.channels, Carried { way: *id, channel });
                self.store.save_ticket(&StoredTicket { channels, ..ticket })?;
            }
        }
        if error.is_none() || !way.is_tried_again() || self.owner.desk.job(job).is_none() {
            return self.let_go(job);
        }
        let tries = self.owner.desk.put_off(job, now, true);
        let due = now + Desk::pause(tries);
        self.owner.desk.put_off(job, due, false);
        self.store.put_off_asks(batch, id, due, tries)
    }

    /// The channels of a ticket with what became of one of them, in the order in which the user named them.
    fn with_channel(&self, json: &str, new: Carried) -> String {
        let mut all: Vec<Carried> = serde_json::from_str(json).unwrap_or_default();
        all.retain(|carried| carried.way != new.way);
        all.push(new);
        let place = |way: &WayId| self.owner.ways().iter().position(|configured| configured.id == *way);
        all.sort_by_key(|carried| place(&carried.way).unwrap_or(usize::MAX));
        serde_json::to_string(&all).unwrap_or_default()
    }

    /// Whether a way has still to say what became of a question that it was to carry. What was decided meanwhile goes by
    /// no other way, but a way that has begun says how it went.
    pub(super) fn has_silent_ways(&self, ticket: &StoredTicket) -> bool {
        let told: Vec<Carried> = serde_json::from_str(&ticket.channels).unwrap_or_default();
        let mut silent = self.owner.ways().iter().filter(|way| told.iter().all(|told| told.way != way.id));
        silent
            .any(|way| ticket.state == TicketState::Waiting || self.owner.desk.is_begun(&(ticket.id, way.id)))
    }

    /// Tells the owner something that asks for no decision; once it is no longer quiet.
    pub(super) fn tell_owner(&mut self, strangers: api::Strangers, now: Millis) -> Result<(), store::Error> {
        if self.quiet_until(now).is_some() {
            let sum = self.asking.notice.map_or(strangers, |before| api::Strangers {
                since: before.since.min(strangers.since),
                calls_waiting: before.calls_waiting + strangers.calls_waiting,
                calls_dropped: before.calls_dropped + strangers.calls_dropped,
                mail_waiting: before.mail_waiting + strangers.mail_waiting,
                mail_dropped: before.mail_dropped + strangers.mail_dropped,
                work: strangers.work,
            });
            self.asking.notice = Some(sum);
            return Ok(());
        }
        let ways = self.owner.ways().to_vec();
        self.notify(&ways, News::Strangers(strangers), now)
    }

    /// Takes other ways to the owner. Whoever could be reached until now is told, also in quiet hours: an agent that was
    /// talked into it cannot do it unnoticed.
    pub(super) fn change_ways(&mut self, settings: &[String], now: Millis) -> Result<(), store::Error> {
        let before = self.owner.ways().to_vec();
        self.owner.configure(settings, &self.me.key);
        let ids = |ways: &[Configured]| ways.iter().map(|way| way.id).collect::<Vec<_>>();
        if ids(&before) == ids(self.owner.ways()) {
            return Ok(());
        }
        let ways = self.owner.ways().iter().map(|way| way.way.to_string()).collect();
        self.notify(&before, News::Ways(ways), now)
    }

    fn notify(&mut self, ways: &[Configured], news: News, now: Millis) -> Result<(), store::Error> {
        let parcel = Parcel::Notice(Notice { agent: self.me.agent_id.clone(), news });
        for Configured { way, .. } in ways {
            match way {
                Way::Nostr(key) => self.write_to_key(key, &parcel.letter(), None, now)?,
                way => self.effects.push(Effect::AskOwner(Errand {
                    job: None,
                    way: way.clone(),
                    parcel: parcel.clone(),
                    id: owner::notice_id(now),
                    at: now.as_secs(),
                    secret: self.webhook_key(),
                })),
            }
        }
        Ok(())
    }

    /// Forgets what no reply is about any more.
    pub(super) fn clear_away_letters(&mut self, now: Millis) -> Result<(), store::Error> {
        self.store.forget_letters(now - LETTERS_KEPT)
    }
}
