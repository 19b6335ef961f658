//! Looking at who is online.
//!
//! Everybody announces itself to everybody every two minutes. To listen to all of it all the time costs each agent in
//! proportion to their number, and all relays together by its square; and nearly always nobody is looking. So in a crowd an
//! agent listens while somebody looks, and some minutes longer; the rest of the time it only announces itself
//! (`docs/scale.md`, `docs/decisions/0013-presence-on-demand.md`):
//!
//! ```text
//!              nobody has looked for two minutes, and it is a crowd
//!   listening ─────────────────────────────────────────────────────▶ resting
//!       ▲                                                               │
//!       └─── list; call, send or contacts with a name that is not known ┘
//! ```
//!
//! Whoever looks while it rests waits for one walk through the relays' announcements. Who rings is checked without them,
//! and where a key reads its wraps is asked for by that key.

#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use super::core::{Attempt, Core};
use crate::transport::Class;

/// How long it is listened after the last look. Longer, and what comes in meanwhile would be more than the walk that it
/// saves the next look.
const LISTEN_FOR: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 120_000 });
/// From so many agents on it is a crowd: below, their announcements are fewer than one a second.
const CROWD: usize = if cfg!(test) { 8 } else { 100 };
/// A look is fresh for so long: announcements come live besides.
const FRESH: Duration = Duration::from_secs(10);
/// The same in a crowd, where a look takes many pages, and where the open REQ brings each agent again within this time.
const FRESH_IN_CROWD: Duration = Duration::from_secs(120);
/// How long a look waits for relays to answer.
const QUERY_TIME: Duration = Duration::from_secs(3);
/// The same while announcements come in: ten thousand agents are twenty pages and more.
const WALK_TIME: Duration = Duration::from_secs(20);
/// Announcements come in as long as the last one is not older than this.
const STILL_COMING: Duration = Duration::from_secs(1);

/// Whether, and since when, it is looked at who is online.
#[derive(Debug)]
pub(super) struct Outlook {
    /// Announcements are not asked for.
    resting: bool,
    looked_at: Instant,
    /// The number of the last question to the relays, until it is answered; and whether somebody waits for that.
    token: Option<u64>,
    under_way: bool,
    answered_at: Option<Instant>,
    /// When somebody's announcement came last.
    heard_at: Option<Instant>,
}

impl Outlook {
    /// One begins by listening: who starts an agent is about to look.
    pub(super) fn new() -> Self {
        let looked_at = Instant::now();
        Self { resting: false, looked_at, token: None, under_way: false, answered_at: None, heard_at: None }
    }

    /// Somebody has announced itself.
    pub(super) fn hear(&mut self) {
        self.heard_at = Some(Instant::now());
    }

    /// The relays have answered a question. Returns whether it was the last one.
    pub(super) fn handle_answer(&mut self, token: u64) -> bool {
        let is_last = self.token == Some(token);
        if is_last {
            (self.token, self.under_way, self.answered_at) = (None, false, Some(Instant::now()));
        }
        is_last
    }

    /// Whether announcements are asked for.
    pub(super) fn is_listening(&self) -> bool {
        !self.resting
    }
}

impl Core {
    /// Looks at who is online. Returns until when the answer is waited for, if it is.
    pub(super) fn look(&mut self, attempt: Attempt) -> Option<Instant> {
        let fresh = if self.is_crowd() { FRESH_IN_CROWD } else { FRESH };
        let outlook = &mut self.outlook;
        outlook.looked_at = Instant::now();
        if std::mem::take(&mut outlook.resting) {
            tracing::debug!("somebody looks at who is online: announcements are asked for");
            outlook.answered_at = None;
            self.pool.look(true);
        }
        let fresh = fresh.max(attempt.since.elapsed());
        let is_fresh = outlook.answered_at.is_some_and(|at| at.elapsed() <= fresh);
        let mut until = attempt.since + QUERY_TIME;
        if let Some(heard) = outlook.heard_at.filter(|_| outlook.under_way) {
            until = until.max((heard + STILL_COMING).min(attempt.since + WALK_TIME));
        }
        if is_fresh || until <= Instant::now() {
            // A question that no relay answers in time is not waited for again.
            outlook.under_way &= is_fresh;
            return None;
        }
        if !outlook.under_way {
            outlook.token = Some(self.pool.refresh(Class::Presence));
            outlook.under_way = true;
        }
        Some(until)
    }

    /// The same for a command that misses somebody: who was not heard may be there, unless all were listened to.
    pub(super) fn look_anew(&mut self, attempt: Attempt) -> Option<Instant> {
        let unheard = !self.outlook.is_listening() || self.outlook.under_way;
        if unheard { self.look(attempt) } else { None }
    }

    /// Asks for announcements no more, when nobody has looked for long.
    pub(super) fn rest_outlook(&mut self) {
        let outlook = &self.outlook;
        let is_idle = outlook.looked_at.elapsed() >= LISTEN_FOR && !outlook.under_way;
        if is_idle && outlook.is_listening() && self.is_crowd() {
            tracing::debug!("nobody looks at who is online: announcements are not asked for");
            self.outlook.resting = true;
            self.pool.look(false);
        }
    }

    /// When [`Self::rest_outlook`] is due.
    pub(super) fn outlook_wake(&self) -> Option<Instant> {
        let outlook = &self.outlook;
        let may_rest = outlook.is_listening() && !outlook.under_way && self.is_crowd();
        may_rest.then(|| outlook.looked_at + LISTEN_FOR)
    }

    fn is_crowd(&self) -> bool {
        self.directory.extent().0 >= CROWD
    }
}
