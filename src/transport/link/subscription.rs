//! One class at one relay: the REQ that stays open, and the walk through what was stored before it.
//!
//! ```text
//!            open                    EOSE, pages …, end
//!   closed ────────▶ open + syncing ───────────────────▶ open ──┐ refresh: a walk of its own
//!      ▲                   │                              │ ▲───┘ beside the open REQ
//!      └───────────────────┴──────── CLOSED ──────────────┘
//! ```
//!
//! The first page is the answer to the open REQ itself; the further ones are REQs of their own, closed when their
//! page is over, so that nothing is missed between stored and live. Every id is random, and new for each page: what
//! comes late for an old one is not ours any more.
//!
//! While a class that is to be ordered is syncing, everything is held back, live events too, and handed over oldest
//! first at the end. The hold is bounded in number, bytes and time; past a bound what is held goes out as it is.

use std::collections::VecDeque;
use std::time::Duration;

use nostr_sdk::{ClientMessage, JsonUtil, SubscriptionId, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::paging::Paging;
use super::{Delivery, Link, Now, random_name};
use crate::proto::presence::DIRECTORY_LIMIT;
use crate::proto::{EventId, Hex};
use crate::transport::class::Class;
use crate::transport::inbound::Inbound;
use crate::transport::ingest::Asked;
use crate::transport::question::Told;

/// Messages held back to be put in order: the mailbox of some hours, twenty full pages.
const MAX_HELD: usize = 10_000;
/// Bytes of them: 250 of the largest, 16 MiB for each link at most.
const MAX_HELD_BYTES: usize = 16 * 1024 * 1024;
/// What a held message costs beside its payload.
const HELD_OVERHEAD: usize = 256;

/// Where a refresh hears that a link has told everything.
pub(in crate::transport) type Waiter = mpsc::Sender<Told>;

/// What a subscription brings about: text frames to write, things to hand over.
#[derive(Default)]
pub(super) struct Effects {
    pub frames: VecDeque<String>,
    pub deliver: VecDeque<Delivery>,
}

/// Which of a class's REQs an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Live,
    Stored,
}

/// Why a subscription is not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    No,
    /// Until somebody looks at who is online.
    Unwanted,
    /// Until the relay knows who we are, or the retry comes.
    Unauthenticated,
    /// Until the retry.
    Refused,
}

/// A walk under way.
struct Sync {
    /// The REQ whose EOSE ends the current page.
    page: String,
    /// When the walk was asked for, in seconds: the cursor that it is good for.
    asked_at: u64,
    paging: Paging,
    /// Events that came.
    count: usize,
    /// None once the relay let it pass: the end is still waited for, but nothing else waits for the end.
    quiet_by: Option<Instant>,
    ordered_by: Instant,
    waiters: Vec<Waiter>,
}

/// A message held back. Stored events come newest first, so within one second the later arrival is the elder; live
/// ones come in their order.
struct Held {
    created_at: u64,
    live: bool,
    rank: i64,
    inbound: Inbound,
}

pub(super) struct Subscription {
    pub class: Class,
    pub closed: Closed,
    since: u64,
    /// Whom the open REQ is for, where it is for somebody.
    receivers: Vec<String>,
    /// One more, of which the pool knows nothing: see [`super::echo`].
    echo: Option<String>,
    live: String,
    /// The REQ that the open one took the place of: what was on its way under it is still ours.
    retired: String,
    sync: Option<Sync>,
    held: Vec<Held>,
    held_bytes: usize,
    arrivals: i64,
    retry_wait: Duration,
    retry_at: Option<Instant>,
    /// When the cursor was last moved; none before the first full walk.
    cursor_moved: Option<Instant>,
}

impl Subscription {
    /// The same `since` serves for the whole connection: what a relay did not show before it knew us, it shows
    /// after.
    pub(super) fn new(class: Class, since: u64, echo: Option<String>) -> Self {
        Self {
            class,
            closed: Closed::Refused,
            since,
            receivers: Vec::new(),
            echo,
            live: String::new(),
            retired: String::new(),
            sync: None,
            held: Vec::new(),
            held_bytes: 0,
            arrivals: 0,
            retry_wait: Duration::ZERO,
            retry_at: None,
            cursor_moved: None,
        }
    }

    /// Sends the REQ, in place of an open one if there is one.
    pub(super) fn open(&mut self, link: &Link, now: Now, effects: &mut Effects) {
        let waiters = self.abandon(effects);
        let was_open = self.closed == Closed::No;
        self.retired = std::mem::take(&mut self.live);
        self.receivers = link.gate.receivers().keys;
        self.retry_at = None;
        self.closed = Closed::No;
        self.live = random_name();
        self.begin(link, now, self.live.clone(), waiters, effects);
        // After the new one, so that there is no moment without.
        if was_open {
            close(effects, &self.retired);
        }
    }

    /// Takes the REQ back, if it is open. Nobody wants what would come.
    pub(super) fn rest(&mut self, effects: &mut Effects) {
        drop(self.abandon(effects));
        if self.closed == Closed::No {
            close(effects, &self.live);
        }
        (self.closed, self.retry_at) = (Closed::Unwanted, None);
    }

    /// Walks through the stored events once more, beside the open REQ. Joins a walk that is under way. If the
    /// subscription is closed, the waiter is dropped, which says so.
    pub(super) fn refresh(&mut self, link: &Link, now: Now, waiter: Option<Waiter>, effects: &mut Effects) {
        match &mut self.sync {
            Some(sync) => sync.waiters.extend(waiter),
            None if self.closed == Closed::No => {
                self.begin(link, now, random_name(), waiter.into_iter().collect(), effects);
            }
            None => {}
        }
    }

    fn begin(&mut self, link: &Link, now: Now, page: String, waiters: Vec<Waiter>, effects: &mut Effects) {
        // Announcements age while a connection lasts.
        if !self.class.private() {
            self.since = self.class.since(None, now.unix, &link.tuning);
        }
        self.ask(link, &page, None, effects);
        self.sync = Some(Sync {
            page,
            asked_at: now.unix,
            paging: Paging::new(self.since, link.tuning.full_page),
            count: 0,
            quiet_by: Some(now.instant + link.tuning.page_quiet),
            ordered_by: now.instant + link.tuning.order_within,
            waiters,
        });
    }

    fn ask(&self, link: &Link, id: &str, until: Option<u64>, effects: &mut Effects) {
        let receivers: Vec<_> = self.receivers.iter().chain(&self.echo).cloned().collect();
        let mut filter = self.class.filter(&receivers, self.since, link.tuning.page);
        if let Some(until) = until {
            filter = filter.until(Timestamp::from_secs(until));
        }
        effects.frames.push_back(ClientMessage::req(SubscriptionId::new(id), vec![filter]).as_json());
    }

    /// Whether a subscription id is one of ours, and which.
    pub(super) fn place(&self, id: &str) -> Option<Place> {
        if self.closed != Closed::No {
            None
        } else if self.sync.as_ref().is_some_and(|sync| sync.page == id) {
            Some(Place::Stored)
        } else if self.live == id || self.retired == id {
            Some(Place::Live)
        } else {
            None
        }
    }

    /// What may come under a REQ at this moment.
    pub(super) fn asked(&self, place: Place) -> Asked {
        let until = match (place, &self.sync) {
            (Place::Stored, Some(sync)) => sync.paging.until(),
            _ => None,
        };
        Asked { class: self.class, since: self.since, until }
    }

    /// Notes that an event exists, whether it is new or not.
    pub(super) fn saw(&mut self, link: &Link, place: Place, id: EventId, created_at: u64, now: Now) {
        if let (Place::Stored, Some(sync)) = (place, &mut self.sync) {
            sync.paging.saw(id, created_at);
            sync.count += 1;
            sync.quiet_by = sync.quiet_by.map(|_| now.instant + link.tuning.page_quiet);
        }
    }

    /// Hands an event over, or holds it back until it can be put in order.
    pub(super) fn take(
        &mut self,
        place: Place,
        created_at: u64,
        inbound: Inbound,
        now: Now,
        effects: &mut Effects,
    ) {
        let ordering =
            self.class.ordered() && self.sync.as_ref().is_some_and(|sync| now.instant < sync.ordered_by);
        if !ordering {
            effects.deliver.push_back(Delivery::Inbound(inbound));
            return;
        }
        let payload = match &inbound {
            Inbound::Direct { payload, .. } => payload.len(),
            Inbound::Wrap { wrap, .. } => wrap.size(),
            _ => 0,
        };
        self.arrivals += 1;
        let live = place == Place::Live;
        let rank = if live { self.arrivals } else { -self.arrivals };
        self.held.push(Held { created_at, live, rank, inbound });
        self.held_bytes += payload + HELD_OVERHEAD;
        if self.held.len() >= MAX_HELD || self.held_bytes >= MAX_HELD_BYTES {
            self.release(effects);
        }
    }

    /// Hands over what is held, oldest first.
    pub(super) fn release(&mut self, effects: &mut Effects) {
        self.held.sort_by_key(|held| (held.created_at, held.live, held.rank));
        self.held_bytes = 0;
        effects.deliver.extend(self.held.drain(..).map(|held| Delivery::Inbound(held.inbound)));
        self.held.shrink_to(0);
    }

    /// The relay has told all that it had for a REQ. With `proves_nothing`, the relay may have kept back what is
    /// only for the authenticated: the cursor stays. Returns whether a walk ended.
    pub(super) fn end_of_stored(
        &mut self,
        link: &Link,
        id: &str,
        proves_nothing: bool,
        now: Now,
        effects: &mut Effects,
    ) -> bool {
        let Some(sync) = self.sync.as_mut().filter(|sync| sync.page == id) else { return false };
        let turn = sync.paging.page_ended();
        if id != self.live {
            close(effects, id);
        }
        let relay = &link.relay;
        if let Some(second) = turn.gap.filter(|_| self.class.has_gaps()) {
            let gap = Inbound::Gap { relay: relay.clone(), class: self.class, second };
            effects.deliver.push_back(Delivery::Inbound(gap));
        }
        // Of announcements, more than are remembered need not be read.
        let enough = self.class == Class::Presence && sync.count >= DIRECTORY_LIMIT;
        if turn.next.is_some() && !enough {
            let telling = sync.waiters.iter().cloned().map(|waiter| Delivery::Answered(waiter, Told::Page));
            effects.deliver.extend(telling);
            let page = random_name();
            sync.page.clone_from(&page);
            sync.quiet_by = Some(now.instant + link.tuning.page_quiet);
            self.ask(link, &page, turn.next, effects);
            return false;
        }
        let Some(sync) = self.sync.take() else { return false };
        self.release(effects);
        self.retry_wait = Duration::ZERO;
        if !proves_nothing {
            self.synced(link, sync.asked_at, now, effects);
        }
        let told = sync.waiters.into_iter().map(|waiter| Delivery::Answered(waiter, Told::All));
        effects.deliver.extend(told);
        true
    }

    fn synced(&mut self, link: &Link, since_request: u64, now: Now, effects: &mut Effects) {
        self.cursor_moved = Some(now.instant);
        if self.class == Class::Session {
            link.desk().heard.clone_from(&self.receivers);
            if self.receivers.is_empty() {
                return;
            }
        }
        let synced = Inbound::Synced { relay: link.relay.clone(), class: self.class, since_request };
        effects.deliver.push_back(Delivery::Inbound(synced));
        link.desk().synced[self.class as usize] = true;
    }

    /// Whether everything that comes now is live: the REQ is open, and what was stored is told.
    pub(super) fn is_live(&self) -> bool {
        self.closed == Closed::No && self.sync.is_none()
    }

    /// A sign of life of the relay for a question asked at `asked_at`: live events before it have arrived, so that
    /// from time to time the cursor may follow.
    pub(super) fn alive(&mut self, link: &Link, asked_at: u64, now: Now, effects: &mut Effects) {
        let due = self.cursor_moved.is_some_and(|moved| now.instant >= moved + link.tuning.cursor_every);
        if due && self.class.private() && self.sync.is_none() && self.closed == Closed::No {
            self.synced(link, asked_at, now, effects);
        }
    }

    /// The relay ended a REQ of this class: all of it begins again after a wait.
    pub(super) fn was_closed(
        &mut self,
        link: &Link,
        id: &str,
        unauthenticated: bool,
        now: Now,
        effects: &mut Effects,
    ) {
        if self.place(id).is_none() || id == self.retired {
            return;
        }
        if self.class == Class::Session {
            link.desk().heard.clear();
        }
        if id != self.live {
            close(effects, &self.live);
        }
        drop(self.abandon(effects));
        self.closed = if unauthenticated { Closed::Unauthenticated } else { Closed::Refused };
        let tuning = &link.tuning;
        self.retry_wait = (self.retry_wait * 2).clamp(tuning.resubscribe_first, tuning.resubscribe_most);
        self.retry_at = Some(now.instant + self.retry_wait);
    }

    /// Ends a walk where it is: what it found goes out, what it did not find stays for the next one.
    fn abandon(&mut self, effects: &mut Effects) -> Vec<Waiter> {
        let Some(sync) = self.sync.take() else { return Vec::new() };
        if sync.page != self.live {
            close(effects, &sync.page);
        }
        self.release(effects);
        sync.waiters
    }

    /// Does what is due. Returns whether a page had no end.
    pub(super) fn tick(&mut self, link: &Link, now: Now, effects: &mut Effects) -> bool {
        if self.retry_at.is_some_and(|at| at <= now.instant) {
            self.open(link, now, effects);
        }
        let Some(sync) = &mut self.sync else { return false };
        let endless = sync.quiet_by.is_some_and(|by| by <= now.instant);
        if endless {
            sync.quiet_by = None;
            sync.ordered_by = now.instant;
            sync.waiters.clear();
        }
        if sync.ordered_by <= now.instant {
            self.release(effects);
        }
        endless
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let sync = self.sync.as_ref();
        let ordered_by = sync.filter(|_| !self.held.is_empty()).map(|sync| sync.ordered_by);
        [self.retry_at, sync.and_then(|sync| sync.quiet_by), ordered_by].into_iter().flatten().min()
    }

    /// We did not listen for a while: the relay gets its time again.
    pub(super) fn extend(&mut self, by: Duration) {
        if let Some(sync) = &mut self.sync {
            sync.quiet_by = sync.quiet_by.map(|quiet_by| quiet_by + by);
        }
    }
}

fn close(effects: &mut Effects, id: &str) {
    effects.frames.push_back(ClientMessage::close(SubscriptionId::new(id)).as_json());
}

/// The id of an event as the relay claims it.
pub(super) fn claimed_id(event: &nostr_sdk::Event) -> EventId {
    Hex(event.id.to_bytes())
}
