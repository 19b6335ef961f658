//! The journal as a client of the protocol follows it: handed over by `p2p_wait`, or told of by a wake.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::ask::Ask;
use super::tools::{LONGEST_S, Wait};
use crate::api::{Command, Error, ErrorKind, Event, EventKind, Messages, WaitReply};
use crate::daemon::Line;

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
    pub(super) async fn wait(&self, line: &impl Ask, asked: Wait) -> Result<News, Error> {
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
async fn take(line: &impl Ask, cursor: u64) -> Result<(), Error> {
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
            match look(&*self.line, None, Some(after), LOOK_S).await {
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
        match look(&*self.line, consumer, after, timeout_s).await {
            Ok(reply) => reply.event,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }
}

async fn look(
    line: &impl Ask,
    consumer: Option<&str>,
    after: Option<u64>,
    timeout_s: f64,
) -> Result<WaitReply, Error> {
    let consumer = consumer.map(str::to_owned);
    line.ask(Command::Wait { consumer, after, call: None, kinds: KINDS.to_vec(), ahead: 0, timeout_s })
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Shared;

    use futures_util::FutureExt;

    use super::*;
    use crate::api::{Done, Reply, Time};
    use crate::proto::Millis;

    /// A journal of three events, which may fall silent after so many looks at it.
    struct Journal {
        looks_left: Shared<usize>,
        taken: Shared<Vec<u64>>,
    }

    impl Ask for Journal {
        async fn ask(&self, command: Command) -> Result<Reply, Error> {
            match command {
                Command::Wait { after, .. } => {
                    let silent = {
                        let mut left = self.looks_left.lock().unwrap();
                        let silent = *left == 0;
                        *left = left.saturating_sub(1);
                        silent
                    };
                    if silent {
                        std::future::pending::<()>().await;
                    }
                    let low = self.taken.lock().unwrap().len() as u64;
                    let cursor = after.unwrap_or(low) + 1;
                    let event = (cursor <= 3).then(|| event(cursor));
                    Ok(WaitReply { cursor: cursor.min(3), ahead: vec![], timeout: event.is_none(), event }
                        .into())
                }
                Command::Commit { cursor, .. } => {
                    self.taken.lock().unwrap().push(cursor);
                    Ok(Done { at: Time(Millis::default()) }.into())
                }
                _ => unreachable!(),
            }
        }
    }

    fn event(cursor: u64) -> Event {
        let json = serde_json::json!({
            "cursor": cursor, "kind": "call.missed", "at": "2026-11-26T12:00:00.000Z", "call": null,
        });
        serde_json::from_value(json).unwrap()
    }

    fn cursors(news: &News) -> Vec<u64> {
        news.events.iter().map(|event| event.cursor).collect()
    }

    #[tokio::test]
    async fn a_wait_that_is_cancelled_half_way_takes_nothing_and_the_next_one_hands_over_all() {
        for looks in 0..=3 {
            let journal = Journal { looks_left: Shared::new(looks), taken: Shared::new(Vec::new()) };
            let handed_over = HandedOver::default();
            let asked = || Wait { timeout_s: 45.0, cursor: String::new() };
            assert!(handed_over.wait(&journal, asked()).now_or_never().is_none(), "it waits, and is dropped");
            *journal.looks_left.lock().unwrap() = usize::MAX;
            let news = handed_over.wait(&journal, asked()).await.unwrap();
            assert_eq!((cursors(&news), &journal.taken.lock().unwrap()[..]), (vec![1, 2, 3], &[][..]));
            // What was handed over is taken by the wait after it, which finds no more.
            let news = handed_over.wait(&journal, asked()).await.unwrap();
            assert!(news.timeout && news.events.is_empty());
            assert_eq!(*journal.taken.lock().unwrap(), [1, 2, 3]);
        }
    }
}
