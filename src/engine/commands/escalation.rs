//! Asking the human owner, and the owner's decision.

use std::time::Duration;

use super::super::authority::authorize;
use super::super::clock::fresh;
use super::super::core::{Answer, Attempt, Core, Fault, Topic};
use super::super::outputs::event;
use super::super::views::ticket_view;
use super::{deadline, is_over};
use crate::api::{Error, ErrorKind, Questions, TicketReply};
use crate::owner::{Became, Peer, Plan};
use crate::proto::authority::{Action, Role, State};
use crate::proto::call::{Call, Content};
use crate::proto::legacy::TOPIC_LIMIT;
use crate::proto::v2::body::answer_to;
use crate::proto::{CallId, CallState, EventKind, MessageId, Millis, TicketId, TicketState};
use crate::store::{self, NewEvent, StoredTicket};

/// How long a question waits for the owner unless the agent says otherwise. Humans sleep.
const EXPIRY: Duration = Duration::from_secs(24 * 3_600);
/// How long a test of the owner's channels waits.
const TEST_EXPIRY: Duration = Duration::from_secs(60);
/// Longest that a question may wait.
const LONGEST_EXPIRY_S: f64 = 30.0 * 24.0 * 3_600.0;
/// Most answers offered.
const OPTIONS_LIMIT: usize = 20;
/// Most open questions that are listed.
const LISTED: usize = 100;

impl Core {
    pub(in super::super) fn escalate(
        &mut self,
        question: &str,
        options: &[String],
        call: Option<&CallId>,
        expires_s: Option<f64>,
        now: Millis,
    ) -> Result<Answer, Fault> {
        if question.trim().is_empty() || question.chars().count() > 10 * TOPIC_LIMIT {
            let hint = "p2p-comm escalate \"Need human decision on budget approval\" [--options yes,no]";
            let message = format!("a question has 1 to {} characters", 10 * TOPIC_LIMIT);
            return Err(Error::new(ErrorKind::InvalidValue, message, hint).into());
        }
        if options.len() > OPTIONS_LIMIT || options.iter().any(|option| option.trim().is_empty()) {
            let message = format!("at most {OPTIONS_LIMIT} options, none of them empty");
            return Err(Error::new(ErrorKind::InvalidValue, message, "--options yes,no").into());
        }
        let connected = |call: &Call| call.state() == CallState::Connected;
        let call = match call {
            Some(id) => Some(self.connected(Some(id))?),
            None => match self.only(connected)? {
                Some(id) => Some(self.connected(Some(&id))?),
                None => None,
            },
        };
        let told = call.as_ref().map(|_| fresh());
        if let (Some(call), Some(told)) = (&call, told) {
            self.say(call, told, Content::Escalation(question.to_owned()), question, None, now)?;
        }
        let expiry = expires_s
            .filter(|seconds| seconds.is_finite())
            .map_or(EXPIRY, |seconds| Duration::from_secs_f64(seconds.clamp(1.0, LONGEST_EXPIRY_S)));
        let peer = call.as_ref().map(|call| Peer { key: call.peer, tier: self.book.tier(&call.peer) });
        let quiet = self.quiet_until(now);
        let plan = self.owner.desk.plan(now + expiry, peer, quiet, now);
        Ok(self.ask(question, options, call.as_ref().zip(told), (now + expiry, plan), now)?)
    }

    /// Opens a ticket; the owner is asked once it is committed, and as planned.
    fn ask(
        &mut self,
        question: &str,
        options: &[String],
        told: Option<(&Call, MessageId)>,
        (expires_at, plan): (Millis, Plan),
        now: Millis,
    ) -> Result<Answer, store::Error> {
        let id: TicketId = self.fresh_ticket()?;
        let call = told.map(|(call, _)| call);
        let ticket = StoredTicket {
            id,
            call: call.map(|call| call.id),
            question: question.to_owned(),
            options: serde_json::to_string(options).unwrap_or_default(),
            state: if self.owner.is_empty() { TicketState::NoOwner } else { TicketState::Waiting },
            answer: None,
            channels: "[]".into(),
            at: now,
            expires_at,
            taken: false,
            message: told.map(|(_, message)| message),
            release: plan.release,
            asked: self.owner.is_empty(),
            digest: plan.digest,
        };
        self.store.save_ticket(&ticket)?;
        if ticket.state == TicketState::Waiting {
            let peer = call.map(|call| Peer { key: call.peer, tier: self.book.tier(&call.peer) });
            self.owner.desk.opened(id, expires_at, plan, peer);
        }
        Ok(TicketReply { ticket: ticket_view(&ticket), timeout: false }.into())
    }

    /// An id that no other question has: four bytes are few, and an answer names nothing else.
    fn fresh_ticket(&self) -> Result<TicketId, store::Error> {
        loop {
            let id = fresh();
            if self.store.ticket(&id)?.is_none() {
                return Ok(id);
            }
        }
    }

    /// What the owner says by a way of its own: the decision, if it counts.
    pub(in super::super) fn decide_for_owner(
        &mut self,
        ticket: StoredTicket,
        answer: &str,
        now: Millis,
    ) -> Result<Became, store::Error> {
        if may_decide(Role::Owner, &ticket, now).is_err() {
            return Ok(match (ticket.state, ticket.answer) {
                (TicketState::Answered, Some(answer)) => Became::Answered { answer },
                (TicketState::NoOwner, _) => Became::NotAsked,
                _ => Became::Expired,
            });
        }
        match fitting(&ticket, answer) {
            Ok(answer) => {
                self.decide(ticket, TicketState::Answered, Some(answer.clone()), now)?;
                Ok(Became::Taken { answer })
            }
            Err(_) => Ok(Became::Unfit {
                options: serde_json::from_str(&ticket.options).unwrap_or_default(),
                until: ticket.expires_at,
            }),
        }
    }

    pub(in super::super) fn questions(&mut self, now: Millis) -> Result<Answer, Fault> {
        let questions = self.store.undecided_tickets(now, LISTED)?.iter().map(ticket_view).collect();
        Ok(Questions { questions }.into())
    }

    /// Closes a ticket, once: an answer that comes after it changes nothing.
    fn decide(
        &mut self,
        mut ticket: StoredTicket,
        state: TicketState,
        answer: Option<String>,
        now: Millis,
    ) -> Result<(), store::Error> {
        self.owner.desk.closed(&ticket.id);
        self.store.drop_asks_of(&ticket.id)?;
        ticket.state = state;
        ticket.answer = answer;
        self.store.save_ticket(&ticket)?;
        if let (Some(answer), Some(id)) = (&ticket.answer, ticket.call)
            && let Some(call) = self.restore_call(&id)?
        {
            let said = ticket.message.map_or_else(fresh, |question| answer_to(&question));
            self.say_decision(&call, said, &ticket.question, answer, now)?;
        }
        let answered = event(EventKind::EscalationAnswered, ticket.call, now);
        self.tell(NewEvent { ticket: Some(ticket.id), ..answered })?;
        Ok(())
    }

    pub(in super::super) fn expire_tickets(&mut self, now: Millis) -> Result<(), store::Error> {
        while let Some(id) = self.owner.desk.expired(now) {
            match self.store.ticket(&id)? {
                Some(ticket) if ticket.state == TicketState::Waiting => {
                    self.decide(ticket, TicketState::Expired, None, now)?;
                }
                _ => self.owner.desk.closed(&id),
            }
        }
        Ok(())
    }

    pub(in super::super) fn await_ticket(
        &mut self,
        id: &TicketId,
        timeout_s: f64,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        let ticket = self.store.ticket(id)?.ok_or_else(|| no_ticket(id))?;
        let open = ticket.state == TicketState::Waiting;
        Ok(answer_once_closed(&ticket, open, timeout_s, attempt))
    }

    pub(in super::super) fn await_ways(
        &mut self,
        id: &TicketId,
        timeout_s: f64,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        let ticket = self.store.ticket(id)?.ok_or_else(|| no_ticket(id))?;
        let open = self.has_silent_ways(&ticket);
        Ok(answer_once_closed(&ticket, open, timeout_s, attempt))
    }

    pub(in super::super) fn owner_test(&mut self, attempt: Attempt) -> Result<Answer, Fault> {
        let question = "This is a test of the way to the owner; no decision is needed.";
        let expires_at = attempt.now + TEST_EXPIRY;
        // Somebody sits there and looks: not put off until the morning. But an agent may not wake anybody by testing.
        let plan = self.owner.desk.plan(expires_at, None, None, attempt.now);
        if plan.digest && !self.owner.is_empty() {
            return Err(Error::new(
                ErrorKind::TooFast,
                "the owner was asked as often as one may be in an hour",
                "try again later; what was asked waits, see: p2p-comm owner show",
            )
            .into());
        }
        Ok(self.ask(question, &[], None, (expires_at, plan), attempt.now)?)
    }

    pub(in super::super) fn owner_reply(
        &mut self,
        id: &TicketId,
        answer: &str,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        let now = attempt.now;
        let ticket = self.store.ticket(id)?.ok_or_else(|| no_ticket(id))?;
        may_decide(attempt.role, &ticket, now)?;
        let answer = fitting(&ticket, answer)?;
        self.decide(ticket, TicketState::Answered, Some(answer), now)?;
        let ticket = self.store.ticket(id)?.ok_or_else(|| no_ticket(id))?;
        Ok(TicketReply { ticket: ticket_view(&ticket), timeout: false }.into())
    }
}

/// An approval is bound to its question, which is bound to its call, and counts once, in time. That a question's time is
/// over is so from that moment on, whenever it is noted.
fn may_decide(role: Role, ticket: &StoredTicket, now: Millis) -> Result<(), Error> {
    let state =
        if ticket.expires_at <= now && ticket.answer.is_none() { TicketState::Expired } else { ticket.state };
    authorize(role, Action::Decide, State::of_question(state)).map_err(|error| match error.kind {
        ErrorKind::InvalidValue => {
            let message = format!("this question is {}", state.word());
            let hint = "a decision counts once, and in time; the agent has to ask again";
            Error::new(ErrorKind::QuestionClosed, message, hint)
        }
        _ => error,
    })
}

/// The answer as it was offered, or any words where none were.
fn fitting(ticket: &StoredTicket, answer: &str) -> Result<String, Error> {
    let options: Vec<String> = serde_json::from_str(&ticket.options).unwrap_or_default();
    let answer = answer.trim();
    let offered = options.iter().find(|option| option.trim().to_lowercase() == answer.to_lowercase());
    match offered {
        Some(option) => Ok(option.clone()),
        None if options.is_empty() && !answer.is_empty() => {
            Ok(answer.chars().take(10 * TOPIC_LIMIT).collect())
        }
        None => Err(Error::new(
            ErrorKind::InvalidValue,
            "this is none of the answers offered",
            format!("answer with one of: {}", options.join(", ")),
        )),
    }
}

/// The ticket as soon as it is not `open` any more, or the time is up.
fn answer_once_closed(ticket: &StoredTicket, open: bool, timeout_s: f64, attempt: Attempt) -> Answer {
    if open && !is_over(attempt, timeout_s) {
        return Answer::Wait { until: deadline(attempt.since, timeout_s), topic: Topic::Journal };
    }
    TicketReply { ticket: ticket_view(ticket), timeout: open }.into()
}

fn no_ticket(id: &TicketId) -> Error {
    Error::new(ErrorKind::InvalidValue, format!("there is no question {id}"), "see: p2p-comm inbox")
}
