//! Saying things.

use super::super::clock::{fresh, fresh_message};
use super::super::core::{Answer, Attempt, Core, Fault, Topic};
use super::super::effects::Effect;
use super::super::files;
use super::super::metrics::Count;
use super::super::v2::{Dialect, nowhere};
use super::calls::{refusal, relays_unreachable};
use super::{deadline, is_over};
use crate::api::{self, Error, ErrorKind, MessageReply, Messages};
use crate::proto::call::{Call, Content, Refused};
use crate::proto::{
    CallId, CallState, MessageId, MessageKind, MessageState, Millis, Protocol, PublicKey, Sender,
    TraceParent, v2,
};
use crate::store::{self, NewMessage, StoredMessage};

/// Most messages that one command reads.
const LIST_LIMIT: usize = 10_000;

/// Where a text goes: to a call, to an agent, or to the only call.
#[derive(Clone, Copy)]
pub(in super::super) struct To<'a> {
    pub(super) call: Option<&'a CallId>,
    pub(super) agent: Option<&'a str>,
}

/// Something of ours, as its row tells it.
pub(super) struct Utterance<'a> {
    pub(super) sender: Sender,
    pub(super) call: &'a Call,
    pub(super) id: MessageId,
    pub(super) kind: MessageKind,
    pub(super) text: &'a str,
    pub(super) file: Option<&'a api::File>,
}

impl Core {
    pub(in super::super) fn send(
        &mut self,
        text: &str,
        to: To<'_>,
        client_id: Option<MessageId>,
        wait: Option<MessageState>,
        traceparent: Option<&TraceParent>,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        let now = attempt.now;
        if let Some(id) = client_id
            && let Some(stored) = self.store.my_message(&id)?
        {
            return Ok(Answer::Now(self.message_view(&stored).into()));
        }
        if text.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidValue,
                "there is nothing to say",
                "p2p-comm send \"words\"",
            )
            .into());
        }
        let id = client_id.unwrap_or_else(|| fresh_message(now));
        let call = match to.agent {
            Some(agent) => {
                let key = match self.mail_key(agent, attempt)? {
                    Ok(key) => key,
                    Err(not_yet) => return Ok(not_yet),
                };
                match self.connected_with(&key)? {
                    Some(call) => call,
                    None => return self.send_mail(&key, id, text, wait, attempt),
                }
            }
            None => self.connected(to.call)?,
        };
        check_wait(Some(call.protocol), wait)?;
        // Before the message, which is shown with it. Of one that is then refused nobody hears anything.
        if let (Some(trace), Protocol::V2) = (traceparent, call.protocol) {
            let content = v2::body::Content::Trace { message: id, traceparent: trace.clone() };
            self.say_in_talk(&call, fresh(), &content, now)?;
        }
        let said = self.say(&call, id, Content::Text(text.to_owned()), text, None, now)?;
        let Some(trace) = traceparent else { return Ok(said) };
        self.store.trace_message(None, &id, trace)?;
        match self.store.my_message(&id)? {
            Some(stored) => Ok(Answer::Now(self.message_view(&stored).into())),
            None => Ok(said),
        }
    }

    /// Says something in a call, and tells how it stands: queued, which is committed before anybody hears of it.
    pub(super) fn say(
        &mut self,
        call: &Call,
        id: MessageId,
        content: Content,
        text: &str,
        file: Option<&api::File>,
        now: Millis,
    ) -> Result<Answer, Fault> {
        let kind = content.kind();
        match (call.protocol, &content) {
            (Protocol::Legacy, _) => {
                self.check_pace(now)?;
                let seq = self.board.say(&call.id, id, content)?;
                return self.written(&Utterance { sender: Sender::Me, call, id, kind, text, file }, seq, now);
            }
            (Protocol::V2, Content::Escalation(question)) => {
                self.say_in_talk(call, id, &v2::body::Content::Escalation(question.clone()), now)?;
            }
            (Protocol::V2, _) => {
                self.say_in_talk(call, id, &v2::body::Content::Text(text.to_owned()), now)?;
            }
        }
        self.said(&Utterance { sender: Sender::Me, call, id, kind, text, file }, now)
    }

    /// Numbers what a delivery machine has taken, and writes it down.
    pub(super) fn said(&mut self, said: &Utterance<'_>, now: Millis) -> Result<Answer, Fault> {
        let seq = self.board.say(&said.call.id, said.id, Content::Text(String::new()))?;
        self.written(said, seq, now)
    }

    fn written(&mut self, said: &Utterance<'_>, seq: u64, now: Millis) -> Result<Answer, Fault> {
        let Utterance { sender, call, id, kind, text, file } = *said;
        let message = NewMessage {
            message: id,
            call: Some(call.id),
            peer: call.peer,
            sender,
            kind,
            text: text.to_owned(),
            file: file.and_then(|file| serde_json::to_string(file).ok()),
            at: now,
            state: MessageState::Queued,
            seq: Some(seq),
        };
        self.store.add_message(&message)?;
        self.effects.push(Effect::Count(Count::Message { out: true, dialect: Some(call.protocol) }));
        self.settle(now)?;
        let stored = StoredMessage { row: 0, message, reason: None, read: false, traceparent: None };
        Ok(Answer::Now(self.message_view(&stored).into()))
    }

    /// What the owner decided, into the transcript; and to the peer, who was told of the question, while the call is up.
    pub(super) fn say_decision(
        &mut self,
        call: &Call,
        id: MessageId,
        question: &str,
        answer: &str,
        now: Millis,
    ) -> Result<(), store::Error> {
        let (sender, kind) = (Sender::Owner, MessageKind::System);
        let said = Utterance { sender, call, id, kind, text: answer, file: None };
        let told = match (call.state(), call.protocol) {
            (CallState::Connected, Protocol::V2) => {
                let content = v2::body::Content::EscalationAnswer(answer.to_owned());
                self.say_in_talk(call, id, &content, now).and_then(|()| self.said(&said, now))
            }
            (CallState::Connected, Protocol::Legacy) => {
                // This dialect has no word for it, and names no question.
                let words = format!("My owner was asked: {question}\nThe answer: {answer}");
                match self.check_pace(now).map_err(Fault::from).and_then(|()| {
                    self.board.say(&call.id, id, Content::OwnerSaid(words)).map_err(Fault::from)
                }) {
                    Ok(seq) => self.written(&said, seq, now),
                    Err(fault) => Err(fault),
                }
            }
            (CallState::Ringing | CallState::Ended, _) => Err(refusal(&Refused::Ended(None)).into()),
        };
        match told {
            Ok(_) => Ok(()),
            Err(Fault::Store(error)) => Err(error),
            Err(Fault::Api(error)) => {
                tracing::debug!(call = %call.id, %error, "the peer is not told what the owner decided");
                self.store.add_message(&NewMessage {
                    message: id,
                    call: Some(call.id),
                    peer: call.peer,
                    sender,
                    kind,
                    text: answer.to_owned(),
                    file: None,
                    at: now,
                    state: MessageState::Received,
                    seq: None,
                })?;
                Ok(())
            }
        }
    }

    /// The connected call with an agent.
    pub(super) fn connected_with(&mut self, key: &PublicKey) -> Result<Option<Call>, Fault> {
        let connected = |call: &Call| call.peer == *key && call.state() == CallState::Connected;
        match self.only(connected)? {
            Some(id) => Ok(Some(self.connected(Some(&id))?)),
            None => Ok(None),
        }
    }

    /// The key of an agent that is written to: the one with which a call is up, or the one that it has now.
    pub(super) fn mail_key(
        &mut self,
        agent: &str,
        attempt: Attempt,
    ) -> Result<Result<PublicKey, Answer>, Fault> {
        let found = match self.find_agent(agent, attempt.now) {
            Err(Fault::Api(error)) if error.kind == ErrorKind::UnknownAgent => {
                return match self.look_anew(attempt) {
                    Some(until) => Ok(Err(Answer::Wait { until, topic: Topic::Relays })),
                    None => self.patiently(attempt, || error).map(Err),
                };
            }
            found => found?,
        };
        if self.connected_with(&found.key)?.is_some() {
            return Ok(Ok(found.key));
        }
        let key = self.current_key(&found.key, attempt)?;
        Ok(key.map_err(|until| Answer::Wait { until, topic: Topic::Relays }))
    }

    /// Says something to an agent without a call.
    fn send_mail(
        &mut self,
        key: &PublicKey,
        id: MessageId,
        text: &str,
        wait: Option<MessageState>,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        check_wait(None, wait)?;
        if let Some(not_yet) = self.check_mailbox(key, attempt)? {
            return Ok(not_yet);
        }
        let message = self.mail(key, id, text, attempt.now)?;
        self.effects.push(Effect::Count(Count::Message { out: true, dialect: None }));
        let stored = StoredMessage { row: 0, message, reason: None, read: false, traceparent: None };
        Ok(Answer::Now(self.message_view(&stored).into()))
    }

    /// Whether an agent has a mailbox; or what to wait for until that is known.
    pub(super) fn check_mailbox(
        &mut self,
        key: &PublicKey,
        attempt: Attempt,
    ) -> Result<Option<Answer>, Fault> {
        if *key == self.me.key {
            let hint = "send it to another agent: p2p-comm list";
            return Err(Error::new(ErrorKind::InvalidValue, "this is your own agent", hint).into());
        }
        match self.dialect(key, true, attempt)? {
            Dialect::Asking(until) => Ok(Some(Answer::Wait { until, topic: Topic::Relays })),
            Dialect::V2 => Ok(None),
            Dialect::Legacy => Err(Error::new(
                ErrorKind::NoActiveCall,
                "no call with this agent is connected, and the legacy dialect carries messages only in calls",
                format!("call it first: p2p-comm call {key}"),
            )
            .into()),
            Dialect::Unknown => {
                let connected = self.is_connected();
                self.patiently(attempt, || if connected { nowhere(key) } else { relays_unreachable() })
                    .map(Some)
            }
        }
    }

    /// The agent's own secret key leaves this machine in no text and no file.
    pub(super) fn check_secret(&self, bytes: &[u8]) -> Result<(), Fault> {
        let earlier = self.earlier.as_ref().is_some_and(|earlier| earlier.is_in(bytes));
        match earlier || self.identity.is_in(bytes) {
            true => Err(files::holds_key().into()),
            false => Ok(()),
        }
    }

    pub(in super::super) fn await_message(
        &mut self,
        id: &MessageId,
        state: MessageState,
        timeout_s: f64,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        let stored = self.store.my_message(id)?.ok_or_else(|| {
            Error::new(
                ErrorKind::UnknownCall,
                format!("there is no message {id} of yours"),
                "see: p2p-comm messages",
            )
        })?;
        let protocol = match stored.message.call {
            Some(call) => Some(self.stored(&call)?.call.protocol),
            None => None,
        };
        check_wait(protocol, Some(state))?;
        let reached = stored.message.state >= state;
        if !reached && !is_over(attempt, timeout_s) {
            return Ok(Answer::Wait { until: deadline(attempt.since, timeout_s), topic: Topic::Journal });
        }
        Ok(MessageReply { message: self.message_view(&stored), timeout: !reached }.into())
    }

    pub(in super::super) fn messages(
        &mut self,
        call: Option<&CallId>,
        unread: bool,
        limit: usize,
    ) -> Result<Answer, Fault> {
        if let Some(id) = call {
            self.stored(id)?;
        }
        let messages = self.message_views(&self.store.messages(call, unread, limit.min(LIST_LIMIT))?);
        Ok(Messages { cursor: self.store.last_cursor()?, messages }.into())
    }
}

/// What no peer of this dialect ever tells cannot be waited for; outside of calls nobody tells it.
fn check_wait(protocol: Option<Protocol>, wait: Option<MessageState>) -> Result<(), Fault> {
    match wait {
        None | Some(MessageState::Queued | MessageState::Relayed) => Ok(()),
        Some(MessageState::Delivered | MessageState::Read) if protocol == Some(Protocol::V2) => Ok(()),
        Some(MessageState::Delivered | MessageState::Read) if protocol.is_none() => Err(Error::new(
            ErrorKind::InvalidValue,
            "outside of a call nobody acknowledges a message: a relay taking it is all that can be known",
            "use --wait=relayed, or call the agent first; nothing was sent",
        )
        .into()),
        Some(MessageState::Delivered | MessageState::Read) => Err(Error::new(
            ErrorKind::InvalidValue,
            "this call is in the legacy dialect, which knows no receipts: a relay taking the message is all that can be known",
            "use --wait=relayed; nothing was sent",
        )
        .into()),
        Some(other) => {
            let message = format!("`{}` cannot be waited for", other.word());
            Err(Error::new(ErrorKind::InvalidValue, message, "use relayed, delivered or read").into())
        }
    }
}
