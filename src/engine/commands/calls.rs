//! Placing, answering and ending calls; and which call a command means.

use std::time::Duration;

use tokio::time::Instant;

use super::super::clock::{fresh, fresh_room};
use super::super::core::{Answer, Attempt, Core, Fault, Topic};
use super::super::v2::{Dialect, nowhere};
use super::super::views::as_stored;
use super::{deadline, is_over};
use crate::api::{CallReply, EndReply, Error, ErrorKind};
use crate::proto::call::{Call, Place, Refused};
use crate::proto::legacy::TOPIC_LIMIT;
use crate::proto::text::quote;
use crate::proto::{CallId, CallState, Direction, EndReason, Millis, Protocol, TraceParent};
use crate::store::StoredCall;

/// How long after a start a command waits for the first relay, and for agents that are started together with this
/// one to announce themselves. Later, what is not there has had its time.
const PATIENCE: Duration = Duration::from_secs(4);

/// A clock off by more than this makes relays refuse ephemeral events (strfry: 60 s), with room for ours.
const CLOCK_SKEW_S: f64 = 45.0;

impl Core {
    pub(in super::super) fn place_call(
        &mut self,
        agent: &str,
        topic: &str,
        client_id: Option<&str>,
        traceparent: Option<&TraceParent>,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        if let Some(client_id) = client_id
            && let Some(stored) = self.store.call_by_client_id(client_id)?
        {
            return Ok(CallReply { call: self.call_view(&stored), already: true, timeout: false }.into());
        }
        if topic.chars().count() > TOPIC_LIMIT {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a topic has at most {TOPIC_LIMIT} characters"),
                "say what it is about in a sentence, and the rest with: p2p-comm send",
            )
            .into());
        }
        if !self.is_connected() {
            return self.patiently(attempt, relays_unreachable);
        }
        self.check_clock_for_calls()?;
        let found = match self.find_agent(agent, attempt.now) {
            Err(Fault::Api(error)) if error.kind == ErrorKind::UnknownAgent => {
                return match self.look_anew(attempt) {
                    Some(until) => Ok(Answer::Wait { until, topic: Topic::Relays }),
                    None => self.patiently(attempt, || error),
                };
            }
            found => found?,
        };
        let found = match self.current_key(&found.key, attempt)? {
            Err(until) => return Ok(Answer::Wait { until, topic: Topic::Relays }),
            Ok(key) if key == found.key => found,
            Ok(key) => self.found(key, attempt.now),
        };
        if found.key == self.me.key {
            let hint = "call another agent: p2p-comm list";
            return Err(Error::new(ErrorKind::InvalidValue, "this is your own agent", hint).into());
        }
        if let Some(agent_id) = self.book.claimed(&found.key) {
            let hint = "compare the fingerprints with its owner, then, in a terminal: p2p-comm contacts verify NAME KEY";
            let message =
                format!("this key claims to be {}, which has another key, and is blocked", quote(agent_id));
            return Err(Error::new(ErrorKind::Blocked, message, hint).into());
        }
        if self.book.is_blocked(&found.key) {
            let hint = format!("to call it all the same: p2p-comm contacts unblock {}", found.key);
            return Err(Error::new(ErrorKind::Blocked, "you have blocked this agent", hint).into());
        }
        let protocol = match self.dialect(&found.key, false, attempt)? {
            Dialect::Asking(until) => return Ok(Answer::Wait { until, topic: Topic::Relays }),
            Dialect::V2 => Protocol::V2,
            Dialect::Legacy => Protocol::Legacy,
            // Agents that were started together announce themselves any moment.
            Dialect::Unknown => return self.patiently(attempt, || nowhere(&found.key)),
        };
        let place = Place {
            id: fresh(),
            room: match protocol {
                Protocol::V2 => fresh::<16>().to_string(),
                Protocol::Legacy => fresh_room(),
            },
            protocol,
            peer: found.key,
            agent_id: found.agent_id,
            agent_name: found.name,
            topic: topic.to_owned(),
        };
        let id = self.board.place(place, attempt.now).map_err(|refused| refusal(&refused))?;
        // The ring, which leaves with what follows, tells it.
        self.lines.traces.extend(traceparent.map(|trace| (id, trace.clone())));
        self.settle(attempt.now)?;
        if let Some(trace) = self.lines.traces.remove(&id) {
            self.store.trace_call(&id, &trace)?;
        }
        if let Some(client_id) = client_id {
            self.store.set_client_id(&id, client_id)?;
        }
        let stored = self.stored(&id)?;
        Ok(CallReply { call: self.call_view(&stored), already: false, timeout: false }.into())
    }

    /// A call whose every event relays turn away would only ring out.
    fn check_clock_for_calls(&self) -> Result<(), Fault> {
        let told = self.pool.clock();
        match told.offset_s {
            Some(off) if off.abs() > CLOCK_SKEW_S && told.agreed && told.rejected => Err(Error::new(
                ErrorKind::ClockSkew,
                format!("this machine's clock is off by {off:+.0} s, and relays turn away what it dates"),
                "set it (timedatectl set-ntp true), then: p2p-comm daemon stop",
            )
            .into()),
            _ => Ok(()),
        }
    }

    /// Waits for relays a little after a start, then gives up with this error.
    pub(super) fn patiently(
        &self,
        attempt: Attempt,
        give_up: impl FnOnce() -> Error,
    ) -> Result<Answer, Fault> {
        match self.patience(attempt) {
            Some(until) => Ok(Answer::Wait { until, topic: Topic::Relays }),
            None => Err(give_up().into()),
        }
    }

    /// Until when a command that needs a relay still waits for the first one.
    pub(in super::super) fn patience(&self, attempt: Attempt) -> Option<Instant> {
        let until = self.started + PATIENCE;
        (!attempt.last && until > Instant::now()).then_some(until)
    }

    pub(in super::super) fn await_call(
        &mut self,
        id: &CallId,
        timeout_s: f64,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        let stored = self.stored(id)?;
        let rings = stored.call.state() == CallState::Ringing;
        if rings && !is_over(attempt, timeout_s) {
            return Ok(Answer::Wait { until: deadline(attempt.since, timeout_s), topic: Topic::Journal });
        }
        Ok(CallReply { call: self.call_view(&stored), already: false, timeout: rings }.into())
    }

    pub(in super::super) fn answer(
        &mut self,
        call: Option<&CallId>,
        accept: bool,
        reason: &str,
        now: Millis,
    ) -> Result<Answer, Fault> {
        let id = match call {
            Some(id) => *id,
            None => match self.only(rings_here)? {
                Some(id) => id,
                None => self.answered_before(accept)?,
            },
        };
        let ours = self.restore_call(&id)?.ok_or_else(|| unknown_call(&id))?;
        if reason.chars().count() > TOPIC_LIMIT {
            let message = format!("a reason has at most {TOPIC_LIMIT} characters");
            return Err(Error::new(ErrorKind::TooLarge, message, "say it shorter").into());
        }
        let changed = match accept {
            true => self.board.accept(&id, now),
            false => self.board.reject(&id, reason, now),
        };
        let changed = changed.map_err(|refused| match refused {
            Refused::NotRinging if ours.direction == Direction::Out => Error::new(
                ErrorKind::NoRingingCall,
                "this is your own call; the other side answers it",
                "wait for its answer: p2p-comm wait",
            ),
            Refused::NotRinging => Error::new(
                ErrorKind::NoRingingCall,
                "this call is connected already",
                format!("to end it: p2p-comm end --call {id}"),
            ),
            other => refusal(&other),
        })?;
        self.settle(now)?;
        let stored = self.stored(&id)?;
        Ok(CallReply { call: self.call_view(&stored), already: !changed, timeout: false }.into())
    }

    /// `answer` repeated, when nothing rings any more: the newest call that came in, if it was answered that way.
    fn answered_before(&self, accept: bool) -> Result<CallId, Fault> {
        let newest =
            self.store.calls(NEWEST)?.into_iter().find(|stored| stored.call.direction == Direction::In);
        let same = |call: &Call| match (accept, call.state()) {
            (true, CallState::Connected) => true,
            (false, CallState::Ended) => {
                call.ended.as_ref().is_some_and(|end| end.reason == EndReason::Rejected)
            }
            _ => false,
        };
        newest.filter(|stored| same(&stored.call)).map(|stored| stored.call.id).ok_or_else(|| {
            let hint = "see what waits: p2p-comm inbox; wait for a call: p2p-comm wait";
            Error::new(ErrorKind::NoRingingCall, "no call rings", hint).into()
        })
    }

    pub(in super::super) fn end(&mut self, call: Option<&CallId>, now: Millis) -> Result<Answer, Fault> {
        let id = match call {
            Some(id) => *id,
            None => match self.only(|call| !rings_here(call))?.or(self.only(|_| true)?) {
                Some(id) => id,
                None => self.ended_before()?,
            },
        };
        self.restore_call(&id)?.ok_or_else(|| unknown_call(&id))?;
        let changed = self.board.hang_up(&id, now).map_err(|refused| refusal(&refused))?;
        self.settle(now)?;
        if changed {
            self.end_talk(&id, now)?;
        }
        let stored = self.stored(&id)?;
        let transcript = self.transcript(&stored, now)?;
        Ok(EndReply { call: self.call_view(&stored), already: !changed, transcript }.into())
    }

    /// `end` repeated, when no call is live any more: the newest call, if it is over.
    fn ended_before(&self) -> Result<CallId, Fault> {
        let newest = self.store.calls(1)?.into_iter().next();
        newest.map(|stored| stored.call.id).ok_or_else(|| {
            let hint = "call an agent: p2p-comm list, then p2p-comm call AGENT \"topic\"";
            Error::new(ErrorKind::NoActiveCall, "there is no call to end", hint).into()
        })
    }

    /// The only live call of its kind; an error that lists them if there are several.
    pub(super) fn only(&self, wanted: impl Fn(&Call) -> bool) -> Result<Option<CallId>, Fault> {
        let fitting: Vec<&Call> = self.board.live().filter(|call| !call.queued && wanted(call)).collect();
        match fitting.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.id)),
            several => {
                let list: Vec<String> = several
                    .iter()
                    .map(|call| {
                        format!("{} ({})", call.id, quote(&self.peer(&call.peer, &call.agent_id, "").id))
                    })
                    .collect();
                let message = format!("{} calls fit: {}", several.len(), list.join(", "));
                Err(Error::new(ErrorKind::AmbiguousCall, message, "say which: --call ID").into())
            }
        }
    }

    /// The connected call that a command means.
    pub(super) fn connected(&mut self, call: Option<&CallId>) -> Result<Call, Fault> {
        let connected = |call: &Call| call.state() == CallState::Connected;
        let id = match call {
            Some(id) => *id,
            None => self.only(connected)?.ok_or_else(|| self.no_active_call())?,
        };
        let call = self.restore_call(&id)?.ok_or_else(|| unknown_call(&id))?;
        match call.state() {
            CallState::Connected => Ok(call),
            CallState::Ringing => Err(refusal(&Refused::Ringing).into()),
            CallState::Ended => {
                Err(refusal(&Refused::Ended(call.ended.as_ref().map(|end| end.reason))).into())
            }
        }
    }

    fn no_active_call(&self) -> Error {
        let hint = match self.board.live().find(|call| !call.queued) {
            Some(call) if rings_here(call) => "a call rings here; take it: p2p-comm answer accept",
            Some(_) => "your call still rings; wait for the answer: p2p-comm wait",
            None => "call an agent: p2p-comm list, then p2p-comm call AGENT \"topic\"",
        };
        Error::new(ErrorKind::NoActiveCall, "no call is connected", hint)
    }

    /// A call as it stands: on the switchboard if it is there, else in the database.
    pub(super) fn stored(&self, id: &CallId) -> Result<StoredCall, Fault> {
        let stored: Option<StoredCall> = self.store.call(id)?;
        match stored {
            Some(stored) => Ok(stored),
            None => self.board.call(id).map(as_stored).ok_or_else(|| unknown_call(id).into()),
        }
    }
}

/// How many calls are looked through for the newest of a kind.
const NEWEST: usize = 100;

fn rings_here(call: &Call) -> bool {
    (call.state(), call.direction) == (CallState::Ringing, Direction::In)
}

pub(super) fn unknown_call(id: &CallId) -> Error {
    Error::new(ErrorKind::UnknownCall, format!("there is no call {id}"), "see the calls: p2p-comm calls")
}

pub(super) fn relays_unreachable() -> Error {
    Error::new(
        ErrorKind::RelaysUnreachable,
        "no relay is connected",
        "see what is wrong with each: p2p-comm status; messages in a call can be sent all the same and wait",
    )
}

/// A refusal of the machine as the user hears of it.
pub(super) fn refusal(refused: &Refused) -> Error {
    match refused {
        Refused::Ended(reason) => {
            let how = reason.map_or_else(String::new, |reason| format!(" ({})", reason.word()));
            let hint = "call again: p2p-comm call AGENT \"topic\"; read what was said: p2p-comm transcript";
            Error::new(ErrorKind::CallEnded, format!("the call has ended{how}"), hint)
        }
        Refused::Ringing => Error::new(
            ErrorKind::NoActiveCall,
            "the call still rings",
            "if it rings here, take it: p2p-comm answer accept; else wait: p2p-comm wait",
        ),
        Refused::NotRinging => {
            Error::new(ErrorKind::NoRingingCall, "the call does not ring here", "see: p2p-comm calls")
        }
        Refused::PeerBusy(id) => Error::new(
            ErrorKind::PeerBusy,
            format!("a call with this agent is up: {id}"),
            format!("go on in it: p2p-comm send --call {id} \"…\"; or end it: p2p-comm end --call {id}"),
        ),
        Refused::TooLarge { size, limit } => Error::new(
            ErrorKind::TooLarge,
            format!("the message has {size} bytes as it is sent; at most {limit} fit into an event"),
            "split it into several messages, or send a file",
        ),
        Refused::Unknown => {
            Error::new(ErrorKind::UnknownCall, "there is no such call", "see: p2p-comm calls")
        }
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::Api(refusal(&refused))
    }
}
