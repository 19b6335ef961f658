//! What a crash of the machine takes from a home whose commits do not wait for the disk (`durability = "os"`).
//!
//! The database is whole afterwards, but its end may be missing: words of ours that the peer has, and the peer's that we
//! have acknowledged. A call that went on from there would give their numbers to other words, and the peer would take
//! those for repetitions. So such a call is lost: what of ours is known not to have arrived goes another way.
//!
//! ```text
//!   start ── the mark of another boot? ── calls that were up are lost ── mark of this boot, synced ──▶ commits unsynced
//!   orderly stop ── no mark
//! ```

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::clock;
use super::core::Core;
use crate::proto::{CallId, Durability, Millis};
use crate::store;

/// Under what name the mark stands: which boot of the machine has commits that nobody synced; 0 for none.
const UNSYNCED: &str = "unsynced";

impl Core {
    /// Looks whether the machine died over commits that were not synced, and begins with the durability that is set.
    pub(super) fn begin_durability(&mut self, now: Millis) -> Result<(), store::Error> {
        let (mark, boot) = (self.store.meta(UNSYNCED)?.unwrap_or(0), boot());
        let durability = self.settings.durability;
        let wanted = if durability == Durability::Os { boot } else { 0 };
        if mark != wanted {
            self.store.begin()?;
            if mark != 0 && mark != boot {
                self.lose_calls(now)?;
            }
            self.store.set_meta(UNSYNCED, wanted)?;
            self.store.commit()?;
            self.let_out();
        }
        self.store.set_durability(durability)
    }

    /// An orderly end: what is there is complete. The log is synced when the database is closed.
    pub(super) fn end_durability(&mut self) {
        if self.settings.durability == Durability::Os
            && let Err(error) = self.store.set_meta(UNSYNCED, 0)
        {
            tracing::warn!(%error, "if the machine stops before the next start, calls that are up will be lost");
        }
    }

    fn lose_calls(&mut self, now: Millis) -> Result<(), store::Error> {
        let open: Vec<CallId> = self.store.open_deliveries()?;
        if !open.is_empty() {
            tracing::warn!(
                calls = open.len(),
                "the machine stopped over commits that were not synced: calls are lost"
            );
        }
        for id in open {
            self.lose_talk(&id, now)?;
        }
        Ok(())
    }
}

/// Which boot of the machine this is. Where the system does not say, every start of this program counts as one.
fn boot() -> u64 {
    static BOOT: OnceLock<u64> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let name = std::fs::read("/proc/sys/kernel/random/boot_id");
        let name = name.unwrap_or_else(|_| format!("{} {}", clock::now().0, std::process::id()).into_bytes());
        let digest: [u8; 32] = Sha256::digest(name).into();
        let (first, _) = digest.split_at(8);
        // SQLite's integers are signed, and 0 is no boot.
        first.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)) >> 1 | 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{self, EventKind};
    use crate::engine::tests::{Agent, connected, relay};
    use crate::proto::{CallState, EndReason};
    use crate::store::Store;

    fn unsynced(settings: &mut crate::home::Settings) {
        settings.durability = Durability::Os;
    }

    fn mark(agent: &Agent) -> (Store, u64) {
        let home = crate::home::Home::open(Some(agent.folder.path())).unwrap();
        let store = Store::open(&home.database()).unwrap();
        let mark = store.meta(UNSYNCED).unwrap().unwrap_or(0);
        (store, mark)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_machine_that_dies_over_unsynced_commits_loses_its_calls_and_what_was_not_said_goes_by_mail() {
        let relay = relay().await;
        let mut alice = Agent::with("alice", &relay.url(), unsynced);
        let mut bob = Agent::start("bob", &relay.url());
        let (out, incoming) = connected(&alice, &bob).await;
        bob.engine.stop().await;
        alice.say("left").await;
        alice.engine.stop().await;
        {
            let (mut store, left) = mark(&alice);
            assert_eq!(left, 0, "an orderly stop leaves no mark");
            // As if it had been another boot, which ended without one.
            store.set_meta(UNSYNCED, boot() ^ 2).unwrap();
        }
        alice.restart().await;
        let over = alice.event(&[EventKind::CallEnded]).await.call_state.unwrap();
        assert_eq!((over.call, over.end_reason), (out, Some(EndReason::Lost)));
        bob.restart().await;
        let message = bob.event(&[EventKind::MessageReceived]).await.message.unwrap();
        assert_eq!((message.text.as_str(), message.call), ("left", Some(incoming)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_dies_alone_goes_on_with_its_calls() {
        let relay = relay().await;
        let mut alice = Agent::with("alice", &relay.url(), unsynced);
        let bob = Agent::start("bob", &relay.url());
        connected(&alice, &bob).await;
        alice.engine.stop().await;
        // As if it had been killed: the mark of this boot is still there.
        mark(&alice).0.set_meta(UNSYNCED, boot()).unwrap();
        alice.restart().await;
        alice.say("still here").await;
        assert_eq!(bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text, "still here");
        let calls: api::Status = alice.ask(api::Command::Status {}).await;
        assert_eq!(calls.calls[0].state, CallState::Connected);
        // And who syncs again has no mark.
        alice.settings.durability = Durability::Full;
        alice.restart().await;
        alice.engine.stop().await;
        assert_eq!(mark(&alice).1, 0);
    }
}
