//! Saying things and sending files.

use std::path::Path;
use std::time::Duration;

use super::super::clock::{fresh, fresh_message};
use super::super::core::{Answer, Attempt, Core, Fault, Topic};
use super::super::effects::Effect;
use super::super::files;
use super::super::folders;
use super::super::metrics::Count;
use super::super::staging::{Origin, Probe, Target};
use super::super::v2::{Dialect, nowhere};
use super::calls::{refusal, relays_unreachable};
use super::{deadline, is_over};
use crate::api::{self, Error, ErrorKind, MessageReply, Messages};
use crate::proto::call::{Call, Content, Refused};
use crate::proto::legacy::FILE_LIMIT;
use crate::proto::v2::parcel::PARCEL_LIMIT;
use crate::proto::{
    CallId, CallState, Hex, MessageId, MessageKind, MessageState, Millis, Protocol, PublicKey, Sender,
    TraceParent, safe_file_name, v2,
};
use crate::store::{self, NewMessage, StoredMessage};
use crate::transport::v2::mail::FILE_LIMIT as MAIL_LIMIT;

/// Most messages that one command reads.
const LIST_LIMIT: usize = 10_000;

/// How long a file may take to be copied: a day is more than any disk needs.
const COPIED_WITHIN: Duration = Duration::from_secs(24 * 3_600);

/// Where the bytes of a file come from.
pub(super) struct Source<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) content: Option<&'a str>,
    pub(super) path: Option<&'a str>,
}

/// Where a text goes: to a call, to an agent, or to the only call.
#[derive(Clone, Copy)]
pub(in super::super) struct To<'a> {
    pub(super) call: Option<&'a CallId>,
    pub(super) agent: Option<&'a str>,
}

/// Something of ours, as its row tells it.
struct Utterance<'a> {
    sender: Sender,
    call: &'a Call,
    id: MessageId,
    kind: MessageKind,
    text: &'a str,
    file: Option<&'a api::File>,
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

    pub(super) fn send_file(
        &mut self,
        source: &Source<'_>,
        mime: Option<&str>,
        to: To<'_>,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        let origin = match (source.content, source.path) {
            (Some(content), None) => Origin::Content(content),
            (None, Some(path)) => Origin::Path(path),
            _ => {
                let hint = "p2p-comm sendfile NAME BASE64 [MIME], or p2p-comm sendfile --path FILE";
                return Err(Error::new(ErrorKind::Usage, "give either the content or a path", hint).into());
            }
        };
        let begun = self.works.staging.target(attempt.number);
        let target = match begun {
            Some(target) => target,
            None => match self.file_target(to, attempt)? {
                Ok(target) => target,
                Err(not_yet) => return Ok(not_yet),
            },
        };
        let call = match target.call == CallId::default() {
            true => None,
            false => Some(self.connected(Some(&target.call))?),
        };
        if let Some(call) = call.as_ref().filter(|call| call.protocol == Protocol::Legacy) {
            return self.send_small_file(source, origin, mime, call, attempt.now);
        }
        let by_mail = call.as_ref().is_none_or(|call| self.is_away(&call.id));
        let not_yet = Answer::Wait { until: attempt.since + COPIED_WITHIN, topic: Topic::Files };
        if begun.is_none() {
            match &call {
                Some(call) => self.check_waiting_files(&call.id)?,
                None => self.check_waiting_parcels()?,
            }
            let probe = by_mail.then(|| self.file_probe(attempt.now)).flatten();
            self.begin_staging(attempt.number, target, fresh_message(attempt.now), origin, probe);
            return Ok(not_yet);
        }
        let Some((id, copied)) = self.take_staged(attempt.number)? else {
            return match attempt.last {
                true => Err(Error::internal("the file could not be copied within a day").into()),
                false => Ok(not_yet),
            };
        };
        let mime = if copied.folder { Some(folders::MIME) } else { mime };
        let file = described(source, mime, copied.path.as_deref(), copied.size, copied.sha256);
        let small = copied.size <= MAIL_LIMIT as u64;
        let sent = match &call {
            None => self.check_mailable(copied.size).and_then(|()| {
                let problem = copied.taken.and_then(Result::err);
                self.file_mailed(&target.peer, None, id, &file, problem, attempt.now)
            }),
            Some(call) if by_mail && (small || copied.taken == Some(Ok(()))) => {
                self.file_mailed(&target.peer, Some(call), id, &file, None, attempt.now)
            }
            Some(call) => match self.send_in_talk(call, id, &file, copied.sha256, attempt.now) {
                Ok(()) => {
                    let (sender, kind) = (Sender::Me, MessageKind::File);
                    let said = Utterance { sender, call, id, kind, text: &file.name, file: Some(&file) };
                    return self.said(&said, attempt.now);
                }
                Err(fault) => Err(fault),
            },
        };
        if sent.is_err() {
            self.effects.push(Effect::Remove(files::spool(&self.home, &target.call, &id)));
        }
        sent
    }
    /// Where a file goes: into a call, or to an agent with whom none is up.
    fn file_target(&mut self, to: To<'_>, attempt: Attempt) -> Result<Result<Target, Answer>, Fault> {
        let in_call = |call: &Call| Target { call: call.id, peer: call.peer };
        let Some(agent) = to.agent else { return Ok(Ok(in_call(&self.connected(to.call)?))) };
        let key = match self.mail_key(agent, attempt)? {
            Ok(key) => key,
            Err(not_yet) => return Ok(Err(not_yet)),
        };
        if let Some(call) = self.connected_with(&key)? {
            return Ok(Ok(in_call(&call)));
        }
        let not_yet = self.check_mailbox(&key, attempt)?;
        Ok(not_yet.map_or(Ok(Target { call: CallId::default(), peer: key }), Err))
    }

    /// Whom to ask about a file that may go to a mailbox.
    fn file_probe(&self, now: Millis) -> Option<Probe> {
        let servers = self.settings.blossom.clone();
        (!servers.is_empty()).then(|| Probe {
            blossom: self.works.blossom.clone(),
            servers,
            now: now.as_secs(),
            sizes: (MAIL_LIMIT as u64, PARCEL_LIMIT),
        })
    }

    /// Outside of a call, a file that no mailbox takes waits for nothing.
    fn check_mailable(&self, size: u64) -> Result<(), Fault> {
        if size <= MAIL_LIMIT as u64 || self.fits_parcel(size) {
            return Ok(());
        }
        let message = match size > PARCEL_LIMIT {
            true => format!("the file has {size} bytes; at most {PARCEL_LIMIT} go to a mailbox"),
            false => format!(
                "the file has {size} bytes; a mailbox takes {MAIL_LIMIT}, or {PARCEL_LIMIT} by a server of the setting \
                 `blossom`, which names none"
            ),
        };
        let hint = "call the agent: p2p-comm call AGENT, and send it there; or name a server: p2p-comm config set \
                    blossom https://SERVER";
        Err(Error::new(ErrorKind::TooLarge, message, hint).into())
    }

    fn file_mailed(
        &mut self,
        peer: &PublicKey,
        call: Option<&Call>,
        id: MessageId,
        file: &api::File,
        problem: Option<String>,
        now: Millis,
    ) -> Result<Answer, Fault> {
        let message = self.mail_file(peer, call, id, file, problem, now)?;
        self.effects.push(Effect::Count(Count::Message { out: true, dialect: None }));
        let stored = StoredMessage { row: 0, message, reason: None, read: false, traceparent: None };
        Ok(Answer::Now(self.message_view(&stored).into()))
    }

    /// Sends a file to a deployed agent: as a whole, in one event.
    fn send_small_file(
        &mut self,
        source: &Source<'_>,
        origin: Origin<'_>,
        mime: Option<&str>,
        call: &Call,
        now: Millis,
    ) -> Result<Answer, Fault> {
        let (path, bytes) = match origin {
            Origin::Path(path) => {
                let (path, bytes) = files::load(&self.home, path, FILE_LIMIT)?;
                (Some(path), bytes)
            }
            Origin::Content(content) => {
                let bytes = files::decode(content).map_err(|error| files::no_base64(&error))?;
                if bytes.len() > FILE_LIMIT {
                    return Err(files::too_large(bytes.len() as u64, FILE_LIMIT).into());
                }
                (None, bytes)
            }
        };
        self.check_secret(&bytes)?;
        let sha256 = files::sha256(&bytes);
        let file = described(source, mime, path.as_deref(), bytes.len() as u64, sha256);
        let (name, mime) = (file.name.clone(), file.mime.clone());
        let content = Content::File { name: name.clone(), mime, bytes: files::encode(&bytes) };
        self.say(call, fresh_message(now), content, &name, Some(&file), now)
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
    fn said(&mut self, said: &Utterance<'_>, now: Millis) -> Result<Answer, Fault> {
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
    fn connected_with(&mut self, key: &PublicKey) -> Result<Option<Call>, Fault> {
        let connected = |call: &Call| call.peer == *key && call.state() == CallState::Connected;
        match self.only(connected)? {
            Some(id) => Ok(Some(self.connected(Some(&id))?)),
            None => Ok(None),
        }
    }

    /// The key of an agent that is written to: the one with which a call is up, or the one that it has now.
    fn mail_key(&mut self, agent: &str, attempt: Attempt) -> Result<Result<PublicKey, Answer>, Fault> {
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
    fn check_mailbox(&mut self, key: &PublicKey, attempt: Attempt) -> Result<Option<Answer>, Fault> {
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

    /// Cancels a file under way, whoever sends it.
    pub(super) fn cancel_file(&mut self, message: &MessageId, now: Millis) -> Result<Answer, Fault> {
        let Some(transfer) = self.store.transfer_of(message)? else {
            if let Some(stored) = self.cancel_parcel(message, now)? {
                return Ok(Answer::Now(self.message_view(&stored).into()));
            }
            let message = format!("there is no file {message} under way");
            let hint = "what has arrived, or has failed, cannot be cancelled; see: p2p-comm messages";
            return Err(Error::new(ErrorKind::InvalidValue, message, hint).into());
        };
        let stored = self.cancel_transfer(&transfer, now)?;
        let stored = stored.ok_or_else(|| Error::internal("a cancelled file without a message"))?;
        Ok(Answer::Now(self.message_view(&stored).into()))
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

/// A file of ours as its message tells it.
fn described(
    source: &Source<'_>,
    mime: Option<&str>,
    path: Option<&Path>,
    size: u64,
    sha256: Hex<32>,
) -> api::File {
    let of_path = path.and_then(Path::file_name).map(|name| name.to_string_lossy());
    let name = safe_file_name(source.name.or(of_path.as_deref()).unwrap_or_default());
    let mime = mime.filter(|mime| !mime.is_empty()).unwrap_or_else(|| files::mime_of(&name)).to_owned();
    let path = path.map(|path| path.to_string_lossy().into_owned());
    api::File { name, size, mime, sha256: sha256.to_string(), path }
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
