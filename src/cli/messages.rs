//! `messages`: what was said.

use clap::Args;

use super::session::{Session, ask, call_id};
use super::{DONE, Verdict, show};
use crate::api::{self, Command, Done};

/// What was said, oldest first
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm messages --unread

With --unread, what is printed counts as read; otherwise nothing is marked.")]
pub(super) struct Messages {
    /// Of this call only
    #[arg(long, value_name = "ID")]
    call: Option<String>,
    /// Only what nobody read yet
    #[arg(long)]
    unread: bool,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

impl Messages {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let call = call_id(self.call.as_deref())?;
        let client = session.client().await?;
        let command = Command::Messages { call, unread: self.unread, limit: self.limit };
        let reply: api::Messages = ask(&client, command).await?;
        session.printer.data(&reply, || show::lines(&reply.messages, "no messages", show::message))?;
        if self.unread && !reply.messages.is_empty() {
            let messages = reply.messages.iter().map(|message| message.message).collect();
            if let Err(error) = ask::<Done>(&client, Command::MarkRead { messages }).await {
                // They are shown already; a second result would be one too many.
                session.printer.talk(&format!("warning: not marked as read, so shown again: {error}"));
            }
        }
        Ok(DONE)
    }
}
