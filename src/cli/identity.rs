//! `identity`: the names and the public key of this agent.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::session::{Session, ask};
use super::{DONE, Verdict};
use crate::api::{AgentSelf, Command, Status};
use crate::proto::text::quote;

/// The agent's names and public key
#[derive(Debug, Args)]
#[command(after_help = "Example: p2p-comm identity show")]
pub(super) struct Identity {
    #[command(subcommand)]
    verb: Option<IdentityVerb>,
}

#[derive(Debug, Subcommand)]
enum IdentityVerb {
    /// Show it (also without a verb); the private key stays in its file
    Show,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    agent: AgentSelf,
    file: String,
}

impl Identity {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let (None | Some(IdentityVerb::Show)) = self.verb;
        let file = session.home()?.identity().display().to_string();
        let client = session.client().await?;
        let Status { agent, .. } = ask(&client, Command::Status {}).await?;
        let shown = Shown { agent, file };
        session.printer.data(&shown, || {
            let Shown { agent, file } = &shown;
            format!(
                "agent {} {}\nnpub {}\nkey {}\nfile {file}",
                quote(&agent.id),
                quote(&agent.name),
                agent.npub,
                agent.pubkey
            )
        })?;
        Ok(DONE)
    }
}
