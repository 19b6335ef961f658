//! Which dialect a peer is spoken to in, where it reads its wraps, and which key it has now.
//!
//! A key that has shown v2 once is never called on legacy again, whatever a relay says later: it is remembered on the
//! disk. The way back is the user's alone (`contacts allow-legacy`).

use std::time::Duration;

use tokio::time::Instant;

use crate::api::{Error, ErrorKind};
use crate::engine::core::{Attempt, Core, Topic};
use crate::engine::effects::Effect;
use crate::proto::presence::V2;
use crate::proto::rotation::ROTATIONS_LIMIT;
use crate::proto::{Millis, Protocol, PublicKey};
use crate::store::{self, StoredPeer};
use crate::transport::v2::inbox;
use crate::transport::{Whereabouts, rotation};

/// How long a command waits for the relays' answer to where a peer is to be found.
const LOOKUP_TIME: Duration = Duration::from_secs(8);
/// Between two questions, while no relay is connected that could be asked.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long an answer is believed: a list changes about never.
const LOOKUP_FRESH: Duration = Duration::from_secs(300);
/// Most keys asked about at a time.
const LOOKUPS: usize = 256;

/// How a peer is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Dialect {
    /// Wraps and sessions.
    V2,
    /// NIP-04 in kind 4: it is online, and has shown nothing better.
    Legacy,
    /// Nothing is known of it, and no relay knows an inbox.
    Unknown,
    /// The relays are being asked where it reads its wraps, until then at the latest.
    Asking(Instant),
}

/// Where somebody reads its wraps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Inbox {
    pub(super) relays: Vec<String>,
    /// Bits of proof of work that it asks for.
    pub(super) work: u8,
}

/// A question to the relays: where does this key read its wraps, and has another taken its place?
#[derive(Debug)]
pub(super) struct Lookup {
    token: u64,
    begun_at: Instant,
    /// When to ask again, since there was nobody to ask.
    again_at: Option<Instant>,
    answer: Option<Whereabouts>,
}

impl Lookup {
    /// It is answered, and the relays know nothing.
    fn is_vain(&self) -> bool {
        self.answer.as_ref().is_some_and(Whereabouts::is_empty)
    }
}

impl Core {
    /// How a peer is spoken to; or that the relays are being asked where it reads its wraps.
    ///
    /// `mail` asks of somebody who need not be an agent.
    pub(in crate::engine) fn dialect(
        &mut self,
        key: &PublicKey,
        mail: bool,
        attempt: Attempt,
    ) -> Result<Dialect, store::Error> {
        let shown = self.directory.get(key, attempt.now).map(|entry| entry.content.protocol());
        let known = self.store.peer(key)?;
        if shown == Some(Protocol::Legacy) && self.book.get(key).is_some_and(|contact| contact.allow_legacy) {
            return Ok(Dialect::Legacy);
        }
        match (shown, &known) {
            (Some(Protocol::V2), _) => return Ok(Dialect::V2),
            (_, Some(known)) if !known.inbox.is_empty() => return Ok(Dialect::V2),
            (Some(Protocol::Legacy), None) if !mail => return Ok(Dialect::Legacy),
            _ => {}
        }
        let found = match self.look_up(key, attempt) {
            Ok(found) => found,
            Err(until) => return Ok(Dialect::Asking(until)),
        };
        Ok(match (found.inbox, known) {
            (Some(list), known) => {
                let peer = StoredPeer { inbox: list.relays, work: known.map_or(0, |known| known.work) };
                self.store.save_peer(key, &peer, attempt.now)?;
                Dialect::V2
            }
            // It has spoken v2 and published no list: our own relays are where it was met.
            (None, Some(_)) => Dialect::V2,
            (None, None) if shown == Some(Protocol::Legacy) => Dialect::Legacy,
            // A deployed agent is known by its announcement alone.
            (None, None) => match self.look_anew(attempt) {
                Some(until) => Dialect::Asking(until),
                None => Dialect::Unknown,
            },
        })
    }

    /// The key that a peer has now, as far as who knows only an earlier one can find out; or until when the relays are
    /// asked. A key that is online has itself been seen and is asked about no further.
    ///
    /// Each statement is signed by both of its keys, so a relay can withhold one and forge none; at most four are
    /// followed, as in an announcement. A circle, or two statements of one key for different ones, lead nowhere.
    pub(in crate::engine) fn current_key(
        &mut self,
        key: &PublicKey,
        attempt: Attempt,
    ) -> Result<Result<PublicKey, Instant>, store::Error> {
        let mut way = vec![*key];
        if !self.is_connected()
            && self.directory.get(key, attempt.now).is_none()
            && let Some(until) = self.patience(attempt)
        {
            return Ok(Err(until));
        }
        while let Some(last) = way.last().copied()
            && way.len() <= ROTATIONS_LIMIT
            && self.is_connected()
            && self.directory.get(&last, attempt.now).is_none()
        {
            let found = match self.look_up(&last, attempt) {
                Ok(found) => found,
                Err(until) => return Ok(Err(until)),
            };
            match found.rotations.as_slice() {
                [] => break,
                [rotation] if !way.contains(&rotation.new) => way.push(rotation.new),
                _ => {
                    tracing::warn!(%key, "its rotations contradict each other, and are not followed");
                    return Ok(Ok(*key));
                }
            }
        }
        let last = way.last().copied().unwrap_or(*key);
        self.follow_to(&way[..way.len() - 1], &last, attempt.now)?;
        Ok(Ok(last))
    }

    /// Asks the relays where somebody reads its messages who need not be an agent, and remembers it; or until when that
    /// is waited for.
    pub(in crate::engine) fn find_inbox(
        &mut self,
        key: &PublicKey,
        attempt: Attempt,
    ) -> Result<Result<(), Instant>, store::Error> {
        let found = match self.look_up(key, attempt) {
            Ok(found) => found,
            Err(until) => return Ok(Err(until)),
        };
        if let Some(list) = found.inbox {
            let work = self.store.peer(key)?.map_or(0, |known| known.work);
            self.store.save_peer(key, &StoredPeer { inbox: list.relays, work }, attempt.now)?;
        }
        Ok(Ok(()))
    }

    /// What the relays answer; or until when that is waited for.
    fn look_up(&mut self, key: &PublicKey, attempt: Attempt) -> Result<Whereabouts, Instant> {
        let lookups = &mut self.lines.lookups;
        // What was not there may be any moment: every command asks once.
        lookups.retain(|_, lookup| {
            let is_old = lookup.is_vain() && lookup.begun_at < attempt.since;
            lookup.begun_at.elapsed() < LOOKUP_FRESH && !is_old
        });
        if !lookups.contains_key(key) {
            if lookups.len() >= LOOKUPS {
                return Ok(Whereabouts::default());
            }
            let token = self.sessions.look_up(*key);
            let lookup = Lookup { token, begun_at: Instant::now(), again_at: None, answer: None };
            lookups.insert(*key, lookup);
        }
        let until = attempt.since + LOOKUP_TIME;
        match lookups.get(key).and_then(|lookup| lookup.answer.clone()) {
            Some(answer) => Ok(answer),
            None if attempt.last || until <= Instant::now() => {
                lookups.remove(key);
                Ok(Whereabouts::default())
            }
            None => Err(until),
        }
    }

    /// The relays have answered.
    pub(in crate::engine) fn handle_whereabouts(
        &mut self,
        token: u64,
        key: &PublicKey,
        found: Whereabouts,
        asked: usize,
    ) {
        let Some(lookup) = self.lines.lookups.get_mut(key).filter(|lookup| lookup.token == token) else {
            return;
        };
        if asked == 0 {
            lookup.again_at = Some(Instant::now() + ASK_AGAIN);
            return;
        }
        lookup.answer = Some(found);
        self.stir(Topic::Relays);
    }

    /// Asks again what nobody could be asked before.
    pub(in crate::engine) fn ask_again(&mut self) {
        let now = Instant::now();
        for (key, lookup) in &mut self.lines.lookups {
            if lookup.again_at.is_some_and(|at| at <= now) {
                lookup.again_at = None;
                if lookup.begun_at.elapsed() < LOOKUP_TIME {
                    lookup.token = self.sessions.look_up(*key);
                }
            }
        }
    }

    pub(in crate::engine) fn lookups_wake(&self) -> Option<Instant> {
        self.lines.lookups.values().filter_map(|lookup| lookup.again_at).min()
    }

    /// Where a peer reads its wraps, as far as is known: its presence, what was remembered of it, our own relays.
    pub(super) fn inbox_of(&self, key: &PublicKey) -> Result<Inbox, store::Error> {
        let announced = self.directory.get(key, self.wall());
        if let Some(V2 { inbox, pow, .. }) = announced.and_then(|entry| entry.content.p2p.as_ref())
            && !inbox.is_empty()
        {
            return Ok(Inbox { relays: inbox.clone(), work: *pow });
        }
        Ok(self
            .store
            .peer(key)?
            .map_or_else(Inbox::default, |peer| Inbox { relays: peer.inbox, work: peer.work }))
    }

    /// A peer has announced that it speaks v2.
    pub(in crate::engine) fn note_presence(
        &mut self,
        key: &PublicKey,
        shown: &V2,
        now: Millis,
    ) -> Result<(), store::Error> {
        let peer = StoredPeer { inbox: shown.inbox.clone(), work: shown.pow };
        self.work_more(key, shown.pow);
        if self.store.peer(key)?.as_ref() != Some(&peer) {
            self.store.save_peer(key, &peer, now)?;
        }
        Ok(())
    }

    /// A peer has spoken v2, and perhaps told where it reads its wraps.
    pub(super) fn note_v2(
        &mut self,
        key: &PublicKey,
        inbox: &[String],
        now: Millis,
    ) -> Result<(), store::Error> {
        let known = self.store.peer(key)?;
        if known.as_ref().is_none_or(|known| !inbox.is_empty() && known.inbox != inbox) {
            let work = known.map_or(0, |known| known.work);
            self.store.save_peer(key, &StoredPeer { inbox: inbox.to_vec(), work }, now)?;
        }
        Ok(())
    }

    /// Where we read our wraps.
    pub(in crate::engine) fn own_inbox(&self) -> Vec<String> {
        self.pool.inbox_relays().map(ToString::to_string).collect()
    }

    /// Tells everybody where we read our wraps (kind 10050), and whose place this key took, once a start.
    pub(in crate::engine) fn publish_inbox(&mut self, now: Millis) {
        if std::mem::replace(&mut self.inbox_published, true) {
            return;
        }
        let relays: Vec<_> = self.pool.inbox_relays().cloned().collect();
        let created_at = self.next_second(now);
        match inbox::sign(&self.identity, &relays, created_at) {
            Ok(signed) => self.effects.push(Effect::Publish(signed)),
            Err(error) => tracing::warn!(%error, "the list of inbox relays cannot be signed"),
        }
        for rotation in &self.rotations {
            match rotation::publish(rotation) {
                Ok(signed) => self.effects.push(Effect::Publish(signed)),
                Err(error) => tracing::warn!(%error, "a rotation cannot be published"),
            }
        }
    }
}

/// The error for somebody who cannot be reached in any dialect.
pub(in crate::engine) fn nowhere(key: &PublicKey) -> Error {
    Error::new(
        ErrorKind::UnknownAgent,
        format!("{} is not online, and no relay knows where it reads its mail", crate::transport::npub(key)),
        "see who is online: p2p-comm list; it may use other relays than yours: p2p-comm config get relays",
    )
}
