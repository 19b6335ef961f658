//! `wait`: sleeps until something happens, and prints it. This is how an agent is woken.
//!
//! An event is peeked, printed, flushed, and only then committed: a crash at any point shows it again, and never loses it.

use clap::{Args, ValueEnum};

use super::session::{Session, call_id, seconds};
use super::{DONE, TIMEOUT, Verdict, rewake, show};
use crate::api::{Command, DEFAULT_CONSUMER, Done, EventKind, WaitReply};
use crate::ipc::Client;

/// How long a single `wait` waits unless told otherwise: less than the minute after which many agents' shells give up.
const DEFAULT_TIMEOUT_S: f64 = 45.0;
/// How long one request of `--follow` waits; then the next one follows.
const FOLLOW_STEP_S: f64 = 60.0;

/// Sleep until something happens, and print it
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm wait --timeout 45
         p2p-comm wait --for call.ringing,message.received --as watcher --follow
         p2p-comm wait --hook claude --timeout 86390     in the settings of Claude Code: docs/waking.md

Exit 124: nothing happened; the cursor is printed, and nothing is lost. Each consumer (--as) sees every event once;
--after CURSOR reads from there without one, 0 is the oldest kept (30 days). A message that was printed is read.
relay.up, relay.down, file.progress and message.relayed come only when --for names them; receipts (message.delivered,
message.read) come without being asked for, so name what you wait for if you do not want to be woken by them.")]
pub(super) struct Wait {
    /// How long, at most [default: 45; with --follow, for ever]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<f64>,
    /// Whose place in the journal to continue
    #[arg(long = "as", value_name = "NAME", default_value = DEFAULT_CONSUMER, conflicts_with = "after")]
    consumer: String,
    /// Everything after this cursor, for nobody in particular
    #[arg(long, value_name = "CURSOR")]
    after: Option<u64>,
    /// Only events of this call
    #[arg(long, value_name = "ID")]
    call: Option<String>,
    /// Only these kinds, separated by commas
    #[arg(long = "for", value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kinds: Vec<EventKind>,
    /// Go on, one event a line
    #[arg(long)]
    follow: bool,
    /// Only what nobody has taken, answered or read; it stays so
    #[arg(long, conflicts_with_all = ["consumer", "call", "follow"])]
    untaken: bool,
    /// Wake this program's model when something waits; for its hooks
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["consumer", "after", "call", "kinds", "follow", "untaken"])]
    hook: Option<Hook>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Hook {
    /// Claude Code, as a hook with asyncRewake: exit 2 and one line on stderr
    Claude,
}

pub(super) fn kind(word: &str) -> Result<EventKind, String> {
    EventKind::from_word(word.trim()).ok_or_else(|| {
        let kinds: Vec<_> = EventKind::ALL.iter().map(|kind| kind.word()).collect();
        format!("one of {}", kinds.join(", "))
    })
}

impl Wait {
    pub(super) async fn run(mut self, session: &Session) -> Verdict {
        if let Some(Hook::Claude) = self.hook {
            return rewake::run(session, self.timeout.unwrap_or(rewake::DEFAULT_TIMEOUT_S)).await;
        }
        if self.untaken {
            return self.untaken(session).await;
        }
        let call = call_id(self.call.as_deref())?;
        let mut client = session.client().await?;
        let consumer = self.after.is_none().then(|| self.consumer.clone());
        let default = if self.follow { FOLLOW_STEP_S } else { DEFAULT_TIMEOUT_S };
        let timeout = self.timeout.unwrap_or(default);
        loop {
            let wait = |timeout_s| Command::Wait {
                consumer: consumer.clone(),
                after: self.after,
                call,
                kinds: self.kinds.clone(),
                ahead: 0,
                timeout_s,
            };
            let reply: WaitReply = session.wait_for(&mut client, timeout, wait).await?.try_into()?;
            let Some(event) = &reply.event else {
                if self.follow && self.timeout.is_none() {
                    continue;
                }
                session.printer.data(&reply, || format!("nothing happened\ncursor {}", reply.cursor))?;
                return Ok(TIMEOUT);
            };
            session.printer.data(&reply, || show::event(event))?;
            take(session, &mut client, consumer.clone(), event.cursor).await;
            if !self.follow {
                return Ok(DONE);
            }
            if consumer.is_none() {
                self.after = Some(event.cursor);
            }
        }
    }
}

impl Wait {
    async fn untaken(self, session: &Session) -> Verdict {
        let (after, timeout) = (self.after.unwrap_or(0), self.timeout.unwrap_or(DEFAULT_TIMEOUT_S));
        let look = |timeout_s| Command::Untaken { after, kinds: self.kinds.clone(), timeout_s };
        let mut client = session.client().await?;
        let reply: WaitReply = session.wait_for(&mut client, timeout, look).await?.try_into()?;
        session.printer.data(&reply, || match &reply.event {
            Some(event) => show::event(event),
            None => format!("nothing waits\ncursor {}", reply.cursor),
        })?;
        Ok(if reply.event.is_some() { DONE } else { TIMEOUT })
    }
}

/// Takes what was shown. If that cannot be done, it is shown again; the result is printed already, so this is only said.
async fn take(session: &Session, client: &mut Client, consumer: Option<String>, cursor: u64) {
    let commit = |_| Command::Commit { consumer: consumer.clone(), cursor };
    let taken = session.wait_for(client, FOLLOW_STEP_S, commit).await.and_then(Done::try_from);
    if let Err(error) = taken {
        session
            .printer
            .talk(&format!("warning: the event could not be taken, so it is shown again: {error}"));
    }
}
