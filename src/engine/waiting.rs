//! Commands that block (`wait`, `await-call`, …): asked again when something of their topic has happened, and for the last
//! time when their time is up.

use tokio::time::Instant;

use super::core::{Core, Topic};
use super::handle::Request;
use crate::proto::Millis;

/// A command that was answered with "not yet".
pub(super) struct Waiter {
    pub(super) request: Request,
    /// What it is called as long as it is not answered.
    pub(super) number: u64,
    pub(super) since: Instant,
    pub(super) until: Instant,
    pub(super) topic: Topic,
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
        let stirred = std::mem::take(&mut self.stirred);
        self.wake_those(|waiter| stirred.contains(&waiter.topic), now);
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
