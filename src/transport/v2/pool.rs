//! The links that carry sessions: one to each relay where a session key of ours is listened for, beside the
//! identity's and without knowledge of it.
//!
//! ```text
//!   configured relays ─── linked from the start to the stop
//!   relays of peers   ─── ensure, listen ─▶ linked ─── no key, nothing queued, for a minute ─▶ left
//! ```
//!
//! A relay that only a peer has named is dialled by the rule for foreign relays, at public addresses only, and there
//! are never more than [`MAX_NAMED`] of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::info;

use crate::api::SessionLink;
use crate::proto::PublicKey;
use crate::proto::v2::signal::INVITE_RELAYS;
use crate::transport::class::Class;
use crate::transport::inbound::{Inbound, Outcome, Published};
use crate::transport::ingest::{Gate, Recent};
use crate::transport::link::{Actor, Command, Control, Counters, Link, Role, Standing};
use crate::transport::pool::{distinct, redial, watch_clock};
use crate::transport::question::{MAX_COMMANDS, Question, together};
use crate::transport::signed::Signed;
use crate::transport::tuning::Tuning;
use crate::transport::url::{BadRelayUrl, RelayId, foreign_relay_allowed};

/// Relays that peers have named, linked at a time: four for each of a few calls. Each costs a socket, its TLS and its buffers, some
/// 100 KiB.
const MAX_NAMED: usize = 16;

/// Session keys listened for at a time, each with 67 bytes in a REQ: for the most calls that may be up (1,000), one that
/// changes its keys, and some that ring. Below 950 the REQ fits where relays take the least (64 KiB a message); strfry and
/// nostr-rs-relay take 128 KiB.
const MAX_KEYS: usize = 1_200;

/// Relays that each frame is sent to: one may lose it.
const COPIES: usize = 2;

/// How often links that nobody needs are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// What a pool of session links starts with.
pub struct SessionOptions {
    /// The user's own relays.
    pub relays: Vec<String>,
    /// Where everything goes: the same channel as the identity's pool.
    pub inbound: mpsc::Sender<Inbound>,
    /// [`Tuning::DEFAULT`], but in tests.
    pub tuning: Tuning,
}

/// What is known of the way over one relay, beside how its link is.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// It takes one more piece of a file now.
    pub open: bool,
    /// What went over it last is lost.
    pub shunned: bool,
    /// It loses many, and not all.
    pub lossy: bool,
}

/// No more session keys can be listened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_KEYS} session keys are listened for already")]
pub struct TooManyKeys;

/// The links of all sessions. Dropping it ends them at once; [`Self::stop`] lets them finish.
pub struct SessionPool {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
    lookups: AtomicU64,
}

struct Shared {
    configured: Vec<RelayId>,
    control: watch::Sender<Control>,
    inbound: mpsc::Sender<Inbound>,
    recent: Arc<Recent>,
    tuning: Arc<Tuning>,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    links: BTreeMap<RelayId, Member>,
    /// Where each of our session keys is listened for.
    keys: BTreeMap<PublicKey, Vec<RelayId>>,
    /// Counts what was sent, so that relays take turns.
    turn: usize,
}

struct Member {
    link: Arc<Link>,
    questions: mpsc::Sender<Command>,
    used_at: Instant,
    task: AbortHandle,
}

impl SessionPool {
    /// Links every configured relay, on the current tokio runtime.
    ///
    /// # Errors
    /// The first address that is none.
    pub fn start(options: SessionOptions) -> Result<Self, BadRelayUrl> {
        let configured = distinct(&options.relays)?;
        let (control, _) = watch::channel(Control::default());
        let shared = Arc::new(Shared {
            configured,
            control,
            inbound: options.inbound,
            recent: Arc::default(),
            tuning: Arc::new(options.tuning),
            members: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for relay in &shared.configured {
            shared.members().link(&shared, relay, &mut tasks);
        }
        let jumped = shared.control.clone();
        let stop = shared.control.subscribe();
        tasks.spawn(watch_clock(stop, shared.tuning.clone(), move || redial(&jumped)));
        tasks.spawn(sweep(shared.clone()));
        Ok(Self { shared, tasks: Mutex::new(tasks), lookups: AtomicU64::new(0) })
    }

    /// Links the relays that a peer has named, as far as they may be dialled and there is room. Returns those that
    /// are linked, in the peer's order; at most as many as an invite names.
    pub fn ensure(&self, urls: &[String]) -> Vec<RelayId> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        let mut members = self.shared.members();
        let mut linked = Vec::new();
        for url in urls.iter().take(INVITE_RELAYS) {
            let Ok(relay) = RelayId::parse(url) else { continue };
            let allowed = foreign_relay_allowed(url, &self.shared.configured);
            if allowed && !linked.contains(&relay) && members.link(&self.shared, &relay, &mut tasks) {
                linked.push(relay);
            }
        }
        linked
    }

    /// Listens for a session key on these relays, and on no others from now on. Returns those that are linked. When
    /// a relay serves the key, [`Inbound::Synced`] of [`Class::Session`] comes: see [`Self::hearing`].
    ///
    /// # Errors
    /// [`TooManyKeys`].
    pub fn listen(&self, key: &PublicKey, urls: &[String]) -> Result<Vec<RelayId>, TooManyKeys> {
        let relays = self.ensure(urls);
        let mut members = self.shared.members();
        if members.keys.len() >= MAX_KEYS && !members.keys.contains_key(key) {
            return Err(TooManyKeys);
        }
        members.keys.insert(*key, relays.clone());
        members.tell_gates();
        Ok(relays)
    }

    /// Listens for a session key no more.
    pub fn forget(&self, key: &PublicKey) {
        let mut members = self.shared.members();
        members.keys.remove(key);
        members.tell_gates();
    }

    /// On how many relays a key is heard: subscribed to, and what was stored for it told.
    pub fn hearing(&self, key: &PublicKey) -> usize {
        let key = key.to_string();
        self.shared.members().links.values().filter(|member| member.link.desk().heard.contains(&key)).count()
    }

    /// Sends a frame, or an ephemeral wrap, to two of these relays; waits for nothing. The fittest go first: those that
    /// have proven to carry live events, then those that had no time to, then those in doubt. Among equals one copy
    /// goes to the first, the other to the rest in turn, so that no relay that is open and mute keeps a call for
    /// itself. Returns on how many it is on its way: none, when no relay is connected or lets us send.
    pub fn send(&self, event: Signed, relays: &[RelayId]) -> usize {
        let (now, event) = (Instant::now(), Arc::new(event));
        let mut members = self.shared.members();
        members.turn = members.turn.wrapping_add(1);
        let standings = relays.iter().map(|relay| (members.standing(relay, now), relay));
        let mut order: Vec<_> = standings.filter(|(standing, _)| *standing != Standing::Down).collect();
        // Stable: the session's order remains among equals.
        order.sort_by_key(|(standing, _)| *standing);
        if let Some(second) = order.get(1).map(|(standing, _)| *standing) {
            let equals = order[1..].iter().filter(|(standing, _)| *standing == second).count();
            order[1..=equals].rotate_left(members.turn % equals);
        }
        let mut sent = 0;
        for (_, relay) in order {
            let Some(member) = members.links.get_mut(relay) else { continue };
            if sent < COPIES && member.link.desk().frames.push(&event, now) {
                sent += 1;
                member.used_at = now;
                member.link.queued.notify_one();
            }
        }
        sent
    }

    /// Sends a piece of a file to one of these relays, and returns which: of those that are to be trusted the fittest one
    /// that has room, and among equals the one with the shortest queue. None if no relay takes it now.
    pub fn send_bulk(&self, event: Signed, relays: &[RelayId], way: impl Fn(u8) -> Way) -> Option<u8> {
        let (now, event) = (Instant::now(), Arc::new(event));
        let mut members = self.shared.members();
        members.turn = members.turn.wrapping_add(1);
        let turn = members.turn;
        let place = |path| (usize::from(path) + turn) % relays.len();
        let mut order = members.ways(relays, way, now);
        order.sort_by_key(|(path, _, standing, queued)| (*standing, *queued, place(*path)));
        for (path, relay, ..) in order {
            let Some(member) = members.links.get_mut(relay) else { continue };
            if member.link.desk().frames.push_bulk(&event, now) {
                member.used_at = now;
                member.link.queued.notify_one();
                return Some(path);
            }
        }
        None
    }

    /// Whether any of these relays has room for a piece of a file.
    pub fn has_room(&self, relays: &[RelayId], way: impl Fn(u8) -> Way) -> bool {
        let (now, members) = (Instant::now(), self.shared.members());
        members.ways(relays, way, now).iter().any(|(_, relay, ..)| {
            members.links.get(*relay).is_some_and(|member| {
                let mut desk = member.link.desk();
                desk.frames.has_room() && desk.frames.ready_at(now) <= now
            })
        })
    }

    /// The configured relays, the fittest for a session first: over which an event to ourselves came back, the
    /// quickest first; connected; connected, but no event came back, or a frame was refused lately; not connected.
    pub fn ranked(&self) -> Vec<RelayId> {
        let now = Instant::now();
        let members = self.shared.members();
        let mut ranked: Vec<_> = (self.shared.configured.iter())
            .map(|relay| (members.standing(relay, now), members.echo_ms(relay), relay.clone()))
            .collect();
        // Stable: the user's order remains among equals.
        ranked.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
        ranked.into_iter().map(|(_, _, relay)| relay).collect()
    }

    /// Whether any relay that a peer has named may be dialled.
    pub fn may_reach(&self, urls: &[String]) -> bool {
        urls.iter().any(|url| foreign_relay_allowed(url, &self.shared.configured))
    }

    /// Whether any of these relays is connected.
    pub fn is_up(&self, relays: &[RelayId]) -> bool {
        let (now, members) = (Instant::now(), self.shared.members());
        relays.iter().any(|relay| members.standing(relay, now) != Standing::Down)
    }

    /// Publishes a stored wrap on these relays, each until it says OK. What becomes of it comes as
    /// [`Inbound::Published`], once for each relay; returned is what came to its end at once.
    pub fn publish(&self, event: Signed, relays: &[RelayId]) -> Vec<Published> {
        let (now, event) = (Instant::now(), Arc::new(event));
        let mut members = self.shared.members();
        let mut gone = Vec::new();
        for relay in relays {
            let published = |(id, outcome)| Published { relay: relay.clone(), id, outcome };
            let Some(member) = members.links.get_mut(relay) else {
                gone.push(published((event.id, Outcome::Unanswered)));
                continue;
            };
            member.used_at = now;
            let removed = member.link.desk().outbox.push(event.clone());
            gone.extend(removed.into_iter().map(published));
            member.link.queued.notify_one();
        }
        gone
    }

    /// Whether every relay that could carry the next frame asks for fewer of them: merge acknowledgements. One that takes
    /// little slows nothing while another takes all.
    pub fn is_low(&self, relays: &[RelayId]) -> bool {
        let now = Instant::now();
        let members = self.shared.members();
        let low = relays.iter().filter_map(|relay| {
            let mut desk = members.links.get(relay)?.link.desk();
            desk.status.connected.then(|| desk.frames.is_low(now))
        });
        low.reduce(|all, low| all && low).unwrap_or(false)
    }

    /// How long until one of these relays lets us send; none if no relay is connected.
    pub fn ready_in(&self, relays: &[RelayId]) -> Option<Duration> {
        let now = Instant::now();
        let members = self.shared.members();
        let ready = relays.iter().filter_map(|relay| {
            let mut desk = members.links.get(relay)?.link.desk();
            desk.status.connected.then(|| desk.frames.ready_at(now))
        });
        ready.min().map(|at| at - now)
    }

    /// Asks every connected relay of the configuration where a peer is to be found: for its list of inbox relays (kind
    /// 10050), and for the key that took its place (kind 15920). What they have comes as [`Inbound::Whereabouts`] with
    /// the number returned here: at once if nobody is connected, at the latest after [`Tuning::refresh_within`].
    ///
    /// It is asked for here, and not by the identity's links, because whom somebody looks for is whom they are about
    /// to call; for the same reason a relay that another peer has named is not asked.
    pub fn look_up(&self, key: PublicKey) -> u64 {
        let token = self.lookups.fetch_add(1, Ordering::Relaxed);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        let shared = &self.shared;
        let members = shared.members();
        let ours = members.links.iter().filter(|(relay, _)| shared.is_configured(relay));
        let question = Question::ask(
            ours.map(|(_, member)| (&*member.link, &member.questions)),
            |asker| Command::LookUp { key, asker },
            &shared.tuning,
        );
        drop(members);
        tasks.spawn(question.tell(shared.inbound.clone(), shared.control.subscribe(), together(token, key)));
        token
    }

    /// The relay was reached by somebody else of us: a link that waits before it dials again need not.
    pub fn nudge(&self, relay: &RelayId) {
        if let Some(member) = self.shared.members().links.get(relay) {
            member.link.nudge();
        }
    }

    /// Dials every relay again at once.
    pub fn redial(&self) {
        redial(&self.shared.control);
    }

    /// How the links are, in the order of their addresses.
    pub fn status(&self) -> Vec<(RelayId, SessionLink)> {
        let members = self.shared.members();
        members.links.iter().map(|(relay, member)| (relay.clone(), member.link.desk().session())).collect()
    }

    /// What each link threw away.
    pub fn counters(&self) -> Vec<(RelayId, Counters)> {
        let members = self.shared.members();
        members.links.values().map(|it| (it.link.relay.clone(), it.link.desk().counters)).collect()
    }

    /// Ends the links: lets what waits leave for at most [`Tuning::drain`], then closes.
    pub async fn stop(&self) {
        self.shared.control.send_modify(|control| control.stopping = true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while tasks.join_next().await.is_some() {} };
        // A goodbye and a little more; what is left then ends where it is.
        let _ = timeout(self.shared.tuning.drain + Duration::from_secs(1), all).await;
    }
}

impl Shared {
    /// Never held across an await. What it guards is consistent after each statement.
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_configured(&self, relay: &RelayId) -> bool {
        self.configured.contains(relay)
    }
}

impl Members {
    /// Makes sure that there is a link; false if there is no room for one more.
    fn link(&mut self, shared: &Shared, relay: &RelayId, tasks: &mut JoinSet<()>) -> bool {
        let now = Instant::now();
        if let Some(member) = self.links.get_mut(relay) {
            member.used_at = now;
            return true;
        }
        let configured = shared.is_configured(relay);
        let named = self.links.keys().filter(|relay| !shared.is_configured(relay)).count();
        if !configured && named >= MAX_NAMED {
            return false;
        }
        // A host and port of the configuration under another path are trusted like the configured relay.
        let trusted = configured || foreign_relay_is_ours(relay, &shared.configured);
        let role = Role::Sessions { foreign: !trusted };
        let gate = Arc::new(Gate::of_sessions(shared.recent.clone()));
        let link =
            Arc::new(Link::new(relay.clone(), role, gate, shared.tuning.clone(), [None; Class::ALL.len()]));
        let (questions, commands) = mpsc::channel(MAX_COMMANDS);
        let actor = Actor {
            link: link.clone(),
            control: shared.control.subscribe(),
            commands,
            inbound: shared.inbound.clone(),
        };
        let task = tasks.spawn(actor.run());
        self.links.insert(relay.clone(), Member { link, questions, used_at: now, task });
        true
    }

    fn standing(&self, relay: &RelayId, now: Instant) -> Standing {
        self.links.get(relay).map_or(Standing::Down, |member| member.link.desk().standing(now))
    }

    /// The ways that take a piece of a file now, how fit each is, and the bytes of such pieces that wait for it. One that
    /// is in doubt takes none while there is one that loses little, be that as full as it may.
    fn ways<'r>(
        &self,
        relays: &'r [RelayId],
        way: impl Fn(u8) -> Way,
        now: Instant,
    ) -> Vec<(u8, &'r RelayId, Standing, usize)> {
        let up = (0u8..).zip(relays).filter_map(|(path, relay)| {
            let desk = self.links.get(relay)?.link.desk();
            let (standing, queued, way) = (desk.standing(now), desk.frames.bulk_bytes(), way(path));
            let doubted = way.shunned || standing == Standing::Doubted;
            (standing != Standing::Down).then_some((doubted, way, (path, relay, standing, queued)))
        });
        let up: Vec<_> = up.collect();
        let is_one_good = up.iter().any(|(doubted, way, _)| !doubted && !way.lossy);
        up.into_iter()
            .filter(|(doubted, way, _)| way.open && !(*doubted && is_one_good))
            .map(|(.., way)| way)
            .collect()
    }

    /// How long an event to ourselves took over the relay; endless if none came back.
    fn echo_ms(&self, relay: &RelayId) -> f64 {
        let echo = self.links.get(relay).and_then(|member| member.link.desk().session().echo_ms);
        echo.unwrap_or(f64::INFINITY)
    }

    /// Tells each link which keys it listens for.
    fn tell_gates(&self) {
        for (relay, member) in &self.links {
            let keys: Vec<_> =
                self.keys.iter().filter(|(_, on)| on.contains(relay)).map(|(key, _)| *key).collect();
            if member.link.gate.listen(&keys) {
                member.link.queued.notify_one();
            }
        }
    }

    /// Leaves the relays that nobody needs; returns what they had not taken.
    fn sweep(&mut self, shared: &Shared, now: Instant) -> Vec<Published> {
        let keys = &self.keys;
        let mut gone = Vec::new();
        self.links.retain(|relay, member| {
            if shared.is_configured(relay) || keys.values().any(|on| on.contains(relay)) {
                return true;
            }
            let mut desk = member.link.desk();
            let idle = now.saturating_duration_since(member.used_at);
            let patience = if desk.outbox.is_empty() {
                shared.tuning.idle_after
            } else {
                shared.tuning.unreachable_after
            };
            if idle < patience {
                return true;
            }
            let given_up = desk.outbox.clear();
            drop(desk);
            info!(%relay, "left: nobody needs it any more");
            member.task.abort();
            gone.extend(given_up.into_iter().map(|id| Published {
                relay: relay.clone(),
                id,
                outcome: Outcome::Unanswered,
            }));
            false
        });
        gone
    }
}

/// Whether a relay is at a host and port that the user has configured.
fn foreign_relay_is_ours(relay: &RelayId, configured: &[RelayId]) -> bool {
    configured.iter().any(|ours| ours.host_and_port() == relay.host_and_port())
}

async fn sweep(shared: Arc<Shared>) {
    let mut stop = shared.control.subscribe();
    let mut ticks = interval(SWEEP.min(shared.tuning.idle_after));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|control| control.stopping) => return,
            _ = ticks.tick() => {}
        }
        let gone = shared.members().sweep(&shared, Instant::now());
        for published in gone {
            tokio::select! {
                biased;
                _ = stop.wait_for(|control| control.stopping) => return,
                // An error means that the engine is gone.
                _ = shared.inbound.send(Inbound::Published(published)) => {}
            }
        }
    }
}
