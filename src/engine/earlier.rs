//! The key that this agent had before its last rotation. For five minutes it is listened to as well: a ring or a letter
//! that was on its way to it still arrives. Nothing new is signed with it but what belongs to such a ring, whose caller
//! knows no other key: the answer, and what the call says outside of its session.
//!
//! It has links of its own, which ask for its wraps alone: a relay knows one identity for each connection. Until they
//! have told what was stored, the relays' cursors stand still, and mail waits to be put in order with theirs.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::core::Core;
use crate::proto::{CallId, Millis, PublicKey, Rotation};
use crate::store;
use crate::transport::{BadRelayUrl, Class, Identity, Inbound, Options, Pool};

/// For how long after a rotation the old key is listened to (docs/protocol.md, section 1): until peers have seen the
/// presence of the new one, which is announced every two minutes.
const GRACE: Duration = Duration::from_secs(300);
/// How long mail waits for what relays had stored for the old key: some do not serve it to everybody.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// The old key while it is listened to.
pub(super) struct Earlier {
    identity: Identity,
    pool: Pool,
    until: Instant,
    told_by: Instant,
    told: bool,
    /// Calls whose caller knows this key.
    calls: BTreeSet<CallId>,
}

/// For how much longer the old key of a rotation is listened to. A clock that was set back makes it no longer.
pub(super) fn grace_left(rotation: &Rotation, now: Millis) -> Duration {
    GRACE.saturating_sub(now.since(Millis::from_secs(rotation.at)))
}

impl Earlier {
    /// Listens for wraps to this key. What comes goes into `options.inbound`, which is this key's alone.
    pub(super) fn begin(
        options: Options,
        left: Duration,
        calls: BTreeSet<CallId>,
    ) -> Result<Self, BadRelayUrl> {
        let (identity, now) = (options.identity.clone(), Instant::now());
        let pool = Pool::start(options)?;
        tracing::info!(key = %identity.public_key(), seconds = left.as_secs(), "the key from before is listened to");
        Ok(Self { identity, pool, until: now + left, told_by: now + TOLD_WITHIN, told: false, calls })
    }

    pub(super) fn redial(&self) {
        self.pool.redial();
    }

    pub(super) async fn stop(&self) {
        self.pool.stop().await;
    }

    /// The key, to look for it in what is about to leave.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether its secret stands in these bytes.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        self.identity.is_in(bytes)
    }
}

/// Under which name the database knows that a call is held with the earlier key.
pub(super) fn note_of(call: &CallId) -> String {
    format!("earlier-key:{call}")
}

/// No links for an earlier key: a channel that is closed.
pub(super) fn nobody() -> mpsc::Receiver<Inbound> {
    mpsc::channel(1).1
}

impl Core {
    /// As whom a call is held.
    pub(super) fn identity_in(&self, call: &CallId) -> &Identity {
        let earlier = self.earlier.as_ref().filter(|earlier| earlier.calls.contains(call));
        earlier.map_or(&self.identity, |earlier| &earlier.identity)
    }

    /// Who opens what is for this key.
    pub(super) fn receiver(&self, key: &PublicKey) -> &Identity {
        let earlier = self.earlier.as_ref().filter(|earlier| earlier.identity.public_key() == *key);
        earlier.map_or(&self.identity, |earlier| &earlier.identity)
    }

    /// A ring came to this key of ours: if it is the earlier one, the call is held with it.
    pub(super) fn came_to(&mut self, key: &PublicKey, call: &CallId) -> Result<(), store::Error> {
        if let Some(earlier) = self.earlier.as_mut().filter(|earlier| earlier.identity.public_key() == *key) {
            earlier.calls.insert(*call);
            self.store.set_meta(&note_of(call), 1)?;
        }
        Ok(())
    }

    /// Something of the links that listen for the earlier key.
    pub(super) fn handle_earlier(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Wrap { wrap, .. } => self.handle_wrap(wrap),
            Inbound::Synced { class: Class::Wrap, .. } => {
                if let Some(earlier) = &mut self.earlier {
                    earlier.told = true;
                }
            }
            // How a relay is, the links of the present key tell.
            _ => {}
        }
    }

    /// Whether nothing stored is awaited for an earlier key.
    pub(super) fn earlier_has_told(&self) -> bool {
        self.earlier.as_ref().is_none_or(|earlier| earlier.told || earlier.told_by <= Instant::now())
    }

    /// Listens no more once the time is over and no call needs it.
    pub(super) fn leave_earlier(&mut self) {
        let Some(earlier) = &self.earlier else { return };
        let is_needed = |call: &CallId| self.board.live().any(|live| live.id == *call);
        if earlier.until <= Instant::now() && self.no_wraps_wait() && !earlier.calls.iter().any(is_needed) {
            tracing::info!(key = %earlier.identity.public_key(), "the key from before is listened to no more");
            self.earlier = None;
        }
    }

    pub(super) fn earlier_wake(&self) -> Option<Instant> {
        let (earlier, now) = (self.earlier.as_ref()?, Instant::now());
        [earlier.told_by, earlier.until].into_iter().filter(|at| *at > now).min()
    }
}
