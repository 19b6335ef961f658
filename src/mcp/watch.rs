//! The journal as a client of the protocol follows it: handed over by `p2p_wait`, or told of by a wake.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::line::Line;
use super::tools::{LONGEST_S, Wait};
use crate::api::{Command, Error, ErrorKind, Event, EventKind, Messages, WaitReply};

/// Whose place in the journal the tools continue.
const CONSUMER: &str = "mcp";
/// What an agent acts on: no receipts, no progress, no relays.
const KINDS: [EventKind; 15] = [
    EventKind::CallRinging,
    EventKind::CallConnected,
    EventKind::CallRejected,
    EventKind::CallEnded,
    EventKind::CallMissed,
    EventKind::MessageReceived,
    EventKind::MessageFailed,
    EventKind::FileReceived,
    EventKind::FileFailed,
    EventKind::EscalationReceived,
    EventKind::EscalationAnswered,
    EventKind::ContactKeyChanged,
    EventKind::PeerAway,
    EventKind::PeerBack,
    EventKind::Gap,
];
/// Most events that one wait hands over.
const AT_ONCE: usize = 20;
/// How long one look at the journal takes while nobody is in a hurry.
const LOOK_S: f64 = 60.0;
/// A wake is repeated as often as this, until what it told of is taken.
const REPEAT: Duration = Duration::from_secs(60);
/// How long to leave a daemon alone that cannot be asked.
const PAUSE: Duration = Duration::from_secs(5);

/// What `p2p_wait` answers.
#[derive(Serialize)]
pub(super) struct News {
    /// Where to go on.
    cursor: String,
    /// Oldest first.
    events: Vec<Event>,
    /// Nothing happened in time; nothing is lost.
    timeout: bool,
}

/// What was handed over and is not taken yet.
#[derive(Default)]
pub(super) struct HandedOver(Mutex<Vec<u64>>);

impl HandedOver {
    /// Takes what the last wait handed over, then hands over what there is, or waits for it.
    pub(super) async fn wait(&self, line: &Line, asked: Wait) -> Result<News, Error> {
        let upto = match asked.cursor.as_str() {
            "" => u64::MAX,
            text => text.parse().map_err(|_| {
                Error::new(
                    ErrorKind::Usage,
                    "p2p_wait: cursor is a number",
                    "leave it empty to go on from the last p2p_wait",
                )
            })?,
        };
        // One wait at a time: a second one would hand out the same.
        let mut handed_over = self.0.lock().await;
        while let Some(cursor) = handed_over.first().copied() {
            if cursor <= upto {
                take(line, cursor).await?;
            }
            handed_over.remove(0);
        }
        let mut news = News { cursor: String::new(), events: Vec::new(), timeout: false };
        let mut timeout_s =
            if asked.timeout_s.is_nan() { 0.0 } else { asked.timeout_s.clamp(0.0, LONGEST_S) };
        let mut after = None;
        let mut cursors = Vec::new();
        while news.events.len() < AT_ONCE {
            let reply = look(line, Some(CONSUMER), after, timeout_s).await?;
            let Some(event) = reply.event else {
                if news.events.is_empty() {
                    news.cursor = reply.cursor.to_string();
                }
                break;
            };
            (after, timeout_s) = (Some(event.cursor), 0.0);
            news.cursor = event.cursor.to_string();
            cursors.push(event.cursor);
            news.events.push(event);
        }
        news.timeout = news.events.is_empty();
        // Not earlier: of a wait that is cancelled, nothing was handed over.
        *handed_over = cursors;
        Ok(news)
    }
}

/// Takes an event. One that is no longer kept is taken.
async fn take(line: &Line, cursor: u64) -> Result<(), Error> {
    match line.ask(Command::Commit { consumer: Some(CONSUMER.to_owned()), cursor }).await {
        Err(error) if error.kind != ErrorKind::CursorExpired => Err(error),
        _ => Ok(()),
    }
}

/// Tells of each thing that happens from now on.
pub(super) struct Follower {
    line: Arc<Line>,
    after: Option<u64>,
}

impl Follower {
    pub(super) fn new(line: &Arc<Line>) -> Self {
        Self { line: Arc::clone(line), after: None }
    }

    /// What happens next.
    pub(super) async fn next(&mut self) -> EventKind {
        loop {
            let after = match self.after {
                Some(after) => after,
                None => *self.after.insert(end(&self.line).await),
            };
            match look(&self.line, None, Some(after), LOOK_S).await {
                Ok(WaitReply { event: Some(event), .. }) => {
                    self.after = Some(event.cursor);
                    return event.kind;
                }
                Ok(_) => {}
                Err(error) if error.kind == ErrorKind::CursorExpired => self.after = None,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Tells that something waits for `p2p_wait`, and again every minute until it is taken.
pub(super) struct Waker {
    line: Arc<Line>,
    told: Option<(u64, Instant)>,
}

impl Waker {
    pub(super) fn new(line: &Arc<Line>) -> Self {
        Self { line: Arc::clone(line), told: None }
    }

    /// When there is a wake to be said: what waits.
    pub(super) async fn next(&mut self) -> EventKind {
        loop {
            if let Some((cursor, _)) = self.told {
                // Until something else happens, or it is time to say it again.
                self.look(None, Some(cursor), REPEAT.as_secs_f64()).await;
            }
            let Some(event) = self.look(Some(CONSUMER), None, LOOK_S).await else { continue };
            if self.told.is_none_or(|(cursor, at)| cursor != event.cursor || at.elapsed() >= REPEAT) {
                self.told = Some((event.cursor, Instant::now()));
                return event.kind;
            }
        }
    }

    async fn look(&self, consumer: Option<&str>, after: Option<u64>, timeout_s: f64) -> Option<Event> {
        match look(&self.line, consumer, after, timeout_s).await {
            Ok(reply) => reply.event,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }
}

async fn look(
    line: &Line,
    consumer: Option<&str>,
    after: Option<u64>,
    timeout_s: f64,
) -> Result<WaitReply, Error> {
    let consumer = consumer.map(str::to_owned);
    line.ask(Command::Wait { consumer, after, call: None, kinds: KINDS.to_vec(), timeout_s })
        .await?
        .try_into()
}

/// The end of the journal.
async fn end(line: &Line) -> u64 {
    loop {
        let messages = line.ask(Command::Messages { call: None, unread: false, limit: 0 }).await;
        match messages.and_then(Messages::try_from) {
            Ok(messages) => return messages.cursor,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
