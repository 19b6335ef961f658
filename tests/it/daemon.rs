//! The daemon as a process: starting, stopping, staying, and getting out of the way.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use p2p_comm::api::Command;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::{FakeDaemon, TestHome, eventually, idle, outcome};

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The state letter and the session of a process (proc_pid_stat(5)).
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields.first()?.chars().next()?, fields.get(3)?.parse().ok()?))
}

fn is_alive(pid: i32) -> bool {
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() && stat(pid).is_none_or(|(state, _)| state != 'Z')
}

#[test]
fn ten_commands_at_once_start_one_daemon() {
    let home = TestHome::new();
    let commands: Vec<_> = (0..10).map(|_| home.process(&["status", "--json"]).spawn().unwrap()).collect();
    let pids: BTreeSet<i64> = commands
        .into_iter()
        .map(|command| outcome(command.wait_with_output().unwrap()))
        .map(|status| status.json()["daemon"]["pid"].as_i64().unwrap_or_else(|| panic!("{status:?}")))
        .collect();
    assert_eq!(pids.len(), 1);
}

#[test]
fn a_daemon_stops_in_order_and_is_gone_when_stop_returns() {
    let home = TestHome::new();
    let pid = home.daemon_pid();
    let stopped = home.run(&["daemon", "stop", "--json"]);
    assert_eq!(stopped.json(), serde_json::json!({"stopped": true, "already": false, "pid": pid}));
    assert!(!is_alive(pid));
    assert!(!home.home().state().join("daemon.sock").exists());
    assert_eq!(home.run(&["daemon", "stop", "--json"]).json()["already"], true);
    let status = home.run(&["daemon", "status", "--json"]);
    assert_eq!((status.exit, &status.json()["running"]), (3, &serde_json::json!(false)));
}

#[test]
fn a_daemon_ends_in_order_on_sigterm_and_keeps_its_identity() {
    let home = TestHome::new();
    let pid = home.daemon_pid();
    let identity = fs::read(home.home().identity()).unwrap();
    signal(pid, Signal::TERM);
    eventually("the daemon to end", || !is_alive(pid));
    assert!(!home.home().state().join("daemon.sock").exists());
    assert_ne!(home.daemon_pid(), pid);
    assert_eq!(fs::read(home.home().identity()).unwrap(), identity);
}

#[test]
fn after_sigkill_the_next_command_starts_another_daemon() {
    let home = TestHome::new();
    let pid = home.daemon_pid();
    signal(pid, Signal::KILL);
    eventually("the daemon to end", || !is_alive(pid));
    assert!(home.home().state().join("daemon.sock").exists(), "the stale socket is left over");
    assert_ne!(home.daemon_pid(), pid);
}

#[test]
fn a_daemon_that_cannot_start_reports_its_own_error() {
    let home = TestHome::new();
    fs::write(home.home().identity(), "{").unwrap();
    fs::set_permissions(home.home().identity(), fs::Permissions::from_mode(0o600)).unwrap();
    let status = home.run(&["status", "--json"]);
    assert_eq!((status.exit, status.error_code().as_str()), (1, "identity-damaged"));
    assert_eq!(fs::read(home.home().identity()).unwrap(), b"{");
}

#[test]
fn a_daemon_has_a_session_of_its_own_and_nothing_of_the_agent_that_started_it() {
    let home = TestHome::new();
    let started =
        home.process(&["daemon", "start", "--json"]).env("OPENCLAW_TOKEN", "secret").output().unwrap();
    let pid = outcome(started).json()["pid"].as_i64().unwrap() as i32;
    assert_eq!(stat(pid).unwrap().1, pid, "its session is its own");
    if crate::support::is_root() {
        // A daemon's environment is closed to other processes of its own user.
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(!String::from_utf8_lossy(&environment).contains("OPENCLAW"));
    }
    for entry in fs::read_dir(home.home().state()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn a_second_daemon_says_so_and_touches_nothing() {
    let home = TestHome::new();
    let pid = home.daemon_pid();
    let lock = fs::read(home.home().state().join("daemon.lock")).unwrap();
    let second = home.run(&["daemon", "run", "--json"]);
    assert_eq!((second.exit, second.error_code().as_str()), (1, "invalid-value"));
    assert_eq!(fs::read(home.home().state().join("daemon.lock")).unwrap(), lock);
    assert_eq!(home.daemon_pid(), pid);
    assert_eq!(home.run(&["daemon", "start", "--json"]).json()["already"], true);
}

#[test]
fn a_daemon_that_was_paused_is_named_soon_and_can_be_continued() {
    let home = TestHome::new();
    let pid = home.daemon_pid();
    signal(pid, Signal::STOP);
    let status = home.run(&["status", "--json"]);
    signal(pid, Signal::CONT);
    assert_eq!((status.exit, status.error_code().as_str()), (3, "daemon-not-responding"));
    assert_eq!(home.daemon_pid(), pid);
}

#[test]
fn an_older_daemon_is_replaced_when_no_call_is_up() {
    let home = TestHome::new();
    let old = FakeDaemon::of_version(&home, "0.0.1", |_| idle().into());
    let status = home.run(&["status", "--json"]);
    assert_ne!(status.json()["daemon"]["pid"], std::process::id(), "{status:?}");
    drop(old);
}

#[test]
fn an_older_daemon_with_a_call_and_a_newer_one_are_left_alone() {
    let home = TestHome::new();
    let busy = FakeDaemon::of_version(&home, "0.0.1", |command| match command {
        Command::Status {} => {
            let mut status = idle();
            status.calls.push(crate::sample::call());
            status.into()
        }
        other => panic!("{other:?}"),
    });
    let status = home.run(&["status", "--json"]);
    assert_eq!((status.exit, status.error_code().as_str()), (1, "version-mismatch"));
    drop(busy);
    let _newer = FakeDaemon::of_version(&home, "999.0.0", |_| idle().into());
    assert_eq!(home.run(&["status", "--json"]).error_code(), "version-mismatch");
}

#[test]
fn the_log_can_be_read_and_followed() {
    let home = TestHome::new();
    home.daemon_pid();
    let logs = home.run(&["daemon", "logs", "--json"]);
    assert!(
        logs.json()["lines"].as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains("ready"))
    );
    let mut following = home.process(&["daemon", "logs", "-f", "--lines", "0", "--json"]).spawn().unwrap();
    let mut lines = std::io::BufReader::new(following.stdout.take().unwrap());
    let pid = following.id() as i32;
    let line = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
            line
        });
        // It has begun to follow at some point; from then on the next stop is seen.
        while !reader.is_finished() {
            home.run(&["daemon", "stop"]);
            home.daemon_pid();
        }
        reader.join().unwrap()
    });
    assert!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["line"].is_string(), "{line}");
    signal(pid, Signal::INT);
    assert_eq!(following.wait().unwrap().code(), Some(130));
}

#[test]
fn a_service_in_the_foreground_says_when_it_is_ready_and_ends_on_sigint() {
    let home = TestHome::new();
    let mut service = home.process(&["service", "--json"]).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(service.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["pid"], service.id());
    assert_eq!(home.daemon_pid(), service.id() as i32);
    signal(service.id() as i32, Signal::INT);
    assert_eq!(service.wait().unwrap().code(), Some(0));
}

#[test]
fn the_relay_prints_its_address_makes_no_identity_and_ends_on_sigterm() {
    let home = TestHome::new();
    let mut relay = home.process(&["relay", "--port", "0", "--json"]).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(relay.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let url = serde_json::from_str::<serde_json::Value>(&line).unwrap()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("ws://127.0.0.1:"), "{url}");
    let status = home.process(&["status", "--json"]).env("P2P_NOSTR_RELAYS", &url).output().unwrap();
    assert_eq!(outcome(status).json()["relays"][0]["url"], url.as_str());
    home.run(&["daemon", "stop"]);
    signal(relay.id() as i32, Signal::TERM);
    assert_eq!(relay.wait().unwrap().code(), Some(0));
    let alone = TestHome::new();
    let taken = alone.run(&["relay", "--port", "0", "--store", "/dev/null/relay", "--json"]);
    assert_eq!((taken.exit, taken.error_code().as_str()), (1, "invalid-value"));
    assert!(fs::read_dir(alone.path()).unwrap().next().is_none(), "a relay makes no identity");
}
