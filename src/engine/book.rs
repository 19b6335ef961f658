//! The contact book in memory: who is pinned, trusted, blocked. The database has the same, always.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::proto::{Millis, PublicKey, Tier, skeleton};
use crate::store::{Result, Store, StoredContact};

/// Most keys remembered that claim another's agent id. Beyond it a key is still not heard when it calls under that name.
const CLAIMS_LIMIT: usize = 256;
/// At most one alert for an agent id in this time: keys are free.
const TOLD_AGAIN: Duration = Duration::from_secs(3_600);

/// Another key claims an agent id that is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// The key that has it.
    pub(super) pinned: PublicKey,
    /// Nobody has heard of it yet.
    pub(super) is_to_be_told: bool,
}

/// The contact book.
#[derive(Debug, Default)]
pub(super) struct Book {
    by_key: BTreeMap<PublicKey, StoredContact>,
    /// Names and pinned agent ids, by what a glance makes of them.
    seen_as: BTreeMap<String, Vec<(PublicKey, String)>>,
    /// The agent ids that keys claim and that are another's, as far as is remembered.
    claims: BTreeMap<PublicKey, String>,
    /// When it was told last that an agent id is claimed.
    told: BTreeMap<String, Millis>,
}

impl Book {
    pub(super) fn load(store: &Store) -> Result<Self> {
        let by_key = store.contacts()?.into_iter().map(|contact| (contact.key, contact)).collect();
        let claims = store.claims()?.into_iter().collect();
        let mut book = Self { by_key, claims, ..Self::default() };
        book.look();
        Ok(book)
    }

    pub(super) fn get(&self, key: &PublicKey) -> Option<&StoredContact> {
        self.by_key.get(key)
    }

    /// What is known about a key, to be changed and saved.
    pub(super) fn entry(&self, key: &PublicKey) -> StoredContact {
        self.by_key.get(key).cloned().unwrap_or_else(|| StoredContact { key: *key, ..Default::default() })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &StoredContact> {
        self.by_key.values()
    }

    pub(super) fn save(&mut self, store: &mut Store, contact: StoredContact) -> Result<()> {
        if self.by_key.get(&contact.key) == Some(&contact) {
            return Ok(());
        }
        store.save_contact(&contact)?;
        // A name or an agent id belongs to one key: the database took it from whoever had it.
        for other in self.by_key.values_mut().filter(|other| other.key != contact.key) {
            if other.name.is_some() && other.name == contact.name {
                other.name = None;
            }
            if other.agent_id.is_some() && other.agent_id == contact.agent_id {
                other.agent_id = None;
            }
        }
        self.by_key.insert(contact.key, contact);
        self.look();
        Ok(())
    }

    fn look(&mut self) {
        self.seen_as.clear();
        for contact in self.by_key.values() {
            for name in contact.name.iter().chain(&contact.agent_id) {
                self.seen_as.entry(skeleton(name)).or_default().push((contact.key, name.clone()));
            }
        }
    }

    pub(super) fn tier(&self, key: &PublicKey) -> Tier {
        match self.get(key) {
            Some(contact) if contact.name.is_some() => Tier::Contact,
            Some(contact) if contact.known => Tier::Known,
            _ => Tier::Stranger,
        }
    }

    /// Nothing of this key is heard: the user wants that, or it is not who it says.
    pub(super) fn is_blocked(&self, key: &PublicKey) -> bool {
        self.get(key).is_some_and(|contact| contact.blocked) || self.claimed(key).is_some()
    }

    /// The agent id that a key claims and that is another's. Whom the user has named may be called what it likes.
    pub(super) fn claimed(&self, key: &PublicKey) -> Option<&str> {
        let agent_id = self.claims.get(key)?;
        let is_anothers = self.pinned(agent_id).is_some_and(|pinned| pinned.key != *key);
        (is_anothers && self.tier(key) != Tier::Contact).then_some(agent_id)
    }

    /// The keys that claim the agent id which is pinned to a contact.
    pub(super) fn claimants<'a>(&'a self, contact: &'a StoredContact) -> impl Iterator<Item = PublicKey> {
        let agent_id = contact.agent_id.as_deref();
        self.claims.keys().filter(move |key| agent_id.is_some() && self.claimed(key) == agent_id).copied()
    }

    /// A contact, or a pinned agent id, of another key that a name could be taken for.
    pub(super) fn looks_like(&self, key: &PublicKey, name: &str) -> Option<String> {
        if self.seen_as.is_empty() {
            return None;
        }
        let seen = skeleton(name);
        let alike = self.seen_as.get(&seen).filter(|_| !seen.is_empty())?;
        alike.iter().find(|(other, _)| other != key).map(|(_, name)| name.clone())
    }

    /// The key with this name.
    pub(super) fn named(&self, name: &str) -> Option<&StoredContact> {
        self.by_key.values().find(|contact| contact.name.as_deref() == Some(name))
    }

    /// The key that this agent id is pinned to.
    pub(super) fn pinned(&self, agent_id: &str) -> Option<&StoredContact> {
        self.by_key.values().find(|contact| contact.agent_id.as_deref() == Some(agent_id))
    }

    /// A key claims an agent id. Nothing, unless it is pinned to another key.
    pub(super) fn claim(
        &mut self,
        store: &mut Store,
        agent_id: &str,
        by: &PublicKey,
        now: Millis,
    ) -> Result<Option<Claim>> {
        let pinned = self.pinned(agent_id).map(|contact| contact.key).filter(|key| key != by);
        let Some(pinned) = pinned.filter(|_| self.tier(by) != Tier::Contact) else { return Ok(None) };
        let is_blocked = self.get(by).is_some_and(|contact| contact.blocked);
        if is_blocked || self.claims.get(by).is_some_and(|claimed| claimed == agent_id) {
            return Ok(Some(Claim { pinned, is_to_be_told: false }));
        }
        if self.claims.len() < CLAIMS_LIMIT || self.claims.contains_key(by) {
            store.save_claim(by, agent_id, now)?;
            self.claims.insert(*by, agent_id.to_owned());
        }
        let told = self.told.get(agent_id).is_some_and(|told| now.since(*told) < TOLD_AGAIN);
        if !told {
            self.told.insert(agent_id.to_owned(), now);
        }
        Ok(Some(Claim { pinned, is_to_be_told: !told }))
    }

    /// A key claims nothing any more.
    pub(super) fn settle_claim(&mut self, store: &mut Store, key: &PublicKey) -> Result<()> {
        match self.claims.remove(key) {
            Some(_) => store.drop_claim(key),
            None => Ok(()),
        }
    }

    /// Forgets claims of names that are nobody else's any more.
    pub(super) fn forget_stale_claims(&mut self, store: &mut Store) -> Result<()> {
        let stale: Vec<_> = self.claims.keys().filter(|key| self.claimed(key).is_none()).copied().collect();
        stale.iter().try_for_each(|key| self.settle_claim(store, key))
    }
}
