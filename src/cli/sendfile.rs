//! `sendfile`: sends a file, by its bytes in base64 or by its path; with `--wait`, until it has come that far.

use std::path::PathBuf;

use clap::Args;
use tokio::time::{Duration, Instant};

use super::progress::Shown;
use super::send::state;
use super::session::{Session, ask, call_id, seconds};
use super::usage::usage;
use super::{DONE, FAILED, TIMEOUT, Verdict, show};
use crate::api::{Command, Message, MessageReply, MessageState, Messages, WaitReply};
use crate::daemon::absolute;
use crate::ipc::Client;
use crate::proto::{EventKind, MessageId};

/// How long a step of waiting takes at most.
const STEP_S: f64 = 1.0;

/// Send a file
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm sendfile report.json \"eyJkYXRhIjogdHJ1ZX0=\" application/json
         p2p-comm sendfile --path ./report.json
         p2p-comm sendfile --path ./model.bin --wait=delivered
         p2p-comm sendfile --path ./report.json --to bob
         p2p-comm sendfile --cancel MESSAGE

To an agent with whom no call is up (--to), or whose call is away, a file goes to its mailbox: up to 20,000 bytes, or 16
MiB by a server of the setting `blossom`. `via` says so, and --wait=relayed is what can be waited for.
It returns when a copy is on the disk (`queued`). With --wait it shows how far the file has come: a bar on a terminal, one
JSON line a second on stderr with --json. --cancel stops a file under way, whoever sends it.
The system limits an argument to 128 KiB: larger files go by --path.")]
pub(super) struct SendFile {
    /// The name that the peer sees
    #[arg(required_unless_present_any = ["path", "cancel"], requires = "base64")]
    name: Option<String>,
    /// The bytes in base64
    base64: Option<String>,
    /// MIME type; guessed from the name if absent
    mime: Option<String>,
    /// A file on this machine instead
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    path: Option<PathBuf>,
    /// Which call, if several are up
    #[arg(long, value_name = "ID", conflicts_with = "to")]
    call: Option<String>,
    /// An agent instead of a call
    #[arg(long, value_name = "AGENT")]
    to: Option<String>,
    /// Wait until it is relayed, delivered or read
    #[arg(long, value_name = "STATE", value_parser = state)]
    wait: Option<MessageState>,
    /// How long to wait; as long as it takes if absent
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "wait")]
    timeout: Option<f64>,
    /// Cancel this file instead
    #[arg(long, value_name = "MESSAGE", conflicts_with_all = ["name", "path", "call", "to", "wait"])]
    cancel: Option<MessageId>,
}

impl SendFile {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        if let Some(message) = self.cancel {
            let message: Message = ask(&session.client().await?, Command::CancelFile { message }).await?;
            session.printer.data(&message, || show::message(&message))?;
            return Ok(DONE);
        }
        let path = self.path.as_deref().map(absolute).transpose()?;
        if path.is_none() && self.base64.is_none() {
            return Err(usage("there is no file", "give NAME and BASE64, or --path FILE").into());
        }
        let call = call_id(self.call.as_deref())?;
        let mut client = session.client().await?;
        let from_now = Command::Messages { call: None, unread: false, limit: 0 };
        let cursor = match self.wait {
            Some(_) => ask::<Messages>(&client, from_now).await?.cursor,
            None => 0,
        };
        if self.to.is_some() && !matches!(self.wait, None | Some(MessageState::Relayed)) {
            let hint = "use --wait=relayed, or --call ID where a call is up; nothing was sent";
            return Err(usage("outside of a call nobody acknowledges a file", hint).into());
        }
        let (name, content, mime) = (self.name, self.base64, self.mime);
        let command = Command::SendFile { name, content, path, mime, call, to: self.to };
        let message: Message = ask(&client, command).await?;
        let Some(state) = self.wait else {
            session.printer.data(&message, || show::message(&message))?;
            return Ok(DONE);
        };
        let reply = follow(session, &mut client, &message, state, cursor, self.timeout).await?;
        session.printer.data(&reply, || show::message(&reply.message))?;
        Ok(match (reply.timeout, reply.message.state) {
            (true, _) => TIMEOUT,
            (false, MessageState::Failed) => FAILED,
            (false, _) => DONE,
        })
    }
}

/// Waits until a file has come as far as `state`, and shows how far it is meanwhile.
async fn follow(
    session: &Session,
    client: &mut Client,
    message: &Message,
    state: MessageState,
    mut cursor: u64,
    timeout_s: Option<f64>,
) -> Result<MessageReply, crate::api::Error> {
    let id = message.message;
    let until = timeout_s.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    let kinds = [
        EventKind::FileProgress,
        EventKind::MessageRelayed,
        EventKind::MessageDelivered,
        EventKind::MessageRead,
        EventKind::MessageFailed,
    ];
    let mut shown = Shown::begin(&session.printer, id);
    loop {
        let await_message = |timeout_s| Command::AwaitMessage { message: id, state, timeout_s };
        let reply: MessageReply = session.wait_for(client, 0.0, await_message).await?.try_into()?;
        let left = until.map(|until| until.saturating_duration_since(Instant::now()).as_secs_f64());
        if !reply.timeout || left == Some(0.0) {
            shown.end();
            return Ok(reply);
        }
        let wait = |timeout_s| Command::Wait {
            consumer: None,
            after: Some(cursor),
            call: message.call,
            kinds: kinds.to_vec(),
            ahead: 0,
            timeout_s,
        };
        let step = left.map_or(STEP_S, |left| left.min(STEP_S));
        let next: WaitReply = session.wait_for(client, step, wait).await?.try_into()?;
        if let Some(event) = next.event {
            cursor = event.cursor;
            let ours = event.message.is_some_and(|message| message.message == id);
            if let Some(progress) = event.progress.filter(|_| ours) {
                shown.tell(&progress);
            }
        }
    }
}
