//! `doctor` before daemons that nobody can have for real within a test: of another version, with a clock that is off.

use std::fs;
use std::process::Command as Process;

use p2p_comm::api::{Command, Contacts, Error, ErrorKind, RelayAuth, RelayStatus, Status};
use serde_json::Value;

use crate::sample;
use crate::support::{Answer, FakeDaemon, NO_RELAY, PROGRAM, TestHome, idle, outcome};

/// Answers as a daemon does that is in this state.
fn in_state(status: Status) -> impl Fn(&Command) -> Answer + Send + 'static {
    move |command| match command {
        Command::Status {} => status.clone().into(),
        Command::Contacts {} => Contacts { contacts: Vec::new() }.into(),
        _ => Answer::refused(Error::new(ErrorKind::RelaysUnreachable, "no relay is connected", "")),
    }
}

/// The one check that is not well.
fn ill(home: &TestHome) -> (String, String, String) {
    let outcome = home.run(&["doctor", "--json"]);
    assert_eq!(outcome.exit, 1, "{outcome:?}");
    let found = outcome.json();
    let bad: Vec<&Value> =
        found["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false).collect();
    let [one] = bad[..] else { panic!("{bad:?}") };
    let text = |member: &str| one[member].as_str().unwrap().to_owned();
    (text("name"), text("detail"), text("hint"))
}

fn relay() -> RelayStatus {
    RelayStatus {
        url: NO_RELAY.into(),
        connected: true,
        auth: RelayAuth::None,
        error: None,
        refused: 0,
        refusal: None,
        session: None,
        ..sample::relay()
    }
}

#[test]
fn a_daemon_of_an_older_version_with_calls_up_is_named_with_the_way_out() {
    let home = TestHome::new();
    let mut status = idle();
    status.calls.push(sample::call());
    let _daemon = FakeDaemon::of_version(&home, "0.0.1", in_state(status));
    let (name, detail, hint) = ill(&home);
    assert_eq!(name, "daemon");
    assert!(detail.contains("0.0.1") && hint.contains("p2p-comm daemon stop"), "{detail}: {hint}");
}

#[test]
fn a_daemon_of_a_later_version_is_named_with_the_way_out() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::of_version(&home, "99.0.0", in_state(idle()));
    let (name, detail, hint) = ill(&home);
    assert_eq!(name, "daemon");
    assert!(detail.contains("99.0.0") && hint.contains("p2p-comm daemon stop"), "{detail}: {hint}");
}

#[test]
fn a_clock_that_is_off_is_named_with_the_command_that_sets_it() {
    let home = TestHome::new();
    let status = Status { clock_offset_s: Some(-75.0), relays: vec![relay()], connected: true, ..idle() };
    let _daemon = FakeDaemon::start(&home, in_state(status));
    let (name, detail, hint) = ill(&home);
    assert_eq!((name.as_str(), hint.as_str()), ("clock", "timedatectl set-ntp true"));
    assert!(detail.contains("-75.0 s"), "{detail}");
}

#[test]
fn a_relay_that_knows_no_stranger_is_named_with_the_command_that_does_without_it() {
    let home = TestHome::new();
    let stranger = RelayStatus { auth: RelayAuth::Failed, error: Some("restricted".into()), ..relay() };
    let status = Status { relays: vec![stranger], connected: true, ..idle() };
    let _daemon = FakeDaemon::start(&home, in_state(status));
    let (name, detail, hint) = ill(&home);
    assert!(name.contains(NO_RELAY) && detail.contains("authentication refused"), "{name}: {detail}");
    assert!(hint.contains("p2p-comm config set relays wss://"), "{hint}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_daemon_whose_program_was_replaced_is_named_until_it_is_started_anew() {
    let home = TestHome::new();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("p2p-comm");
    fs::copy(PROGRAM, &program).unwrap();
    let run = |words: &[&str]| {
        let mut process = Process::new(&program);
        process.args(words).env_clear().env("P2P_COMM_HOME", home.path()).env("P2P_NOSTR_RELAYS", NO_RELAY);
        outcome(process.output().unwrap())
    };
    let daemon = || {
        let found = run(&["doctor", "--json"]).json();
        found["checks"].as_array().unwrap().iter().find(|check| check["name"] == "daemon").unwrap().clone()
    };
    assert_eq!(daemon()["ok"], true);
    let other = folder.path().join("other");
    fs::copy(PROGRAM, &other).unwrap();
    fs::rename(other, &program).unwrap();
    let stale = daemon();
    assert_eq!(stale["ok"], false, "{stale}");
    assert!(stale["detail"].as_str().unwrap().contains("was replaced"), "{stale}");
    assert!(stale["hint"].as_str().unwrap().starts_with("p2p-comm daemon stop"), "{stale}");
    assert_eq!(run(&["daemon", "stop"]).exit, 0);
    assert_eq!(daemon()["ok"], true);
}
