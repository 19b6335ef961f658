//! Commands that block (`wait`, `await-call`, …): asked again when something of their topic has happened, and for the last
//! time when their time is up.

use tokio::time::Instant;

use super::core::{Core, Topic};
use super::handle::Request;
use crate::api::Command;
use crate::proto::Millis;
use crate::store::NewEvent;

/// A command that was answered with "not yet".
pub(super) struct Waiter {
    pub(super) request: Request,
    /// What it is called as long as it is not answered.
    pub(super) number: u64,
    pub(super) since: Instant,
    pub(super) until: Instant,
    pub(super) topic: Topic,
}

impl Waiter {
    /// Whether asking it again could end its wait: a `wait` ends with an event that it wants, and with nothing else. Without
    /// this, each event would cost a search of the journal for everybody who waits for another.
    fn is_concerned(&self, stirred: &[Topic], news: &[NewEvent]) -> bool {
        let is_concerned = match &self.request.command {
            Command::Wait { call, kinds, .. } => {
                news.iter().any(|event| event.is_wanted(kinds) && (call.is_none() || *call == event.call))
            }
            _ => true,
        };
        is_concerned && stirred.contains(&self.topic)
    }
}

/// For how long a command has waited, and until when it would.
pub(super) struct Waiting {
    pub(super) number: u64,
    pub(super) since: Instant,
    pub(super) until: Instant,
}

impl Core {
    /// Asks again the commands that waited for what has happened.
    pub(super) fn wake(&mut self, now: Millis) {
        let (stirred, news) = (std::mem::take(&mut self.stirred), std::mem::take(&mut self.news));
        self.wake_those(|waiter| waiter.is_concerned(&stirred, &news), now);
    }

    /// Asks for the last time the commands whose time is up, and forgets those that nobody waits for any more.
    pub(super) fn wake_expired(&mut self, now: Millis) {
        self.waiters.retain(|waiter| !waiter.request.reply.is_closed());
        let instant = Instant::now();
        if self.waiters.iter().any(|waiter| waiter.until <= instant) {
            self.wake_those(|waiter| waiter.until <= instant, now);
        }
    }

    fn wake_those(&mut self, chosen: impl Fn(&Waiter) -> bool, now: Millis) {
        let mut due: Vec<Waiter> = self.waiters.extract_if(.., |waiter| chosen(waiter)).collect();
        due.retain(|waiter| !waiter.request.reply.is_closed());
        if due.is_empty() {
            return;
        }
        let mut due = due.into_iter();
        let asked = self.store.begin().and_then(|()| {
            due.try_for_each(|Waiter { request, number, since, until, .. }| {
                self.dispatch(request, Some(&Waiting { number, since, until }), now)
            })
        });
        if let Err(error) = &asked {
            self.refuse(due.map(|waiter| waiter.request), error);
        }
        let committed = asked
            .and_then(|()| self.say_reads(now))
            .and_then(|()| self.settle(now))
            .and_then(|()| self.store.commit());
        self.conclude(committed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::engine::outputs::event;
    use crate::proto::authority::Role;
    use crate::proto::{CallId, EventKind, Hex};

    fn waiter(command: Command, topic: Topic) -> Waiter {
        let (reply, _) = oneshot::channel();
        let request = Request { command, role: Role::Agent, reply: Box::new(reply) };
        let now = Instant::now();
        Waiter { request, number: 0, since: now, until: now + Duration::from_secs(60), topic }
    }

    fn wait(call: Option<CallId>, kinds: &[EventKind]) -> Waiter {
        let command = Command::Wait {
            consumer: None,
            after: Some(0),
            call,
            kinds: kinds.to_vec(),
            ahead: 0,
            timeout_s: 60.0,
        };
        waiter(command, Topic::Journal)
    }

    #[test]
    fn a_wait_is_asked_again_for_what_it_waits_for_and_for_nothing_else() {
        let (mine, other) = (Some(Hex([1; 8])), Some(Hex([2; 8])));
        let now = Millis::from_secs(1_800_000_000);
        let came = [event(EventKind::MessageReceived, mine, now)];
        let wakes = |waiter: Waiter, news: &[NewEvent]| waiter.is_concerned(&[Topic::Journal], news);
        assert!(wakes(wait(None, &[]), &came) && wakes(wait(mine, &[EventKind::MessageReceived]), &came));
        assert!(!wakes(wait(other, &[]), &came) && !wakes(wait(None, &[EventKind::CallMissed]), &came));
        // What this side did itself, and what is told by kind only, comes to who asks for it by kind.
        let own = [NewEvent { own: true, ..event(EventKind::CallEnded, mine, now) }];
        let quiet = [event(EventKind::MessageRelayed, mine, now)];
        assert!(!wakes(wait(None, &[]), &own) && wakes(wait(None, &[EventKind::CallEnded]), &own));
        assert!(!wakes(wait(None, &[]), &quiet) && wakes(wait(None, &[EventKind::MessageRelayed]), &quiet));
        // Others wait for rows, which change without an event, and each for its topic.
        let call = waiter(Command::AwaitCall { call: Hex([1; 8]), timeout_s: 60.0 }, Topic::Journal);
        assert!(wakes(call, &[]));
        let list = waiter(Command::List { capability: None, limit: None }, Topic::Relays);
        assert!(!wakes(list, &came));
    }
}
