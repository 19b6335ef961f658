//! A message, from `send` to the other side's `wait`, against the number of those who wait there for something else;
//! and against the number of those who all wait for it.

use std::time::Instant;

use futures_util::future::join_all;
use p2p_comm::api::{Command, EventKind, WaitReply};
use serde_json::{Value, json};

use crate::agent::{Agent, LONG_S};
use crate::{Arguments, head, ms, quantile, rounded, row, runtime};

const SIZES: [usize; 4] = [1, 10, 100, 1_000];
const MESSAGES: usize = 200;
/// Rounds in which everybody waits for the same.
const ROUNDS: usize = 10;

pub fn measure(url: &str, arguments: &Arguments) -> Value {
    let (home_a, home_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = runtime();
    let _guard = runtime.enter();
    let (alice, bob) = (Agent::start(home_a.path(), "alice", url), Agent::start(home_b.path(), "bob", url));
    let call = runtime.block_on(async {
        bob.knows("alice", &alice.key()).await;
        alice.call(&bob.key()).await
    });
    head("wait, subscribers", &["of others p50 ms", "p99 ms", "of it, µs each"]);
    let mut rows = Vec::new();
    for size in SIZES.into_iter().filter(|size| *size <= arguments.most) {
        let (mut latencies, each) = runtime.block_on(async {
            let others: Vec<_> = join_all((0..size).map(|_| {
                // None of these comes.
                bob.handle.submit(wait(None, vec![EventKind::CallMissed, EventKind::FileReceived]))
            }))
            .await;
            bob.skip().await;
            let mut latencies = Vec::with_capacity(MESSAGES);
            for _ in 0..MESSAGES {
                let begun = Instant::now();
                alice.say(call).await;
                bob.event(EventKind::MessageReceived).await;
                latencies.push(ms(begun));
            }
            drop(others);
            let mut taken = 0.0;
            for _ in 0..ROUNDS {
                let all: Vec<_> =
                    join_all((0..size).map(|_| {
                        bob.handle.submit(wait(Some(bob.place()), vec![EventKind::MessageReceived]))
                    }))
                    .await;
                let begun = Instant::now();
                alice.say(call).await;
                for waiting in all {
                    let reply: WaitReply = waiting.unwrap().reply().await.unwrap().try_into().unwrap();
                    assert!(reply.event.is_some());
                }
                taken += ms(begun);
                bob.event(EventKind::MessageReceived).await;
            }
            (latencies, taken * 1e3 / (ROUNDS * size) as f64)
        });
        let (p50, p99) = (quantile(&mut latencies, 0.5), quantile(&mut latencies, 0.99));
        row(&size.to_string(), &[format!("{p50:.2}"), format!("{p99:.2}"), format!("{each:.0}")]);
        rows.push(json!({
            "subscribers": size, "others_p50_ms": rounded(p50), "others_p99_ms": rounded(p99),
            "same_us_each": rounded(each),
        }));
    }
    runtime.block_on(async { tokio::join!(alice.engine.stop(), bob.engine.stop()) });
    rows.into()
}

fn wait(after: Option<u64>, kinds: Vec<EventKind>) -> Command {
    let after = Some(after.unwrap_or_default());
    Command::Wait { consumer: None, after, call: None, kinds, ahead: 0, timeout_s: LONG_S }
}
