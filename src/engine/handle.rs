//! How everything above asks the engine: one command in, one reply out.

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::api::{Command, Error, ErrorKind, Reply};
use crate::proto::authority::Role;

/// Where the reply to a command goes. Dropped without one, it tells its owner that the engine has stopped.
pub trait ReplyTo: Send {
    /// Whether nobody waits for the reply any more: the caller's way to cancel a command that blocks.
    fn is_closed(&self) -> bool;

    /// Takes the reply, on the engine's thread: it must not wait for anything.
    fn answer(self: Box<Self>, reply: Result<Reply, Error>);
}

impl ReplyTo for oneshot::Sender<Result<Reply, Error>> {
    fn is_closed(&self) -> bool {
        Self::is_closed(self)
    }

    fn answer(self: Box<Self>, reply: Result<Reply, Error>) {
        // Whoever asked may have gone.
        _ = self.send(reply);
    }
}

/// A command on its way to the engine.
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// On whose behalf.
    pub role: Role,
    /// Where the reply goes.
    pub reply: Box<dyn ReplyTo>,
}

/// A way to the engine of this process. Cheap to clone; belongs to no thread.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    role: Role,
}

impl Handle {
    /// A handle whose requests come out of the other end of `requests`. Who holds it is an agent.
    pub fn new(requests: mpsc::Sender<Request>) -> Self {
        Self { requests, role: Role::Agent }
    }

    /// The same way, on behalf of somebody else.
    pub fn with_role(&self, role: Role) -> Self {
        Self { requests: self.requests.clone(), role }
    }

    /// Carries out a command. Commands that one caller submits in an order are carried out in that order.
    ///
    /// # Errors
    /// What the command answers with; `daemon-unreachable` if the engine has stopped.
    pub async fn ask(&self, command: Command) -> Result<Reply, Error> {
        self.submit(command).await?.reply().await
    }

    /// Returns when the engine has ended, in whatever way.
    pub async fn closed(&self) {
        self.requests.closed().await;
    }

    /// Hands a command over. Once this returns, the command has its place among the others; its reply is awaited
    /// apart, so that a caller can keep an order without waiting.
    ///
    /// # Errors
    /// `daemon-unreachable` if the engine has stopped.
    pub async fn submit(&self, command: Command) -> Result<Submitted, Error> {
        let (reply, answer) = oneshot::channel();
        let request = Request { command, role: self.role, reply: Box::new(reply) };
        self.requests.send(request).await.map_err(|_| stopped())?;
        Ok(Submitted { answer })
    }

    /// Like [`Self::submit`] for a thread outside of any runtime, with a place for the reply: the shortest way there and
    /// back.
    ///
    /// # Errors
    /// [`Unsent`]: nothing was submitted.
    pub fn try_submit(&self, command: Command, reply: Box<dyn ReplyTo>) -> Result<(), Unsent> {
        self.requests.try_send(Request { command, role: self.role, reply }).map_err(|error| match error {
            TrySendError::Full(request) => Unsent::Full(Box::new(request)),
            TrySendError::Closed(_) => Unsent::Stopped,
        })
    }

    /// Submits what the engine had no room for. Waits until it has, for microseconds: not to be called in a runtime, nor
    /// with the GIL. If the engine has stopped, the request is dropped.
    pub fn blocking_submit(&self, request: Request) {
        _ = self.requests.blocking_send(request);
    }
}

/// What was not submitted, and why.
pub enum Unsent {
    /// The engine has no room now: the request.
    Full(Box<Request>),
    /// The engine has stopped. The request was dropped, which tells whoever waits for its reply.
    Stopped,
}

/// A command that the engine has. Dropping it cancels a command that blocks.
#[derive(Debug)]
pub struct Submitted {
    answer: oneshot::Receiver<Result<Reply, Error>>,
}

impl Submitted {
    /// Waits for the reply.
    ///
    /// # Errors
    /// What the command answers with; `daemon-unreachable` if the engine has stopped.
    pub async fn reply(self) -> Result<Reply, Error> {
        self.answer.await.map_err(|_| stopped())?
    }
}

/// What whoever asks a stopped engine is told.
pub fn stopped() -> Error {
    Error::new(
        ErrorKind::DaemonUnreachable,
        "the engine has stopped",
        "run the command again: it starts a daemon",
    )
}
