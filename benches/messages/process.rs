//! Copies of this program in other roles: told what to do by lines on their standard input, ended by its end.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use crate::stages;

/// What a receiver tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// When each came.
    Each,
    /// When the last one came.
    Last,
    /// When each came, and at the end the marks of its stages.
    Marks,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::Last => "last",
            Self::Marks => "marks",
        }
    }
}

/// The monotonic clock, which all processes of a machine share, those in other languages too.
pub fn nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Tells the parent a line. A parent that is gone is noticed at the next end of input.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Returns when the parent is done, or gone.
pub fn until_end_of_input() {
    std::io::stdin().lines().for_each(drop);
}

/// Receives what the parent announces (`each N`, `last N`, `marks N`), and tells when it came, until the end of input.
pub fn receive(runtime: &Runtime, mut next: impl AsyncFnMut()) {
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (mode, count) = line.split_once(' ').unwrap();
        let count: usize = count.parse().unwrap();
        stages::listen(mode == "marks");
        for left in (0..count).rev() {
            runtime.block_on(next());
            if mode != "last" || left == 0 {
                say(&nanoseconds().to_string());
            }
        }
        if mode == "marks" {
            say(&serde_json::to_string(&stages::take()).unwrap());
        }
    }
}

/// A copy of this program.
pub struct Child {
    process: std::process::Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Child {
    pub fn spawn(role: &[&str]) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, input, output: BufReader::new(output) }
    }

    /// The next line that it tells.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "a process of the benchmark has ended early");
        line.trim_end().to_owned()
    }

    /// Announces what it is going to receive.
    pub fn receive(&mut self, mode: Mode, count: usize) {
        writeln!(self.input, "{} {count}", mode.word()).unwrap();
    }

    /// When what it was to receive came.
    pub fn time(&mut self) -> u64 {
        self.line().parse().unwrap()
    }

    /// Lets it end, and waits for that.
    pub fn stop(mut self) {
        drop(self.input);
        self.process.wait().unwrap();
    }
}
