//! `wait --hook claude`: how Claude Code is woken while it is idle.
//!
//! Claude Code runs a command hook with `asyncRewake` in the background, with one JSON object on its standard input
//! (`session_id` and more). If it exits with 2, Claude is woken with what stands on its standard error as a reminder; any
//! other exit is silent. It is cancelled at its `timeout`, which is enforced for `asyncRewake` too, and no two runs of a
//! hook know of each other. Source: <https://code.claude.com/docs/en/hooks>, "Command hook fields" and "Run hooks in the
//! background", as of September 2026.
//!
//! So each turn of a session begins another wait, and this room sees to it that they are one: what was said to a session
//! last, and how often, lies in a file of the home, and the newest wait of a session lets the others go.
//!
//! # Invariants
//!
//! * Exit 2 means a wake and nothing else: an error that woke Claude would do so after every turn, for ever.
//! * A wake says how much waits, not a word of what.

use std::fs;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::session::Session;
use super::{DONE, FAILED, Verdict};
use crate::api::{Command, Error, ErrorKind, Messages, WaitReply};
use crate::daemon;
use crate::home::{Home, settings, write_atomically};
use crate::ipc::Client;
use crate::wake::{KINDS, Waits};

/// What wakes Claude.
const WAKE: u8 = 2;
/// How long a wait lasts unless told otherwise: less than the 600 s after which Claude Code cancels a hook.
pub(super) const DEFAULT_TIMEOUT_S: f64 = 590.0;
/// What a hook is told at most; it holds paths and ids.
const INPUT_LIMIT: u64 = 1024 * 1024;
/// How long one look takes: so soon a wait notices that a newer one has taken its place, or that Claude Code is gone.
const STEP: Duration = Duration::from_secs(15);
/// Who waits already takes an event within this time, and then nobody needs to be woken.
const SETTLE: Duration = Duration::from_secs(1);
/// The longest pause between two repeats.
const LONGEST: Duration = Duration::from_secs(3_600);
/// What is remembered of a session that is not heard of for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(7 * 86_400);

/// What Claude Code says to a hook, as far as it matters here.
#[derive(Deserialize)]
struct Input {
    session_id: String,
}

/// What is remembered of a session.
#[derive(Default, Serialize, Deserialize)]
struct Told {
    /// Which wait is the newest.
    turn: String,
    /// All up to this cursor was told.
    cursor: u64,
    /// How often in a row, without anything new.
    said: u32,
    /// When, milliseconds since 1970.
    at: u64,
}

/// Waits, and wakes Claude when something waits that nobody takes.
pub(super) async fn run(session: &Session, timeout_s: f64) -> Verdict {
    match wait(session, timeout_s).await {
        Ok(code) => Ok(code),
        Err(error) => {
            session.printer.error(&error);
            Ok(FAILED)
        }
    }
}

async fn wait(session: &Session, timeout_s: f64) -> Result<u8, Error> {
    let input = read_input()?;
    let home = session.home()?;
    let repeat = Duration::from_secs(settings::load(&home, &[])?.settings().wake_repeat_s);
    let file = place(&home, &input.session_id)?;
    let mut told = read(&file).unwrap_or_default();
    let mut turn = [0; 8];
    getrandom::fill(&mut turn).map_err(Error::internal)?;
    told.turn = turn.iter().map(|byte| format!("{byte:02x}")).collect();
    write(&file, &told)?;
    let (parent, deadline) =
        (rustix::process::getppid(), Instant::now() + Duration::from_secs_f64(timeout_s));
    // Not by way of the session, which points out oddities of the settings: they are not for a model.
    let mut client = daemon::connect(&home, &session.launcher).await?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let due = told.due(repeat);
        let step = STEP.min(left).min(due.unwrap_or(STEP));
        let found = look(session, &mut client, told.cursor, step).await?;
        let is_news = found.event.is_some();
        if !is_news {
            told.cursor = told.cursor.max(found.cursor);
        }
        let is_replaced = read(&file).is_none_or(|newest| newest.turn != told.turn);
        if is_replaced || rustix::process::getppid() != parent {
            return Ok(DONE);
        }
        if is_news {
            tokio::time::sleep(SETTLE).await;
        }
        let is_due = told.due(repeat).is_some_and(|left| left.is_zero());
        if is_news || is_due {
            let end: Messages = session
                .wait_for(&mut client, 0.0, |_| Command::Messages { call: None, unread: false, limit: 0 })
                .await?
                .try_into()?;
            let waits = what_waits(session, &mut client).await?;
            let has_news = waits.newest() > told.cursor;
            if !has_news && !waits.is_open() {
                told = Told { turn: told.turn, cursor: told.cursor, ..Told::default() };
                write(&file, &told)?;
            } else if has_news || is_due {
                let said = match (waits.is_open(), has_news) {
                    // Once is enough.
                    (false, _) => 0,
                    (true, true) => 1,
                    (true, false) => told.said.saturating_add(1),
                };
                told = Told { turn: told.turn, cursor: end.cursor.max(waits.newest()), said, at: now() };
                write(&file, &told)?;
                session.printer.talk(&waits.say(&home));
                return Ok(WAKE);
            }
        }
        if left.is_zero() {
            return Ok(DONE);
        }
    }
}

impl Told {
    /// How long until it is said again; nothing if nothing was said.
    fn due(&self, repeat: Duration) -> Option<Duration> {
        let pause = repeat.saturating_mul(2_u32.saturating_pow(self.said.checked_sub(1)?)).min(LONGEST);
        let since = Duration::from_millis(now().saturating_sub(self.at));
        Some(pause.saturating_sub(since))
    }
}

async fn what_waits(session: &Session, client: &mut Client) -> Result<Waits, Error> {
    let mut waits = Waits::default();
    let mut after = 0;
    for _ in 0..Waits::LIMIT {
        let Some(event) = look(session, client, after, Duration::ZERO).await?.event else { break };
        waits.count(&event);
        after = event.cursor;
    }
    Ok(waits)
}

async fn look(
    session: &Session,
    client: &mut Client,
    after: u64,
    time: Duration,
) -> Result<WaitReply, Error> {
    let look = |timeout_s| Command::Untaken { after, kinds: KINDS.to_vec(), timeout_s };
    session.wait_for(client, time.as_secs_f64(), look).await?.try_into()
}

fn read_input() -> Result<Input, Error> {
    let stdin = std::io::stdin();
    let mut text = String::new();
    let read = match stdin.is_terminal() {
        true => Ok(0),
        false => stdin.lock().take(INPUT_LIMIT).read_to_string(&mut text),
    };
    let input = read.ok().and_then(|_| serde_json::from_str::<Input>(&text).ok());
    input.filter(|input| !input.session_id.is_empty()).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidValue,
            "what a hook of Claude Code is told (JSON with session_id) is not on standard input",
            "this is for the hooks in settings.json: docs/waking.md; to wait by hand: p2p-comm wait",
        )
    })
}

/// Where a session is remembered; who was not heard of for long is forgotten on the way.
fn place(home: &Home, session_id: &str) -> Result<PathBuf, Error> {
    let folder = home.wakes()?;
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|about| about.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > FORGOTTEN) {
            // What stays harms nobody but tidiness.
            let _ = fs::remove_file(entry.path());
        }
    }
    let name: String = Sha256::digest(session_id).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(folder.join(format!("claude-{name}.json")))
}

fn read(file: &Path) -> Option<Told> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

fn write(file: &Path, told: &Told) -> Result<(), Error> {
    let bytes = serde_json::to_vec(told).map_err(Error::internal)?;
    write_atomically(file, &bytes).map_err(|error| {
        let message = format!("{} cannot be written: {error}", file.display());
        Error::new(ErrorKind::IoError, message, "see to the disk: p2p-comm doctor")
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
