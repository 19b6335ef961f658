//! `list`: who is online.

use clap::Args;

use super::session::{Session, ask};
use super::{DONE, Verdict, show};
use crate::api::{AgentList, Command};

/// Who is online
#[derive(Debug, Args)]
#[command(after_help = "Example: p2p-comm list --capability coding --limit 10")]
pub(super) struct List {
    /// Only agents that announce this capability
    #[arg(long, value_name = "CAP")]
    capability: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl List {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let client = session.client().await?;
        let list: AgentList =
            ask(&client, Command::List { capability: self.capability, limit: self.limit }).await?;
        session.printer.data(&list, || show::lines(&list.agents, "nobody is online", show::agent))?;
        Ok(DONE)
    }
}
