//! The two ways to an engine, behind one face: the daemon that runs, or one hosted in this process.

use std::path::PathBuf;

use serde::Deserialize;

use super::shim::{daemon, ipc};
use crate::api::{Command, Error, Reply};

/// What `Agent(...)` was given. What is absent comes from the environment, `config.toml` or the defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConnectOptions {
    pub(super) home: Option<PathBuf>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) capabilities: Option<Vec<String>>,
    pub(super) relays: Option<Vec<String>>,
    pub(super) owner: Option<String>,
}

pub(super) enum Backend {
    Hosted(daemon::Hosted),
    Remote(ipc::Client),
}

impl Backend {
    pub(super) async fn connect(options: ConnectOptions) -> Result<Self, Error> {
        match daemon::connect(&options).await? {
            Some(client) => Ok(Self::Remote(client)),
            None => daemon::host(options).await.map(Self::Hosted),
        }
    }

    pub(super) fn hosted(&self) -> bool {
        matches!(self, Self::Hosted(_))
    }

    pub(super) async fn ask(&self, command: Command) -> Result<Reply, Error> {
        match self {
            Self::Hosted(hosted) => hosted.handle().ask(command).await,
            Self::Remote(client) => client.ask(command).await,
        }
    }

    pub(super) async fn stop(self) {
        if let Self::Hosted(hosted) = self {
            hosted.stop().await;
        }
    }
}
