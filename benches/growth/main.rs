//! What grows with what: `list` with the agents that are online, a message with the history, `wait` with those who wait,
//! memory and latency with the calls that are up.
//!
//! `cargo bench --bench growth -- [list|history|wait|calls|idle] [--relay URL] [--most N]` prints tables and, as its last line,
//! the same as one JSON object. A URL is that of an independent relay; without it, each part starts an embedded one. The
//! processes are copies of this program; they end when their standard input does. `benches/growth.py` draws the plot.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a benchmark: it talks to who runs it, and stops where it fails"
)]

mod agent;
mod calls;
mod crowd;
mod history;
#[path = "../messages/process.rs"]
#[expect(dead_code, reason = "shared with the other benchmark, which asks for the last time only")]
mod process;
#[path = "../messages/stages.rs"]
#[expect(dead_code, reason = "what `process` takes down where it is asked to")]
mod stages;
mod wait;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use p2p_comm::relay::{self, EmbeddedRelay};
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

use process::{Child, say, until_end_of_input};

/// What is asked for.
pub struct Arguments {
    part: Option<String>,
    relay: Option<String>,
    /// Nothing larger is measured.
    pub most: usize,
}

/// Measures something over a relay, and prints its table.
type Part = fn(&str, &Arguments) -> Value;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["relay"] => serve_relay(),
        ["crowd", url, from, to, ref keep @ ..] => {
            crowd::publish(url, from.parse().unwrap()..to.parse().unwrap(), !keep.is_empty());
        }
        ["daemon", url] => crowd::serve_daemon(url),
        ["callee", url, caller] => calls::serve_callee(url, caller),
        _ => match parse(&words) {
            Some(arguments) => measure(&arguments),
            None => {
                eprintln!("usage: growth [list|history|wait|calls|idle] [--relay URL] [--most N]");
                return ExitCode::from(2);
            }
        },
    }
    ExitCode::SUCCESS
}

fn parse(words: &[&str]) -> Option<Arguments> {
    let mut arguments = Arguments { part: None, relay: None, most: usize::MAX };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--relay" => arguments.relay = Some((*words.next()?).to_owned()),
            "--most" => arguments.most = words.next()?.parse().ok()?,
            "list" | "history" | "wait" | "calls" | "idle" => arguments.part = Some((*word).to_owned()),
            _ => return None,
        }
    }
    Some(arguments)
}

fn measure(arguments: &Arguments) {
    let parts: [(&str, Part); 5] = [
        ("list", crowd::measure),
        ("history", history::measure),
        ("wait", wait::measure),
        ("calls", calls::measure),
        ("idle", crowd::idle),
    ];
    let mut results = Map::from_iter([("bench".to_owned(), "growth".into())]);
    results.insert("relay".into(), arguments.relay.as_deref().unwrap_or("embedded").into());
    for (name, part) in parts {
        // The last one takes minutes: it has to be asked for.
        if arguments.part.as_deref().map_or(name != "idle", |wanted| wanted == name) {
            let relay = arguments.relay.is_none().then(|| Child::spawn(&["relay"]));
            let (relay, url) = match (relay, &arguments.relay) {
                (Some(mut relay), _) => {
                    let url = relay.line();
                    (Some(relay), url)
                }
                (None, url) => (None, url.clone().unwrap_or_default()),
            };
            results.insert(name.to_owned(), part(&url, arguments));
            relay.into_iter().for_each(Child::stop);
        }
    }
    println!("{}", Value::Object(results));
}

fn serve_relay() {
    let runtime = runtime();
    let options = relay::Options { address: ([127, 0, 0, 1], 0).into(), ..relay::Options::default() };
    let relay = runtime.block_on(EmbeddedRelay::start(options)).unwrap();
    say(&relay.url());
    until_end_of_input();
    runtime.block_on(relay.stop());
}

/// The runtime of a daemon.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Resident memory of a process, bytes.
pub fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

/// Milliseconds since then.
pub fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

/// The sample below which this part of them lies.
pub fn quantile(samples: &mut [f64], part: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[((samples.len() - 1) as f64 * part).round() as usize]
}

/// Three digits behind the point are more than is meant.
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Prints a row: a name of what grows, and figures.
pub fn row(name: &str, figures: &[String]) {
    println!("{name:<34}{}", figures.iter().map(|figure| format!("{figure:>16}")).collect::<String>());
}

/// Prints the head of a table.
pub fn head(title: &str, columns: &[&str]) {
    println!();
    row(title, &columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>());
}
