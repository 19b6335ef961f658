//! A message against the number of those before it, in the same call: sent, received, and what looks at them.

use std::path::Path;
use std::time::Instant;

use p2p_comm::api::{Command, EventKind, Inbox, Messages, Status};
use p2p_comm::home::Home;
use p2p_comm::proto::{CallId, Hex, MessageKind, MessageState, Millis, PublicKey, Sender};
use p2p_comm::store::{NewEvent, NewMessage, Store};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::agent::Agent;
use crate::{Arguments, head, ms, quantile, rounded, row, runtime};

const SIZES: [usize; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
const MESSAGES: usize = 200;
/// Rows in one transaction.
const AT_ONCE: usize = 10_000;

pub fn measure(url: &str, arguments: &Arguments) -> Value {
    let (home_a, home_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = runtime();
    let _guard = runtime.enter();
    let alice = Agent::start(home_a.path(), "alice", url);
    let bob = Agent::start(home_b.path(), "bob", url);
    let peer = bob.engine.public_key();
    let call = runtime.block_on(async {
        bob.knows("alice", &alice.key()).await;
        let call = alice.call(&bob.key()).await;
        alice.engine.stop().await;
        call
    });
    head(
        "history, messages",
        &["send p50 ms", "round trip p50", "p99 ms", "status ms", "messages ms", "inbox ms"],
    );
    let (mut rows, mut there) = (Vec::new(), 0);
    for size in SIZES.into_iter().filter(|size| *size <= arguments.most) {
        fill(home_a.path(), &call, &peer, there, size);
        there = size;
        rows.push(at(size, home_a.path(), url, call, &bob, &runtime));
    }
    runtime.block_on(bob.engine.stop());
    rows.into()
}

/// Starts the agent that has so much behind it, and measures.
fn at(size: usize, folder: &Path, url: &str, call: CallId, bob: &Agent, runtime: &Runtime) -> Value {
    let alice = Agent::start(folder, "alice", url);
    let theirs = runtime.block_on(async {
        let status: Status = bob.ask(Command::Status {}).await;
        status.calls[0].call
    });
    let figures = runtime.block_on(async {
        alice.skip().await;
        bob.skip().await;
        // The first one waits for the new handshake.
        alice.say(call).await;
        bob.event(EventKind::MessageReceived).await;
        let (mut sends, mut rounds) = (Vec::new(), Vec::new());
        for _ in 0..MESSAGES {
            let begun = Instant::now();
            alice.say(call).await;
            sends.push(ms(begun));
            bob.event(EventKind::MessageReceived).await;
            bob.say(theirs).await;
            alice.event(EventKind::MessageReceived).await;
            rounds.push(ms(begun));
        }
        let begun = Instant::now();
        alice.ask::<Status>(Command::Status {}).await;
        let status = ms(begun);
        let begun = Instant::now();
        alice.ask::<Messages>(Command::Messages { call: None, unread: false, limit: 100 }).await;
        let messages = ms(begun);
        let begun = Instant::now();
        alice.ask::<Inbox>(Command::Inbox {}).await;
        let figures = [
            quantile(&mut sends, 0.5),
            quantile(&mut rounds, 0.5),
            quantile(&mut rounds, 0.99),
            status,
            messages,
            ms(begun),
        ];
        alice.engine.stop().await;
        figures
    });
    row(&size.to_string(), &figures.map(|figure| format!("{figure:.2}")));
    let [send, round, round_p99, status, messages, inbox] = figures.map(rounded);
    json!({
        "rows": size, "send_p50_ms": send, "round_p50_ms": round, "round_p99_ms": round_p99,
        "status_ms": status, "messages_ms": messages, "inbox_ms": inbox,
    })
}

/// Writes messages of both sides, read by both, and their events, as they stand after a long call.
fn fill(folder: &Path, call: &CallId, peer: &PublicKey, from: usize, to: usize) {
    let home = Home::open(Some(folder)).unwrap();
    let mut store = Store::open(&home.database()).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let at = Millis(now.as_millis() as u64 - 3_600_000);
    for first in (from..to).step_by(AT_ONCE) {
        store.begin().unwrap();
        for number in first..to.min(first + AT_ONCE) {
            let mut id = Hex([7; 16]);
            id.0[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let mine = number % 2 == 0;
            let message = NewMessage {
                message: id,
                call: Some(*call),
                peer: *peer,
                sender: if mine { Sender::Me } else { Sender::Peer },
                kind: MessageKind::Text,
                text: "x".repeat(200),
                file: None,
                at,
                state: if mine { MessageState::Delivered } else { MessageState::Received },
                seq: None,
            };
            let row = store.add_message(&message).unwrap();
            if !mine {
                store.mark_read(&id, at).unwrap();
            }
            let kind = if mine { EventKind::MessageDelivered } else { EventKind::MessageReceived };
            let event = NewEvent {
                kind,
                at,
                call: Some(*call),
                message: row,
                ticket: None,
                detail: None,
                own: false,
            };
            store.add_event(&event).unwrap();
        }
        store.commit().unwrap();
    }
}
