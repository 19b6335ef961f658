//! The way to the daemon: connected when it is first needed, and again when it was lost.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::api::{Command, Error, Reply};
use crate::daemon::{self, Launcher};
use crate::home::Home;
use crate::ipc::{Client, Lost};

/// What answers commands: the daemon at the end of a [`Line`], or what a test puts in its place.
pub(super) trait Ask: Sync {
    fn ask(&self, command: Command) -> impl Future<Output = Result<Reply, Error>> + Send;
}

pub(super) struct Line {
    folder: Option<PathBuf>,
    launcher: Launcher,
    client: Mutex<Option<Arc<Client>>>,
}

impl Line {
    pub(super) fn new(folder: Option<PathBuf>, launcher: Launcher) -> Self {
        Self { folder, launcher, client: Mutex::new(None) }
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

impl Ask for Line {
    /// Asks a command. A daemon that was lost is started again, once, for what may be asked twice.
    async fn ask(&self, command: Command) -> Result<Reply, Error> {
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
