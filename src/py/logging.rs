//! Records of the engine that this process hosts, for Python's `logging` (`docs/observability.md`).
//!
//! ```text
//! any thread ── event, if its level is wanted ──▶ bounded queue ──▶ one thread of its own ── takes the GIL ──▶ sink
//! ```
//!
//! * No thread that logs waits for Python: what does not fit into the queue is dropped, and counted.
//! * What is not wanted costs what a disabled record of `tracing` costs: an atomic load.
//! * A handler may do what it likes, also use an `Agent`: replies come by another thread.
//! * The thread ends in the `atexit` hook, before the interpreter does.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::proto::text::{beginning, printable};

/// Records that wait for Python. A handler that takes a millisecond keeps up with a thousand a second.
const QUEUE: usize = 1_024;
/// Longest message, bytes: a record is for reading.
const MESSAGE_LIMIT: usize = 8 * 1_024;
/// How long the thread may take to hand over what is left when the interpreter exits.
const STOP_WITHIN: Duration = Duration::from_secs(1);
/// Whose records are passed on.
const OURS: &str = "p2p_comm";

/// What Python is told.
enum Line {
    Record { level: u8, target: &'static str, message: String },
    Stop(SyncSender<()>),
}

/// The way to the thread that tells it. There is one for the process, from the first agent on.
struct Log {
    lines: SyncSender<Line>,
    level: reload::Handle<Targets, tracing_subscriber::Registry>,
    pid: u32,
}

static LOG: OnceLock<Option<Log>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// What is called with each record.
static SINK: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

/// Passes records of at least this level of Python's on to `sink(level, target, message)`, from now on.
///
/// Returns whether it does: a process that has a subscriber of its own for `tracing` keeps it.
#[pyfunction]
pub(super) fn forward_log(py: Python<'_>, level: u8, sink: Py<PyAny>) -> bool {
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    // Without the GIL: making the filter anew takes locks that a thread may hold which is about to log.
    py.detach(|| {
        let Some(log) = LOG.get_or_init(begin) else { return false };
        log.pid == std::process::id() && log.level.reload(targets(level)).is_ok()
    })
}

/// Ends the thread, after what waits has been handed over. Must be called without the GIL.
pub(super) fn stop() {
    let Some(Some(log)) = LOG.get() else { return };
    if log.pid != std::process::id() || log.level.reload(targets(u8::MAX)).is_err() {
        return;
    }
    let (done, ended) = sync_channel(1);
    // A handler that hangs keeps the queue full, and the exit does not wait for it.
    if log.lines.try_send(Line::Stop(done)).is_ok() {
        let _ = ended.recv_timeout(STOP_WITHIN);
    }
}

fn begin() -> Option<Log> {
    let (filter, level) = reload::Layer::new(targets(u8::MAX));
    let (lines, queue) = sync_channel(QUEUE);
    let layer = Forward { lines: lines.clone() };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().ok()?;
    thread::Builder::new().name("p2p-comm-log".to_owned()).spawn(move || tell(&queue)).ok()?;
    Some(Log { lines, level, pid: std::process::id() })
}

/// What Python's level lets through.
fn targets(level: u8) -> Targets {
    let level = match level {
        0..=5 => LevelFilter::TRACE,
        6..=10 => LevelFilter::DEBUG,
        11..=20 => LevelFilter::INFO,
        21..=30 => LevelFilter::WARN,
        31..=50 => LevelFilter::ERROR,
        _ => LevelFilter::OFF,
    };
    Targets::new().with_target(OURS, level)
}

/// The level of Python's that a record has. Below DEBUG there is none; 5 is what others use for it.
fn level_of(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

struct Forward {
    lines: SyncSender<Line>,
}

impl<S: Subscriber> Layer<S> for Forward {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let about = event.metadata();
        let message = text.finish();
        let line = Line::Record { level: level_of(about.level()), target: about.target(), message };
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A record in one line: its message, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(self) -> String {
        let text = self.message + &self.fields;
        match text.len() <= MESSAGE_LIMIT {
            true => printable(&text),
            false => printable(beginning(&text, MESSAGE_LIMIT)) + "…",
        }
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Writing to a `String` cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Hands records over, one by one.
fn tell(queue: &Receiver<Line>) {
    while let Ok(line) = queue.recv() {
        match line {
            Line::Stop(done) => {
                let _ = done.send(());
                return;
            }
            Line::Record { level, target, message } => {
                let dropped = DROPPED.swap(0, Ordering::Relaxed);
                let told = Python::try_attach(|py| {
                    if dropped > 0 {
                        let words = format!("{dropped} records were dropped: the handlers are slow");
                        hand_over(py, level_of(&Level::WARN), OURS, &words);
                    }
                    hand_over(py, level, target, &message);
                });
                if told.is_none() {
                    // The interpreter is gone.
                    return;
                }
            }
        }
    }
}

fn hand_over(py: Python<'_>, level: u8, target: &str, message: &str) {
    let sink = SINK.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|sink| sink.clone_ref(py));
    let Some(sink) = sink else { return };
    if let Err(error) = sink.call1(py, (level, target, message)) {
        // As an exception in a thread that nobody waits for.
        error.write_unraisable(py, None);
    }
}
