//! One client, from its TCP socket to its end.
//!
//! ```text
//!            socket                      screen                     pipe (in this process)
//!  client ── frames ──▶ inbound ── pass ───────────────────────▶ session of nostr-relay-builder
//!                          └────── refuse ──▶ replies ─┐            │
//!  client ◀─ frames ── outbound ◀──────────────────────┴────────────┘
//! ```
//!
//! The builder wants a byte stream that is a WebSocket already, and puts no limits on it. So the client's WebSocket
//! ends here, under our limits, and the builder gets one end of a pipe. The three loops (inbound, outbound, the
//! builder's session) are one task; the first that ends, ends the connection, but what a client said before it left is
//! still carried out.
//!
//! Invariants:
//! * what waits for a client is bounded: the pipe, [`REPLIES`], one frame on its way, and an answer to a REQ, of
//!   which [`ANSWERS_AT_ONCE`] exist in the whole relay. A client that takes no frame for `write_timeout` is cut;
//! * a client that may have missed a live event is cut, so that it notices and asks again.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use nostr_relay_builder::LocalRelay;
use nostr_relay_builder::prelude::{JsonUtil, Kind, RelayMessage, Timestamp};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::http::{self, Outcome};
use super::limits::Limits;
use super::screen::{Screen, Verdict};

/// Bytes on their way between us and the builder, each direction: a socket buffer's worth.
const PIPE_BYTES: usize = 64 * 1024;

/// Bytes a WebSocket reads and writes at once: holds most frames, and 1,000 connections are no burden.
const BUFFER_BYTES: usize = 8 * 1024;

/// Refusals that wait for a client; more and we stop reading from it.
const REPLIES: usize = 16;

/// Answers to a REQ under way in the whole relay. The builder holds one in memory as a whole: up to 500 events
/// for each filter.
pub(super) const ANSWERS_AT_ONCE: usize = 32;

/// Live events a connection may be behind. At 1,024 the builder's channel skips them without a word.
const MAX_BEHIND: u64 = 900;

/// Time between PINGs. A client that sent nothing at all after two of them, not even a PONG, is gone: a machine
/// that lost its network holds its place for three minutes at most.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// What a gift wrap's JSON has in it, and little else.
const WRAP_KIND: &str = r#""kind":1059"#;

/// Time for a close frame to leave.
const GOODBYE: Duration = Duration::from_millis(500);

/// What all connections share.
#[derive(Debug)]
pub(super) struct House {
    pub(super) relay: LocalRelay,
    pub(super) screen: Screen,
    pub(super) limits: Limits,
    /// The relay information document.
    pub(super) document: String,
    /// One permit for each open WebSocket.
    pub(super) places: Arc<Semaphore>,
    /// One permit for each answer under way.
    pub(super) answers: Arc<Semaphore>,
    /// Events accepted so far, stored or only passed on.
    pub(super) accepted: Arc<AtomicU64>,
}

/// Serves one client. `evicted` resolves when its handshake has to make room for another; the accept loop sees by
/// its other end that the handshake is over.
pub(super) async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    house: Arc<House>,
    evicted: oneshot::Receiver<()>,
    mut stop: watch::Receiver<()>,
) {
    let admit = || Arc::clone(&house.places).try_acquire_owned().ok();
    let handshake =
        timeout(house.limits.handshake_timeout, http::receive(&mut stream, &house.document, admit));
    let outcome = tokio::select! {
        biased;
        _ = stop.changed() => return,
        _ = evicted => return tracing::debug!(%peer, "handshake made room for another"),
        outcome = handshake => outcome,
    };
    let (rest, _place) = match outcome {
        Ok(Ok(Outcome::WebSocket(rest, place))) => (rest, place),
        Ok(Ok(Outcome::Answered)) => return,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "handshake failed"),
        Err(_) => return tracing::debug!(%peer, "handshake took too long"),
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(house.limits.max_message_bytes))
        .max_frame_size(Some(house.limits.max_message_bytes));
    let socket = WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(config)).await;
    converse(socket, peer, &house, stop).await;
}

/// Why a conversation ended, where not because the client left.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the relay stops")]
    Stopping,
    #[error("too slow: live events may have been missed")]
    Behind,
    #[error("too slow: a frame was not taken in time")]
    Stalled,
    #[error("nothing was heard for too long")]
    Silent,
    #[error("internal error: {0}")]
    Session(String),
    #[error(transparent)]
    Socket(#[from] Error),
}

async fn converse(
    socket: WebSocketStream<TcpStream>,
    peer: SocketAddr,
    house: &House,
    mut stop: watch::Receiver<()>,
) {
    tracing::debug!(%peer, "connected");
    let (inner, outer) = tokio::io::duplex(PIPE_BYTES);
    let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
    let pipe = WebSocketStream::from_raw_socket(outer, Role::Client, Some(config)).await;
    let ((mut to_client, from_client), (to_session, from_session)) = (socket.split(), pipe.split());
    let (replies, replies_waiting) = mpsc::channel(REPLIES);
    let (answers, asked) = (Answers::default(), WrapsAsked::default());

    let end = {
        let mut session = pin!(house.relay.take_connection(inner, peer));
        let mut inbound = pin!(receive(from_client, to_session, replies, &answers, &asked, house));
        let mut outbound =
            pin!(deliver(from_session, &mut to_client, replies_waiting, &answers, &asked, house));
        // The way out comes first and the way in last: all three share one task's time, and a client that
        // publishes without a pause must not starve its own answers.
        let mut has_left = false;
        let end = tokio::select! {
            biased;
            _ = stop.changed() => Err(Cut::Stopping),
            end = &mut outbound => end,
            end = &mut session => Err(Cut::Session(end.err().map(|error| error.to_string()).unwrap_or_default())),
            end = &mut inbound => {
                has_left = end.is_ok();
                end
            }
        };
        if has_left {
            // What the client said before is still carried out.
            let _in_time = timeout(GOODBYE, session).await.is_ok();
        }
        end
    };
    match end {
        Ok(()) => tracing::debug!(%peer, "disconnected"),
        Err(cut) => {
            tracing::debug!(%peer, %cut, "cut");
            // A client that does not read will not read this either: it gets a moment, not an answer.
            let _ = timeout(GOODBYE, to_client.send(Message::Close(Some(cut.frame())))).await;
        }
    }
}

impl Cut {
    fn frame(&self) -> CloseFrame {
        let code = match self {
            Self::Stopping => CloseCode::Away,
            Self::Behind | Self::Stalled | Self::Silent => CloseCode::Policy,
            Self::Session(_) => CloseCode::Error,
            Self::Socket(Error::Capacity(_)) => CloseCode::Size,
            Self::Socket(_) => CloseCode::Protocol,
        };
        // The session's own words stay in our log; a reason has at most 123 bytes.
        let reason =
            if let Self::Session(_) | Self::Socket(_) = self { String::new() } else { self.to_string() };
        CloseFrame { code, reason: reason.into() }
    }
}

/// Takes the client's messages to the screen, and what passes to the session.
async fn receive(
    mut from_client: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut to_session: impl Sink<Message, Error = Error> + Unpin,
    replies: mpsc::Sender<Message>,
    answers: &Answers,
    asked: &WrapsAsked,
    house: &House,
) -> Result<(), Cut> {
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.tick().await; // The first is due at once.
    let mut unanswered = 0;
    let mut pace = Pace::new(&house.limits, Instant::now());
    loop {
        let message = tokio::select! {
            message = from_client.next() => match message {
                Some(message) => message?,
                None => return to_session.close().await.map_err(Cut::from),
            },
            _ = pings.tick() => {
                if unanswered == 2 {
                    return Err(Cut::Silent);
                }
                unanswered += 1;
                // Where it finds no room the client is being written to, and `write_timeout` watches that.
                let _ = replies.try_send(Message::Ping(Bytes::new()));
                continue;
            }
        };
        unanswered = 0;
        let verdict = match &message {
            Message::Text(text) => house.screen.judge(text, Timestamp::now()),
            Message::Binary(_) => Verdict::Refuse(r#"["NOTICE","invalid: binary message"]"#.to_owned()),
            // tungstenite answers PING and Close by itself; the stream ends after a Close.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => continue,
        };
        match verdict {
            Verdict::Pass => to_session.send(message).await?,
            Verdict::PassClose(subscription) => {
                asked.end(&subscription);
                to_session.send(message).await?;
            }
            Verdict::PassAtPace => {
                // Not slept when it is in pace: a timer that is due already still takes its millisecond.
                if let Some(due) = pace.step(Instant::now()) {
                    sleep_until(due).await;
                }
                to_session.send(message).await?;
            }
            Verdict::PassWhenAnswerable { subscription, wraps } => {
                asked.begin(subscription, wraps);
                // The semaphore is never closed; were it, the REQ would pass without a permit.
                answers.begin(Arc::clone(&house.answers).acquire_owned().await.ok());
                to_session.send(message).await?;
            }
            Verdict::Refuse(reply) => {
                tracing::debug!(%reply, "refused");
                if replies.send(Message::text(reply)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// How fast the events of a client are read: a token bucket that keeps a client waiting instead of refusing it.
#[derive(Debug)]
struct Pace {
    /// Time that one event is worth.
    interval: Duration,
    /// How far `next` may lie in the past: what may come at once.
    saved: Duration,
    /// When an event would be in pace that came at its rate all the time.
    next: Instant,
}

impl Pace {
    fn new(limits: &Limits, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / limits.events_per_second.max(1);
        let saved = interval * limits.events_at_once;
        Self { interval, saved, next: now.checked_sub(saved).unwrap_or(now) }
    }

    /// When the event that came now may be read, unless at once.
    fn step(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next.max(now.checked_sub(self.saved).unwrap_or(now));
        self.next = due + self.interval;
        Some(due).filter(|due| *due > now)
    }
}

/// Takes the session's messages and our replies to the client.
async fn deliver(
    mut from_session: impl Stream<Item = Result<Message, Error>> + Unpin,
    to_client: &mut (impl Sink<Message, Error = Error> + Unpin),
    mut replies: mpsc::Receiver<Message>,
    answers: &Answers,
    asked: &WrapsAsked,
    house: &House,
) -> Result<(), Cut> {
    let accepted = || house.accepted.load(Ordering::Relaxed);
    let mut caught_up = accepted();
    loop {
        let message = tokio::select! {
            biased;
            message = from_session.next() => message,
            Some(reply) = replies.recv() => Some(Ok(reply)),
            () = std::future::ready(()) => {
                let message = tokio::select! {
                    message = from_session.next() => message,
                    Some(reply) = replies.recv() => Some(Ok(reply)),
                };
                // Nothing has waited until now, so the client holds the session up from here on. What others published
                // meanwhile was not for it.
                caught_up = accepted();
                message
            }
        };
        let Some(message) = message.transpose()? else { return Ok(()) };
        if let Message::Text(text) = &message {
            if text.starts_with(r#"["EOSE","#) || text.starts_with(r#"["CLOSED","#) {
                answers.end();
            }
            if house.limits.gift_wraps_to_receiver_only && !asked.admits(text) {
                continue;
            }
        }
        timeout(house.limits.write_timeout, to_client.send(message)).await.map_err(|_| Cut::Stalled)??;
        if accepted() - caught_up > MAX_BEHIND {
            return Err(Cut::Behind);
        }
    }
}

/// The subscriptions of this connection that ask for gift wraps by their kind. The builder checks these; by a filter that
/// names no kind it would serve everybody's.
#[derive(Default)]
struct WrapsAsked(Mutex<HashSet<String>>);

impl WrapsAsked {
    fn begin(&self, subscription: String, wraps: bool) {
        let mut asked = self.subscriptions();
        if wraps {
            asked.insert(subscription);
        } else {
            asked.remove(&subscription);
        }
    }

    fn end(&self, subscription: &str) {
        self.subscriptions().remove(subscription);
    }

    /// Whether the client may have what the session says.
    fn admits(&self, text: &str) -> bool {
        if text.starts_with(r#"["CLOSED","#)
            && let Ok(RelayMessage::Closed { subscription_id, .. }) = RelayMessage::from_json(text)
        {
            self.end(subscription_id.as_str());
        }
        // Within a string the quotation marks would be escaped.
        if !text.starts_with(r#"["EVENT","#) || !text.contains(WRAP_KIND) {
            return true;
        }
        match RelayMessage::from_json(text) {
            Ok(RelayMessage::Event { subscription_id, event }) => {
                event.kind != Kind::GiftWrap || self.subscriptions().contains(subscription_id.as_str())
            }
            _ => false,
        }
    }

    fn subscriptions(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permits of this connection's answers under way, oldest first. The session answers in order; an answer ends
/// with EOSE or CLOSED. (One that found all the ids it was asked for ends with both, and then the next permit is
/// given back early: the bound is a bound on memory, not a ledger.)
#[derive(Default)]
struct Answers(Mutex<VecDeque<Option<OwnedSemaphorePermit>>>);

impl Answers {
    fn begin(&self, permit: Option<OwnedSemaphorePermit>) {
        self.permits().push_back(permit);
    }

    fn end(&self) {
        drop(self.permits().pop_front());
    }

    fn permits(&self) -> MutexGuard<'_, VecDeque<Option<OwnedSemaphorePermit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_grants_a_burst_then_its_rate_and_saves_no_more_than_a_burst() {
        let limits = Limits { events_per_second: 10, events_at_once: 3, ..Limits::default() };
        let start = Instant::now();
        let mut pace = Pace::new(&limits, start);
        let waits = |pace: &mut Pace, at: Instant| [(); 6].map(|()| Some(pace.step(at)? - at));
        let (no, ms) = (None, |ms| Some(Duration::from_millis(ms)));
        assert_eq!(waits(&mut pace, start), [no, no, no, no, ms(100), ms(200)]);
        let later = start + Duration::from_secs(3_600);
        assert_eq!(waits(&mut pace, later), [no, no, no, no, ms(100), ms(200)]);
    }
}
