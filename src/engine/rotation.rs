//! Other agents' keys change: pins and names move to the new one if the old one has said so.

use super::core::Core;
use super::outputs::event;
use crate::api::KeyChanged;
use crate::proto::rotation::leading_to;
use crate::proto::{EventKind, Millis, PublicKey, Rotation};
use crate::store::{self, NewEvent, StoredContact};
use crate::transport::rotation::is_genuine;

impl Core {
    /// A key has announced which keys it had before. What we know of one of those is now known of this one. That a
    /// statement was followed is told: a thief of the old key can make one, too, and the first one that comes counts.
    ///
    /// Signatures are looked at only where there is something to move, at most four statements an announcement: a
    /// stranger who names our contacts' keys costs us half a millisecond.
    pub(super) fn follow_rotations(
        &mut self,
        key: &PublicKey,
        rotations: &[Rotation],
        now: Millis,
    ) -> Result<(), store::Error> {
        let chain = leading_to(key, rotations);
        for (place, rotation) in chain.iter().enumerate() {
            let is_new = self.book.get(key).is_none();
            let Some(old) = self.book.get(&rotation.old).filter(|old| is_worth_moving(old, is_new)).cloned()
            else {
                continue;
            };
            if !chain[..=place].iter().all(is_genuine) {
                tracing::warn!(old = %old.key, claimed_by = %key, "a rotation that the keys have not signed");
                return Ok(());
            }
            self.move_contact(old, key, now)?;
        }
        Ok(())
    }

    /// What is known of any of these keys, oldest first, is known of the last from now on: the statements that lead
    /// there were asked for, and are genuine.
    pub(super) fn follow_to(
        &mut self,
        olds: &[PublicKey],
        key: &PublicKey,
        now: Millis,
    ) -> Result<(), store::Error> {
        for old in olds.iter().rev() {
            let is_new = self.book.get(key).is_none();
            if let Some(old) = self.book.get(old).filter(|old| is_worth_moving(old, is_new)).cloned() {
                self.move_contact(old, key, now)?;
            }
        }
        Ok(())
    }

    fn move_contact(
        &mut self,
        mut old: StoredContact,
        key: &PublicKey,
        now: Millis,
    ) -> Result<(), store::Error> {
        tracing::info!(old = %old.key, new = %key, "a contact has rotated its key");
        let (agent_id, name) = (old.agent_id.take(), old.name.take());
        let label = agent_id.clone().or_else(|| name.clone());
        let mut contact = self.book.entry(key);
        contact.agent_id = contact.agent_id.or(agent_id);
        contact.name = contact.name.or(name);
        contact.known |= std::mem::take(&mut old.known);
        // The old key stays blocked as well.
        contact.blocked |= old.blocked;
        let pinned = old.key;
        self.book.save(&mut self.store, old)?;
        self.book.save(&mut self.store, contact)?;
        if let Some(agent_id) = label {
            let changed = KeyChanged { agent_id, pinned, claimed_by: *key, followed: true };
            let told = event(EventKind::ContactKeyChanged, None, now);
            self.tell(NewEvent { detail: serde_json::to_string(&changed).ok(), ..told })?;
        }
        Ok(())
    }
}

/// Whether anything is known of an old key that the new one lacks. A block is carried over once: the user may lift it.
fn is_worth_moving(old: &StoredContact, is_new: bool) -> bool {
    old.name.is_some() || old.agent_id.is_some() || old.known || old.blocked && is_new
}

#[cfg(test)]
mod tests;
