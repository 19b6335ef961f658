//! What is open, when each question is put to the owner, and what is left to be carried. Pure: the time is handed in.
//!
//! A person who is asked all day answers without reading. So questions go out alone only so often in an hour, fewer of
//! them in calls with those whom the user does not know: what a peer can make an agent ask is what a peer can make reach
//! the owner. What comes on top waits a little and goes in one message. None is dropped: each stays open until it expires,
//! which decides nothing, and stands in `owner show` from the first moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::proto::{Millis, PublicKey, TicketId, Tier};
use crate::store::{StoredAsk, WayId};

/// The time in which questions are counted.
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
/// Most questions that go out alone in it.
const ALONE: usize = 10;
/// Most of them in calls with strangers, and with one stranger: what may ring (`proto/call/door.rs`).
const STRANGERS: usize = 5;
const STRANGER: usize = 3;
/// Most in calls with one peer whom the user has not named: what may ring.
const KNOWN: usize = 6;
/// How long the first one on top waits for others.
const GATHER: Duration = Duration::from_secs(5);
/// Between two messages with several questions: with those that go alone, 14 messages an hour at most.
const APART: Duration = Duration::from_secs(900);
/// Pauses before what was not carried is tried again; the last one, from then on.
const PAUSES_S: [u64; 6] = [2, 10, 60, 300, 900, 3_600];

/// A batch on a way: what goes in one message.
pub type JobId = (TicketId, WayId);

/// The other end of the call in which a question came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its key.
    pub key: PublicKey,
    /// How far it is trusted.
    pub tier: Tier,
}

/// When a question is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Not before.
    pub release: Millis,
    /// With others, in one message.
    pub digest: bool,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    expires_at: Millis,
    /// Until the ways have it.
    waits: Option<Plan>,
}

/// Something to be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The questions in it that are still open.
    pub tickets: Vec<TicketId>,
    /// When it is tried, or tried again.
    pub due: Millis,
    /// How often it was tried.
    pub tries: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Desk {
    open: BTreeMap<TicketId, Open>,
    jobs: BTreeMap<JobId, Job>,
    /// Jobs that a task has in hand. Not read back: the task is still there.
    under_way: BTreeSet<JobId>,
    /// What went out alone in the last hour.
    alone: Vec<(Millis, Option<Peer>)>,
    /// When several questions went out in one message last.
    digest_at: Option<Millis>,
}

impl Desk {
    /// Makes it equal to the database. `open` has each open question with its end, and the plan of one that the ways do
    /// not have yet.
    pub fn restore(
        &mut self,
        open: impl IntoIterator<Item = (TicketId, Millis, Option<Plan>)>,
        asks: Vec<StoredAsk>,
        alone: Vec<(Millis, Option<Peer>)>,
        digest_at: Option<Millis>,
    ) {
        self.open =
            open.into_iter().map(|(id, expires_at, waits)| (id, Open { expires_at, waits })).collect();
        self.jobs.clear();
        for StoredAsk { ticket, way, batch, due, tries } in asks {
            if self.open.contains_key(&ticket) {
                let job = Job { tickets: Vec::new(), due, tries };
                self.jobs.entry((batch, way)).or_insert(job).tickets.push(ticket);
            }
        }
        self.alone = alone;
        self.digest_at = digest_at;
    }

    /// When a question is to be put, that is asked now. Where `quiet_until` is set, the owner is left alone until then,
    /// unless that would be too late for the question.
    pub fn plan(
        &mut self,
        expires_at: Millis,
        peer: Option<Peer>,
        quiet_until: Option<Millis>,
        now: Millis,
    ) -> Plan {
        if let Some(release) = quiet_until.filter(|end| *end < expires_at) {
            return Plan { release, digest: true };
        }
        self.alone.retain(|(at, _)| *at + HOUR > now);
        if self.has_room_for(peer) {
            return Plan { release: now, digest: false };
        }
        let next = self.digest_at.map_or(now + GATHER, |last| (last + APART).max(now + GATHER));
        let waiting = self.open.values().filter_map(|open| open.waits.filter(|plan| plan.digest));
        let earlier = waiting.map(|plan| plan.release).filter(|release| *release > now).min();
        Plan { release: earlier.map_or(next, |earlier| earlier.min(next)), digest: true }
    }

    fn has_room_for(&self, peer: Option<Peer>) -> bool {
        let count = |is_it: &dyn Fn(&Peer) -> bool| {
            self.alone.iter().filter(|(_, of)| of.as_ref().is_some_and(is_it)).count()
        };
        let is_within = match peer {
            None => true,
            Some(Peer { tier: Tier::Contact, .. }) => true,
            Some(Peer { tier: Tier::Known, key }) => count(&|of| of.key == key) < KNOWN,
            Some(Peer { tier: Tier::Stranger, key }) => {
                count(&|of| of.key == key) < STRANGER && count(&|of| of.tier == Tier::Stranger) < STRANGERS
            }
        };
        is_within && self.alone.len() < ALONE
    }

    /// A question is open from now on, and put as planned.
    pub fn opened(&mut self, ticket: TicketId, expires_at: Millis, plan: Plan, peer: Option<Peer>) {
        self.open.insert(ticket, Open { expires_at, waits: Some(plan) });
        if !plan.digest {
            self.alone.push((plan.release, peer));
        }
    }

    /// A question is open no more.
    pub fn closed(&mut self, ticket: &TicketId) {
        self.open.remove(ticket);
        self.jobs.retain(|_, job| {
            job.tickets.retain(|id| id != ticket);
            !job.tickets.is_empty()
        });
    }

    /// Whether it is open.
    pub fn is_open(&self, ticket: &TicketId) -> bool {
        self.open.contains_key(ticket)
    }

    /// A question whose time is over.
    pub fn expired(&self, now: Millis) -> Option<TicketId> {
        self.open.iter().find(|(_, open)| open.expires_at <= now).map(|(id, _)| *id)
    }

    /// Batches whose time has come: the ways have them from now on.
    pub fn take_released(&mut self, now: Millis) -> Vec<Vec<TicketId>> {
        let mut batches = Vec::new();
        let mut together = Vec::new();
        for (id, open) in &mut self.open {
            match open.waits.take_if(|plan| plan.release <= now) {
                Some(Plan { digest: true, .. }) => together.push(*id),
                Some(_) => batches.push(vec![*id]),
                None => {}
            }
        }
        if !together.is_empty() {
            self.digest_at = Some(now);
            batches.push(together);
        }
        batches
    }

    /// Something is to be carried.
    pub fn add(&mut self, id: JobId, tickets: Vec<TicketId>, due: Millis) {
        self.jobs.insert(id, Job { tickets, due, tries: 0 });
    }

    /// What is to be carried.
    pub fn job(&self, id: &JobId) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// What is due and in nobody's hands, the first question first.
    pub fn due(&self, now: Millis) -> Vec<JobId> {
        let is_due = |(id, job): &(&JobId, &Job)| job.due <= now && !self.under_way.contains(*id);
        self.jobs.iter().filter(is_due).map(|(id, _)| *id).collect()
    }

    /// A task has it in hand.
    pub fn begin(&mut self, id: JobId) {
        self.under_way.insert(id);
    }

    /// Whether a task has it in hand.
    pub fn is_begun(&self, id: &JobId) -> bool {
        self.under_way.contains(id)
    }

    /// It is in nobody's hands any more.
    pub fn end(&mut self, id: &JobId) {
        self.under_way.remove(id);
    }

    /// It is done, or given up.
    pub fn finish(&mut self, id: &JobId) {
        self.jobs.remove(id);
    }

    /// It is looked at again at another time; `tried` if that was a try. Returns how often it was tried.
    pub fn put_off(&mut self, id: &JobId, due: Millis, tried: bool) -> u32 {
        let Some(job) = self.jobs.get_mut(id) else { return 0 };
        job.due = due;
        job.tries += u32::from(tried);
        job.tries
    }

    /// How long to wait after so many tries.
    pub fn pause(tries: u32) -> Duration {
        let place = (tries.saturating_sub(1) as usize).min(PAUSES_S.len() - 1);
        Duration::from_secs(PAUSES_S[place])
    }

    /// When something is to be done.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let expiry = self.open.values().map(|open| open.expires_at);
        let release = self.open.values().filter_map(|open| open.waits.map(|plan| plan.release));
        let due = self.jobs.iter().filter(|(id, _)| !self.under_way.contains(*id)).map(|(_, job)| job.due);
        expiry.chain(release).chain(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Hex;

    const NOW: Millis = Millis::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn id(number: u8) -> TicketId {
        Hex([number; 4])
    }

    fn peer(number: u8, tier: Tier) -> Option<Peer> {
        Some(Peer { key: Hex([number; 32]), tier })
    }

    /// Asks as the engine does, and says whether it went out alone.
    fn ask(desk: &mut Desk, number: u8, of: Option<Peer>, now: Millis) -> bool {
        let plan = desk.plan(now + DAY, of, None, now);
        desk.opened(id(number), now + DAY, plan, of);
        !plan.digest
    }

    #[test]
    fn so_many_questions_of_an_hour_go_alone_and_the_rest_in_one_message() {
        let mut desk = Desk::default();
        let alone = (0..30).filter(|number| ask(&mut desk, *number, None, NOW)).count();
        assert_eq!(alone, ALONE);
        assert_eq!(desk.take_released(NOW).len(), ALONE);
        assert!(desk.take_released(NOW + GATHER - Duration::from_millis(1)).is_empty());
        let batches = desk.take_released(NOW + GATHER);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [30 - ALONE]);
        // The next ones wait for their turn, together.
        let later = NOW + GATHER + Duration::from_secs(1);
        for number in 30..33 {
            assert!(!ask(&mut desk, number, None, later));
        }
        assert!(desk.take_released(NOW + GATHER + APART - Duration::from_millis(1)).is_empty());
        assert_eq!(desk.take_released(NOW + GATHER + APART)[0].len(), 3);
        assert!(ask(&mut desk, 40, None, NOW + HOUR), "an hour later there is room again");
    }

    #[test]
    fn what_a_peer_can_cause_is_less_the_less_it_is_known() {
        for (tier, limit) in [(Tier::Stranger, STRANGER), (Tier::Known, KNOWN), (Tier::Contact, ALONE)] {
            let mut desk = Desk::default();
            let alone = (0..20).filter(|number| ask(&mut desk, *number, peer(1, tier), NOW)).count();
            assert_eq!(alone, limit, "{tier:?}");
        }
        // Any number of strangers together leave room for what the agent asks for itself.
        let mut desk = Desk::default();
        let of_strangers =
            (0..50).filter(|number| ask(&mut desk, *number, peer(*number, Tier::Stranger), NOW)).count();
        assert_eq!(of_strangers, STRANGERS);
        assert!(ask(&mut desk, 100, None, NOW) && ask(&mut desk, 101, peer(200, Tier::Contact), NOW));
    }

    #[test]
    fn in_quiet_hours_what_can_wait_does_and_what_cannot_goes_at_once() {
        let mut desk = Desk::default();
        let end = NOW + Duration::from_secs(7 * 3_600);
        for number in 0..3 {
            let plan = desk.plan(NOW + DAY, None, Some(end), NOW);
            assert_eq!(plan, Plan { release: end, digest: true });
            desk.opened(id(number), NOW + DAY, plan, None);
        }
        let soon = desk.plan(NOW + Duration::from_secs(600), None, Some(end), NOW);
        assert_eq!(soon, Plan { release: NOW, digest: false });
        assert!(desk.take_released(NOW + Duration::from_secs(3_600)).is_empty());
        assert_eq!(desk.take_released(end), [vec![id(0), id(1), id(2)]], "one message in the morning");
    }

    #[test]
    fn what_expires_or_is_decided_is_carried_no_further() {
        let mut desk = Desk::default();
        assert!(ask(&mut desk, 1, None, NOW) && ask(&mut desk, 2, None, NOW));
        let way = Hex([9; 16]);
        desk.take_released(NOW);
        desk.add((id(1), way), vec![id(1), id(2)], NOW);
        assert_eq!(desk.due(NOW), [(id(1), way)]);
        desk.closed(&id(1));
        assert_eq!(desk.job(&(id(1), way)).unwrap().tickets, [id(2)]);
        desk.closed(&id(2));
        assert_eq!((desk.due(NOW), desk.poll_timeout()), (vec![], None));
    }

    #[test]
    fn what_is_in_hand_is_not_begun_twice_and_what_failed_is_tried_less_and_less_often() {
        let mut desk = Desk::default();
        assert!(ask(&mut desk, 1, None, NOW));
        let job = (id(1), Hex([9; 16]));
        desk.take_released(NOW);
        desk.add(job, vec![id(1)], NOW);
        desk.begin(job);
        assert!(desk.due(NOW).is_empty());
        desk.end(&job);
        let pauses: Vec<u64> = (1..9)
            .map(|tries| {
                assert_eq!(desk.put_off(&job, NOW, true), tries);
                Desk::pause(tries).as_secs()
            })
            .collect();
        assert_eq!(pauses, [2, 10, 60, 300, 900, 3_600, 3_600, 3_600]);
    }

    #[test]
    fn after_a_restart_all_is_as_it_was() {
        let mut desk = Desk::default();
        let way = Hex([9; 16]);
        let ask = |number, due| StoredAsk { ticket: id(number), way, batch: id(1), due, tries: 3 };
        let waits = Plan { release: NOW + GATHER, digest: true };
        desk.restore(
            [(id(1), NOW + DAY, None), (id(2), NOW + DAY, None), (id(3), NOW + DAY, Some(waits))],
            vec![ask(1, NOW), ask(2, NOW), ask(7, NOW)],
            vec![(NOW, None); ALONE],
            None,
        );
        let job = desk.job(&(id(1), way)).unwrap();
        assert_eq!((&job.tickets[..], job.tries), (&[id(1), id(2)][..], 3), "what is decided is not carried");
        assert!(desk.plan(NOW + DAY, None, None, NOW).digest, "a restart gives nobody a new allowance");
        assert_eq!(desk.take_released(NOW + GATHER), [vec![id(3)]]);
    }
}
