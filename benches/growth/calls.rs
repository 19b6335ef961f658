//! Calls that are up at once between two daemons: what each costs in memory, and what they do to the latency of one.

use std::time::Instant;

use p2p_comm::api::EventKind;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::process::{Child, Mode, nanoseconds, receive, say};
use crate::{Arguments, head, ms, quantile, resident, rounded, row, runtime};

const SIZES: [usize; 4] = [1, 10, 100, 1_000];
const MESSAGES: usize = 300;

pub fn measure(url: &str, arguments: &Arguments) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let _guard = runtime.enter();
    let alice = Agent::start(folder.path(), "alice", url);
    let mut bob = Child::spawn(&["callee", url, &alice.key()]);
    let (pid, key): (u32, String) = (bob.line().parse().unwrap(), bob.line());
    let mut calls = vec![runtime.block_on(alice.call(&key))];
    let bare = [resident(std::process::id()), resident(pid)];
    head("calls up", &["set up, ms each", "latency p50 ms", "p99 ms", "caller KiB each", "callee KiB each"]);
    let mut rows = Vec::new();
    for size in SIZES.into_iter().filter(|size| *size <= arguments.most) {
        let begun = Instant::now();
        let new = size - calls.len();
        while calls.len() < size {
            calls.push(runtime.block_on(alice.call(&key)));
        }
        let set_up = if new > 0 { ms(begun) / new as f64 } else { 0.0 };
        let memory = [resident(std::process::id()), resident(pid)];
        let each =
            [0, 1].map(|side| memory[side].saturating_sub(bare[side]) as f64 / 1_024.0 / new.max(1) as f64);
        bob.receive(Mode::Each, MESSAGES);
        let mut latencies: Vec<f64> = (0..MESSAGES)
            .map(|number| {
                let begun = nanoseconds();
                runtime.block_on(alice.say(calls[number * 7 % calls.len()]));
                (bob.time() - begun) as f64 / 1e6
            })
            .collect();
        let (p50, p99) = (quantile(&mut latencies, 0.5), quantile(&mut latencies, 0.99));
        row(
            &size.to_string(),
            &[
                format!("{set_up:.1}"),
                format!("{p50:.2}"),
                format!("{p99:.2}"),
                format!("{:.1}", each[0]),
                format!("{:.1}", each[1]),
            ],
        );
        rows.push(json!({
            "calls": size, "set_up_ms": rounded(set_up), "p50_ms": rounded(p50), "p99_ms": rounded(p99),
            "caller_kib_each": rounded(each[0]), "callee_kib_each": rounded(each[1]),
        }));
    }
    runtime.block_on(alice.engine.stop());
    bob.stop();
    rows.into()
}

/// The other daemon's process: takes every call of this key, and tells when messages come.
pub fn serve_callee(url: &str, caller: &str) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let _guard = runtime.enter();
    let bob = Agent::start(folder.path(), "bob", url);
    runtime.block_on(bob.knows("alice", caller));
    say(&std::process::id().to_string());
    say(&bob.key());
    receive(&runtime, async || bob.event(EventKind::MessageReceived).await);
    runtime.block_on(bob.engine.stop());
}
