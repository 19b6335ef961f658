//! Contenders of `benches/table.py` in Rust, each a process that measures what it is told on its standard input and
//! answers a JSON object a line:
//!
//! ```text
//!  raw                what the same machine needs for the same bytes without us: one WebSocket frame through a process
//!                     that only forwards it, one `fdatasync`
//!  engine URL full|os two engines without Python in front of them:
//!
//!  this process                 relay at URL                    peer: a process
//!  ┌───────────────────┐                                        ┌───────────────────┐
//!  │ engine of "alice" │ ─────────────▶ ○ ────────────────────▶ │ engine of "bob"   │
//!  │ clock             │ ◀──────────────── a line on stdout ─── │ waits, tells when │
//!  └───────────────────┘                                        └───────────────────┘
//! ```
//!
//! Commands: `alone N`, `awaited N`, `burst N`, `stages N`, `disk N`; the end of the input is the end. The processes are
//! copies of this program. Homes and the files of the disk's measurement are made in `TMPDIR`, which should be on a disk.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a benchmark: it talks to who runs it, and stops where it fails"
)]

mod agent;
mod machine;
mod process;
mod stages;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use p2p_comm::proto::Durability;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use agent::Agent;
use machine::Machine;
use process::{Child, Mode, nanoseconds, say};

/// What an agent says: two sentences.
pub(crate) const TEXT_BYTES: usize = 200;
/// Around what is measured alone: long enough that nothing of what was before is under way.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let durability = |word| Durability::from_word(word).unwrap();
    match words[..] {
        ["raw"] => obey_raw(),
        ["engine", url, word] => obey_engine(url, durability(word)),
        ["peer", url, word] => agent::serve_peer(url, durability(word)),
        ["forwarder"] => machine::serve_forwarder(),
        ["sink", address] => machine::serve_sink(address),
        _ => {
            eprintln!("usage: messages raw | engine URL full|os; then commands on standard input");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// The runtime of a daemon.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// How many a second, if so many took so many nanoseconds.
pub(crate) fn per_second(count: usize, nanoseconds: u64) -> f64 {
    count as f64 / (nanoseconds as f64 / 1e9)
}

/// Carries out commands until the end of the input.
fn obey(mut carry_out: impl FnMut(&str, usize) -> Value) {
    say(&json!({ "ready": true }).to_string());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let mut words = line.split(' ');
        let (verb, count) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        say(&carry_out(verb, count).to_string());
    }
}

fn obey_raw() {
    let mut machine = Machine::start();
    obey(|verb, count| match verb {
        "alone" => json!({ "arrived": machine.alone(count) }),
        "burst" => {
            let rate = machine.burst(count);
            json!({ "taken_per_s": rate, "arrived_per_s": rate })
        }
        "disk" => {
            let [append, in_place] = machine.disk(count);
            json!({ "append": append, "in_place": in_place })
        }
        _ => unknown(verb),
    });
    machine.stop();
}

fn obey_engine(url: &str, durability: Durability) {
    let mut pair = Pair::connect(url, durability);
    obey(|verb, count| match verb {
        "alone" => {
            json!({ "arrived": pair.latencies(Mode::Each, count).iter().map(|(asked, came)| came - asked).collect::<Vec<_>>() })
        }
        "awaited" => json!({ "per_s": pair.one_caller(count) }),
        "burst" => {
            let (taken, arrived) = pair.burst(count);
            json!({ "taken_per_s": taken, "arrived_per_s": arrived })
        }
        "stages" => pair.stages(count),
        _ => unknown(verb),
    });
    pair.stop();
}

fn unknown(verb: &str) -> Value {
    json!({ "error": format!("there is no {verb} here") })
}

/// Two agents in a connected call, one of them in another process.
struct Pair {
    runtime: Runtime,
    alice: Agent,
    bob: Child,
}

impl Pair {
    fn connect(url: &str, durability: Durability) -> Self {
        let mut bob = Child::spawn(&["peer", url, durability.word()]);
        let key = bob.line();
        let runtime = runtime();
        let alice = runtime.block_on(async {
            let alice = Agent::start("alice", url, durability);
            alice.call(&key).await;
            alice
        });
        assert_eq!(bob.line(), "connected");
        Self { runtime, alice, bob }
    }

    /// From `send` to the other's `wait`, one message at a time: when it was asked, and when it came.
    fn latencies(&mut self, mode: Mode, count: usize) -> Vec<(u64, u64)> {
        self.bob.receive(mode, count);
        let mut samples = Vec::with_capacity(count);
        for _ in 0..count {
            let asked = nanoseconds();
            self.runtime.block_on(self.alice.say());
            samples.push((asked, self.bob.time()));
            sleep(PAUSE);
        }
        self.settle();
        samples
    }

    /// The same, stage by stage.
    fn stages(&mut self, count: usize) -> Value {
        stages::listen(true);
        let times = self.latencies(Mode::Marks, count);
        let theirs: Vec<stages::Mark> = serde_json::from_str(&self.bob.line()).unwrap();
        stages::ways(&times, &stages::take(), &theirs)
    }

    /// Commits of a caller that waits for each before the next, per second.
    fn one_caller(&mut self, count: usize) -> f64 {
        self.bob.receive(Mode::Last, count);
        let begun = nanoseconds();
        for _ in 0..count {
            self.runtime.block_on(self.alice.say());
        }
        let taken = nanoseconds() - begun;
        self.bob.time();
        self.settle();
        per_second(count, taken)
    }

    /// Everything submitted at once: commits and arrivals per second.
    fn burst(&mut self, count: usize) -> (f64, f64) {
        self.bob.receive(Mode::Last, count);
        let begun = nanoseconds();
        self.runtime.block_on(self.alice.say_all(count));
        let committed = nanoseconds() - begun;
        let arrived = self.bob.time() - begun;
        self.settle();
        (per_second(count, committed), per_second(count, arrived))
    }

    /// Returns when the peer has all there is, so that one measurement does not run into the next.
    fn settle(&self) {
        self.runtime.block_on(self.alice.delivered());
    }

    fn stop(self) {
        self.runtime.block_on(self.alice.stop());
        self.bob.stop();
    }
}
