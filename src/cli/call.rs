//! `call`: rings an agent; with `--wait`, until it is answered.

use clap::Args;

use super::session::{Session, ask, seconds};
use super::{DONE, TIMEOUT, Verdict, show};
use crate::api::{CallReply, CallState, Command, EndReason, Error, ErrorKind, EventKind};
use crate::proto::text::quote;

/// Ring an agent
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm call bob \"API design\" --wait=60

Without --wait it returns when the ring is on its way. With it: exit 0 connected; 1 rejected, busy or no answer;
124 still ringing when the time was up.")]
pub(super) struct Call {
    /// Agent id, contact's name, npub, nprofile or hex key
    agent: String,
    /// What it is about
    #[arg(default_value = "")]
    topic: String,
    /// Wait until it is answered, at most this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<f64>,
    /// A name of your own for this call: repeated, it is the same call and does not ring again
    #[arg(long, value_name = "KEY")]
    id: Option<String>,
}

impl Call {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let mut client = session.client().await?;
        let placed = Command::Call {
            agent: self.agent,
            topic: self.topic,
            client_id: self.id,
            traceparent: session.trace(),
        };
        let mut reply: CallReply = ask(&client, placed).await?;
        let Some(wait) = self.wait else {
            session.printer.data(&reply, || show::call(&reply.call))?;
            return Ok(DONE);
        };
        if reply.call.state == CallState::Ringing {
            let (call, already) = (reply.call.call, reply.already);
            let answer = session
                .wait_for(&mut client, wait, |timeout_s| Command::AwaitCall { call, timeout_s })
                .await?;
            reply = CallReply { already, ..answer.try_into()? };
        }
        let outcome = outcome(&reply);
        match &outcome {
            Ok(_) => session.printer.data(&reply, || show::call(&reply.call))?,
            Err(error) => drop(session.printer.error(error)),
        }
        let shown = [EventKind::CallConnected, EventKind::CallRejected, EventKind::CallEnded];
        if outcome != Ok(TIMEOUT) {
            session.take_shown(&client, Some(reply.call.call), &shown, |_| true).await;
        }
        Ok(outcome.unwrap_or_else(|error| error.kind.exit_code()))
    }
}

/// The verdict on a call that was waited for.
fn outcome(reply: &CallReply) -> Result<u8, Error> {
    let call = &reply.call;
    let said = call.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", quote(reason)));
    let who = quote(&call.peer.id);
    let error = |kind, message: String, hint: &str| Err(Error::new(kind, message, hint));
    match (call.state, call.end_reason) {
        (CallState::Ringing, _) => Ok(TIMEOUT),
        // Connected, and over before it was looked at: it was answered.
        (CallState::Connected, _) | (CallState::Ended, Some(EndReason::Completed)) => Ok(DONE),
        (CallState::Ended, Some(EndReason::Rejected)) => {
            error(ErrorKind::Rejected, format!("{who} declined call {}{said}", call.call), "")
        }
        (CallState::Ended, Some(EndReason::Busy)) => error(
            ErrorKind::PeerBusy,
            format!("{who} is busy{said}"),
            "call again later: p2p-comm call AGENT --wait=60",
        ),
        (CallState::Ended, Some(EndReason::NoAnswer)) => error(
            ErrorKind::NoAnswer,
            format!("{who} did not answer{said}"),
            "it may be offline: p2p-comm list",
        ),
        (CallState::Ended, Some(EndReason::Failed)) => error(
            ErrorKind::RelaysUnreachable,
            format!("call {} could not be placed{said}", call.call),
            "see: p2p-comm status",
        ),
        (CallState::Ended, Some(EndReason::Cancelled | EndReason::Lost) | None) => {
            error(ErrorKind::CallEnded, format!("call {} ended before it was answered{said}", call.call), "")
        }
    }
}
