//! `end`: hangs up, and prints the transcript.

use clap::Args;

use super::session::{Session, ask, call_id};
use super::{DONE, Verdict, show};
use crate::api::{Command, EndReply};

/// Hang up, or take back a ring; prints the transcript
#[derive(Debug, Args)]
#[command(after_help = "Example: p2p-comm end")]
pub(super) struct End {
    /// Which call, if several are up
    #[arg(long, value_name = "ID")]
    call: Option<String>,
}

impl End {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let call = call_id(self.call.as_deref())?;
        let client = session.client().await?;
        let reply: EndReply = ask(&client, Command::End { call }).await?;
        session.printer.data(&reply, || {
            format!("{}\n\n{}", show::call(&reply.call), show::transcript_text(&reply.transcript))
        })?;
        Ok(DONE)
    }
}
