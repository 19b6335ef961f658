//! How everything above asks the engine: one command in, one reply out.

use tokio::sync::{mpsc, oneshot};

use crate::api::{Command, Error, ErrorKind, Reply};
use crate::proto::authority::Role;

/// A command on its way to the engine, with the place for its reply. Dropping the receiver is the caller's way to
/// cancel a command that blocks.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// On whose behalf.
    pub role: Role,
    /// Where the reply goes.
    pub reply: oneshot::Sender<Result<Reply, Error>>,
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
        self.requests.send(Request { command, role: self.role, reply }).await.map_err(|_| stopped())?;
        Ok(Submitted { answer })
    }
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

fn stopped() -> Error {
    Error::new(
        ErrorKind::DaemonUnreachable,
        "the engine has stopped",
        "run the command again: it starts a daemon",
    )
}
