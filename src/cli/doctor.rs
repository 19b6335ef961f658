//! `doctor`: looks at everything that an agent needs, and says what to do about what is not well.

use std::os::unix::fs::PermissionsExt;

use clap::Args;
use serde::Serialize;

use super::session::{Session, ask};
use super::{DONE, FAILED, Verdict};
use crate::api::{Command, Error, RelayAuth, RelayStatus, Status};
use crate::home::{Home, settings};
use crate::proto::text::quote;

/// From this many seconds on, relays and peers begin to refuse what we sign (docs/protocol.md, section 7).
const CLOCK_OFF_S: f64 = 20.0;

/// Look at everything that this agent needs
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm doctor

It looks at permissions, settings, daemon, socket, clock, each relay, the outbox and the way to the owner. Exit 0 only if
all is well.")]
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

    /// What keeps everything after it from being looked at.
    fn stopped_by(name: &str, error: &Error) -> Self {
        Self::ill(name, error.message.clone(), error.hint.clone())
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
    let owner = match settings::load(&home, &[]) {
        Ok(layers) => {
            checks.push(if layers.warnings.is_empty() {
                Check::well("settings", "of one mind")
            } else {
                Check::ill("settings", layers.warnings.join("; "), "see: p2p-comm config show")
            });
            layers.settings().owner
        }
        Err(error) => {
            checks.push(Check::stopped_by("settings", &error));
            return checks;
        }
    };
    let status = match status(session).await {
        Ok(status) => status,
        Err(error) => {
            checks.push(Check::stopped_by("daemon", &error));
            return checks;
        }
    };
    let daemon = &status.daemon;
    checks.push(Check::well("daemon", format!("version {}, pid {}", daemon.version, daemon.pid)));
    checks.push(socket(&home));
    checks.push(clock(status.clock_offset_s));
    checks.extend(status.relays.iter().map(relay));
    checks.push(outbox(&status));
    checks.push(Check::well(
        "owner",
        match owner.len() {
            0 => "no way to the owner is configured; questions get the state no-owner".to_owned(),
            ways => format!("{ways} configured; try them: p2p-comm owner test"),
        },
    ));
    checks
}

async fn status(session: &Session) -> Result<Status, Error> {
    ask(&session.client().await?, Command::Status {}).await
}

fn socket(home: &Home) -> Check {
    let path = match home.socket() {
        Ok(path) => path,
        Err(error) => return Check::stopped_by("socket", &error),
    };
    let place = path.display();
    match std::fs::metadata(&path).map(|about| about.permissions().mode() & 0o777) {
        Ok(0o600) => Check::well("socket", format!("{place}, mode 600")),
        Ok(mode) => Check::ill("socket", format!("{place}, mode {mode:o}"), format!("chmod 600 {place}")),
        Err(error) => Check::ill("socket", format!("{place}: {error}"), "p2p-comm daemon stop"),
    }
}

fn clock(offset_s: Option<f64>) -> Check {
    match offset_s {
        None => Check::well("clock", "nothing to compare it with yet"),
        Some(offset) if offset.abs() <= CLOCK_OFF_S => Check::well("clock", format!("off by {offset:+.1} s")),
        Some(offset) => Check::ill(
            "clock",
            format!("off by {offset:+.1} s: relays and peers refuse what it dates"),
            "set it: timedatectl set-ntp true",
        ),
    }
}

fn relay(relay: &RelayStatus) -> Check {
    let name = format!("relay {}", quote(&relay.url));
    let said = relay.error.as_deref().map_or_else(String::new, |error| format!(", {}", quote(error)));
    let rtt = relay.rtt_ms.map_or_else(String::new, |rtt| format!(", {rtt:.0} ms"));
    match (relay.connected, relay.auth) {
        (true, RelayAuth::Failed) => Check::ill(
            name,
            format!("connected, authentication refused{said}"),
            "it may not know this key: p2p-comm config set relays …",
        ),
        (true, RelayAuth::Done) => Check::well(name, format!("connected{rtt}, authenticated{said}")),
        (true, RelayAuth::None | RelayAuth::Required) => Check::well(name, format!("connected{rtt}{said}")),
        (false, _) => Check::ill(
            name,
            format!("not connected{said}"),
            "is this machine online? otherwise take another: p2p-comm config set relays …",
        ),
    }
}

fn outbox(status: &Status) -> Check {
    let detail = format!("{} queued, {} failed", status.outbox.queued, status.outbox.failed);
    if status.outbox.queued > 0 && !status.connected {
        return Check::ill("outbox", detail, "it leaves by itself as soon as a relay is reachable");
    }
    Check::well("outbox", detail)
}
