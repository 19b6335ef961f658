//! `escalate`: asks the human owner; with `--wait`, until the owner decided.

use clap::Args;

use super::session::{Session, ask, call_id, seconds};
use super::{DONE, FAILED, TIMEOUT, Verdict, show, words};
use crate::api::{Command, Event, EventKind, TicketReply, TicketState};

/// Ask the human owner
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm escalate \"Need human decision on budget approval\" --options yes,no --wait=600

The peer of the call is told. An approval comes only from the owner, never from the peer.
Silence until the question expires is no decision, never a yes.
With --wait: exit 0 answered, 1 expired, 124 when the time was up; the ticket then stays open.")]
pub(super) struct Escalate {
    /// The question, or `-` for standard input
    #[arg(required = true)]
    words: Vec<String>,
    /// The answers offered, separated by commas; a free answer if absent
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    options: Vec<String>,
    /// Which call, if several are up
    #[arg(long, value_name = "ID")]
    call: Option<String>,
    /// How long the owner has, in seconds; a day if absent
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    expires: Option<f64>,
    /// Wait for the decision, at most this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<f64>,
}

impl Escalate {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let question = words::join(&self.words)?;
        let call = call_id(self.call.as_deref())?;
        let mut client = session.client().await?;
        let options: Vec<_> = self
            .options
            .iter()
            .map(|option| option.trim().to_owned())
            .filter(|option| !option.is_empty())
            .collect();
        let command = Command::Escalate { question, options, call, expires_s: self.expires };
        let mut reply: TicketReply = ask(&client, command).await?;
        let Some(wait) = self.wait else {
            session.printer.data(&reply, || show::ticket(&reply.ticket))?;
            return Ok(DONE);
        };
        if reply.ticket.state == TicketState::Waiting {
            let ticket = reply.ticket.ticket;
            let await_ticket = |timeout_s| Command::AwaitTicket { ticket, timeout_s };
            reply = session.wait_for(&mut client, wait, await_ticket).await?.try_into()?;
        }
        session.printer.data(&reply, || show::ticket(&reply.ticket))?;
        let shown = &reply.ticket;
        let is_it = |event: &Event| event.escalation.as_ref().is_some_and(|of| of.ticket == shown.ticket);
        session.take_shown(&client, shown.call, &[EventKind::EscalationAnswered], is_it).await;
        Ok(match (reply.timeout, reply.ticket.state) {
            (true, _) => TIMEOUT,
            (false, TicketState::Expired) => FAILED,
            (false, TicketState::Answered | TicketState::NoOwner | TicketState::Waiting) => DONE,
        })
    }
}
