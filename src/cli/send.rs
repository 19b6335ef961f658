//! `send`: says something; with `--wait`, until it has come that far.

use clap::Args;

use super::session::{Session, ask, call_id, seconds};
use super::{DONE, FAILED, TIMEOUT, Verdict, show, words};
use crate::api::{Command, Message, MessageReply, MessageState};
use crate::proto::MessageId;

/// Say something
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm send \"Hello, I have a question about the API design\"
         p2p-comm send - --wait=delivered < letter.txt
         p2p-comm send --to bob \"Call me when you are back\"

The words are joined by spaces; `-` alone reads standard input; `--` ends the flags. Without --wait it returns when
the message is committed here (`queued`): it then leaves by itself as soon as a relay is reachable.
With --wait: exit 0 when it has come that far, 1 if it failed, 124 when the time was up (nothing is lost).
In a call, queued is followed by delivered and read; mail (--to an agent with whom no call is up) by relayed.")]
pub(super) struct Send {
    /// The words, or `-`
    #[arg(required = true)]
    words: Vec<String>,
    /// Which call, if several are up
    #[arg(long, value_name = "ID", conflicts_with = "to")]
    call: Option<String>,
    /// An agent instead of a call
    #[arg(long, value_name = "AGENT")]
    to: Option<String>,
    /// Wait until it is relayed, delivered or read
    #[arg(long, value_name = "STATE", value_parser = state)]
    wait: Option<MessageState>,
    /// How long to wait
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    timeout: f64,
    /// An id of your own, 32 hex characters: repeated, it is the same message
    #[arg(long, value_name = "ID")]
    id: Option<MessageId>,
}

pub(super) fn state(word: &str) -> Result<MessageState, String> {
    match MessageState::from_word(word) {
        Some(state @ (MessageState::Relayed | MessageState::Delivered | MessageState::Read)) => Ok(state),
        _ => Err("one of relayed, delivered, read".to_owned()),
    }
}

impl Send {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let text = words::join(&self.words)?;
        let call = call_id(self.call.as_deref())?;
        let mut client = session.client().await?;
        let command = Command::Send {
            text,
            call,
            to: self.to,
            client_id: self.id,
            wait: self.wait,
            traceparent: session.trace(),
        };
        let message: Message = ask(&client, command).await?;
        let Some(state) = self.wait else {
            session.printer.data(&message, || show::message(&message))?;
            return Ok(DONE);
        };
        let id = message.message;
        let await_message = |timeout_s| Command::AwaitMessage { message: id, state, timeout_s };
        let reply: MessageReply =
            session.wait_for(&mut client, self.timeout, await_message).await?.try_into()?;
        session.printer.data(&reply, || show::message(&reply.message))?;
        Ok(match (reply.timeout, reply.message.state) {
            (true, _) => TIMEOUT,
            (false, MessageState::Failed) => FAILED,
            (false, _) => DONE,
        })
    }
}
