//! Where the time of a message goes: the marks of `src/stage.rs`, taken down with their times in both processes, and put
//! together into one way from the caller to the other side's.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use p2p_comm::stage::TARGET;
use serde_json::{Map, Value, json};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::process::nanoseconds;

/// A mark, and when it was made.
pub type Mark = (String, u64);

static LISTENING: AtomicBool = AtomicBool::new(false);
static MARKS: Mutex<Vec<(&'static str, u64)>> = Mutex::new(Vec::new());

/// The way of a message: at whose side, the mark, and what was done since the mark before it.
const WAY: [(Side, &str, &str); 13] = [
    (Side::Sender, "batch", "the engine wakes up"),
    (Side::Sender, "handled", "rows are written"),
    (Side::Sender, "committed", "commit"),
    (Side::Sender, "sealed", "reply to the caller, frame built, sealed, signed"),
    (Side::Sender, "written", "handed to the link, written to the socket"),
    (Side::Receiver, "read", "relay, and two sockets"),
    (Side::Receiver, "verified", "parsed, hashed, signature verified"),
    (Side::Receiver, "batch", "the engine wakes up"),
    (Side::Receiver, "opened", "decrypted"),
    (Side::Receiver, "handled", "rows are written"),
    (Side::Receiver, "committed", "commit"),
    (Side::Receiver, "answered", "read back for who waits"),
    (Side::Receiver, "", "surfaced: the caller wakes up"),
];

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Sender,
    Receiver,
}

/// Takes down marks and nothing else.
struct Listener(AtomicU64);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET
    }

    fn event(&self, event: &Event<'_>) {
        if LISTENING.load(Ordering::Relaxed) {
            let mark = (event.metadata().name(), nanoseconds());
            MARKS.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Begins or ends to take down marks.
pub fn listen(does: bool) {
    if does {
        // Only the first time; from then on a mark costs a lock.
        let _ = tracing::subscriber::set_global_default(Listener(AtomicU64::new(1)));
    }
    LISTENING.store(does, Ordering::Relaxed);
}

/// What was taken down.
pub fn take() -> Vec<Mark> {
    LISTENING.store(false, Ordering::Relaxed);
    let marks = std::mem::take(&mut *MARKS.lock().unwrap_or_else(PoisonError::into_inner));
    marks.into_iter().map(|(name, at)| (name.to_owned(), at)).collect()
}

/// Nanoseconds of each stage, of each message that was asked and came at these times.
pub fn ways(times: &[(u64, u64)], sender: &[Mark], receiver: &[Mark]) -> Value {
    let mut stages: Vec<Vec<u64>> = vec![Vec::new(); WAY.len()];
    for (asked, came) in times {
        let mut at = *asked;
        let mut taken = Vec::with_capacity(WAY.len());
        for (side, name, _) in WAY {
            let marks = if side == Side::Sender { sender } else { receiver };
            let next = match name {
                "" => Some(*came),
                name => marks.iter().find(|(mark, when)| mark == name && *when >= at).map(|mark| mark.1),
            };
            let Some(next) = next.filter(|next| *next <= *came) else { break };
            taken.push(next - at);
            at = next;
        }
        // A batch that was under way when the message was submitted has its marks before it.
        if taken.len() == WAY.len() {
            stages.iter_mut().zip(taken).for_each(|(all, one)| all.push(one));
        }
    }
    let rows = WAY.iter().zip(stages).enumerate().map(|(place, ((side, _, what), taken))| {
        let side = if *side == Side::Sender { "sender" } else { "receiver" };
        (format!("{place:02} {side}: {what}"), json!(taken))
    });
    Value::Object(rows.collect::<Map<_, _>>())
}
