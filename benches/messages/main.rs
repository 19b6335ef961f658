//! How long a message takes from one agent to another, and how many go through, beside what the same machine needs
//! for the same bytes without us: one `fdatasync`, one WebSocket frame through a forwarder that does nothing else.
//!
//! ```text
//!  this process                 relay: a process                peer: a process
//!  ┌───────────────────┐        (or any, by its URL)            ┌───────────────────┐
//!  │ engine of "alice" │ ─────────────▶ ○ ────────────────────▶ │ engine of "bob"   │
//!  │ clock             │ ◀──────────────── a line on stdout ─── │ waits, tells when │
//!  └───────────────────┘                                        └───────────────────┘
//! ```
//!
//! `cargo bench --bench messages -- [--relay URL] [--messages N] [--burst N]` prints a table and, as its last line, the
//! same as one JSON object. The processes are copies of this program; they end when their standard input does. Homes
//! and the file of the disk's measurement are made in `TMPDIR`, which should be on a disk.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a benchmark: it talks to who runs it, and stops where it fails"
)]

mod agent;
mod figures;
mod machine;
mod process;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use p2p_comm::relay::{self, EmbeddedRelay};
use serde_json::json;
use tokio::runtime::Runtime;

use agent::Agent;
use figures::{Spread, Table, per_second};
use machine::{Limits, Machine};
use process::{Child, Mode, nanoseconds, say, until_end_of_input};

/// What an agent says: two sentences.
pub(crate) const TEXT_BYTES: usize = 200;
/// Messages of each measurement of a latency.
const MESSAGES: usize = 1_000;
/// Messages of the stream. A link queues 4,096 events; the legacy dialect lets 30,000 go ahead of its clock.
const BURST: usize = 4_000;
/// Around what is measured alone: long enough that nothing of what was before is under way.
const PAUSE: Duration = Duration::from_millis(5);

struct Arguments {
    relay: Option<String>,
    messages: usize,
    burst: usize,
}

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["relay"] => serve_relay(),
        ["peer", url] => agent::serve_peer(url),
        ["forwarder"] => machine::serve_forwarder(),
        ["sink", address] => machine::serve_sink(address),
        _ => match parse(&words) {
            Some(arguments) => measure(&arguments),
            None => {
                eprintln!("usage: messages [--relay URL] [--messages N] [--burst N]");
                return ExitCode::from(2);
            }
        },
    }
    ExitCode::SUCCESS
}

fn parse(words: &[&str]) -> Option<Arguments> {
    let mut arguments = Arguments { relay: None, messages: MESSAGES, burst: BURST };
    for pair in words.chunks(2) {
        match pair {
            ["--relay", url] => arguments.relay = Some((*url).to_owned()),
            ["--messages", count] => arguments.messages = count.parse().ok()?,
            ["--burst", count] => arguments.burst = count.parse().ok()?,
            _ => return None,
        }
    }
    Some(arguments)
}

/// The runtime of a daemon.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn serve_relay() {
    let runtime = runtime();
    let options = relay::Options { address: ([127, 0, 0, 1], 0).into(), ..relay::Options::default() };
    let relay = runtime.block_on(EmbeddedRelay::start(options)).unwrap();
    say(&relay.url());
    until_end_of_input();
    runtime.block_on(relay.stop());
}

fn measure(arguments: &Arguments) {
    let (own_relay, url) = match &arguments.relay {
        Some(url) => (None, url.clone()),
        None => {
            let mut relay = Child::spawn(&["relay"]);
            let url = relay.line();
            (Some(relay), url)
        }
    };
    let mut machine = Machine::start(arguments.messages);
    let mut pair = Pair::connect(&url);
    let alone = pair.latencies(arguments.messages, || {
        // Between two messages, so that a busy moment of the machine hits its figures and ours alike.
        sleep(PAUSE);
        machine.look();
        sleep(PAUSE);
    });
    let next = pair.latencies(arguments.messages, || {});
    let awaiting = pair.one_caller(arguments.messages);
    let stream = pair.stream(arguments.burst);
    pair.stop();
    let limits = machine.stop();
    if let Some(relay) = own_relay {
        relay.stop();
    }
    let relay = if arguments.relay.is_some() { url } else { "embedded".to_owned() };
    report(&relay, arguments, &limits, [alone, next], awaiting, stream);
}

/// Two agents in a connected call, one of them in another process.
struct Pair {
    runtime: Runtime,
    alice: Agent,
    bob: Child,
}

impl Pair {
    fn connect(url: &str) -> Self {
        let mut bob = Child::spawn(&["peer", url]);
        let key = bob.line();
        let runtime = runtime();
        let alice = runtime.block_on(async {
            let alice = Agent::start("alice", url);
            alice.call(&key).await;
            alice
        });
        assert_eq!(bob.line(), "connected");
        Self { runtime, alice, bob }
    }

    /// From `send` to the other's `wait`, one message at a time.
    fn latencies(&mut self, count: usize, mut pause: impl FnMut()) -> Spread {
        self.bob.receive(Mode::Each, count);
        let mut samples = Vec::with_capacity(count);
        for _ in 0..count {
            let begun = nanoseconds();
            self.runtime.block_on(self.alice.say());
            samples.push(self.bob.time() - begun);
            pause();
        }
        self.settle();
        Spread::of(samples)
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
    fn stream(&mut self, count: usize) -> (f64, f64) {
        self.bob.receive(Mode::Last, count);
        let begun = nanoseconds();
        self.runtime.block_on(self.alice.say_all(count));
        let committed = nanoseconds() - begun;
        let arrived = self.bob.time() - begun;
        (per_second(count, committed), per_second(count, arrived))
    }

    /// Returns when a relay has taken all there is, so that one measurement does not run into the next.
    fn settle(&self) {
        self.runtime.block_on(self.alice.relayed());
    }

    fn stop(self) {
        self.runtime.block_on(self.alice.stop());
        self.bob.stop();
    }
}

fn report(
    relay: &str,
    arguments: &Arguments,
    limits: &Limits,
    [alone, next]: [Spread; 2],
    awaiting: f64,
    (committed, arrived): (f64, f64),
) {
    let Limits { frame_bytes, append, in_place, forward, frames } = limits;
    // No message is there sooner than it was written twice and passed on once.
    let floor = 2.0 * append.p50 + forward.p50;
    let of_floor = |latency: &Spread| latency.p50 / floor;
    // One caller cannot commit faster than the disk says that it has.
    let of_disk = 1e6 / append.p50 / awaiting;
    let of_frames = frames / arrived;

    let mut table = Table::new(
        &format!("messages of {TEXT_BYTES} bytes, relay {relay}"),
        ["p50 µs", "p99 µs", "a second"],
    );
    table.spread("fdatasync of 4 KiB appended", append);
    table.spread("fdatasync of 4 KiB in place", in_place);
    table.spread(&format!("a frame of {frame_bytes} bytes forwarded"), forward);
    table.rate("such frames, all at once", *frames);
    table.spread("message alone, durable on both sides", &alone);
    table.spread("message after message", &next);
    table.rate("commits of one caller that awaits each", awaiting);
    table.rate(&format!("{} at once: committed", arguments.burst), committed);
    table.rate(&format!("{} at once: arrived", arguments.burst), arrived);
    table.ratio("message alone ÷ (2 fdatasync + 1 frame)", of_floor(&alone));
    table.ratio("message after message ÷ the same", of_floor(&next));
    table.ratio("fdatasyncs a second ÷ awaited commits", of_disk);
    table.ratio("frames forwarded a second ÷ arrived", of_frames);
    table.print();

    let results = json!({
        "bench": "messages",
        "relay": relay,
        "text_bytes": TEXT_BYTES,
        "frame_bytes": frame_bytes,
        "messages": arguments.messages,
        "burst": arguments.burst,
        "fdatasync_append_us": append,
        "fdatasync_in_place_us": in_place,
        "forward_us": forward,
        "forwarded_per_s": frames.round(),
        "alone_us": alone,
        "after_each_other_us": next,
        "awaited_commits_per_s": awaiting.round(),
        "committed_per_s": committed.round(),
        "arrived_per_s": arrived.round(),
        "ratios": {
            "alone_to_floor": of_floor(&alone),
            "after_each_other_to_floor": of_floor(&next),
            "fdatasync_to_awaited_commits": of_disk,
            "forwarded_to_arrived": of_frames,
        },
    });
    println!("{results}");
}
