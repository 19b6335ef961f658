//! `end`: hangs up, and prints the transcript.

use clap::Args;

use super::session::{Session, ask};
use super::{DONE, Verdict, show};
use crate::api::{Command, EndReply};
use crate::proto::CallId;

/// Hang up, or take back a ring; prints the transcript
#[derive(Debug, Args)]
#[command(after_help = "Example: p2p-comm end")]
pub(super) struct End {
    /// Which call, if several are up
    #[arg(long, value_name = "ID")]
    call: Option<CallId>,
}

impl End {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let client = session.client().await?;
        let reply: EndReply = ask(&client, Command::End { call: self.call }).await?;
        session.printer.data(&reply, || {
            format!("{}\n\n{}", show::call(&reply.call), show::transcript_text(&reply.transcript))
        })?;
        Ok(DONE)
    }
}
