//! One connection's side of the protocol, without the connection: frames and times in, frames and deliveries out.
//! [`super::actor`] does the input and output.
//!
//! Invariants:
//! * Nothing is delivered that the gate did not admit; nothing admitted is dropped.
//! * At most one event of ours is with the relay. It leaves the outbox only on the relay's word, or after meeting
//!   silence too often; whatever ends the connection, it is still the head of the queue.
//! * Every wait for the relay has a deadline, and every deadline that has passed is gone after [`Conversation::tick`].

mod publishing;

use std::time::Duration;

use nostr_sdk::Event;
use tokio::time::Instant;
use tracing::debug;

use self::publishing::Flight;
use super::auth::{Answer, Auth};
use super::desk::Link;
use super::echo::{Echo, Proof};
use super::lookup::{Asker, Lookup};
use super::subscription::{Closed, Effects, Place, Subscription, Waiter, claimed_id};
use super::{Delivery, Leave, Now};
use crate::api::RelayAuth;
use crate::mutants::{Mutant, planted};
use crate::proto::PublicKey;
use crate::transport::class::Class;
use crate::transport::frame::Frame;
use crate::transport::inbound::Outcome;
use crate::transport::ingest::{Rejection, Verdict};

/// Events with a wrong id or signature on one connection before it is given up: an honest relay checks what it
/// stores, one of an old version may hold a few.
const MAX_TAMPERED: u32 = 10;

/// NOTICEs of one minute that are logged; all are counted.
const NOTICES_LOGGED: u32 = 10;

/// Characters of a relay's words that are kept.
const MAX_WORDS: usize = 200;

/// The last ping.
struct Ping {
    due: Instant,
    sent: Option<Now>,
    answer_by: Option<Instant>,
}

pub(super) struct Conversation<'a> {
    link: &'a Link,
    effects: Effects,
    subscriptions: Vec<Subscription>,
    /// The version of the receivers that are subscribed to.
    receivers: u64,
    lookups: Vec<Lookup>,
    /// Of a link for sessions.
    echo: Option<Echo>,
    auth: Auth,
    flight: Option<Flight>,
    ping: Ping,
    ping_wanted: bool,
    tampered: u32,
    notices: (Instant, u32),
    stalled_at: Option<Instant>,
    proven: bool,
}

impl<'a> Conversation<'a> {
    /// Begins: subscribes to every class, sends what waits.
    pub(super) fn new(link: &'a Link, now: Now) -> Self {
        let cursors = link.desk().cursors;
        let echo = (!link.role.is_identity()).then(|| Echo::new(link, now));
        let subscriptions = link.role.classes().iter().map(|class| {
            let since = class.since(cursors[*class as usize], now.unix, &link.tuning);
            Subscription::new(*class, since, echo.as_ref().map(Echo::receiver))
        });
        let mut conversation = Self {
            link,
            effects: Effects::default(),
            subscriptions: subscriptions.collect(),
            echo,
            receivers: link.gate.version(),
            lookups: Vec::new(),
            auth: Auth::new(),
            flight: None,
            ping: Ping { due: now.instant + link.tuning.ping_every, sent: None, answer_by: None },
            ping_wanted: false,
            tampered: 0,
            notices: (now.instant, 0),
            stalled_at: None,
            proven: false,
        };
        for subscription in &mut conversation.subscriptions {
            match subscription.class {
                Class::Presence if !link.gate.looks() => subscription.rest(&mut conversation.effects),
                _ => subscription.open(link, now, &mut conversation.effects),
            }
        }
        conversation.publish(now);
        conversation
    }

    /// The next text frame to write: what the conversation needs first, then what waits for nothing.
    pub(super) fn next_frame(&mut self, now: Now) -> Option<String> {
        self.effects.frames.pop_front().or_else(|| Some(self.link.desk().frames.next(now.unix)?.message()))
    }

    /// Whether a WebSocket ping is to be written.
    pub(super) fn take_ping(&mut self) -> bool {
        std::mem::take(&mut self.ping_wanted)
    }

    /// The next thing to hand over.
    pub(super) fn next_delivery(&mut self) -> Option<Delivery> {
        self.effects.deliver.pop_front()
    }

    pub(super) fn has_deliveries(&self) -> bool {
        !self.effects.deliver.is_empty()
    }

    /// Whether the relay has proven to be well: it has told a class to its end.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whether nothing of ours is on its way or waiting.
    pub(super) fn is_idle(&self) -> bool {
        let desk = self.link.desk();
        self.flight.is_none() && desk.outbox.is_empty() && desk.frames.is_empty()
    }

    /// Opens the REQ for announcements, or takes it back, as is wanted now.
    fn look(&mut self, now: Now) {
        let looks = self.link.gate.looks();
        let presence = self.subscriptions.iter_mut().find(|it| it.class == Class::Presence);
        match presence {
            Some(presence) if looks && presence.closed == Closed::Unwanted => {
                presence.open(self.link, now, &mut self.effects);
            }
            Some(presence) if !looks && presence.closed != Closed::Unwanted => {
                presence.rest(&mut self.effects);
            }
            _ => {}
        }
    }

    /// Somebody has left something on the desk: an event, other receivers, or another wish.
    pub(super) fn wake(&mut self, now: Now) {
        self.look(now);
        let version = self.link.gate.version();
        if version != self.receivers {
            self.receivers = version;
            let wanted = |it: &&mut Subscription| it.closed != Closed::Unwanted;
            for subscription in self.subscriptions.iter_mut().filter(wanted) {
                subscription.open(self.link, now, &mut self.effects);
            }
        }
        self.publish(now);
    }

    /// Asks for everything stored of a class again.
    pub(super) fn refresh(&mut self, class: Class, waiter: Waiter, now: Now) {
        // The wish may be newer than what woke us.
        self.look(now);
        if let Some(subscription) = self.subscriptions.iter_mut().find(|it| it.class == class) {
            subscription.refresh(self.link, now, Some(waiter), &mut self.effects);
        }
    }

    /// Asks for a peer's list of inbox relays.
    pub(super) fn look_up(&mut self, key: PublicKey, asker: Asker, now: Now) {
        let by = now.instant + self.link.tuning.refresh_within;
        self.lookups.push(Lookup::begin(key, asker, by, &mut self.effects));
    }

    /// We read nothing for so long. The relay gets its time again; and as it may have dropped what it could not
    /// send, it is asked again, but not all the time.
    pub(super) fn resumed(&mut self, after: Duration, now: Now) {
        self.extend(after);
        let tuning = &self.link.tuning;
        let lately = self.stalled_at.is_some_and(|at| now.instant < at + tuning.stall_repeat);
        if after < tuning.stall || lately || planted(Mutant::LagIgnored) {
            return;
        }
        debug!(?after, "events were left unread; asking for them again");
        self.stalled_at = Some(now.instant);
        for subscription in &mut self.subscriptions {
            subscription.refresh(self.link, now, None, &mut self.effects);
        }
    }

    /// Moves every deadline of the relay's: the time was ours.
    pub(super) fn extend(&mut self, by: Duration) {
        if let Some(flight) = &mut self.flight {
            flight.decide_by += by;
        }
        if let Some(deadline) = &mut self.ping.answer_by {
            *deadline += by;
        }
        self.auth.extend(by);
        self.echo.iter_mut().for_each(|echo| echo.extend(by));
        self.subscriptions.iter_mut().for_each(|subscription| subscription.extend(by));
    }

    /// When [`Self::tick`] is to be called next.
    pub(super) fn deadline(&self, now: Now) -> Instant {
        let pause = if self.flight.is_none() { self.link.desk().pause.until(now.instant) } else { None };
        self.subscriptions
            .iter()
            .map(Subscription::deadline)
            .chain([pause, self.flight.as_ref().map(|flight| flight.decide_by)])
            .chain([self.ping.answer_by, self.auth.deadline()])
            .chain([self.echo.as_ref().and_then(Echo::deadline)])
            .chain(self.lookups.iter().map(|lookup| Some(lookup.by)))
            .flatten()
            .fold(self.ping.due, Instant::min)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Now) -> Result<(), Leave> {
        if self.ping.answer_by.is_some_and(|by| by <= now.instant) {
            return Err(Leave::Silent);
        }
        if self.ping.due <= now.instant {
            self.ping_wanted = true;
            self.ping.due = now.instant + self.link.tuning.ping_every;
            self.ping.sent = Some(now);
            self.ping.answer_by.get_or_insert(now.instant + self.link.tuning.pong_within);
        }
        if self.auth.deadline().is_some_and(|by| by <= now.instant) {
            debug!("no answer to AUTH");
            self.auth.unanswered(now);
            self.link.desk().status.auth = self.auth.state;
            self.authenticated(true, now);
        }
        for subscription in &mut self.subscriptions {
            if subscription.tick(self.link, now, &mut self.effects) {
                self.link.failed(format!("no end of stored events ({})", subscription.class));
            }
        }
        let late = |lookup: &mut Lookup| lookup.by <= now.instant;
        self.lookups.extract_if(.., late).for_each(|lookup| lookup.give_up(&mut self.effects));
        if self.echo.as_mut().is_some_and(|echo| echo.tick(self.link, now)) {
            self.send_echo(now);
        }
        match &self.flight {
            Some(flight) if flight.decide_by <= now.instant => {
                if !flight.unauthenticated {
                    return Err(Leave::Mute);
                }
                self.settle(Outcome::Refused { reason: "auth-required: and no challenge came".into() }, now);
            }
            Some(_) => {}
            None => self.publish(now),
        }
        Ok(())
    }

    /// Something came from the relay, whatever it is.
    pub(super) fn alive(&mut self) {
        self.ping.answer_by = None;
    }

    /// The answer to our ping came.
    pub(super) fn pong(&mut self, now: Now) {
        let Some(sent) = self.ping.sent.take() else { return };
        self.measured(now.instant - sent.instant);
        for subscription in &mut self.subscriptions {
            subscription.alive(self.link, sent.unix, now, &mut self.effects);
        }
    }

    fn measured(&self, round_trip: Duration) {
        self.link.desk().status.rtt_ms = Some(round_trip.as_secs_f64() * 1_000.0);
    }

    /// A text frame came.
    pub(super) fn receive(&mut self, text: &str, now: Now) -> Result<(), Leave> {
        match Frame::parse(text) {
            Ok(Frame::Event { subscription, event }) => {
                return self.event(&subscription, &event, text.len(), now);
            }
            Ok(Frame::Ok { id, accepted, message }) => {
                // A refusal without a name is about the one event in flight; an acceptance needs its name.
                let named = id.map(|id| crate::proto::Hex(id.to_bytes()));
                let unnamed = self.flight.as_ref().filter(|_| !accepted).map(|flight| flight.id);
                if let Some(id) = named.or(unnamed) {
                    self.decided(id, accepted, &message, now);
                }
            }
            Ok(Frame::EndOfStored { subscription }) => self.end_of_stored(&subscription, now),
            Ok(Frame::Closed { subscription, message }) => self.closed(&subscription, &message, now),
            Ok(Frame::Auth { challenge }) => self.challenged(&challenge, now),
            Ok(Frame::Notice { message }) => self.notice(&message, now),
            Ok(Frame::Other) => {}
            Err(error) => {
                self.link.desk().counters.unparsable += 1;
                debug!(%error, bytes = text.len(), "a frame that is no relay message");
            }
        }
        Ok(())
    }

    fn event(&mut self, id: &str, event: &Event, size: usize, now: Now) -> Result<(), Leave> {
        let link = self.link;
        if let Some(lookup) = self.lookups.iter_mut().find(|lookup| lookup.id == id) {
            let admitted = link.gate.admit_whereabouts(&lookup.key, event, size, now.unix);
            return admitted.map(|told| lookup.found(told)).or_else(|why| self.rejected(event, why));
        }
        let found = self.subscriptions.iter_mut().find_map(|subscription| {
            let place = subscription.place(id)?;
            Some((subscription, place))
        });
        let Some((subscription, place)) = found else {
            link.desk().counters.unknown_subscription += 1;
            debug!(event = %event.id, "an event for no subscription of ours");
            return Ok(());
        };
        if let Some(echo) = self.echo.as_mut().filter(|echo| echo.is_ours(event)) {
            if place == Place::Live {
                echo.came(link, event, now);
            }
            return Ok(());
        }
        let created_at = event.created_at.as_secs();
        let verdict = link.gate.admit(&link.relay, subscription.asked(place), event, size, now.unix);
        stage!("verified");
        let exists = match &verdict {
            Verdict::Deliver(_) | Verdict::Known => true,
            Verdict::Rejected(rejection) => rejection.counts_for_paging(),
        };
        if exists {
            subscription.saw(link, place, claimed_id(event), created_at, now);
        }
        match verdict {
            Verdict::Deliver(inbound) => {
                subscription.take(place, created_at, inbound, now, &mut self.effects)
            }
            Verdict::Known => {}
            Verdict::Rejected(rejection) => return self.rejected(event, rejection),
        }
        Ok(())
    }

    /// Sends an event to ourselves, if the relay would deliver it live.
    fn send_echo(&mut self, now: Now) {
        if let Some(echo) = &mut self.echo
            && self.subscriptions.iter().any(Subscription::is_live)
        {
            echo.send(self.link, now, &mut self.effects);
        }
    }

    fn rejected(&mut self, event: &Event, rejection: Rejection) -> Result<(), Leave> {
        self.link.desk().counters.count(rejection);
        debug!(event = %event.id, %rejection, "an event was not let in");
        if rejection.is_tampering() {
            self.tampered += 1;
            if self.tampered >= MAX_TAMPERED {
                return Err(Leave::Tampered);
            }
        }
        Ok(())
    }

    fn end_of_stored(&mut self, id: &str, now: Now) {
        let told = |lookup: &mut Lookup| lookup.id == id;
        self.lookups.extract_if(.., told).for_each(|lookup| lookup.end(&mut self.effects));
        let mut ended = false;
        let authenticating = self.auth.is_pending() || self.auth.state == RelayAuth::Failed;
        for subscription in &mut self.subscriptions {
            let proves_nothing = subscription.class.private() && authenticating;
            if subscription.end_of_stored(self.link, id, proves_nothing, now, &mut self.effects) {
                (self.proven, ended) = (true, true);
                if !proves_nothing {
                    self.link.desk().status.error = None;
                }
            }
        }
        if ended {
            self.send_echo(now);
        }
    }

    fn closed(&mut self, id: &str, message: &str, now: Now) {
        let unauthenticated = prefix(message) == "auth-required";
        let may_know_us =
            unauthenticated && self.auth.state != RelayAuth::Failed && !self.auth.is_exhausted();
        self.lookups.retain_mut(|lookup| {
            let closed = lookup.id == id;
            // It is put again as soon as the relay knows us, if that is before its deadline.
            lookup.unauthenticated |= closed && may_know_us;
            !closed || may_know_us
        });
        for subscription in &mut self.subscriptions {
            if subscription.place(id).is_some() {
                debug!(class = %subscription.class, message = words(message), "the relay closed a subscription");
                self.link.failed(format!("subscription closed: {}", words(message)));
                subscription.was_closed(self.link, id, unauthenticated, now, &mut self.effects);
            }
        }
    }

    fn notice(&mut self, message: &str, now: Now) {
        self.link.desk().counters.notices += 1;
        let (begun, count) = &mut self.notices;
        if now.instant >= *begun + Duration::from_secs(60) {
            (*begun, *count) = (now.instant, 0);
        }
        *count += 1;
        if *count <= NOTICES_LOGGED {
            debug!(message = words(message), "notice");
        }
    }

    fn challenged(&mut self, challenge: &str, now: Now) {
        let (link, within) = (self.link, self.link.tuning.ok_within);
        let pending = self.auth.is_pending();
        let identity = link.gate.identity();
        if let Some(message) = self.auth.challenge(identity, &link.relay, challenge, now, within) {
            self.effects.frames.push_back(message);
            link.desk().status.auth = self.auth.state;
        } else if !pending {
            link.desk().counters.challenges_ignored += 1;
            debug!("a challenge was not answered: too long, or one too many");
        }
    }

    /// The relay knows us. What it did not show before, it may show now.
    fn authenticated(&mut self, first: bool, now: Now) {
        let link = self.link;
        for subscription in &mut self.subscriptions {
            if subscription.closed == Closed::Unauthenticated || first && subscription.class.private() {
                subscription.open(link, now, &mut self.effects);
            }
        }
        self.send_echo(now);
        for lookup in self.lookups.iter_mut().filter(|lookup| lookup.unauthenticated) {
            lookup.ask(&mut self.effects);
        }
        if self.flight.as_ref().is_some_and(|flight| flight.unauthenticated) {
            self.resend(now);
        }
    }

    fn auth_decided(&mut self, accepted: bool, message: &str, now: Now) {
        let (link, within) = (self.link, self.link.tuning.ok_within);
        let first = self.auth.done_at.is_none();
        let answer = self.auth.decided(accepted, link.gate.identity(), &link.relay, now, within);
        link.desk().status.auth = self.auth.state;
        match answer {
            Answer::Accepted => self.authenticated(first, now),
            Answer::Again(message) => self.effects.frames.push_back(message),
            Answer::Refused => {
                debug!(message = words(message), "authentication failed");
                self.lookups.retain(|lookup| !lookup.unauthenticated);
                link.failed(format!("authentication failed: {}", words(message)));
                if self.flight.as_ref().is_some_and(|flight| flight.unauthenticated) {
                    self.settle(Outcome::Refused { reason: words(message) }, now);
                }
            }
        }
    }

    /// The connection is over: what was held back goes out, what was in flight goes back.
    pub(super) fn end(&mut self, leave: &Leave) {
        for subscription in &mut self.subscriptions {
            subscription.release(&mut self.effects);
        }
        let mut desk = self.link.desk();
        desk.heard.clear();
        desk.frames.clear();
        desk.proof = Proof::Awaited;
        let Some(flight) = self.flight.take() else { return };
        if flight.unauthenticated || leave.is_ours() {
            desk.outbox.put_back();
            return;
        }
        let given_up = desk.outbox.unanswered(self.link.tuning.tries_unanswered);
        drop(desk);
        if let Some(id) = given_up {
            debug!(event = %id, "an event of ours met only silence");
            self.published(id, Outcome::Unanswered);
        }
    }
}

/// The machine-readable word before the colon of an OK's or CLOSED's message.
fn prefix(message: &str) -> &str {
    message.split_once(':').map_or("", |(prefix, _)| prefix)
}

/// A relay's words, shortened.
fn words(message: &str) -> String {
    message.chars().take(MAX_WORDS).collect()
}
