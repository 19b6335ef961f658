//! What users ask, one handler a command. A handler checks everything before it changes anything: what it refuses
//! has left no trace.

mod calls;
mod contacts;
mod escalation;
mod files;
mod messages;
mod reading;

use std::time::Duration;

use tokio::time::Instant;

use super::core::{Answer, Attempt, Core, Fault};
use crate::api::{Command, Done, Time};

/// Longest that a command may block, seconds: front ends ask again.
const LONGEST_WAIT_S: f64 = 24.0 * 3_600.0;

impl Core {
    /// Carries out a command, or says what it waits for; then it is asked again.
    pub(super) fn carry_out(&mut self, command: &Command, attempt: Attempt) -> Result<Answer, Fault> {
        // The agent's own secret key goes nowhere, whatever it was given as: a message, a topic, a peer's name.
        for text in command.texts().into_iter().filter(|_| attempt.first) {
            self.check_secret(text.as_bytes())?;
        }
        self.may(command, attempt)?;
        match command {
            Command::Status {} => self.status(),
            Command::List { capability, limit } => self.list(capability.as_deref(), *limit, attempt),
            Command::Call { agent, topic, client_id, traceparent } => {
                self.place_call(agent, topic, client_id.as_deref(), traceparent.as_ref(), attempt)
            }
            Command::AwaitCall { call, timeout_s } => self.await_call(call, *timeout_s, attempt),
            Command::Answer { call, accept, reason } => {
                self.answer(call.as_ref(), *accept, reason, attempt.now)
            }
            Command::Send { text, call, to, client_id, wait, traceparent } => {
                let place = messages::To { call: call.as_ref(), agent: to.as_deref() };
                self.send(text, place, *client_id, *wait, traceparent.as_ref(), attempt)
            }
            Command::SendFile { name, content, path, mime, call, to } => {
                let source = files::Source {
                    name: name.as_deref(),
                    content: content.as_deref(),
                    path: path.as_deref(),
                };
                let place = messages::To { call: call.as_ref(), agent: to.as_deref() };
                self.send_file(&source, mime.as_deref(), place, attempt)
            }
            Command::CancelFile { message } => self.cancel_file(message, attempt.now),
            Command::AwaitMessage { message, state, timeout_s } => {
                self.await_message(message, *state, *timeout_s, attempt)
            }
            Command::Escalate { question, options, call, expires_s } => {
                self.escalate(question, options, call.as_ref(), *expires_s, attempt.now)
            }
            Command::AwaitTicket { ticket, timeout_s } => self.await_ticket(ticket, *timeout_s, attempt),
            Command::AwaitWays { ticket, timeout_s } => self.await_ways(ticket, *timeout_s, attempt),
            Command::Questions {} => self.questions(attempt.now),
            Command::OwnerTest {} => self.owner_test(attempt),
            Command::OwnerReply { ticket, answer } => self.owner_reply(ticket, answer, attempt),
            Command::End { call } => self.end(call.as_ref(), attempt.now),
            Command::Inbox {} => self.inbox(attempt.now),
            Command::Wait { consumer, after, call, kinds, ahead, timeout_s } => {
                let reach = (*ahead, *timeout_s);
                self.wait(consumer.as_deref(), *after, call.as_ref(), kinds, reach, attempt)
            }
            Command::Commit { consumer, cursor } => {
                self.commit_event(consumer.as_deref(), *cursor, attempt.now)
            }
            Command::Untaken { after, kinds, timeout_s } => self.untaken(*after, kinds, *timeout_s, attempt),
            Command::Pass { consumer, cursor } => {
                self.store.pass(consumer, *cursor)?;
                Ok(done(attempt))
            }
            Command::Messages { call, unread, limit } => self.messages(call.as_ref(), *unread, *limit),
            Command::MarkRead { messages } => {
                for message in messages {
                    self.mark_read(message, attempt.now)?;
                }
                Ok(done(attempt))
            }
            Command::Transcript { call } => self.whole_call(call.as_ref(), attempt.now),
            Command::Calls { limit } => self.calls(*limit),
            Command::Contacts {} => self.contacts(attempt.now),
            Command::ContactEdit(edit) => self.edit_contact(edit, attempt),
            Command::Metrics {} => self.metrics(attempt),
            Command::Reload {} => self.reload(attempt),
        }
    }
}

fn done(attempt: Attempt) -> Answer {
    Done { at: Time(attempt.now) }.into()
}

/// When a command that began to wait at `since` gives up.
fn deadline(since: Instant, timeout_s: f64) -> Instant {
    let seconds = if timeout_s.is_finite() { timeout_s.clamp(0.0, LONGEST_WAIT_S) } else { LONGEST_WAIT_S };
    since + Duration::from_secs_f64(seconds)
}

/// Whether a command that began to wait at `since` has no time left.
fn is_over(attempt: Attempt, timeout_s: f64) -> bool {
    attempt.last || deadline(attempt.since, timeout_s) <= Instant::now()
}
