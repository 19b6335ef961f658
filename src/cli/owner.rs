//! `owner`: the human behind this agent, and the ways to them.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::session::{Session, ask};
use super::{DONE, FAILED, Stop, Verdict, config, show};
use crate::api::{Channel, Command, Error, ErrorKind, Questions, Status, TicketReply};
use crate::home::settings;
use crate::proto::TicketId;

/// The human owner, and the ways to them
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm owner set nostr:npub1… https://hooks.example/p2p
         p2p-comm owner test

CHANNEL is one of
  nostr:KEY        private messages (NIP-17); the owner answers by replying, with any client
  exec:PROGRAM     a program: the question as JSON on its input, {\"answer\": …} on its output
  https://…        a webhook, signed with the setting owner_webhook_secret
  telegram:123     and the other channels of OpenClaw, by its command: discord:…, slack:…, whatsapp:…, signal:…
  apprise:URL      what PyPI apprise reaches; pip install 'p2p-comm[notify]'
  desktop          a notification on this machine's screen
The last three only say that there is a question, or what it is; answers come by `owner reply` or another way.
Quiet hours: p2p-comm config set owner_quiet 22:00-07:00")]
pub(super) struct Owner {
    #[command(subcommand)]
    verb: OwnerVerb,
}

#[derive(Debug, Subcommand)]
enum OwnerVerb {
    /// How each way is, and which questions are open
    Show,
    /// Configure the ways, all of them, in order; an empty text removes them
    Set {
        /// See below
        #[arg(required = true, value_name = "CHANNEL")]
        channels: Vec<String>,
    },
    /// Send a test question, which needs no answer, by each way
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

/// How long the ways to the owner may take in a test: a relay that is looked for, a webhook that does not answer, OpenClaw
/// that starts.
const REPORT_WITHIN: Duration = Duration::from_secs(45);

impl Owner {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        match self.verb {
            OwnerVerb::Show => show_owner(session).await,
            OwnerVerb::Set { channels } => {
                settings::set_list(&session.home()?, "owner", &channels)?;
                config::reload(session).await?;
                hint(session, &channels).await?;
                show_owner(session).await
            }
            OwnerVerb::Test => test(session).await,
            OwnerVerb::Reply { ticket, answer } => {
                must_be_a_person()?;
                show_ticket(session, Command::OwnerReply { ticket, answer: answer.join(" ") }).await
            }
        }
    }
}

/// The ways as the daemon knows them, and what waits for the owner.
async fn show_owner(session: &Session) -> Verdict {
    let client = session.client().await?;
    let status: Status = ask(&client, Command::Status {}).await?;
    let Questions { questions } = ask(&client, Command::Questions {}).await?;
    let quiet = settings::load(&session.home()?, &[])?.settings().owner_quiet;
    let shown = json!({
        "channels": status.owner,
        "quiet": quiet.map(|quiet| quiet.to_string()),
        "questions": questions,
    });
    session.printer.data(&shown, || {
        let ways = show::lines(&status.owner, "no way to the owner is configured", |channel| {
            show::way(channel, "nothing known against it")
        });
        let quiet = quiet.map_or_else(String::new, |quiet| format!("\nleft alone {quiet}"));
        let open = match questions.is_empty() {
            true => String::new(),
            false => format!("\n\nopen questions\n{}", show::lines(&questions, "", show::ticket)),
        };
        ways + &quiet + &open
    })?;
    Ok(DONE)
}

/// What an owner needs to know who has just been given a way.
async fn hint(session: &Session, channels: &[String]) -> Result<(), Stop> {
    let begins = |start: &str| channels.iter().any(|channel| channel.trim().starts_with(start));
    if begins("nostr:") {
        let status: Status = ask(&session.client().await?, Command::Status {}).await?;
        session.printer.talk(&format!("hint: the agent writes to the owner as {}", status.agent.npub));
    }
    if begins("https:") || begins("http:") {
        let hint =
            "hint: what the webhook gets is signed; the secret: p2p-comm config get owner_webhook_secret";
        session.printer.talk(hint);
    }
    Ok(())
}

/// Asks every way, and tells what became of each.
async fn test(session: &Session) -> Verdict {
    let client = session.client().await?;
    let ways = ask::<Status>(&client, Command::Status {}).await?.owner;
    let TicketReply { ticket, .. } = ask(&client, Command::OwnerTest {}).await?;
    let look = Command::AwaitWays { ticket: ticket.ticket, timeout_s: REPORT_WITHIN.as_secs_f64() };
    let mut reply: TicketReply = ask(&client, look).await?;
    let is_silent = std::mem::take(&mut reply.timeout);
    let told = &mut reply.ticket.channels;
    for way in ways {
        if !told.iter().any(|channel| channel.channel == way.channel) {
            let error = match is_silent {
                true => format!("no word from it in {} s", REPORT_WITHIN.as_secs()),
                false => "not asked: the question had its answer before".into(),
            };
            told.push(Channel { channel: way.channel, ok: false, error: Some(error) });
        }
    }
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
