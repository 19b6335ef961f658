//! The contact book in memory: who is pinned, trusted, blocked. The database has the same, always.

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::{PublicKey, Tier};
use crate::store::{Result, Store, StoredContact};

/// Most different claims remembered as told: one event for each pair of agent id and claiming key.
const TOLD_LIMIT: usize = 1_024;

/// The contact book.
#[derive(Debug, Default)]
pub(super) struct Book {
    by_key: BTreeMap<PublicKey, StoredContact>,
    told: BTreeSet<(String, PublicKey)>,
}

impl Book {
    pub(super) fn load(store: &Store) -> Result<Self> {
        let by_key = store.contacts()?.into_iter().map(|contact| (contact.key, contact)).collect();
        Ok(Self { by_key, told: BTreeSet::new() })
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
        Ok(())
    }

    pub(super) fn tier(&self, key: &PublicKey) -> Tier {
        match self.get(key) {
            Some(contact) if contact.name.is_some() => Tier::Contact,
            Some(contact) if contact.known => Tier::Known,
            _ => Tier::Stranger,
        }
    }

    pub(super) fn is_blocked(&self, key: &PublicKey) -> bool {
        self.get(key).is_some_and(|contact| contact.blocked)
    }

    /// The key with this name.
    pub(super) fn named(&self, name: &str) -> Option<&StoredContact> {
        self.by_key.values().find(|contact| contact.name.as_deref() == Some(name))
    }

    /// The key that this agent id is pinned to.
    pub(super) fn pinned(&self, agent_id: &str) -> Option<&StoredContact> {
        self.by_key.values().find(|contact| contact.agent_id.as_deref() == Some(agent_id))
    }

    /// The key that has an agent id which another key claims now, the first time that it does.
    pub(super) fn first_false_claim(&mut self, agent_id: &str, by: &PublicKey) -> Option<PublicKey> {
        let pinned = self.pinned(agent_id).map(|contact| contact.key).filter(|key| key != by)?;
        if self.told.len() >= TOLD_LIMIT {
            return None;
        }
        self.told.insert((agent_id.to_owned(), *by)).then_some(pinned)
    }
}
