//! The side of the socket that has the engine.
//!
//! A connection ends when its client is gone for good, does not read, breaks the rules of the line, or when the server
//! closes. A client that has only finished writing (`nc`, a script) still gets the replies it waits for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::lines::{LineError, Lines};
use super::wire::{self, Asked, Request};
use super::{CONNECTIONS_LIMIT, Hello, IN_FLIGHT_LIMIT, REQUEST_LIMIT};
use crate::api::{Command, Error, ErrorKind};
use crate::engine::{Handle, Submitted};
use crate::mutants::{Mutant, planted};
use crate::proto::authority::Role;

/// Replies that wait to be written: few, because each request in flight can hold one more.
const REPLY_QUEUE: usize = 4;
/// A client that takes nothing for this long is not there any more, or does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a closing server gives its clients to read why.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a client that finished writing is looked at: is it still there?
const HANG_UP_CHECK: Duration = Duration::from_millis(50);
/// How long to wait when the system has no descriptor for another connection: some will end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a socket until it is closed.
#[derive(Debug)]
pub struct Server {
    accepting: JoinHandle<()>,
    closing: watch::Sender<bool>,
    stop_requested: watch::Receiver<bool>,
}

/// What every connection shares.
#[derive(Debug)]
struct Shared {
    handle: Handle,
    hello: Hello,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Begins to serve. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// If the listener cannot be used with the runtime.
    pub fn serve(
        listener: std::os::unix::net::UnixListener,
        handle: Handle,
        hello: Hello,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (closing, until_closing) = watch::channel(false);
        let (stop, stop_requested) = watch::channel(false);
        let shared = Arc::new(Shared { handle, hello, stop });
        let accepting = tokio::spawn(accept(listener, shared, until_closing));
        Ok(Self { accepting, closing, stop_requested })
    }

    /// Returns when a client has asked for an orderly stop.
    pub async fn stop_requested(&self) {
        // Fails only when nobody serves any more, and then it is time to stop as well.
        let _ = self.stop_requested.clone().wait_for(|stop| *stop).await;
    }

    /// Takes no more connections, tells every client that waits, and ends.
    pub async fn close(self) {
        self.closing.send_replace(true);
        // The task ends by itself within the time that its connections have; if it panicked, it has ended too.
        let _ = self.accepting.await;
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let limit = connections_limit();
    let places = Arc::new(Semaphore::new(limit));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = closed(&mut closing) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "no connection could be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !is_same_user(&stream) && !planted(Mutant::NoPeerUid) {
            continue;
        }
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let (shared, closing) = (Arc::clone(&shared), closing.clone());
                connections.spawn(async move {
                    connection(stream, &shared, closing).await;
                    drop(place);
                });
            }
            Err(_) => {
                tracing::warn!(limit, "too many connections");
                // The buffer of a new socket takes a line; if not, the client sees the end of the stream.
                let _ = stream.try_write(&wire::refusal_line("too many connections to this daemon"));
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // Each connection bounds itself; what is left after twice that time is aborted with the set.
    let _ = tokio::time::timeout(2 * CLOSE_TIMEOUT, all).await;
}

fn connections_limit() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    descriptors.map_or(CONNECTIONS_LIMIT, |most| CONNECTIONS_LIMIT.min((most / 4).max(1) as usize))
}

/// The folder keeps other users out; this holds even where somebody opened it.
fn is_same_user(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == rustix::process::geteuid().as_raw() => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "a connection of another user was refused");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a connection of an unknown user was refused");
            false
        }
    }
}

/// Completes when the server closes; also if it is gone without a word.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// A line for a client, and the turn that it gives back once it is written.
type Reply = (Vec<u8>, Option<OwnedSemaphorePermit>);

/// Whether only what is stored bounds the size of a reply. Of these a connection has one at a time, until it is written:
/// who does not read costs one of them, and who asks for many takes turns with everybody else.
fn reads_much(command: &Command) -> bool {
    use Command::{Calls, Inbox, List, Messages, Transcript};
    matches!(command, Calls { .. } | Inbox { .. } | List { .. } | Messages { .. } | Transcript { .. })
}

/// Who asks: somebody at a terminal, or an agent. Looked at once, when the connection begins.
///
/// A process that has no terminal cannot pass for one that has; one that opens a terminal of its own can, since it is
/// this user's as well (docs/guarantees.md, "Who may do what").
fn role_of(stream: &UnixStream) -> Role {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    match pid.is_some_and(sits_at_a_terminal) {
        true => Role::Terminal,
        false => Role::Agent,
    }
}

/// Whether a process reads from a terminal and complains to one.
#[cfg(target_os = "linux")]
fn sits_at_a_terminal(pid: i32) -> bool {
    [0, 2].iter().all(|number| {
        std::fs::read_link(format!("/proc/{pid}/fd/{number}")).is_ok_and(|file| {
            ["/dev/pts/", "/dev/tty", "/dev/console"]
                .iter()
                .any(|start| file.to_string_lossy().starts_with(start))
        })
    })
}

/// Where the system does not tell, what the command line found out about itself has to do.
#[cfg(not(target_os = "linux"))]
fn sits_at_a_terminal(_: i32) -> bool {
    true
}

/// One connection, from its first line to its end.
struct Connection<'a> {
    shared: &'a Shared,
    /// Asks on behalf of whoever is at the other end.
    handle: Handle,
    closing: watch::Receiver<bool>,
    replies: mpsc::Sender<Reply>,
    requests: JoinSet<()>,
    /// The turn of [`reads_much`].
    turn: Arc<Semaphore>,
    /// What `cancel` can give up, by id.
    in_flight: Vec<(Value, AbortHandle)>,
}

async fn connection(stream: UnixStream, shared: &Shared, closing: watch::Receiver<bool>) {
    let handle = shared.handle.with_role(role_of(&stream));
    let (read, write) = stream.into_split();
    let (replies, queue) = mpsc::channel(REPLY_QUEUE);
    let mut writer = tokio::spawn(write_replies(write, queue));
    let mut connection = Connection {
        shared,
        handle,
        closing,
        replies,
        requests: JoinSet::new(),
        turn: Arc::new(Semaphore::new(1)),
        in_flight: Vec::new(),
    };
    let mut lines = Lines::new(read, REQUEST_LIMIT);
    if let Some(end) = connection.read_requests(&mut lines).await {
        connection.finish(end, lines.get_ref()).await;
    }
    drop(connection);
    if tokio::time::timeout(CLOSE_TIMEOUT, &mut writer).await.is_err() {
        writer.abort();
    }
}

/// Why no more requests are read, while replies can still be written.
enum End {
    /// The client finished writing; it may still be reading.
    EndOfLines,
    /// The server closes, or the client broke the rules: it is told, and that is all.
    Closing,
}

impl Connection<'_> {
    /// Reads and starts requests. `None` once nobody takes replies any more.
    async fn read_requests(&mut self, lines: &mut Lines<OwnedReadHalf>) -> Option<End> {
        loop {
            let line = tokio::select! {
                biased;
                () = closed(&mut self.closing) => return Some(End::Closing),
                () = self.replies.closed() => return None,
                Some(_) = self.requests.join_next() => {
                    self.in_flight.retain(|(_, request)| !request.is_finished());
                    continue;
                }
                line = lines.next(), if self.requests.len() < IN_FLIGHT_LIMIT => line,
            };
            let line = match line {
                Ok(Some(line)) => line,
                Ok(None) => return Some(End::EndOfLines),
                Err(LineError::Io(_)) => return None,
                Err(error) => {
                    tracing::debug!(%error, "a connection was closed");
                    self.say(wire::refusal_line(error)).await;
                    return Some(End::Closing);
                }
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match wire::read(&line) {
                Ok(request) => self.carry_out(request).await,
                Err(bad) => {
                    tracing::debug!(error = %bad.error, "a request was refused");
                    self.say(bad.line()).await;
                }
            }
        }
    }

    async fn carry_out(&mut self, Request { id, asked }: Request) {
        let line = match asked {
            Asked::Command(command) => {
                let turn = if reads_much(&command) { self.take_turn().await } else { None };
                // Awaited here, not in a task of its own: this keeps the order of the client's requests.
                let submitted = tokio::select! {
                    biased;
                    () = closed(&mut self.closing) => Err(stopping()),
                    submitted = self.handle.submit(*command) => submitted,
                };
                match submitted {
                    Ok(submitted) => return self.wait_for(id, submitted, turn),
                    Err(error) => id.map(|id| wire::reply_line(&id, &Err(error))),
                }
            }
            Asked::Hello => id.map(|id| wire::result_line(&id, &self.shared.hello)),
            Asked::Stop => {
                self.shared.stop.send_replace(true);
                id.map(|id| wire::result_line(&id, &json!({"stopping": true})))
            }
            Asked::Cancel(which) => {
                self.in_flight.iter().filter(|(id, _)| *id == which).for_each(|(_, request)| request.abort());
                id.map(|id| wire::result_line(&id, &json!({})))
            }
        };
        if let Some(line) = line {
            self.say(line).await;
        }
    }

    /// Waits until the reply before was taken. None if there is nobody to wait for any more.
    async fn take_turn(&mut self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = closed(&mut self.closing) => None,
            () = self.replies.closed() => None,
            turn = Arc::clone(&self.turn).acquire_owned() => turn.ok(),
        }
    }

    fn wait_for(&mut self, id: Option<Value>, submitted: Submitted, turn: Option<OwnedSemaphorePermit>) {
        let replies = self.replies.clone();
        let mut closing = self.closing.clone();
        let cancel_by = id.clone();
        let request = self.requests.spawn(async move {
            let reply = tokio::select! {
                biased;
                reply = submitted.reply() => reply,
                () = closed(&mut closing) => Err(stopping()),
            };
            if let Some(id) = id {
                // Nobody reads any more: then nobody wants the reply.
                let _ = replies.send((wire::reply_line(&id, &reply), turn)).await;
            }
        });
        self.in_flight.extend(cancel_by.map(|id| (id, request)));
    }

    async fn say(&self, line: Vec<u8>) {
        // Nobody reads any more: noticed by the loop above.
        let _ = self.replies.send((line, None)).await;
    }

    /// Lets what is in flight finish, as long as somebody is there to hear it.
    async fn finish(&mut self, end: End, stream: &OwnedReadHalf) {
        let requests = &mut self.requests;
        let all = async { while requests.join_next().await.is_some() {} };
        match end {
            End::EndOfLines => tokio::select! {
                biased;
                () = all => {}
                () = self.replies.closed() => {}
                () = hung_up(stream) => {}
            },
            // A client that does not read its last lines in time does not get them.
            End::Closing => drop(tokio::time::timeout(CLOSE_TIMEOUT, all).await),
        }
    }
}

/// Completes when the client has closed both directions. Nothing wakes us for that, so it is looked at.
async fn hung_up(stream: &OwnedReadHalf) {
    loop {
        match stream.as_ref().ready(Interest::WRITABLE).await {
            Ok(ready) if !ready.is_write_closed() => tokio::time::sleep(HANG_UP_CHECK).await,
            Ok(_) | Err(_) => return,
        }
    }
}

async fn write_replies(mut write: OwnedWriteHalf, mut queue: mpsc::Receiver<Reply>) {
    while let Some((line, _turn)) = queue.recv().await {
        match tokio::time::timeout(WRITE_TIMEOUT, write.write_all(&line)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::warn!("a client that does not read was disconnected");
                return;
            }
        }
    }
}

fn stopping() -> Error {
    Error::new(
        ErrorKind::DaemonUnreachable,
        "the daemon was stopped",
        "run the command again to start it: nothing is lost",
    )
}
