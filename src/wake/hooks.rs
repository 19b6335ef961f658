//! One hook: its events in order, each until its program has ended well or has had its chances.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::program::{Failed, Run};
use crate::api::{Command, Done, Error, ErrorKind, Event, WaitReply, to_json};
use crate::engine::Handle;
use crate::home::Home;
use crate::home::hooks::Hook;

/// Most programs of one home that run at a time.
pub(super) const AT_ONCE: usize = 4;
/// How often an event's program is run before the event is passed over: with the pauses, for about nine minutes.
const CHANCES: u32 = 10;
/// The first pause before a program is run again; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// So many runs may follow each other at once after a quiet time; then one a second. What peers do more often waits.
const BURST: f64 = 20.0;
/// How long one look at the journal takes: what comes meanwhile, of other kinds, is looked over each time that something
/// happens.
const LOOK_S: f64 = 10.0;
/// How long to leave an engine alone whose disk is full.
const PAUSE: Duration = Duration::from_secs(5);
/// The consumer of a hook: a name that only watches (`store::WATCHERS`).
const CONSUMER: &str = "hook:";

/// Follows the journal for one hook.
pub(super) struct Runner {
    hook: Hook,
    home: String,
    handle: Handle,
    slots: Arc<Semaphore>,
    allowance: Allowance,
    first_pause: Duration,
}

impl Runner {
    pub(super) fn new(home: &Home, handle: &Handle, hook: Hook, slots: Arc<Semaphore>) -> Self {
        let home = home.path().display().to_string();
        let allowance = Allowance::full(Instant::now());
        Self { hook, home, handle: handle.clone(), slots, allowance, first_pause: FIRST_PAUSE }
    }

    /// Goes on until the engine has ended.
    pub(super) async fn run(mut self) {
        let mut after = self.hook.after;
        loop {
            let (cursor, event) = match self.look(after).await {
                Ok(WaitReply { cursor, event, .. }) => (cursor, event),
                Err(error) if error.kind == ErrorKind::DaemonUnreachable => return,
                Err(error) => {
                    tracing::warn!(hook = self.hook.id, %error, "the journal cannot be read");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if let Some(event) = &event {
                tokio::time::sleep_until(self.allowance.take(Instant::now())).await;
                self.deal_with(event).await;
            } else if cursor == after {
                continue;
            }
            // Nothing of its kinds is before it: the next look need not begin so far back.
            while let Err(error) = self.pass(cursor).await {
                if error.kind == ErrorKind::DaemonUnreachable {
                    return;
                }
                tracing::warn!(hook = self.hook.id, cursor, %error, "the place of a hook cannot be kept");
                tokio::time::sleep(PAUSE).await;
            }
            after = cursor;
        }
    }

    async fn deal_with(&self, event: &Event) {
        let (cursor, kind) = (event.cursor, event.kind.word());
        let mut pause = self.first_pause;
        for chance in 1..=CHANCES {
            let failed = match self.try_once(event, chance).await {
                Ok(()) => {
                    tracing::debug!(hook = self.hook.id, cursor, kind, chance, "a hook has run");
                    return;
                }
                Err(failed) => failed,
            };
            if chance == CHANCES {
                let look = cursor.saturating_sub(1);
                tracing::warn!(
                    hook = self.hook.id, cursor, kind, %failed,
                    "a hook has failed {CHANCES} times, and goes on without this event; it is in: p2p-comm wait --after {look}"
                );
                return;
            }
            tracing::warn!(hook = self.hook.id, cursor, kind, %failed, again_in_s = pause.as_secs(), "a hook has failed");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn try_once(&self, event: &Event, chance: u32) -> Result<(), Failed> {
        // Closed by nobody: an error cannot be.
        let _slot = self.slots.acquire().await;
        let input = to_json(event).map_err(std::io::Error::other)?;
        let variables = self.variables(event, chance);
        let limit = Duration::from_secs(self.hook.timeout_s);
        Run { words: &self.hook.run, variables: &variables, input, limit }.run().await
    }

    /// Ids only: a variable can be read by every process of the user, and ends up in places where it is not expected.
    fn variables(&self, event: &Event, chance: u32) -> [(&'static str, Option<String>); 8] {
        let peer = event.call_state.as_ref().map(|call| call.peer.pubkey);
        let peer = peer.or(event.message.as_ref().map(|message| message.peer));
        [
            ("P2P_EVENT", Some(event.kind.word().to_owned())),
            ("P2P_CURSOR", Some(event.cursor.to_string())),
            ("P2P_CALL", event.call.map(|call| call.to_string())),
            ("P2P_MESSAGE", event.message.as_ref().map(|message| message.message.to_string())),
            ("P2P_TICKET", event.escalation.as_ref().map(|ticket| ticket.ticket.to_string())),
            ("P2P_PEER", peer.map(|key| key.to_string())),
            ("P2P_TRY", Some(chance.to_string())),
            ("P2P_COMM_HOME", Some(self.home.clone())),
        ]
    }

    async fn look(&self, after: u64) -> Result<WaitReply, Error> {
        let wait = Command::Wait {
            consumer: Some(self.consumer()),
            after: Some(after),
            call: None,
            kinds: self.hook.events.clone(),
            ahead: 0,
            timeout_s: LOOK_S,
        };
        self.handle.ask(wait).await?.try_into()
    }

    async fn pass(&self, cursor: u64) -> Result<(), Error> {
        let pass = Command::Pass { consumer: self.consumer(), cursor };
        self.handle.ask(pass).await.and_then(Done::try_from).map(drop)
    }

    fn consumer(&self) -> String {
        format!("{CONSUMER}{}", self.hook.id)
    }
}

/// How many runs may begin: [`BURST`], and one more each second.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn full(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }

    /// Takes one; when it may be used.
    fn take(&mut self, now: Instant) -> Instant {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left, self.at) = ((self.left + since).min(BURST) - 1.0, now);
        now + Duration::from_secs_f64((-self.left).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tokio::sync::mpsc;

    use super::*;
    use crate::api::{EventKind, Time};
    use crate::engine::Request;
    use crate::proto::Millis;

    fn event(cursor: u64) -> Event {
        crate::wake::event(cursor, EventKind::Gap)
    }

    /// An engine with a journal of some events, which ends when all were passed. What was passed, in order.
    async fn serve(mut requests: mpsc::Receiver<Request>, cursors: &[u64]) -> Vec<u64> {
        let mut passed = Vec::new();
        while passed.len() < cursors.len() {
            let Request { command, reply, .. } = requests.recv().await.unwrap();
            let answer = match command {
                Command::Wait { consumer, after, .. } => {
                    assert_eq!(consumer.as_deref(), Some("hook:1"));
                    let next = cursors.iter().find(|cursor| **cursor > after.unwrap());
                    WaitReply {
                        cursor: *next.unwrap(),
                        event: next.copied().map(event),
                        ahead: vec![],
                        timeout: false,
                    }
                    .into()
                }
                Command::Pass { cursor, .. } => {
                    passed.push(cursor);
                    Done { at: Time(Millis(0)) }.into()
                }
                other => panic!("{other:?}"),
            };
            reply.answer(Ok(answer));
        }
        passed
    }

    #[test]
    fn an_event_whose_program_never_ends_well_is_passed_over_after_its_chances_and_the_next_has_its_turn() {
        let folder = tempfile::tempdir().unwrap();
        let (program, log) = (folder.path().join("program"), folder.path().join("log"));
        let text = format!("#!/bin/sh\necho $P2P_CURSOR >>{}\ntest $P2P_CURSOR != 3\n", log.display());
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        let hook = Hook {
            id: "1".into(),
            events: vec![EventKind::Gap],
            run: vec![program.display().to_string()],
            timeout_s: 60,
            after: 2,
        };
        let (sender, requests) = mpsc::channel(1);
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut runner = Runner::new(&home, &Handle::new(sender), hook, slots);
        runner.first_pause = Duration::from_micros(10);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let passed = runtime.block_on(async {
            let (passed, ()) = tokio::join!(serve(requests, &[3, 5, 8]), runner.run());
            passed
        });
        assert_eq!(passed, [3, 5, 8]);
        let mut runs = BTreeMap::<String, u32>::new();
        fs::read_to_string(log).unwrap().lines().for_each(|line| *runs.entry(line.into()).or_default() += 1);
        assert_eq!(runs, BTreeMap::from([("3".into(), CHANCES), ("5".into(), 1), ("8".into(), 1)]));
    }

    #[test]
    fn a_flood_is_worked_off_at_one_a_second() {
        let begun = Instant::now();
        let mut allowance = Allowance::full(begun);
        let used = |allowance: &mut Allowance, now| allowance.take(now) - now;
        for _ in 0..BURST as u32 {
            assert_eq!(used(&mut allowance, begun), Duration::ZERO);
        }
        let mut now = begun;
        for _ in 0..100 {
            let at = allowance.take(now);
            assert!((at - now).as_secs_f64() > 0.99, "{:?}", at - now);
            now = at;
        }
        let later = now + Duration::from_secs(3_600);
        assert_eq!(used(&mut allowance, later), Duration::ZERO);
        assert!(allowance.left < BURST);
    }
}
