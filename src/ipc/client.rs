//! The side of the socket that asks.
//!
//! Any number of requests may be in flight on one connection. A request whose future is dropped is given up on the other
//! side too, so a program that cancels its waits holds nothing there. The client belongs to the tokio runtime that it was
//! made in, and ends with it, or when dropped.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::lines::Lines;
use super::{BLOCKING_SLACK, COMMAND_TIMEOUT, HELLO_TIMEOUT, Hello, REPLY_LIMIT, wire};
use crate::api::{Command, Error, ErrorKind, Reply};

/// Requests that wait to be written; whoever asks faster than the daemon reads waits here.
const REQUEST_QUEUE: usize = 64;

/// How long a command that does not block may take before it is asked whether the daemon is there at all, and how long
/// that answer may take: together the 5 seconds in which a stopped process is noticed.
const WATCH_AFTER: Duration = Duration::from_secs(2);
const WATCH_TIMEOUT: Duration = Duration::from_secs(3);

/// As good as for ever, and far from where times overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 86_400);

/// The connection ended before the reply came: what became of the request is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the daemon was lost")]
pub struct Lost;

impl From<Lost> for Error {
    fn from(lost: Lost) -> Self {
        Self::new(
            ErrorKind::DaemonUnreachable,
            lost.to_string(),
            "run the command again: it starts the daemon, and what was accepted is not lost",
        )
    }
}

/// A connection to the process that runs the engine.
#[derive(Debug)]
pub struct Client {
    requests: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Mutex<Waiting>>,
    next_id: AtomicU64,
    path: PathBuf,
    tasks: [AbortHandle; 2],
}

#[derive(Debug, Default)]
struct Waiting {
    replies: HashMap<u64, oneshot::Sender<Result<Value, Error>>>,
    lost: bool,
}

impl Client {
    /// Connects to a socket. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` if nobody serves it, `PermissionDenied` if it is served by another user.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path).await?;
        if stream.peer_cred()?.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the socket is another user's"));
        }
        let (read, write) = stream.into_split();
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let tasks = [
            tokio::spawn(read_replies(read, Arc::clone(&waiting))).abort_handle(),
            tokio::spawn(write_requests(write, queue)).abort_handle(),
        ];
        Ok(Self { requests, waiting, next_id: AtomicU64::new(1), path: path.to_owned(), tasks })
    }

    /// Carries out a command: the same as [`crate::engine::Handle::ask`], over the socket.
    ///
    /// # Errors
    /// What the command answers with; `daemon-unreachable` if the connection is lost, `daemon-not-responding` if the
    /// reply does not come in time.
    pub async fn ask(&self, command: Command) -> Result<Reply, Error> {
        self.try_ask(command).await?
    }

    /// Like [`Client::ask`], and tells a refusal from a connection that is gone.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn try_ask(&self, command: Command) -> Result<Result<Reply, Error>, Lost> {
        let request = match serde_json::to_value(&command) {
            Ok(request) => request,
            Err(error) => return Ok(Err(Error::internal(error))),
        };
        let method = request["method"].as_str().unwrap_or_default();
        let reply = self.request(method, &request["params"], Patience::with(&command)).await?;
        Ok(reply.and_then(|json| Reply::decode(&command, json)))
    }

    /// Sends a method with parameters as they are; for commands that block, give their time in `timeout`.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn ask_json(
        &self,
        method: &str,
        params: &Value,
        timeout: Option<Duration>,
    ) -> Result<Value, Error> {
        self.request(method, params, timeout.map_or(Patience::COMMAND, Patience::blocking)).await?
    }

    /// Who is there?
    ///
    /// # Errors
    /// `daemon-not-responding` if it does not say so in 5 seconds.
    pub async fn hello(&self) -> Result<Hello, Error> {
        let hello = self.request("hello", &json!({}), Patience::HELLO).await??;
        serde_json::from_value(hello).map_err(|error| {
            Error::new(
                ErrorKind::VersionMismatch,
                format!("the daemon speaks another language: {error}"),
                "end it by its process id, then run the command again",
            )
        })
    }

    /// Asks for an orderly stop. Returns when it has begun.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn stop(&self) -> Result<(), Error> {
        self.request("stop", &json!({}), Patience::HELLO).await?.map(drop)
    }

    /// Hands a command over. Once this returns, the command has its place among those of this connection; its reply is
    /// awaited apart, so that a caller can keep an order without waiting: the same as
    /// [`crate::engine::Handle::submit`].
    ///
    /// # Errors
    /// `daemon-unreachable` if the connection is lost, `daemon-not-responding` if the daemon reads nothing.
    pub async fn submit(&self, command: Command) -> Result<Submitted<'_>, Error> {
        let request = serde_json::to_value(&command).map_err(Error::internal)?;
        let method = request["method"].as_str().unwrap_or_default();
        let exchange = self.begin(method, &request["params"], Patience::with(&command)).await??;
        Ok(Submitted { exchange, command })
    }

    async fn request(
        &self,
        method: &str,
        params: &Value,
        patience: Patience,
    ) -> Result<Result<Value, Error>, Lost> {
        match self.begin(method, params, patience).await? {
            Ok(exchange) => exchange.reply().await,
            Err(error) => Ok(Err(error)),
        }
    }

    /// Sends a request.
    async fn begin(
        &self,
        method: &str,
        params: &Value,
        patience: Patience,
    ) -> Result<Result<Exchange<'_>, Error>, Lost> {
        let deadline = Instant::now() + patience.timeout;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.lost {
                return Err(Lost);
            }
            waiting.replies.insert(id, reply);
        }
        let mut in_flight = InFlight { client: self, id, sent: false };
        let line = wire::request_line(Some(id), method, params);
        match tokio::time::timeout_at(deadline, self.requests.send(line)).await {
            Ok(Ok(())) => {
                in_flight.sent = true;
                Ok(Ok(Exchange { in_flight, answer, deadline, patience }))
            }
            Ok(Err(_)) => Err(Lost),
            Err(_) => Ok(Err(not_responding(patience.timeout))),
        }
    }

    /// Completes when the daemon does not even say hello. Asked on a connection of its own, where nothing is in front.
    async fn silence(&self) {
        loop {
            tokio::time::sleep(WATCH_AFTER).await;
            let hello = async {
                // One that cannot be connected to is gone, and the request hears of it by itself.
                if let Ok(other) = Self::connect(&self.path).await {
                    // Boxed, because hello is a request as well.
                    let _ = Box::pin(other.hello()).await;
                }
            };
            if tokio::time::timeout(WATCH_TIMEOUT, hello).await.is_err() {
                return;
            }
        }
    }
}

/// A command that is on its way. Dropping it gives the command up if it blocks.
#[derive(Debug)]
pub struct Submitted<'a> {
    exchange: Exchange<'a>,
    command: Command,
}

impl Submitted<'_> {
    /// Waits for the reply.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn reply(self) -> Result<Reply, Error> {
        Reply::decode(&self.command, self.exchange.reply().await??)
    }
}

/// A request that was sent.
#[derive(Debug)]
struct Exchange<'a> {
    in_flight: InFlight<'a>,
    answer: oneshot::Receiver<Result<Value, Error>>,
    deadline: Instant,
    patience: Patience,
}

impl Exchange<'_> {
    async fn reply(self) -> Result<Result<Value, Error>, Lost> {
        let Self { in_flight, answer, deadline, patience } = self;
        tokio::select! {
            biased;
            reply = answer => reply.map_err(|_| Lost),
            () = tokio::time::sleep_until(deadline) => Ok(Err(not_responding(patience.timeout))),
            () = in_flight.client.silence(), if patience.watched => {
                Ok(Err(not_responding(WATCH_AFTER + WATCH_TIMEOUT)))
            }
        }
    }
}

/// How a reply is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    timeout: Duration,
    /// A daemon that is stopped meanwhile is noticed soon; one that is only slow is not mistaken for it.
    watched: bool,
}

impl Patience {
    const HELLO: Self = Self { timeout: HELLO_TIMEOUT, watched: false };
    const COMMAND: Self = Self { timeout: COMMAND_TIMEOUT, watched: true };

    /// For what blocks: a daemon that is paused may be continued before the time is up.
    fn blocking(time: Duration) -> Self {
        Self { timeout: time.min(LONGEST_WAIT) + BLOCKING_SLACK, watched: false }
    }

    fn with(command: &Command) -> Self {
        match command {
            Command::AwaitCall { timeout_s, .. }
            | Command::AwaitMessage { timeout_s, .. }
            | Command::AwaitTicket { timeout_s, .. }
            | Command::AwaitWays { timeout_s, .. }
            | Command::Wait { timeout_s, .. } => {
                // What is no duration is refused by the engine, at once.
                Self::blocking(Duration::try_from_secs_f64(*timeout_s).unwrap_or_default())
            }
            // Its copy is made, hashed and looked through before it is answered; a daemon that stands still is noticed.
            Command::SendFile { .. } => Self { timeout: LONGEST_WAIT, watched: true },
            _ => Self::COMMAND,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// A request that was not answered yet. Dropped early, it is given up.
#[derive(Debug)]
struct InFlight<'a> {
    client: &'a Client,
    id: u64,
    sent: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let unanswered = lock(&self.client.waiting).replies.remove(&self.id).is_some();
        if unanswered && self.sent {
            // A full queue means that the daemon reads nothing; it gives the wait up by the wait's own time.
            let _ =
                self.client.requests.try_send(wire::request_line(None, "cancel", &json!({"id": self.id})));
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    // Every change of the map is one call: a panic elsewhere leaves it whole.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_responding(timeout: Duration) -> Error {
    Error::new(
        ErrorKind::DaemonNotResponding,
        format!("the daemon did not answer in {} s", timeout.as_secs()),
        "see whether it is stopped or busy: p2p-comm daemon status; its log: p2p-comm daemon logs",
    )
}

async fn read_replies(read: OwnedReadHalf, waiting: Arc<Mutex<Waiting>>) {
    let mut lines = Lines::new(read, REPLY_LIMIT);
    while let Ok(Some(line)) = lines.next().await {
        match wire::read_reply(&line) {
            Some((id, reply)) => {
                if let Some(waiter) = lock(&waiting).replies.remove(&id) {
                    // Whoever asked may have given up meanwhile.
                    let _ = waiter.send(reply);
                }
            }
            None => tracing::debug!("a line that answers nothing came over the socket"),
        }
    }
    let mut waiting = lock(&waiting);
    waiting.lost = true;
    waiting.replies.clear();
}

async fn write_requests(mut write: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = queue.recv().await {
        if write.write_all(&line).await.is_err() {
            return;
        }
    }
}
