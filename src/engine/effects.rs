//! What a batch lets out, once it is committed and not before: replies, events to relays, keys to listen for.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::core::Core;
use super::files;
use super::handle::ReplyTo;
use super::metrics::Count;
use super::v2::Letter;
use super::works::Keeping;
use crate::api::{Error, Reply};
use crate::owner;
use crate::proto::{CallId, EventId, PublicKey};
use crate::store::{self, StoredParcel};
use crate::transport::v2::Rumor;
use crate::transport::{Class, Published, RelayId, Signed};

/// Pause before what a relay did not answer is published again.
const REPUBLISH_AFTER: Duration = Duration::from_secs(10);

/// What is let out once the batch is committed.
#[expect(clippy::large_enum_variant, reason = "at most a batch of them, for the time of a commit")]
pub(super) enum Effect {
    Reply(Box<dyn ReplyTo>, Result<Reply, Error>),
    /// On every relay of the identity.
    Publish(Signed),
    /// On somebody's inbox relays, until one has it.
    PublishTo(Signed, Vec<String>),
    /// An offer of this call, on the callee's inbox relays.
    PublishOffer(CallId, Signed, Vec<String>),
    /// Seal, mine if it is asked, publish.
    Post(Letter),
    /// Listen for a session key.
    Listen(PublicKey, Vec<String>),
    /// Listen for it no more.
    Forget(PublicKey),
    /// Answer the offer of this call: to its session key, on its relays.
    Answer(CallId, PublicKey, Rumor, Vec<String>),
    /// Check a file of a peer that is whole, and give it its name; elsewhere.
    Keep(Keeping),
    /// Bring a file of ours to a server of blobs, or fetch one of a peer.
    Carry(Box<StoredParcel>),
    /// Remove a file that nobody needs any more.
    Remove(PathBuf),
    Cursor(RelayId, Class, u64),
    Seen(EventId),
    AskOwner(owner::Errand),
    Audit(u64),
    Count(Count),
}

impl Core {
    /// Lets everything out, in the order in which it was wanted.
    pub(super) fn let_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Reply(to, reply) => {
                    stage!("answered");
                    to.answer(reply);
                }
                Effect::Publish(signed) => self.publish(signed),
                Effect::PublishTo(signed, relays) => self.publish_to(signed, &relays),
                Effect::PublishOffer(call, signed, relays) => self.publish_offer(call, signed, &relays),
                Effect::Post(letter) => self.let_letter_out(letter),
                Effect::Listen(key, relays) => {
                    if let Err(error) = self.sessions.listen(&key, &relays) {
                        tracing::warn!(%error, "a session is not listened for");
                    }
                }
                Effect::Forget(key) => self.sessions.forget(&key),
                Effect::Answer(call, to, rumor, relays) => self.send_answer(&call, &to, &rumor, &relays),
                Effect::Keep(keeping) => self.works.keep(keeping),
                Effect::Carry(it) => self.carry_parcel(*it),
                Effect::Remove(path) => {
                    if let Err(error) = files::remove(&path) {
                        tracing::warn!(path = %path.display(), %error, "a file is not removed");
                    }
                }
                Effect::Cursor(relay, class, since) => self.pool.set_cursor(&relay, class, since),
                Effect::Count(count) => self.tally.count(count),
                Effect::Seen(event) => self.seen.insert(event),
                Effect::Audit(cursor) => {
                    if let Err(error) = self.write_audit(cursor) {
                        tracing::warn!(%error, "an event cannot be read back for the audit log");
                    }
                }
                Effect::AskOwner(errand) => self.run_errand(errand),
            }
        }
    }

    /// Hands an event to every link. What left a full queue for it is not lost: it stands in the outbox.
    pub(super) fn publish(&mut self, signed: Signed) {
        let gone: Vec<Published> = self.pool.publish(signed);
        if !gone.is_empty() {
            self.republish_soon();
        }
    }

    /// Something of the outbox is to be published again in a while.
    pub(super) fn republish_soon(&mut self) {
        self.republish_at.get_or_insert(Instant::now() + REPUBLISH_AFTER);
    }

    fn write_audit(&self, cursor: u64) -> Result<(), store::Error> {
        if let Some(entry) = self.store.event(cursor)?
            && let Some(event) = self.event_view(&entry)?
        {
            self.audit.write(&event);
        }
        Ok(())
    }
}
