//! `a2a`: agents on Nostr for clients of A2A (Agent2Agent).

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::session::Session;
use super::{DONE, Verdict};
use crate::a2a;
use crate::api::Error;

/// Agents on Nostr for clients of the Agent2Agent protocol
#[derive(Debug, Args)]
#[command(after_help = "Example: p2p-comm a2a serve --port 8500")]
pub(super) struct A2a {
    #[command(subcommand)]
    verb: A2aVerb,
}

#[derive(Debug, Subcommand)]
enum A2aVerb {
    /// Serve them on this machine, until SIGTERM
    Serve(Serve),
}

/// Serve agents to clients of A2A 1.0, on this machine alone, until SIGTERM
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm a2a serve --port 8500

A client finds the card of an agent at http://127.0.0.1:8500/agents/NAME/.well-known/agent-card.json; NAME is an agent id,
a contact's name, an npub or a hex key. A task is a call. Requests carry `Authorization: Bearer TOKEN`, which is printed.")]
struct Serve {
    /// The port; 0 takes any free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Ask for no token: every user of this machine may call as this agent
    #[arg(long)]
    no_token: bool,
}

impl A2a {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let A2aVerb::Serve(serve) = self.verb;
        serve.run(session).await
    }
}

impl Serve {
    async fn run(self, session: &Session) -> Verdict {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::internal)?;
        // What is wrong with the home or the daemon is told now, not to the first client.
        drop(session.client().await?);
        let door = a2a::Door::open(a2a::Options {
            folder: session.folder(),
            launcher: session.launcher.clone(),
            port: self.port,
            guarded: !self.no_token,
        })
        .await?;
        let (url, token) = (door.url(), door.token());
        session.printer.data(&json!({"url": url, "token": token}), || match token {
            Some(token) => format!("{url}\ntoken {token}"),
            None => url.clone(),
        })?;
        tokio::select! {
            _ = terminate.recv() => {}
            () = door.serve() => {}
        }
        Ok(DONE)
    }
}
