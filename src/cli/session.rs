//! What every verb needs: a printer, the home, and a way to the daemon.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Printer;
pub(super) use crate::api::call_id;
use crate::api::{Command, Error, Event, EventKind, Reply, WaitReply};
use crate::daemon::{self, Launcher};
use crate::home::{Home, settings};
use crate::ipc::{Client, Lost};
use crate::proto::{CallId, TraceParent};

/// The variable in which programs that follow traces hand them on.
const TRACE: &str = "TRACEPARENT";
/// How long to wait before a lost daemon is started again: a crash at every start is not made a busy loop.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Session {
    pub(super) printer: Printer,
    pub(super) launcher: Launcher,
    home: Option<PathBuf>,
}

impl Session {
    pub(super) fn new(printer: Printer, home: Option<PathBuf>, launcher: Launcher) -> Self {
        Self { printer, launcher, home }
    }

    /// The folder that the flags name.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.home.clone()
    }

    /// The home that the flags and the environment name.
    pub(super) fn home(&self) -> Result<Home, Error> {
        Home::open(self.home.as_deref())
    }

    /// The trace that this command is part of, as whoever runs it says in `TRACEPARENT`. What is none is pointed out.
    pub(super) fn trace(&self) -> Option<TraceParent> {
        let text = std::env::var(TRACE).ok().filter(|text| !text.is_empty())?;
        match text.parse() {
            Ok(trace) => Some(trace),
            Err(error) => {
                self.printer.talk(&format!("warning: {TRACE} is not passed on: {error}"));
                None
            }
        }
    }

    /// A daemon to talk to, started if there is none; points out what is odd about the settings.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        let home = self.home()?;
        let layers = settings::load(&home, &[])?;
        layers.warnings.iter().for_each(|warning| self.printer.talk(&format!("warning: {warning}")));
        daemon::connect(&home, &self.launcher).await
    }

    /// Asks a command that blocks. A daemon that dies meanwhile is started again: what it waits for is durable.
    pub(super) async fn wait_for(
        &self,
        client: &mut Client,
        timeout_s: f64,
        command: impl Fn(f64) -> Command,
    ) -> Result<Reply, Error> {
        // The parser has refused what is no duration.
        let deadline = Instant::now() + Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match client.try_ask(command(left.as_secs_f64())).await {
                Ok(reply) => return reply,
                Err(Lost) if left.is_zero() => return Err(Lost.into()),
                Err(Lost) => {
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                    *client = daemon::connect(&self.home()?, &self.launcher).await?;
                }
            }
        }
    }

    /// Takes the event that says what was just shown, so that `wait` does not show it again. Other events, older ones
    /// too, stay for whoever waits for them.
    pub(super) async fn take_shown(
        &self,
        client: &Client,
        call: Option<CallId>,
        kinds: &[EventKind],
        is_it: impl Fn(&Event) -> bool,
    ) {
        let consumer = Some(crate::api::DEFAULT_CONSUMER.to_owned());
        let peek = Command::Wait {
            consumer: consumer.clone(),
            after: None,
            call,
            kinds: kinds.to_vec(),
            ahead: 0,
            timeout_s: 0.0,
        };
        if let Ok(WaitReply { event: Some(event), .. }) = ask(client, peek).await
            && is_it(&event)
        {
            // If it fails, the event is shown once more; that is all.
            let _ = client.ask(Command::Commit { consumer, cursor: event.cursor }).await;
        }
    }
}

/// Asks a command, for the type of reply that it has.
pub(super) async fn ask<T: TryFrom<Reply, Error = Error>>(
    client: &Client,
    command: Command,
) -> Result<T, Error> {
    client.ask(command).await?.try_into()
}

/// Longest wait that a command line may ask for: 30 days, as long as events are kept.
const LONGEST_WAIT_S: f64 = 30.0 * 86_400.0;

/// Reads a number of seconds.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=LONGEST_WAIT_S).contains(&seconds) => Ok(seconds),
        _ => Err(format!("a number of seconds from 0 to {LONGEST_WAIT_S}")),
    }
}
