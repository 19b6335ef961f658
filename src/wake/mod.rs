//! L3, what the engine's process does when something happens and nobody has asked: it runs the user's programs, and wakes
//! the agent's host.
//!
//! ```text
//!                     ┌─ hook a ── program, one at a time, in order ── Pass
//!  journal ── Handle ─┼─ hook b ── program …
//!                     └─ waker ─── OpenClaw's gateway or program, until nothing waits that nobody has taken
//!  reload ──▶ Wakes: reads hooks and settings again, ends what is gone, begins what is new
//! ```
//!
//! # Life of an event, for a hook
//!
//! ```text
//!  waits ──its turn──▶ runs ──exit 0──▶ passed (durable)
//!    ▲                  │ exit ≠ 0, killed, too slow
//!    └── 1 s, 2 s, … ───┘ after ten runs: passed, and said in the log
//! ```
//!
//! # Invariants
//!
//! * A hook's place is a consumer of its own in the journal: an event is run at least once, in the order of the journal,
//!   also after a SIGKILL. A crash between the end of a run and its commit runs it again.
//! * Never a shell. What a peer wrote stands on the program's standard input and nowhere else; arguments are the user's,
//!   variables hold ids.
//! * However much peers do, [`hooks::AT_ONCE`] programs run at a time, each hook begins one a second, and no run outlives
//!   its time, its daemon's orderly end, or (Linux) its daemon. What a program leaves behind in its process group ends with
//!   it.
//! * A wake says how much of what waits, never who or what was said. It is repeated until somebody has taken it.
//! * A hook takes nothing: what it saw is unread, and wakes.

mod hooks;
mod openclaw;
mod program;
mod waits;
mod waker;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

pub use self::openclaw::TOKEN_VARIABLE;
pub use self::program::find as find_program;
pub use self::waits::{KINDS, Waits};
use crate::engine::Handle;
use crate::home::{Home, Settings, settings};

/// What runs beside an engine. Ends with it: dropping it ends every program that runs.
#[derive(Debug)]
pub struct Wakes {
    stop: Option<oneshot::Sender<()>>,
    keeper: JoinHandle<()>,
}

impl Wakes {
    /// Begins. `reloads` changes whenever files of the home were changed. Must be called inside of a tokio runtime.
    pub fn start(home: Home, settings: Settings, handle: Handle, reloads: watch::Receiver<u64>) -> Self {
        let slots = Arc::new(Semaphore::new(hooks::AT_ONCE));
        let keeper = Keeper { home, handle, running: BTreeMap::new(), slots };
        let (stop, stopped) = oneshot::channel();
        Self { stop: Some(stop), keeper: tokio::spawn(keeper.keep(settings, reloads, stopped)) }
    }

    /// Ends, and returns when no program runs any more.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // If it has panicked, that is an end as well.
        let _ = (&mut self.keeper).await;
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// A task that ends with whoever holds it.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is to run, told apart by everything that it depends on: a change is an end and a beginning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Hook(String),
    Waker(String, Option<std::path::PathBuf>, u64),
}

struct Keeper {
    home: Home,
    handle: Handle,
    running: BTreeMap<Wanted, Task>,
    slots: Arc<Semaphore>,
}

impl Keeper {
    async fn keep(
        mut self,
        mut settings: Settings,
        mut reloads: watch::Receiver<u64>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        loop {
            self.arrange(&settings);
            tokio::select! {
                biased;
                // The sender is dropped, never used.
                _ = &mut stopped => break,
                changed = reloads.changed() => if changed.is_err() {
                    // The engine is gone.
                    break;
                }
            }
            match settings::load(&self.home, &[]) {
                Ok(layers) => settings = layers.settings(),
                // The engine has told whoever changed it.
                Err(error) => tracing::warn!(%error, "the settings are taken as they were"),
            }
        }
        for task in self.running.values() {
            task.0.abort();
        }
        for task in self.running.values_mut() {
            // What it held, a program with its process group, ends before this returns.
            let _ = (&mut task.0).await;
        }
    }

    fn arrange(&mut self, settings: &Settings) {
        let hooks = crate::home::hooks::read(&self.home).unwrap_or_else(|error| {
            tracing::warn!(%error, "no hook runs");
            Vec::new()
        });
        let hooks: BTreeMap<_, _> =
            hooks.into_iter().map(|hook| (Wanted::Hook(format!("{hook:?}")), hook)).collect();
        let wakers: BTreeMap<_, _> = settings
            .wake
            .iter()
            .map(|way| {
                let token = settings.wake_token_file.clone();
                (Wanted::Waker(way.to_string(), token, settings.wake_repeat_s), way)
            })
            .collect();
        self.running.retain(|wanted, _| hooks.contains_key(wanted) || wakers.contains_key(wanted));
        for (wanted, hook) in hooks {
            self.running.entry(wanted).or_insert_with(|| {
                let runner = hooks::Runner::new(&self.home, &self.handle, hook, Arc::clone(&self.slots));
                Task(tokio::spawn(runner.run()))
            });
        }
        for (wanted, way) in wakers {
            self.running.entry(wanted).or_insert_with(|| {
                let host = openclaw::Host::new(way.clone(), settings.wake_token_file.clone());
                let waker = waker::Waker::new(&self.home, &self.handle, host, settings.wake_repeat_s);
                Task(tokio::spawn(waker.run()))
            });
        }
    }
}

/// An event with nothing in it.
#[cfg(test)]
fn event(cursor: u64, kind: crate::api::EventKind) -> crate::api::Event {
    crate::api::Event {
        cursor,
        kind,
        at: crate::api::Time(crate::proto::Millis(0)),
        call: None,
        message: None,
        progress: None,
        call_state: None,
        escalation: None,
        key_changed: None,
        relay: None,
        strangers: None,
    }
}
