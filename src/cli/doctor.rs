//! `doctor`: looks at everything that an agent needs, and says what to do about what is not well.

use std::os::unix::fs::PermissionsExt;

use clap::Args;
use serde::Serialize;

use super::session::{Session, ask};
use super::{DONE, FAILED, Verdict};
use crate::api::{Command, Error, RelayAuth, RelayStatus, SessionLink, Status};
use crate::home::{Home, settings};
use crate::proto::text::quote;

/// From this many seconds on, relays and peers begin to refuse what we sign (docs/protocol.md, section 4).
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
    checks.push(database(&home));
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

/// A database that was found damaged is kept beside the one that took its place.
fn database(home: &Home) -> Check {
    let kept: Vec<String> = std::fs::read_dir(home.state())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("state.db.damaged-") && !name.ends_with("-wal"))
        .filter(|name| !name.ends_with("-shm"))
        .collect();
    match kept.as_slice() {
        [] => Check::well("database", "no damage was found"),
        kept => Check::ill(
            "database",
            format!("was damaged, and what could be read was carried over; kept: {}", kept.join(", ")),
            format!("is the disk well? when nothing is missing, remove it from {}", home.state().display()),
        ),
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

/// What to do about a relay that is not well.
const OFFLINE: &str = "is this machine online? otherwise take another: p2p-comm config set relays …";
const STRANGE: &str = "it may not know this key: p2p-comm config set relays …";
const REFUSING: &str = "it takes nothing from this key: p2p-comm config set relays …";
const WORK: &str = "it wants work for each event, which is not done: p2p-comm config set relays …";
const MUTE: &str = "calls do not get through it: p2p-comm config set relays …";

fn relay(relay: &RelayStatus) -> Check {
    let name = format!("relay {}", quote(&relay.url));
    let mut detail = if relay.connected { "connected" } else { "not connected" }.to_owned();
    if let Some(rtt) = relay.rtt_ms.filter(|_| relay.connected) {
        detail.push_str(&format!(", {rtt:.0} ms"));
    }
    match relay.auth {
        RelayAuth::None | RelayAuth::Required => {}
        RelayAuth::Done => detail.push_str(", authenticated"),
        RelayAuth::Failed => detail.push_str(", authentication refused"),
    }
    detail.push_str(&said(relay.error.as_deref()));
    detail.push_str(&format!("; {} accepted, {} refused", relay.accepted, relay.refused));
    detail.push_str(&said(relay.refusal.as_deref()));
    if let Some(session) = &relay.session {
        detail.push_str(&format!("; for calls {}", session_link(session)));
    }
    match hint(relay) {
        Some(hint) => Check::ill(name, detail, hint),
        None => Check::well(name, detail),
    }
}

fn said(words: Option<&str>) -> String {
    words.map_or_else(String::new, |words| format!(", {}", quote(words)))
}

fn session_link(session: &SessionLink) -> String {
    let state = match (session.connected, session.echo_ms, &session.error) {
        (false, ..) => "not connected".to_owned(),
        (true, Some(echo), _) => format!("connected, an echo in {echo:.0} ms"),
        (true, None, Some(_)) => "connected, no echo".to_owned(),
        (true, None, None) => "connected, an echo is awaited".to_owned(),
    };
    format!("{state}{}", said(session.error.as_deref()))
}

/// What to do, if it is not well: the nearest cause first.
fn hint(relay: &RelayStatus) -> Option<&'static str> {
    if !relay.connected {
        return Some(OFFLINE);
    }
    if relay.auth == RelayAuth::Failed {
        return Some(STRANGE);
    }
    if relay.refused > 0 && relay.accepted == 0 {
        let wants_work = relay.refusal.as_ref().is_some_and(|words| words.starts_with("pow:"));
        return Some(if wants_work { WORK } else { REFUSING });
    }
    let session = relay.session.as_ref()?;
    if !session.connected {
        return Some(OFFLINE);
    }
    (session.echo_ms.is_none() && session.error.is_some()).then_some(MUTE)
}

fn outbox(status: &Status) -> Check {
    let detail = format!("{} queued, {} failed", status.outbox.queued, status.outbox.failed);
    if status.outbox.queued > 0 && !status.connected {
        return Check::ill("outbox", detail, "it leaves by itself as soon as a relay is reachable");
    }
    Check::well("outbox", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> RelayStatus {
        RelayStatus {
            url: "wss://relay.example".into(),
            connected: true,
            rtt_ms: Some(41.7),
            auth: RelayAuth::Done,
            error: None,
            accepted: 12,
            refused: 1,
            refusal: Some("blocked: \u{1b}[2J".into()),
            session: Some(SessionLink {
                connected: true,
                auth: RelayAuth::None,
                echo_ms: Some(80.2),
                error: None,
            }),
        }
    }

    #[test]
    fn a_relay_is_told_of_with_both_its_links_and_what_it_took() {
        let check = relay(&well());
        assert!(check.ok);
        assert_eq!(
            check.detail,
            "connected, 42 ms, authenticated; 12 accepted, 1 refused, «blocked: \\u{1b}[2J»; \
             for calls connected, an echo in 80 ms"
        );
    }

    #[test]
    fn what_is_not_well_about_a_relay_has_a_hint_of_its_own() {
        let link = |connected, error: Option<&str>| {
            let error = error.map(str::to_owned);
            Some(SessionLink { connected, auth: RelayAuth::None, echo_ms: None, error })
        };
        let refusal = |words: &str| RelayStatus { accepted: 0, refusal: Some(words.into()), ..well() };
        for (status, expected) in [
            (well(), None),
            (RelayStatus { session: None, ..well() }, None),
            (RelayStatus { session: link(true, None), ..well() }, None),
            (RelayStatus { session: link(true, Some("no echo of a live event")), ..well() }, Some(MUTE)),
            (RelayStatus { session: link(false, Some("cannot connect")), ..well() }, Some(OFFLINE)),
            (RelayStatus { connected: false, ..well() }, Some(OFFLINE)),
            (RelayStatus { auth: RelayAuth::Failed, ..well() }, Some(STRANGE)),
            (refusal("restricted: members only"), Some(REFUSING)),
            (refusal("pow: 28 bits needed"), Some(WORK)),
        ] {
            assert_eq!(relay(&status).hint.as_deref(), expected, "{status:?}");
        }
    }
}
