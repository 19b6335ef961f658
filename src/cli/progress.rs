//! How far a file has come, for whoever waits for it: one line that changes on a terminal, one JSON line a second otherwise.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Printer;
use crate::api::{Progress, to_json};
use crate::proto::MessageId;

/// How often a program is told.
const EVERY: Duration = Duration::from_secs(1);
/// Characters of the bar.
const WIDTH: u64 = 30;

/// What was shown of a file.
pub(super) struct Shown {
    json: bool,
    bar: bool,
    message: MessageId,
    told_at: Option<Instant>,
}

#[derive(Serialize)]
struct Line<'a> {
    progress: Of<'a>,
}

#[derive(Serialize)]
struct Of<'a> {
    message: MessageId,
    #[serde(flatten)]
    progress: &'a Progress,
}

impl Shown {
    pub(super) fn begin(printer: &Printer, message: MessageId) -> Self {
        let bar = !printer.is_json() && io::stderr().is_terminal();
        Self { json: printer.is_json(), bar, message, told_at: None }
    }

    pub(super) fn tell(&mut self, progress: &Progress) {
        // Nobody who looks is no failure, here and below.
        if self.bar {
            self.told_at = Some(Instant::now());
            let _ = write!(io::stderr().lock(), "\r\x1b[K{}", bar(progress));
        } else if self.json && self.told_at.is_none_or(|at| at.elapsed() >= EVERY) {
            self.told_at = Some(Instant::now());
            if let Ok(line) = to_json(&Line { progress: Of { message: self.message, progress } }) {
                let _ = writeln!(io::stderr().lock(), "{line}");
            }
        }
    }

    /// Makes place for the result.
    pub(super) fn end(&mut self) {
        if self.bar && self.told_at.is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn bar(progress: &Progress) -> String {
    let Progress { done, size, bytes_per_s, left_s } = progress;
    let of = (*size).max(1);
    let full = u128::from(*done).min(u128::from(of));
    let blocks = (full * u128::from(WIDTH) / u128::from(of)) as usize;
    let percent = full * 100 / u128::from(of);
    let left = left_s.map_or_else(String::new, |left| format!(", {} left", minutes(left)));
    format!(
        "[{}{}] {percent:3} %  {:.1} MB/s{left}",
        "#".repeat(blocks),
        ".".repeat(WIDTH as usize - blocks),
        bytes_per_s / 1e6
    )
}

fn minutes(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_much_how_fast_and_how_long() {
        let half = Progress::new(50_000_000, 100_000_000, 2_000_000.0);
        assert_eq!(bar(&half), "[###############...............]  50 %  2.0 MB/s, 25 s left");
        assert_eq!(bar(&Progress::new(0, 0, 0.0)), format!("[{}]   0 %  0.0 MB/s", ".".repeat(30)));
        assert_eq!((minutes(61.0), minutes(3_661.0)), ("1:01 min".into(), "1:01 h".into()));
    }
}
