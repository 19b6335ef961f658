//! What waits for an agent, in words that nobody else has chosen.

use std::collections::BTreeMap;

use crate::api::{Event, EventKind};
use crate::home::Home;
use crate::proto::text::shell_word;

/// What an agent is woken for: what it has to answer or to know, no receipts and nothing that is over by itself.
pub const KINDS: [EventKind; 12] = [
    EventKind::CallRinging,
    EventKind::CallMissed,
    EventKind::CallConnected,
    EventKind::CallRejected,
    EventKind::CallEnded,
    EventKind::MessageReceived,
    EventKind::MessageFailed,
    EventKind::FileReceived,
    EventKind::FileFailed,
    EventKind::EscalationReceived,
    EventKind::EscalationAnswered,
    EventKind::ContactKeyChanged,
];

/// What a wake is repeated for: it is open until somebody deals with it. The rest is told once, since nothing that an agent
/// does for its own reasons would show that it knows.
const OPEN: [EventKind; 5] = [
    EventKind::CallRinging,
    EventKind::MessageReceived,
    EventKind::FileReceived,
    EventKind::EscalationReceived,
    EventKind::EscalationAnswered,
];

/// How much of what nobody has taken yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waits {
    counts: BTreeMap<&'static str, (u64, &'static str)>,
    newest: u64,
    is_open: bool,
}

impl Waits {
    /// Most events that are counted: the number is for a model, and costs a look each.
    pub const LIMIT: usize = 50;

    /// Counts one more.
    pub fn count(&mut self, event: &Event) {
        let (one, many) = words(event.kind);
        let count = self.counts.entry(one).or_insert((0, many));
        count.0 += 1;
        self.newest = self.newest.max(event.cursor);
        self.is_open |= OPEN.contains(&event.kind);
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Something is among it that a wake is repeated for.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The cursor of the newest that was counted.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// One line for a model: numbers, and the command that shows the rest.
    pub fn say(&self, home: &Home) -> String {
        let total: u64 = self.counts.values().map(|(count, _)| count).sum();
        let parts = self.counts.iter().map(|(one, (count, many))| match count {
            1 => format!("1 {one}"),
            count => format!("{count} {many}"),
        });
        let more = if total >= Self::LIMIT as u64 { " or more" } else { "" };
        format!(
            "p2p-comm: something waits for you ({}{more}). To see it, run: {} inbox",
            parts.collect::<Vec<_>>().join(", "),
            program(home)
        )
    }
}

/// The program, with the home if it is not the usual one: whoever is woken may have another environment.
fn program(home: &Home) -> String {
    match home.is_usual() {
        true => "p2p-comm".to_owned(),
        false => format!("p2p-comm --home {}", shell_word(&home.path().display().to_string())),
    }
}

fn words(kind: EventKind) -> (&'static str, &'static str) {
    match kind {
        EventKind::CallRinging => ("call that rings", "calls that ring"),
        EventKind::CallMissed => ("missed call", "missed calls"),
        EventKind::CallConnected | EventKind::CallRejected | EventKind::CallEnded => {
            ("change of a call", "changes of calls")
        }
        EventKind::MessageReceived => ("message", "messages"),
        EventKind::FileReceived => ("file", "files"),
        EventKind::MessageFailed | EventKind::FileFailed => {
            ("message that did not arrive", "messages that did not arrive")
        }
        EventKind::EscalationReceived => ("question to a peer's owner", "questions to peers' owners"),
        EventKind::EscalationAnswered => ("answer of your owner", "answers of your owner"),
        EventKind::ContactKeyChanged => ("changed key", "changed keys"),
        _ => ("event", "events"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wake::event;

    #[test]
    fn a_wake_counts_and_says_where_to_look() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("it's a home"))).unwrap();
        let mut waits = Waits::default();
        assert!(waits.is_empty());
        waits.count(&event(2, EventKind::CallEnded));
        assert!(!waits.is_open(), "it is told once");
        let mut waits = Waits::default();
        waits.count(&event(9, EventKind::MessageReceived));
        waits.count(&event(3, EventKind::CallRinging));
        waits.count(&event(4, EventKind::MessageReceived));
        assert!(waits.is_open());
        assert_eq!(waits.newest(), 9);
        let place = home.path().display().to_string().replace('\'', r"'\''");
        assert_eq!(
            waits.say(&home),
            format!(
                "p2p-comm: something waits for you (1 call that rings, 2 messages). \
                 To see it, run: p2p-comm --home '{place}' inbox"
            )
        );
    }
}
