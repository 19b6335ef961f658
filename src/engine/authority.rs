//! The one place where the engine asks whether something is allowed: `proto/authority.rs` has the table.

use super::core::{Attempt, Core, Fault};
use crate::api::{Command, ContactEdit, Error, ErrorKind};
use crate::proto::authority::{Action, Role, State, Verdict, verdict};

/// Says whether a role may do something in a state.
///
/// # Errors
/// `not-allowed` if it may never, `invalid-value` if it may, but not now.
pub(super) fn authorize(role: Role, action: Action, state: State) -> Result<(), Error> {
    match verdict(role, action, state) {
        Verdict::Allowed => Ok(()),
        Verdict::Never => {
            tracing::warn!(role = role.word(), action = action.word(), "not allowed");
            let (message, hint) = match action {
                Action::Decide => (
                    "an approval comes from the owner: this process has no terminal in front of which one could sit",
                    "the owner runs `p2p-comm owner reply` in a terminal, or answers by a configured way; the agent waits",
                ),
                Action::Vouch => (
                    "that a key has changed is confirmed by a person, and this process has no terminal",
                    "compare the fingerprints with its owner, then, in a terminal: p2p-comm contacts verify NAME KEY",
                ),
                _ => ("this is not allowed here", "see the table in docs/guarantees.md"),
            };
            Err(Error::new(ErrorKind::NotAllowed, message, hint))
        }
        Verdict::NotNow => {
            let (what, state) = (action.word(), state.word());
            let message = format!("`{what}` is not possible: it is {state}");
            Err(Error::new(ErrorKind::InvalidValue, message, "see how it stands: p2p-comm inbox"))
        }
    }
}

impl Core {
    /// Whether whoever gives a command may do such a thing at all. In which state, the command's handler knows, or the
    /// call machine, which a test holds to the same table.
    pub(super) fn may(&self, command: &Command, attempt: Attempt) -> Result<(), Fault> {
        let (action, state) = match command {
            // Whoever is blocked for a name that is another's is let in by a person only.
            Command::ContactEdit(ContactEdit::Add { key, .. } | ContactEdit::Unblock { key })
                if self.is_claimant(key, attempt.now) =>
            {
                (Action::Vouch, State::None)
            }
            other => needs(other),
        };
        Ok(authorize(attempt.role, action, state)?)
    }
}

/// What a command is, in the words of the table, with the state that lets it come to its handler.
fn needs(command: &Command) -> (Action, State) {
    match command {
        Command::Call { .. } => (Action::Ring, State::None),
        Command::Answer { accept: true, .. } => (Action::Accept, State::Ringing),
        Command::Answer { accept: false, .. } => (Action::Reject, State::Ringing),
        Command::Send { to: Some(_), .. } | Command::SendFile { to: Some(_), .. } => {
            (Action::Mail, State::None)
        }
        Command::Send { to: None, .. } | Command::SendFile { .. } | Command::CancelFile { .. } => {
            (Action::Say, State::Connected)
        }
        Command::Escalate { .. } | Command::OwnerTest {} => (Action::Escalate, State::None),
        Command::OwnerReply { .. } => (Action::Decide, State::Waiting),
        Command::End { .. } => (Action::End, State::Connected),
        Command::Commit { .. } | Command::MarkRead { .. } | Command::Pass { .. } => {
            (Action::Mark, State::None)
        }
        Command::ContactEdit(ContactEdit::Verify { .. }) => (Action::Vouch, State::None),
        Command::ContactEdit(_) => (Action::Befriend, State::None),
        Command::Reload {} => (Action::Configure, State::None),
        Command::Status {}
        | Command::List { .. }
        | Command::AwaitCall { .. }
        | Command::AwaitMessage { .. }
        | Command::AwaitTicket { .. }
        | Command::AwaitWays { .. }
        | Command::Inbox {}
        | Command::Wait { .. }
        | Command::Untaken { .. }
        | Command::Messages { .. }
        | Command::Transcript { .. }
        | Command::Calls { .. }
        | Command::Contacts {}
        | Command::Questions {}
        | Command::Metrics {} => (Action::Look, State::None),
    }
}

#[cfg(test)]
mod tests;
