//! `owner`: the human behind this agent, and the ways to them.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::time::Instant;

use super::session::{Session, ask};
use super::{DONE, FAILED, Verdict, config, show};
use crate::api::{Command, Error, ErrorKind, TicketReply, TicketState};
use crate::home::settings;
use crate::proto::TicketId;
use crate::proto::text::quote;

/// The human owner, and the ways to them
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm owner set \"exec:/usr/local/bin/notify-me\"
         p2p-comm owner test")]
pub(super) struct Owner {
    #[command(subcommand)]
    verb: OwnerVerb,
}

#[derive(Debug, Subcommand)]
enum OwnerVerb {
    /// Which ways are configured
    Show,
    /// Configure a way; an empty text removes it
    Set {
        /// `exec:PROGRAM`, or the https:// address of a webhook
        channel: String,
    },
    /// Ask the owner a test question, which needs no answer
    Test,
    /// The owner's decision; only from a terminal
    Reply {
        /// The ticket that `escalate` named
        ticket: TicketId,
        /// The decision
        #[arg(required = true)]
        answer: Vec<String>,
    },
}

/// How long the ways to the owner may take in a test. A webhook that does not answer is given 15 s.
const REPORT_WITHIN: Duration = Duration::from_secs(20);
/// How often a test looks.
const LOOK_S: f64 = 0.1;

impl Owner {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        match self.verb {
            OwnerVerb::Show => show_channels(session),
            OwnerVerb::Set { channel } => {
                settings::set(&session.home()?, "owner", &channel)?;
                config::reload(session).await?;
                show_channels(session)
            }
            OwnerVerb::Test => test(session).await,
            OwnerVerb::Reply { ticket, answer } => {
                must_be_a_person()?;
                show_ticket(session, Command::OwnerReply { ticket, answer: answer.join(" ") }).await
            }
        }
    }
}

fn show_channels(session: &Session) -> Verdict {
    let channels = settings::load(&session.home()?, &[])?.settings().owner;
    session.printer.data(&json!({"channels": channels}), || {
        show::lines(&channels, "no way to the owner is configured", |channel| quote(channel))
    })?;
    Ok(DONE)
}

/// Asks every way, and tells what became of each.
async fn test(session: &Session) -> Verdict {
    let ways = settings::load(&session.home()?, &[])?.settings().owner.len();
    let client = session.client().await?;
    let mut reply: TicketReply = ask(&client, Command::OwnerTest {}).await?;
    let begun = Instant::now();
    while reply.ticket.channels.len() < ways
        && reply.ticket.state == TicketState::Waiting
        && begun.elapsed() < REPORT_WITHIN
    {
        let look = Command::AwaitTicket { ticket: reply.ticket.ticket, timeout_s: LOOK_S };
        reply = ask(&client, look).await?;
    }
    reply.timeout = false;
    session.printer.data(&reply, || show::ticket(&reply.ticket))?;
    Ok(if reply.ticket.channels.iter().any(|channel| channel.ok) { DONE } else { FAILED })
}

async fn show_ticket(session: &Session, command: Command) -> Verdict {
    let client = session.client().await?;
    let reply: TicketReply = ask(&client, command).await?;
    session.printer.data(&reply, || show::ticket(&reply.ticket))?;
    Ok(DONE)
}

/// An agent drives this program through pipes; an approval is given by somebody who sits in front of it.
fn must_be_a_person() -> Result<(), Error> {
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotAllowed,
        "an owner replies from a terminal, and this is none",
        "the owner runs this command, not the agent",
    ))
}
