//! `inbox`: what waits for this agent.

use clap::Args;

use super::session::{Session, ask};
use super::{DONE, Verdict, show};
use crate::api::{self, Command};

/// What waits: calls that ring, unread messages, missed calls, the owner's answers
#[derive(Debug, Args)]
#[command(after_help = "Example: p2p-comm inbox --json\n\nIt marks nothing as read.")]
pub(super) struct Inbox {}

impl Inbox {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let client = session.client().await?;
        let inbox: api::Inbox = ask(&client, Command::Inbox {}).await?;
        session.printer.data(&inbox, || plain(&inbox))?;
        Ok(DONE)
    }
}

fn plain(inbox: &api::Inbox) -> String {
    let sections = [
        ("ringing", show::lines(&inbox.ringing, "", show::call)),
        ("unread", show::lines(&inbox.unread, "", show::message)),
        ("missed", show::lines(&inbox.missed, "", show::call)),
        ("answers of the owner", show::lines(&inbox.answers, "", show::ticket)),
        ("questions to the owner", show::lines(&inbox.questions, "", show::ticket)),
        ("strangers who wait", show::lines(&inbox.queue, "", show::call)),
        ("strangers' mail that waits", show::lines(&inbox.mail, "", show::waiting_mail)),
    ];
    let filled: Vec<_> = sections
        .iter()
        .filter(|(_, lines)| !lines.is_empty())
        .map(|(title, lines)| format!("{title}\n{lines}"))
        .collect();
    if filled.is_empty() { "nothing waits".to_owned() } else { filled.join("\n\n") }
}
