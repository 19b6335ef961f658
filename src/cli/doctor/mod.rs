//! `doctor`: looks at everything that an agent needs, and says what to do about what is not well.
//!
//! What can be seen without a daemon comes first (`machine`, `waking`), then what only the daemon knows (`agent`). A check that
//! fails does not hide the others, as far as they can be made at all. A hint is a command, with what is known filled in,
//! wherever one command mends it.

mod agent;
mod machine;
mod waking;

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::session::{Session, ask};
use super::{DONE, FAILED, Verdict};
use crate::api::{AgentList, Command, Contacts, Error, ErrorKind, RelayAuth, RelayStatus, Status};
use crate::daemon;
use crate::home::settings;
use crate::ipc::Client;

/// How long links may take to come up before they are judged: a daemon that was just started dials them now.
const SETTLE: Duration = Duration::from_secs(5);
/// How often to look meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// Look at everything that this agent needs
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm doctor

It looks at home, key, permissions, disk, settings, daemon, socket, database, clock, each relay, the ways to contacts,
claims to their names, the outbox, hooks, wakes and the ways to the owner, and says what mends what is not well. Exit 0 only if all is
well.")]
pub(super) struct Doctor {}

#[derive(Debug, Serialize)]
struct Examined {
    ok: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    ok: bool,
    detail: String,
    hint: Option<String>,
}

impl Check {
    fn well(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok: true, detail: detail.into(), hint: None }
    }

    fn ill(name: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name: name.into(), ok: false, detail: detail.into(), hint: Some(hint.into()) }
    }

    /// What kept something from being looked at.
    fn stopped_by(name: &str, error: &Error) -> Self {
        Self::ill(name, error.message.clone(), error.hint.clone())
    }

    /// All is well, and there is something that one could do.
    fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl Doctor {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let checks = examine(session).await;
        let examined = Examined { ok: checks.iter().all(|check| check.ok), checks };
        session.printer.data(&examined, || {
            super::show::lines(&examined.checks, "", |check| {
                let verdict = if check.ok { "ok" } else { "NOT OK" };
                let hint = check.hint.as_ref().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
                format!("{verdict}  {}  {}{hint}", check.name, check.detail)
            })
        })?;
        Ok(if examined.ok { DONE } else { FAILED })
    }
}

async fn examine(session: &Session) -> Vec<Check> {
    let home = match session.home() {
        Ok(home) => home,
        Err(error) => return vec![Check::stopped_by("home", &error)],
    };
    let mut checks = vec![Check::well("home", format!("{}, for its owner alone", home.path().display()))];
    checks.push(machine::identity(&home));
    checks.push(machine::permissions(&home));
    checks.push(machine::disk(&home));
    let configured = match settings::load(&home, &[]) {
        Ok(layers) => {
            checks.extend(machine::settings(&layers.warnings));
            checks.extend(waking::hooks(&home));
            let settings = layers.settings();
            checks.extend(waking::wakes(&settings));
            settings
        }
        Err(error) => {
            checks.push(Check::stopped_by("settings", &error));
            return checks;
        }
    };
    let client = match session.client().await {
        Ok(client) => client,
        Err(error) => {
            // What keeps it from starting may have been told.
            if checks.iter().all(|check| check.ok || check.detail != error.message) {
                checks.push(Check::stopped_by("daemon", &error));
            }
            checks.push(machine::database(&home));
            return checks;
        }
    };
    match settled(&client).await {
        Ok(status) => {
            checks.push(agent::daemon(&status, &configured, daemon::running_code().as_ref()));
            checks.push(machine::socket(&home));
            checks.push(machine::database(&home));
            checks.push(agent::clock(status.clock_offset_s));
            checks.extend(status.relays.iter().map(|relay| agent::relay(relay, &configured.relays)));
            checks.extend(peers(&client, &configured.relays).await);
            checks.push(agent::outbox(&status));
            checks.extend(agent::owner(&status.owner));
        }
        Err(error) => checks.push(Check::stopped_by("daemon", &error)),
    }
    checks
}

/// How the agent is, once its links have come up or said why not.
async fn settled(client: &Client) -> Result<Status, Error> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let status: Status = ask(client, Command::Status {}).await?;
        if Instant::now() >= deadline || status.relays.iter().all(has_settled) {
            return Ok(status);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn has_settled(relay: &RelayStatus) -> bool {
    let link = (relay.connected && relay.auth != RelayAuth::Required) || relay.error.is_some();
    link && relay.session.as_ref().is_none_or(|session| session.echo_ms.is_some() || session.error.is_some())
}

/// The ways to those whom the user knows, and who else goes by their names.
async fn peers(client: &Client, relays: &[String]) -> Vec<Check> {
    let contacts: Contacts = match ask(client, Command::Contacts {}).await {
        Ok(contacts) => contacts,
        Err(error) => return vec![Check::stopped_by("contacts", &error)],
    };
    let online = match ask::<AgentList>(client, Command::List { capability: None, limit: None }).await {
        Ok(list) => list.agents,
        // Each relay has been told of.
        Err(error) if error.kind == ErrorKind::RelaysUnreachable => Vec::new(),
        Err(error) => return vec![Check::stopped_by("contacts", &error)],
    };
    agent::contacts(&contacts.contacts, &online, relays)
}
