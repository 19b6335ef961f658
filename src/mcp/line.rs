//! The way to the daemon: connected when it is first needed, and again when it was lost.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::api::{Command, Error, Reply};
use crate::daemon::{self, Launcher};
use crate::home::Home;
use crate::ipc::{Client, Lost};

pub(super) struct Line {
    folder: Option<PathBuf>,
    launcher: Launcher,
    client: Mutex<Option<Arc<Client>>>,
}

impl Line {
    pub(super) fn new(folder: Option<PathBuf>, launcher: Launcher) -> Self {
        Self { folder, launcher, client: Mutex::new(None) }
    }

    /// Asks a command. A daemon that was lost is started again, once, for what may be asked twice.
    pub(super) async fn ask(&self, command: Command) -> Result<Reply, Error> {
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
        let client = Arc::new(daemon::connect(&home, &self.launcher).await?);
        *place = Some(Arc::clone(&client));
        Ok(client)
    }

    async fn forget(&self, lost: &Arc<Client>) {
        let mut place = self.client.lock().await;
        place.take_if(|client| Arc::ptr_eq(client, lost));
    }
}

/// Asked again, these do nothing twice: they only look, or carry an id of their own.
fn may_be_asked_twice(command: &Command) -> bool {
    match command {
        Command::Call { client_id, .. } => client_id.is_some(),
        Command::Send { client_id, .. } => client_id.is_some(),
        Command::SendFile { .. } | Command::Escalate { .. } | Command::OwnerTest {} => false,
        _ => true,
    }
}
