//! Who rings, who waits, who is turned away. Keys are free, so what a stranger may do is bounded for each key and for all
//! of them together.
//!
//! ```text
//!   contact ──────────────────────────────────────► rings
//!   known (a call was once taken) ─ 6 an hour ────► rings, beyond it waits
//!   stranger ─ 3 an hour a key, 30 in all ────────► rings, waits, or is turned away, as the user wants; beyond it waits
//! ```
//!
//! Who waits is in the queue that `inbox` shows. Nobody is woken for it, and the caller hears it ring.

use std::collections::VecDeque;
use std::time::Duration;

use crate::proto::{Millis, Protocol, PublicKey, StrangerPolicy, Tier};

/// The window of every limit.
const WINDOW: Duration = Duration::from_secs(3_600);
/// Rings of a known peer: one that calls every ten minutes is heard each time.
const KNOWN: usize = 6;
/// Rings of one strange key.
const STRANGER: usize = 3;
/// Rings of all strange keys together: what an agent, or its owner, can look at in an hour.
const STRANGERS: usize = 30;
/// Of these in the legacy dialect, where a ring costs its sender nothing at all.
const LEGACY_STRANGERS: usize = 10;
/// Most calls that wait in the queue; the oldest makes room.
pub const QUEUE_LIMIT: usize = 32;

/// What becomes of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It rings.
    Ring,
    /// It waits in the queue.
    Queue,
    /// It is turned away.
    TurnAway,
    /// It is not heard at all: there is an end to answering, too.
    Ignore,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Millis,
    key: PublicKey,
    is_stranger: bool,
    protocol: Protocol,
}

/// Counts the rings of the last hour. Bounded: what exceeds a limit is not counted.
#[derive(Debug, Default)]
pub struct Door {
    policy: StrangerPolicy,
    heard: VecDeque<Heard>,
}

impl Door {
    /// What the user wants for strangers.
    pub fn set_policy(&mut self, policy: StrangerPolicy) {
        self.policy = policy;
    }

    /// A ring of this key.
    pub fn admit(&mut self, key: &PublicKey, tier: Tier, protocol: Protocol, now: Millis) -> Admission {
        while self.heard.front().is_some_and(|heard| now.since(heard.at) >= WINDOW) {
            self.heard.pop_front();
        }
        let of_key = self.heard.iter().filter(|heard| heard.key == *key).count();
        let strangers = || self.heard.iter().filter(|heard| heard.is_stranger);
        let legacy = || strangers().filter(|heard| heard.protocol == Protocol::Legacy).count();
        let within = match tier {
            Tier::Contact => return Admission::Ring,
            Tier::Known => of_key < KNOWN,
            Tier::Stranger => {
                of_key < STRANGER
                    && strangers().count() < STRANGERS
                    && (protocol == Protocol::V2 || legacy() < LEGACY_STRANGERS)
            }
        };
        let is_stranger = tier == Tier::Stranger;
        if within {
            self.heard.push_back(Heard { at: now, key: *key, is_stranger, protocol });
        }
        match (self.policy, within) {
            (_, true) if !is_stranger => Admission::Ring,
            (_, false) if !is_stranger => Admission::Queue,
            (StrangerPolicy::Ring, true) => Admission::Ring,
            (StrangerPolicy::Ring, false) | (StrangerPolicy::Queue, _) => Admission::Queue,
            (StrangerPolicy::Reject, true) => Admission::TurnAway,
            (StrangerPolicy::Reject, false) => Admission::Ignore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Hex;

    const NOW: Millis = Millis::from_secs(1_800_000_000);

    fn key(number: u16) -> PublicKey {
        let mut key = Hex([7; 32]);
        key.0[..2].copy_from_slice(&number.to_be_bytes());
        key
    }

    fn rings(door: &mut Door, keys: impl Iterator<Item = u16>, tier: Tier, protocol: Protocol) -> usize {
        keys.filter(|number| door.admit(&key(*number), tier, protocol, NOW) == Admission::Ring).count()
    }

    #[test]
    fn a_contact_always_rings_whatever_strangers_do() {
        let mut door = Door::default();
        assert_eq!(rings(&mut door, 0..10_000, Tier::Stranger, Protocol::V2), STRANGERS);
        assert_eq!(rings(&mut door, std::iter::repeat_n(1, 100), Tier::Contact, Protocol::V2), 100);
        assert!(door.heard.len() <= STRANGERS, "a flood costs no memory");
    }

    #[test]
    fn a_key_has_its_own_limit_by_its_tier() {
        let mut door = Door::default();
        assert_eq!(rings(&mut door, std::iter::repeat_n(1, 10), Tier::Stranger, Protocol::V2), STRANGER);
        assert_eq!(rings(&mut door, std::iter::repeat_n(2, 10), Tier::Known, Protocol::V2), KNOWN);
        assert_eq!(door.admit(&key(2), Tier::Known, Protocol::V2, NOW), Admission::Queue);
        let later = NOW + WINDOW;
        assert_eq!(door.admit(&key(1), Tier::Stranger, Protocol::V2, later), Admission::Ring);
    }

    #[test]
    fn the_free_rings_of_the_legacy_dialect_are_fewer() {
        let mut door = Door::default();
        assert_eq!(rings(&mut door, 0..100, Tier::Stranger, Protocol::Legacy), LEGACY_STRANGERS);
        assert_eq!(rings(&mut door, 100..200, Tier::Stranger, Protocol::V2), STRANGERS - LEGACY_STRANGERS);
    }

    #[test]
    fn strangers_wait_or_are_turned_away_as_the_user_wants() {
        let mut door = Door::default();
        door.set_policy(StrangerPolicy::Queue);
        assert_eq!(door.admit(&key(1), Tier::Stranger, Protocol::V2, NOW), Admission::Queue);
        assert_eq!(door.admit(&key(2), Tier::Known, Protocol::V2, NOW), Admission::Ring);
        door.set_policy(StrangerPolicy::Reject);
        assert_eq!(door.admit(&key(3), Tier::Stranger, Protocol::V2, NOW), Admission::TurnAway);
        let all = (0..10_000).map(|n| door.admit(&key(n), Tier::Stranger, Protocol::V2, NOW));
        assert_eq!(all.filter(|admission| *admission == Admission::TurnAway).count(), STRANGERS - 2);
    }
}
