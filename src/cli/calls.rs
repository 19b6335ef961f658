//! `calls`: the calls of this agent.

use clap::Args;

use super::session::{Session, ask};
use super::{DONE, Verdict, show};
use crate::api::{self, Command};

/// Calls, newest first, ended ones too
#[derive(Debug, Args)]
#[command(after_help = "Example: p2p-comm calls --limit 5")]
pub(super) struct Calls {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

impl Calls {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let client = session.client().await?;
        let calls: api::Calls = ask(&client, Command::Calls { limit: self.limit }).await?;
        session.printer.data(&calls, || show::lines(&calls.calls, "no calls yet", show::call))?;
        Ok(DONE)
    }
}
