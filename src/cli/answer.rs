//! `answer`: accepts or rejects a ringing call.

use clap::{Args, ValueEnum};

use super::session::{Session, ask, call_id};
use super::usage::usage;
use super::{DONE, Verdict, show};
use crate::api::{CallReply, Command};

/// Accept or reject the call that rings
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm answer accept
         p2p-comm answer reject \"I'm busy right now\"")]
pub(super) struct Answer {
    /// Accept, or reject
    #[arg(value_enum)]
    decision: Decision,
    /// Words for the caller, with a rejection
    reason: Vec<String>,
    /// Which call, if several ring
    #[arg(long, value_name = "ID")]
    call: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Decision {
    Accept,
    Reject,
}

impl Answer {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let accept = self.decision == Decision::Accept;
        if accept && !self.reason.is_empty() {
            return Err(usage(
                "`answer accept` takes no words",
                "accept first, then: p2p-comm send \"your words\"",
            )
            .into());
        }
        let call = call_id(self.call.as_deref())?;
        let client = session.client().await?;
        let command = Command::Answer { call, accept, reason: self.reason.join(" ") };
        let reply: CallReply = ask(&client, command).await?;
        session.printer.data(&reply, || show::call(&reply.call))?;
        Ok(DONE)
    }
}
