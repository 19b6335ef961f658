//! The way to the daemon for a door that stays open: connected when it is first needed, and again when it was lost.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::{Launcher, connect, probe};
use crate::api::{Command, Error, ErrorKind, Reply};
use crate::home::Home;
use crate::ipc::{Client, Lost};

/// A connection that is made anew when it was lost.
pub struct Line {
    folder: Option<PathBuf>,
    launcher: Option<Launcher>,
    client: Mutex<Option<Arc<Client>>>,
}

impl Line {
    /// A line that starts a daemon where there is none. `folder` is the home, if not the default one.
    pub fn new(folder: Option<PathBuf>, launcher: Launcher) -> Self {
        Self { folder, launcher: Some(launcher), client: Mutex::new(None) }
    }

    /// A line that starts nothing: for who looks on, and must not bring back what its user has stopped.
    pub fn looking(folder: Option<PathBuf>) -> Self {
        Self { folder, launcher: None, client: Mutex::new(None) }
    }

    /// Asks a command. A daemon that was lost is connected to again, once, for what may be asked twice.
    ///
    /// # Errors
    /// What the command answers with, or why there is no daemon.
    pub async fn ask(&self, command: Command) -> Result<Reply, Error> {
        let twice = may_be_asked_twice(&command);
        let client = self.client().await?;
        match client.try_ask(command.clone()).await {
            Ok(reply) => return reply,
            Err(Lost) => self.forget(&client).await,
        }
        match twice {
            true => self.client().await?.ask(command).await,
            false => Err(Lost.into()),
        }
    }

    async fn client(&self) -> Result<Arc<Client>, Error> {
        let mut place = self.client.lock().await;
        if let Some(client) = &*place {
            return Ok(Arc::clone(client));
        }
        let home = Home::open(self.folder.as_deref())?;
        let client = match &self.launcher {
            Some(launcher) => connect(&home, launcher).await?,
            None => probe(&home).await?.map(|(client, _)| client).ok_or_else(nobody)?,
        };
        let client = Arc::new(client);
        *place = Some(Arc::clone(&client));
        Ok(client)
    }

    async fn forget(&self, lost: &Arc<Client>) {
        let mut place = self.client.lock().await;
        place.take_if(|client| Arc::ptr_eq(client, lost));
    }
}

fn nobody() -> Error {
    Error::new(ErrorKind::DaemonUnreachable, "the daemon does not run", "start it: p2p-comm daemon start")
}

/// Asked again, these do nothing twice: they only look, or carry an id of their own.
fn may_be_asked_twice(command: &Command) -> bool {
    match command {
        Command::Call { client_id, .. } => client_id.is_some(),
        Command::Send { client_id, .. } => client_id.is_some(),
        Command::SendFile { .. }
        | Command::CancelFile { .. }
        | Command::Escalate { .. }
        | Command::OwnerTest {} => false,
        _ => true,
    }
}
