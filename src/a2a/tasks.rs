//! A call, as a task of A2A.

use serde_json::{Value, json};

use crate::api::{Call, CallState, EndReason, Message, MessageKind, Sender, Time};

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Submitted,
    Working,
    InputRequired,
    Completed,
    Canceled,
    Rejected,
    Failed,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Submitted => "TASK_STATE_SUBMITTED",
            Self::Working => "TASK_STATE_WORKING",
            Self::InputRequired => "TASK_STATE_INPUT_REQUIRED",
            Self::Completed => "TASK_STATE_COMPLETED",
            Self::Canceled => "TASK_STATE_CANCELED",
            Self::Rejected => "TASK_STATE_REJECTED",
            Self::Failed => "TASK_STATE_FAILED",
        }
    }

    /// Nothing changes unless the client does something.
    pub(super) fn rests(self) -> bool {
        !matches!(self, Self::Submitted | Self::Working)
    }
}

/// What this process knows of a call beside what the daemon does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Beside {
    /// What is to be said waits for the call to be taken.
    pub(super) waiting: bool,
    /// The client has ended it.
    pub(super) canceled: bool,
    /// What was to be said could not be.
    pub(super) failed: Option<String>,
}

/// A call with what was said in it, newest last.
pub(super) struct Task {
    pub(super) call: Call,
    pub(super) messages: Vec<Message>,
    pub(super) beside: Beside,
}

impl Task {
    pub(super) fn state(&self) -> State {
        let Self { call, beside, .. } = self;
        match (call.state, call.end_reason) {
            _ if beside.failed.is_some() => State::Failed,
            (CallState::Ringing, _) => State::Submitted,
            (CallState::Connected, _) if beside.waiting || !self.is_answered() => State::Working,
            (CallState::Connected, _) => State::InputRequired,
            (CallState::Ended, _) if beside.canceled => State::Canceled,
            (CallState::Ended, Some(EndReason::Completed)) => State::Completed,
            (CallState::Ended, Some(EndReason::Cancelled)) => State::Canceled,
            (CallState::Ended, Some(EndReason::Rejected | EndReason::Busy)) => State::Rejected,
            (CallState::Ended, _) => State::Failed,
        }
    }

    /// The agent has said something since it was asked something.
    fn is_answered(&self) -> bool {
        let speaks = |message: &&Message| matches!(message.kind, MessageKind::Text | MessageKind::File);
        self.messages.iter().rev().find(speaks).is_some_and(|last| last.from == Sender::Peer)
    }

    /// What the agent has said last, or why the call is over.
    fn status_message(&self) -> Option<Value> {
        let words = |text: &str| {
            let id = format!("{}-status", self.call.call);
            json!({"messageId": id, "role": "ROLE_AGENT", "parts": [{"text": text}], "taskId": self.call.call,
                   "contextId": self.call.peer.pubkey})
        };
        let ended = self.call.end_reason.map(|reason| {
            self.call
                .reason
                .clone()
                .filter(|words| !words.is_empty())
                .unwrap_or_else(|| reason.word().to_owned())
        });
        match (self.state(), ended, &self.beside.failed) {
            (State::Failed, _, Some(why)) => Some(words(why)),
            (State::Rejected | State::Failed, Some(reason), _) => Some(words(&reason)),
            _ => self
                .messages
                .iter()
                .rev()
                .find(|said| said.from == Sender::Peer)
                .map(|said| self.message(said)),
        }
    }

    pub(super) fn status(&self) -> Value {
        let mut status = json!({"state": self.state().word(), "timestamp": self.since()});
        if let Some(message) = self.status_message() {
            status["message"] = message;
        }
        status
    }

    fn since(&self) -> Time {
        let said = self.messages.last().map(|message| message.at);
        let call = &self.call;
        call.ended_at.or(said).or(call.connected_at).unwrap_or(call.started_at)
    }

    /// The whole of it, with the last so many messages.
    pub(super) fn to_json(&self, history: Option<usize>) -> Value {
        let skipped = history.map_or(0, |most| self.messages.len().saturating_sub(most));
        let history: Vec<_> = self.messages[skipped..].iter().map(|said| self.message(said)).collect();
        json!({
            "id": self.call.call,
            "contextId": self.call.peer.pubkey,
            "status": self.status(),
            "artifacts": self.artifacts(),
            "history": history,
            "metadata": {"agent": self.call.peer.id, "pubkey": self.call.peer.pubkey, "tier": self.call.peer.tier},
        })
    }

    /// What the agent has brought about: each text and each file of it.
    pub(super) fn artifacts(&self) -> Vec<Value> {
        let brought = |said: &&Message| {
            said.from == Sender::Peer && matches!(said.kind, MessageKind::Text | MessageKind::File)
        };
        let artifact = |said: &Message| json!({"artifactId": said.message, "parts": [part(said)]});
        self.messages.iter().filter(brought).map(artifact).collect()
    }

    fn message(&self, said: &Message) -> Value {
        let role = if said.from == Sender::Peer { "ROLE_AGENT" } else { "ROLE_USER" };
        json!({
            "messageId": said.message,
            "contextId": self.call.peer.pubkey,
            "taskId": self.call.call,
            "role": role,
            "parts": [part(said)],
            "metadata": {"from": said.from, "kind": said.kind, "tier": said.tier, "at": said.at},
        })
    }
}

/// The words, or where the file is on this machine.
fn part(said: &Message) -> Value {
    match &said.file {
        Some(file) => {
            let path = file.path.as_deref().unwrap_or_default();
            json!({"url": file_url(path), "filename": file.name, "mediaType": file.mime,
                   "metadata": {"size": file.size, "sha256": file.sha256}})
        }
        None => json!({"text": said.text}),
    }
}

/// A path as a URL (RFC 8089), everything escaped but what no path can be misread by.
fn file_url(path: &str) -> String {
    let mut url = "file://".to_owned();
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => url.push(char::from(byte)),
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Direction, MessageState, Peer, Protocol, Tier};
    use crate::proto::{Hex, Millis};

    const AT: Time = Time(Millis::from_secs(1_800_000_000));

    fn task(state: CallState, end: Option<EndReason>, said: &[(Sender, MessageKind)]) -> Task {
        let peer = Peer {
            id: "bob".into(),
            name: "Bob".into(),
            pubkey: Hex([2; 32]),
            npub: String::new(),
            tier: Tier::Known,
            looks_like: None,
        };
        let call = Call {
            call: Hex([1; 8]),
            state,
            direction: Direction::Out,
            peer,
            topic: String::new(),
            protocol: Protocol::V2,
            away: false,
            started_at: AT,
            connected_at: None,
            ended_at: end.map(|_| AT),
            end_reason: end,
            reason: None,
            messages: 0,
            traceparent: None,
        };
        let message = |(number, (from, kind)): (usize, &(Sender, MessageKind))| Message {
            message: Hex([number as u8; 16]),
            call: Some(call.call),
            from: *from,
            peer: call.peer.pubkey,
            tier: Tier::Known,
            kind: *kind,
            text: "words".into(),
            file: None,
            at: AT,
            state: MessageState::Delivered,
            reason: None,
            answers: None,
            via: None,
            traceparent: None,
        };
        let messages = said.iter().enumerate().map(message).collect();
        Task { call, messages, beside: Beside::default() }
    }

    #[test]
    fn a_call_stands_as_a_task_does() {
        use MessageKind::{Escalation, Text};
        use Sender::{Me, Peer};
        for (state, end, said, expected) in [
            (CallState::Ringing, None, &[][..], State::Submitted),
            (CallState::Connected, None, &[], State::Working),
            (CallState::Connected, None, &[(Me, Text)], State::Working),
            (CallState::Connected, None, &[(Me, Text), (Peer, Text)], State::InputRequired),
            (CallState::Connected, None, &[(Me, Text), (Peer, Escalation)], State::Working),
            (CallState::Connected, None, &[(Peer, Text), (Me, Text)], State::Working),
            (CallState::Ended, Some(EndReason::Completed), &[(Me, Text), (Peer, Text)], State::Completed),
            (CallState::Ended, Some(EndReason::Rejected), &[], State::Rejected),
            (CallState::Ended, Some(EndReason::Busy), &[], State::Rejected),
            (CallState::Ended, Some(EndReason::Cancelled), &[], State::Canceled),
            (CallState::Ended, Some(EndReason::NoAnswer), &[], State::Failed),
            (CallState::Ended, Some(EndReason::Lost), &[(Me, Text)], State::Failed),
        ] {
            assert_eq!(task(state, end, said).state(), expected, "{state:?} {end:?} {said:?}");
        }
        let mut canceled = task(CallState::Ended, Some(EndReason::Completed), &[]);
        canceled.beside.canceled = true;
        assert_eq!(canceled.state(), State::Canceled);
        let mut waiting = task(CallState::Connected, None, &[(Peer, Text)]);
        waiting.beside.waiting = true;
        assert_eq!(waiting.state(), State::Working, "the agent greets, and was not asked yet");
    }

    #[test]
    fn history_is_as_long_as_was_asked_for_and_artifacts_are_the_agents() {
        let said = [(Sender::Me, MessageKind::Text), (Sender::Peer, MessageKind::Text)];
        let task = task(CallState::Connected, None, &said);
        assert_eq!(task.to_json(None)["history"].as_array().unwrap().len(), 2);
        assert_eq!(task.to_json(Some(0))["history"], json!([]));
        assert_eq!(task.to_json(None)["artifacts"].as_array().unwrap().len(), 1);
        assert_eq!(task.to_json(Some(1))["history"][0]["role"], "ROLE_AGENT");
    }

    #[test]
    fn a_path_is_escaped() {
        assert_eq!(file_url("/a b/ä?#.txt"), "file:///a%20b/%C3%A4%3F%23.txt");
    }
}
