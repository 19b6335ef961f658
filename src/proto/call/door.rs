//! Who rings, who waits, who is turned away. Keys are free, so what a stranger may do is bounded for each key and for all
//! of them together.
//!
//! ```text
//!   contact ──────────────────────────────────────► rings
//!   known (a call was once taken) ─ 6 an hour ────► rings, beyond it waits
//!   stranger ─ 3 an hour a key, 30 in all ────────► rings, waits, or is turned away, as the user wants; beyond it waits
//! ```
//!
//! Mail knocks at the same door, and counts with the rings; that of contacts and known peers is always let in.
//!
//! Who waits is in the queue that `inbox` shows. Nobody is woken for it, and the caller hears it ring. The queue is short:
//! who has the most in it makes room, strangers before known peers, the oldest first ([`makes_room`]).
//!
//! Where strangers come faster than anybody looks ([`Door::is_crushed`]), what they send is not opened any more.
//!
//! What counted is persisted ([`Door::take_new`]) and read back at the start: a restart gives nobody a new allowance.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::crush::{Crush, Queue};
use super::digest::{Counts, Digest, Turned};
use crate::proto::{Millis, Protocol, PublicKey, StrangerPolicy, Tier};

/// The window of every limit.
pub const WINDOW: Duration = Duration::from_secs(3_600);
/// Rings of a known peer: one that calls every ten minutes is heard each time.
const KNOWN: usize = 6;
/// Rings of one strange key.
const STRANGER: usize = 3;
/// Rings of all strange keys together: what an agent, or its owner, can look at in an hour.
const STRANGERS: usize = 30;
/// Of these in the legacy dialect, where a ring costs its sender nothing at all.
const LEGACY_STRANGERS: usize = 10;
/// Most calls that wait in the queue, and most messages.
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

/// A ring or a message that counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knock {
    /// When.
    pub at: Millis,
    /// Whose.
    pub key: PublicKey,
    /// It was a stranger's.
    pub is_stranger: bool,
    /// In which dialect.
    pub protocol: Protocol,
}

/// Counts what came within the last hour. Bounded: what exceeds a limit is not counted.
#[derive(Debug, Default)]
pub struct Door {
    policy: StrangerPolicy,
    heard: VecDeque<Knock>,
    new: Vec<Knock>,
    digest: Digest,
    /// The digest differs from what was persisted.
    is_digest_new: bool,
    calls: Crush,
    mail: Crush,
}

impl Door {
    /// What the user wants for strangers.
    pub fn set_policy(&mut self, policy: StrangerPolicy) {
        self.policy = policy;
    }

    /// What counted within the last hour, the oldest first, as it was persisted.
    pub fn restore(&mut self, heard: impl IntoIterator<Item = Knock>) {
        self.heard = heard.into_iter().collect();
        self.new.clear();
    }

    /// What has counted since this was asked last: to be persisted.
    pub fn take_new(&mut self) -> Vec<Knock> {
        std::mem::take(&mut self.new)
    }

    /// What the owner is still to be told, as it was persisted.
    pub fn restore_digest(&mut self, digest: Digest) {
        (self.digest, self.is_digest_new) = (digest, false);
    }

    /// What the owner is still to be told, if it is to be persisted.
    pub fn take_changed_digest(&mut self) -> Option<&Digest> {
        std::mem::take(&mut self.is_digest_new).then_some(&self.digest)
    }

    /// What the owner is to be told now: how much, and since when.
    pub fn take_digest(&mut self, now: Millis) -> Option<(Counts, Millis)> {
        let taken = self.digest.take(now);
        self.is_digest_new |= taken.is_some();
        taken
    }

    /// When [`Self::take_digest`] has something.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.digest.poll_timeout()
    }

    fn note(&mut self, what: Turned, now: Millis) {
        self.digest.note(what, now);
        self.is_digest_new = true;
    }

    /// A stranger is pushed out of a queue by another one.
    pub fn pushed_out(&mut self, queue: Queue, now: Millis) {
        match queue {
            Queue::Calls => self.calls.note(now),
            Queue::Mail => self.mail.note(now),
        }
    }

    /// Whether strangers who wait in a queue are pushed out before anybody can look.
    pub fn is_crushed(&self, queue: Queue, now: Millis) -> bool {
        match queue {
            Queue::Calls => self.calls.lasts(now),
            Queue::Mail => self.mail.lasts(now),
        }
    }

    /// Something of a stranger was not opened for that.
    pub fn shut_out(&mut self, queue: Queue, now: Millis) {
        let what = match queue {
            Queue::Calls => Turned::CallDropped,
            Queue::Mail => Turned::MailDropped,
        };
        self.note(what, now);
    }

    /// A ring of this key.
    pub fn admit(&mut self, key: &PublicKey, tier: Tier, protocol: Protocol, now: Millis) -> Admission {
        let admission = self.count(key, tier, protocol, now);
        match admission {
            Admission::Queue => self.note(Turned::CallWaits, now),
            Admission::Ignore => self.note(Turned::CallDropped, now),
            Admission::Ring | Admission::TurnAway => {}
        }
        admission
    }

    fn count(&mut self, key: &PublicKey, tier: Tier, protocol: Protocol, now: Millis) -> Admission {
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
            let knock = Knock { at: now, key: *key, is_stranger, protocol };
            self.heard.push_back(knock);
            self.new.push(knock);
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

    /// A message of this key, outside of any call. Nothing is answered to it, so there is no turning away.
    pub fn admit_mail(&mut self, key: &PublicKey, tier: Tier, now: Millis) -> Admission {
        if tier != Tier::Stranger {
            return Admission::Ring;
        }
        match self.count(key, tier, Protocol::V2, now) {
            Admission::Ring => Admission::Ring,
            Admission::Queue => {
                self.note(Turned::MailWaits, now);
                Admission::Queue
            }
            // As the user wants it.
            Admission::TurnAway => Admission::Ignore,
            Admission::Ignore => {
                self.note(Turned::MailDropped, now);
                Admission::Ignore
            }
        }
    }
}

/// Who makes room in a queue that is too long: of those who wait, the oldest first, the place of the one that goes. A flood
/// of strangers pushes out strangers, and one key that rings without end itself.
pub fn makes_room(waiting: &[(PublicKey, Tier)]) -> Option<Leaving> {
    let mut of_key: BTreeMap<&PublicKey, usize> = BTreeMap::new();
    for (key, _) in waiting {
        *of_key.entry(key).or_default() += 1;
    }
    let rank = |place: &usize| {
        let (key, tier) = &waiting[*place];
        (*tier == Tier::Stranger, of_key.get(key), std::cmp::Reverse(*place))
    };
    let place = (0..waiting.len()).max_by_key(rank)?;
    let (key, tier) = &waiting[place];
    let had_one = of_key.get(key) == Some(&1);
    Some(Leaving { place, by_others: *tier == Tier::Stranger && had_one })
}

/// Who leaves a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// Its place.
    pub place: usize,
    /// It is a stranger, and had no other place in it: others have pushed it out.
    pub by_others: bool,
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
    fn a_restart_gives_nobody_a_new_allowance() {
        let mut door = Door::default();
        rings(&mut door, 0..100, Tier::Stranger, Protocol::V2);
        let kept = door.take_new();
        assert_eq!(kept.len(), STRANGERS);
        assert!(door.take_new().is_empty());
        let mut door = Door::default();
        door.restore(kept);
        assert_eq!(rings(&mut door, 200..300, Tier::Stranger, Protocol::V2), 0);
        assert_eq!(door.admit(&key(1), Tier::Stranger, Protocol::V2, NOW + WINDOW), Admission::Ring);
    }

    #[test]
    fn mail_of_strangers_counts_with_their_rings_and_that_of_others_is_always_let_in() {
        let mut door = Door::default();
        assert_eq!(rings(&mut door, std::iter::repeat_n(1, 2), Tier::Stranger, Protocol::V2), 2);
        assert_eq!(door.admit_mail(&key(1), Tier::Stranger, NOW), Admission::Ring);
        assert_eq!(door.admit_mail(&key(1), Tier::Stranger, NOW), Admission::Queue);
        for tier in [Tier::Known, Tier::Contact] {
            assert!((0..1_000).all(|_| door.admit_mail(&key(2), tier, NOW) == Admission::Ring));
        }
        door.set_policy(StrangerPolicy::Reject);
        assert_eq!(door.admit_mail(&key(3), Tier::Stranger, NOW), Admission::Ignore);
    }

    #[test]
    fn who_has_the_most_in_the_queue_makes_room_and_known_peers_last() {
        let stranger = |number| (key(number), Tier::Stranger);
        let known = |number| (key(number), Tier::Known);
        let leaving = |place, by_others| Some(Leaving { place, by_others });
        assert_eq!(makes_room(&[]), None);
        assert_eq!(makes_room(&[stranger(1), stranger(2), stranger(3)]), leaving(0, true), "the oldest");
        assert_eq!(
            makes_room(&[stranger(1), stranger(2), stranger(2)]),
            leaving(1, false),
            "the one with the most"
        );
        assert_eq!(
            makes_room(&[known(1), known(1), known(1), stranger(2)]),
            leaving(3, true),
            "no known peer"
        );
        assert_eq!(makes_room(&[known(1), known(2), known(2)]), leaving(1, false));
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
