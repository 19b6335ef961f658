//! All relays together: what the engine holds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::info;

use super::class::Class;
use super::clock::Clock;
use super::identity::Identity;
use super::inbound::{Inbound, Published};
use super::ingest::{Gate, Seen};
use super::link::{Actor, Command, Control, Counters, Link, Role};
use super::question::{MAX_COMMANDS, Question, Told};
use super::signed::Signed;
use super::tuning::Tuning;
use super::url::{BadRelayUrl, RelayId};
use crate::api::RelayStatus;

/// What a pool starts with.
pub struct Options {
    /// The relays where agents meet (announcements, the legacy dialect), as the user wrote them. One that is named
    /// twice is one.
    pub relays: Vec<String>,
    /// The relays where gift wraps to us are read; they may be the same. None where only the legacy dialect is
    /// spoken.
    pub inbox: Vec<String>,
    /// Who we are.
    pub identity: Identity,
    /// Up to where each class of a relay is journalled, in seconds, as [`Inbound::Synced`] told it.
    pub cursors: Vec<(String, Class, u64)>,
    /// Where everything goes. Its bound is the backpressure.
    pub inbound: mpsc::Sender<Inbound>,
    /// Tells which events are journalled, so that they need not be verified again.
    pub seen: Option<Seen>,
    /// [`Tuning::DEFAULT`], but in tests.
    pub tuning: Tuning,
}

/// The links to all relays of one identity. Dropping it ends them at once; [`Pool::stop`] lets them finish.
pub struct Pool {
    /// The meeting relays first.
    links: Vec<(Arc<Link>, mpsc::Sender<Command>)>,
    gate: Arc<Gate>,
    meeting: Vec<RelayId>,
    inbox: Vec<RelayId>,
    control: watch::Sender<Control>,
    tasks: Mutex<JoinSet<()>>,
    inbound: mpsc::Sender<Inbound>,
    tuning: Arc<Tuning>,
    refreshes: AtomicU64,
}

impl Pool {
    /// Starts a task for each relay on the current tokio runtime.
    ///
    /// # Errors
    /// The first address that is none.
    pub fn start(options: Options) -> Result<Self, BadRelayUrl> {
        let (meeting, inbox) = (distinct(&options.relays)?, distinct(&options.inbox)?);
        let only_inbox = inbox.iter().filter(|relay| !meeting.contains(relay));
        let relays: Vec<RelayId> = meeting.iter().chain(only_inbox).cloned().collect();
        let tuning = Arc::new(options.tuning);
        let gate = Arc::new(Gate::new(options.identity, options.seen));
        let (control, _) = watch::channel(Control::default());
        let mut tasks = JoinSet::new();
        let links = relays
            .into_iter()
            .map(|relay| {
                let cursors = Class::ALL.map(|class| cursor(&options.cursors, &relay, class));
                let role = Role::Identity { meets: meeting.contains(&relay), inbox: inbox.contains(&relay) };
                let link = Arc::new(Link::new(relay, role, gate.clone(), tuning.clone(), cursors));
                let (sender, commands) = mpsc::channel(MAX_COMMANDS);
                let actor = Actor {
                    link: link.clone(),
                    control: control.subscribe(),
                    commands,
                    inbound: options.inbound.clone(),
                };
                tasks.spawn(actor.run());
                (link, sender)
            })
            .collect();
        let clock_jumped = control.clone();
        tasks.spawn(watch_clock(control.subscribe(), tuning.clone(), move || redial(&clock_jumped)));
        Ok(Self {
            links,
            gate,
            meeting,
            inbox,
            control,
            tasks: Mutex::new(tasks),
            inbound: options.inbound,
            tuning,
            refreshes: AtomicU64::new(0),
        })
    }

    /// The relays where agents meet, in the order of the options.
    pub fn relays(&self) -> impl Iterator<Item = &RelayId> {
        self.meeting.iter()
    }

    /// The relays where wraps to us are read, in the order of the options.
    pub fn inbox_relays(&self) -> impl Iterator<Item = &RelayId> {
        self.inbox.iter()
    }

    /// Queues an event where agents meet, a list of inbox relays (kind 10050) on every link; never waits. What
    /// becomes of it comes as [`Inbound::Published`], once for each of these relays.
    /// Returned is what had to leave the queues for it, which does not come again.
    pub fn publish(&self, event: Signed) -> Vec<Published> {
        let event = Arc::new(event);
        let mut gone = Vec::new();
        for (link, _) in self.links.iter().filter(|(link, _)| link.role.publishes(event.kind)) {
            let removed = link.desk().outbox.push(event.clone());
            gone.extend(removed.into_iter().map(|(id, outcome)| Published {
                relay: link.relay.clone(),
                id,
                outcome,
            }));
            link.queued.notify_one();
        }
        gone
    }

    /// Notes that everything up to a [`Inbound::Synced`] is journalled; the next connection begins there.
    pub fn set_cursor(&self, relay: &RelayId, class: Class, since_request: u64) {
        if let Some((link, _)) = self.links.iter().find(|(link, _)| link.relay == *relay) {
            link.desk().cursors[class as usize] = Some(since_request);
        }
    }

    /// Asks for announcements from now on, or no more. A crowd's are many, and nobody may be looking.
    pub fn look(&self, looks: bool) {
        self.gate.look(looks);
        self.links.iter().for_each(|(link, _)| link.queued.notify_one());
    }

    /// Asks every connected relay where a class is read for all that it has of it now. The answers come as usual, and behind them
    /// [`Inbound::Refreshed`] with the number returned here: at once if nobody is connected, at the latest after
    /// [`Tuning::refresh_within`], and if relays go on telling, after [`Tuning::walk_within`].
    pub fn refresh(&self, class: Class) -> u64 {
        let token = self.refreshes.fetch_add(1, Ordering::Relaxed);
        let links = self.links.iter().filter(|(link, _)| link.role.classes().contains(&class));
        let question = Question::ask(
            links.map(|(link, commands)| (&**link, commands)),
            |waiter| Command::Refresh { class, waiter },
            &self.tuning,
        );
        let answer =
            move |answers: Vec<Told>, asked| Inbound::Refreshed { token, answered: answers.len(), asked };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(question.tell(self.inbound.clone(), self.control.subscribe(), answer));
        token
    }

    /// The relay was reached by somebody else of us: a link that waits before it dials again need not.
    pub fn nudge(&self, relay: &RelayId) {
        if let Some((link, _)) = self.links.iter().find(|(link, _)| link.relay == *relay) {
            link.nudge();
        }
    }

    /// Dials every relay again at once: the network changed, every socket is suspect.
    pub fn redial(&self) {
        redial(&self.control);
    }

    /// How the links are: the meeting relays in the order of the options, then those that only keep wraps. Nothing is
    /// known here of links that carry sessions: see [`super::joined`].
    pub fn status(&self) -> Vec<RelayStatus> {
        self.links.iter().map(|(link, _)| link.desk().status.clone()).collect()
    }

    /// What the relays say about our clock.
    pub fn clock(&self) -> Clock {
        Clock::of(self.links.iter().map(|(link, _)| {
            let desk = link.desk();
            (desk.clock_offset, desk.turned_away_for_time)
        }))
    }

    /// Whether any of the meeting relays is connected.
    pub fn is_connected(&self) -> bool {
        self.links.iter().any(|(link, _)| link.role.meets() && link.desk().status.connected)
    }

    /// What each link threw away.
    pub fn counters(&self) -> Vec<(RelayId, Counters)> {
        self.links.iter().map(|(link, _)| (link.relay.clone(), link.desk().counters)).collect()
    }

    /// Whether any relay has told all that it had of a class since the start.
    pub fn synced(&self, class: Class) -> bool {
        self.links.iter().any(|(link, _)| link.desk().synced[class as usize])
    }

    /// Ends the links: lets what waits leave for at most [`Tuning::drain`], then closes. Need not be the last call,
    /// but nothing works after it.
    pub async fn stop(&self) {
        self.control.send_modify(|control| control.stopping = true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        // A goodbye and a little more; what is left then ends where it is.
        let all = async { while tasks.join_next().await.is_some() {} };
        let _ = timeout(self.tuning.drain + Duration::from_secs(1), all).await;
    }
}

/// Parses addresses; one that is named twice is one.
pub(super) fn distinct(urls: &[String]) -> Result<Vec<RelayId>, BadRelayUrl> {
    let mut relays = Vec::new();
    for text in urls {
        let relay = RelayId::parse(text)?;
        if !relays.contains(&relay) {
            relays.push(relay);
        }
    }
    Ok(relays)
}

pub(super) fn redial(control: &watch::Sender<Control>) {
    control.send_modify(|control| control.redial += 1);
}

fn cursor(cursors: &[(String, Class, u64)], relay: &RelayId, class: Class) -> Option<u64> {
    cursors
        .iter()
        .filter(|(url, of, _)| *of == class && RelayId::parse(url).as_ref() == Ok(relay))
        .map(|(_, _, at)| *at)
        .max()
}

/// Compares the clocks. A suspend stops the monotonic one and not the wall clock; after it, and after the clock was
/// set, sockets may be dead and `since` is wrong.
pub(super) async fn watch_clock(
    mut stop: watch::Receiver<Control>,
    tuning: Arc<Tuning>,
    jumped: impl Fn() + Send,
) {
    let mut ticks = interval(tuning.clock_check);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut clocks = Clocks { wall: SystemTime::now(), monotonic: Instant::now() };
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|control| control.stopping) => return,
            _ = ticks.tick() => {}
        }
        let now = Clocks { wall: SystemTime::now(), monotonic: Instant::now() };
        let apart = clocks.apart(&now);
        clocks = now;
        if apart > tuning.clock_jump {
            info!(seconds = apart.as_secs(), "the clock jumped; dialling every relay again");
            jumped();
        }
    }
}

struct Clocks {
    wall: SystemTime,
    monotonic: Instant,
}

impl Clocks {
    /// By how much the wall clock went further than the monotonic one, or less far, or back.
    fn apart(&self, later: &Self) -> Duration {
        let monotonic = later.monotonic - self.monotonic;
        match later.wall.duration_since(self.wall) {
            Ok(wall) => wall.abs_diff(monotonic),
            Err(back) => back.duration() + monotonic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_forth_or_back_is_noticed() {
        let (wall, monotonic) = (SystemTime::now(), Instant::now());
        let second = Duration::from_secs(1);
        let start = Clocks { wall, monotonic };
        let after = |wall, steps: u32| Clocks { wall, monotonic: monotonic + second * steps };
        assert_eq!(start.apart(&after(wall + second * 5, 5)), Duration::ZERO);
        assert_eq!(start.apart(&after(wall + second * 3_600, 1)), second * 3_599);
        assert_eq!(start.apart(&after(wall - second * 60, 1)), second * 61);
    }
}
