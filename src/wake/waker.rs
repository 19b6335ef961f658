//! Wakes one host: soon for what is new, and again, ever more rarely, for what nobody takes.

use std::time::Duration;

use tokio::time::Instant;

use super::openclaw::Host;
use super::waits::{KINDS, Waits};
use crate::api::{Command, Error, ErrorKind, Messages, Status, WaitReply};
use crate::engine::Handle;
use crate::home::Home;

/// Who waits already takes an event within this time, and then nobody needs to be woken.
const SETTLE: Duration = Duration::from_secs(1);
/// Between two wakes for something new: a turn of a model takes that long, and costs its owner.
const GAP: Duration = Duration::from_secs(15);
/// The longest pause between two repeats.
const LONGEST: Duration = Duration::from_secs(3_600);
/// The first pause after a host that could not be woken; each is twice as long as the one before.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The longest of those: a gateway that was restarted is found again soon.
const LONGEST_RETRY: Duration = Duration::from_secs(120);
/// How long one look at the journal takes while there is nothing to repeat: what comes meanwhile is looked over each time
/// that something happens.
const LOOK: Duration = Duration::from_secs(10);
/// How long to leave an engine alone that cannot look.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Waker {
    home: Home,
    handle: Handle,
    host: Host,
    repeat: Duration,
    /// All up to here was told.
    told: u64,
    /// How often what waits was said, and when it is said again.
    said: u32,
    again: Option<Instant>,
    /// How often in a row the host could not be woken.
    failed: u32,
}

impl Waker {
    pub(super) fn new(home: &Home, handle: &Handle, host: Host, repeat_s: u64) -> Self {
        let repeat = Duration::from_secs(repeat_s);
        let (home, handle) = (home.clone(), handle.clone());
        Self { home, handle, host, repeat, told: 0, said: 0, again: None, failed: 0 }
    }

    /// Goes on until the engine has ended.
    pub(super) async fn run(mut self) {
        loop {
            match self.step().await {
                Ok(()) => {}
                Err(error) if error.kind == ErrorKind::DaemonUnreachable => return,
                Err(error) => {
                    tracing::warn!(host = %self.host, %error, "what waits cannot be looked at");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits for a reason to say something, and says it.
    async fn step(&mut self) -> Result<(), Error> {
        let left = self.again.map_or(LOOK, |at| at.saturating_duration_since(Instant::now()).min(LOOK));
        let found = self.look(self.told, left).await?;
        let is_news = found.event.is_some();
        if !is_news {
            // What was taken or settled stays so: the next look need not begin so far back.
            self.told = self.told.max(found.cursor);
        } else {
            tokio::time::sleep(SETTLE).await;
        }
        let is_due = self.again.is_some_and(|at| at <= Instant::now());
        if !is_news && !is_due {
            return Ok(());
        }
        let messages = Command::Messages { call: None, unread: false, limit: 0 };
        let end = Messages::try_from(self.handle.ask(messages).await?)?.cursor;
        let waits = self.what_waits().await?;
        if waits.is_empty() {
            (self.said, self.again, self.failed) = (0, None, 0);
            return Ok(());
        }
        let has_news = waits.newest() > self.told;
        let is_reason = has_news || (is_due && waits.is_open());
        if !is_reason {
            self.again = self.again.filter(|_| waits.is_open());
            return Ok(());
        }
        let said = if has_news { 0 } else { self.said };
        let key = Status::try_from(self.handle.ask(Command::Status {}).await?)?.agent.pubkey.to_string();
        let once = format!("p2p-comm-{}-{}-{said}", &key[..16], waits.newest());
        match self.host.wake(&waits.say(&self.home), &once).await {
            Ok(()) => {
                tracing::info!(host = %self.host, cursor = waits.newest(), said, "woken");
                let pause = self.repeat.saturating_mul(2_u32.saturating_pow(said)).min(LONGEST);
                (self.told, self.said, self.failed) = (end.max(waits.newest()), said + 1, 0);
                self.again = waits.is_open().then(|| Instant::now() + pause);
                tokio::time::sleep(GAP.min(pause)).await;
            }
            Err(why) => {
                let pause = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failed)).min(LONGEST_RETRY);
                tracing::warn!(host = %self.host, %why, again_in_s = pause.as_secs(), "the agent's host cannot be woken");
                self.failed = self.failed.saturating_add(1);
                // What was not told stays news, and what was due stays due.
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    async fn what_waits(&self) -> Result<Waits, Error> {
        let mut waits = Waits::default();
        let mut after = 0;
        for _ in 0..Waits::LIMIT {
            let Some(event) = self.look(after, Duration::ZERO).await?.event else { break };
            waits.count(&event);
            after = event.cursor;
        }
        Ok(waits)
    }

    async fn look(&self, after: u64, time: Duration) -> Result<WaitReply, Error> {
        let look = Command::Untaken { after, kinds: KINDS.to_vec(), timeout_s: time.as_secs_f64() };
        self.handle.ask(look).await?.try_into()
    }
}
