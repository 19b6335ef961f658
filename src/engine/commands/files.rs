//! Sending files: into a call, to a deployed agent, or to a mailbox.

use std::path::Path;
use std::time::Duration;

use super::super::clock::fresh_message;
use super::super::core::{Answer, Attempt, Core, Fault, Topic};
use super::super::effects::Effect;
use super::super::files;
use super::super::folders;
use super::super::metrics::Count;
use super::super::staging::{Origin, Probe, Target};
use super::messages::{To, Utterance};
use crate::api::{self, Error, ErrorKind};
use crate::proto::call::{Call, Content};
use crate::proto::legacy::FILE_LIMIT;
use crate::proto::v2::parcel::PARCEL_LIMIT;
use crate::proto::{
    CallId, Hex, MessageId, MessageKind, Millis, Protocol, PublicKey, Sender, safe_file_name,
};
use crate::store::StoredMessage;
use crate::transport::v2::mail::FILE_LIMIT as MAIL_LIMIT;

/// How long a file may take to be copied: a day is more than any disk needs.
const COPIED_WITHIN: Duration = Duration::from_secs(24 * 3_600);

/// Where the bytes of a file come from.
pub(super) struct Source<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) content: Option<&'a str>,
    pub(super) path: Option<&'a str>,
}

impl Core {
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
