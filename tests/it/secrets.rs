//! The secret key: what could show it, and everything that must not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use nostr_sdk::{SecretKey, ToBech32};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{NO_RELAY, Outcome, PATIENCE, PROGRAM, TestHome, eventually, is_root, outcome};

/// The user and the group that own nothing.
const NOBODY: u32 = 65_534;

/// A daemon in the foreground, of a user who is not root, because root may read everything.
struct OrdinaryDaemon {
    child: Child,
    _folder: tempfile::TempDir,
}

impl OrdinaryDaemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The build folder may be closed to others.
        let program = folder.path().join("program");
        fs::copy(PROGRAM, &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut process = Command::new(&program);
        if is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            process.uid(NOBODY).gid(NOBODY);
        }
        let mut child = process
            .args(["daemon", "run", "--json", "--home"])
            .arg(folder.path())
            .env_clear()
            .env("P2P_NOSTR_RELAYS", NO_RELAY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("\"pid\""), "{line}");
        Self { child, _folder: folder }
    }
}

impl Drop for OrdinaryDaemon {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_daemon_leaves_no_core_dump_and_its_memory_is_closed_to_its_own_user() {
    let daemon = OrdinaryDaemon::start();
    let process = Path::new("/proc").join(daemon.child.id().to_string());
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // What belongs to root in the folder of somebody else's process is what `PR_SET_DUMPABLE` closed (proc(5)).
    assert_ne!(fs::metadata(&process).unwrap().uid(), 0);
    for file in ["mem", "maps", "environ"] {
        assert_eq!(fs::metadata(process.join(file)).unwrap().uid(), 0, "{file}");
    }
}

/// The ways in which a secret key may be found somewhere.
struct Spellings(BTreeMap<String, Vec<u8>>);

impl Spellings {
    fn of(hex: &str) -> Self {
        let key = SecretKey::from_hex(hex).unwrap();
        let raw = key.to_secret_bytes();
        let numbers = raw.map(|byte| byte.to_string());
        let mut all = BTreeMap::from([
            ("raw".to_owned(), raw.to_vec()),
            ("nsec".to_owned(), key.to_bech32().unwrap().into_bytes()),
            ("hex".to_owned(), hex.to_lowercase().into_bytes()),
            ("numbers".to_owned(), numbers.join(", ").into_bytes()),
            ("dense numbers".to_owned(), numbers.join(",").into_bytes()),
        ]);
        // Where a text of base64 holds something depends on what stands before it, by threes.
        for (what, bytes) in [("raw", &raw[..]), ("hex", hex.as_bytes())] {
            for before in 0..3 {
                let padded = [&b"xx"[..before], bytes].concat();
                for (how, text) in [
                    ("base64", STANDARD_NO_PAD.encode(&padded)),
                    ("url base64", URL_SAFE_NO_PAD.encode(&padded)),
                ] {
                    // Without the characters that its neighbours share.
                    let own = text.as_bytes()[4..text.len() - 4].to_vec();
                    all.insert(format!("{how} of {what} after {before}"), own);
                }
            }
        }
        Self(all)
    }

    /// In which spellings the key is there.
    fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        let folded = bytes.to_ascii_lowercase();
        let holds = |text: &[u8]| {
            [bytes, &folded].iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text))
        };
        self.0.iter().filter(|(_, text)| holds(text)).map(|(what, _)| what.as_str()).collect()
    }
}

#[test]
fn the_search_finds_a_planted_key_in_every_spelling() {
    let hex = "d4e1f6a7b8c90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293";
    let key = SecretKey::from_hex(hex).unwrap();
    let raw = key.to_secret_bytes();
    let spellings = Spellings::of(hex);
    for planted in [
        raw.to_vec(),
        hex.to_uppercase().into_bytes(),
        key.to_bech32().unwrap().to_uppercase().into_bytes(),
        format!("{raw:?}").into_bytes(),
        serde_json::to_vec(&raw).unwrap(),
        STANDARD_NO_PAD.encode(raw).into_bytes(),
        URL_SAFE_NO_PAD.encode(["k=", hex, "&more"].concat()).into_bytes(),
        STANDARD_NO_PAD.encode([b"k".to_vec(), raw.to_vec(), b"more".to_vec()].concat()).into_bytes(),
    ] {
        let text = [b"before ".to_vec(), planted.clone(), b" after".to_vec()].concat();
        assert_ne!(spellings.found_in(&text), [""; 0], "{}", String::from_utf8_lossy(&planted));
    }
    assert_eq!(spellings.found_in(nostr_sdk::Keys::new(key).public_key().to_string().as_bytes()), [""; 0]);
}

/// An embedded relay in a process of its own.
struct Relay {
    child: Child,
    url: String,
}

impl Relay {
    fn start(home: &TestHome) -> Self {
        let mut child = home.process(&["relay", "--port", "0", "--json"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { child, url: told["url"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// An agent that logs all there is.
struct Agent<'a> {
    home: TestHome,
    name: &'static str,
    relay: &'a Relay,
}

impl Agent<'_> {
    fn run(&self, words: &[&str]) -> Outcome {
        let mut process = self.home.process(&[&["--json"], words].concat());
        process
            .env("P2P_NOSTR_RELAYS", &self.relay.url)
            .env("P2P_AGENT_ID", self.name)
            .env("P2P_COMM_LOG", "trace")
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full");
        outcome(process.output().unwrap())
    }

    fn done(&self, words: &[&str]) -> serde_json::Value {
        let outcome = self.run(words);
        assert_eq!(outcome.exit, 0, "{words:?}: {outcome:?}");
        outcome.json()
    }

    fn event(&self, kind: &str) {
        let patience = PATIENCE.as_secs().to_string();
        let event = self.done(&["wait", "--for", kind, "--timeout", &patience]);
        assert_eq!(event["event"]["kind"], kind);
    }

    fn secret(&self) -> String {
        let text = fs::read_to_string(self.home.home().identity()).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["privateKeyHex"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// Every file under a folder, by its name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push((entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
        }
    }
    found
}

#[test]
fn after_a_call_the_secret_key_is_in_its_file_and_nowhere_else() {
    let place = TestHome::new();
    let relay = Relay::start(&place);
    let agent = |name| Agent { home: TestHome::new(), name, relay: &relay };
    let (alice, bob) = (agent("alice"), agent("bob"));
    let pids = [&alice, &bob].map(|agent| agent.done(&["status"])["daemon"]["pid"].to_string());
    eventually("bob to be online", || {
        let list = alice.done(&["list"]);
        list["agents"].as_array().unwrap().iter().any(|agent| agent["id"] == "bob")
    });
    alice.done(&["call", "bob", "secrets"]);
    bob.event("call.ringing");
    bob.done(&["answer", "accept"]);
    alice.event("call.connected");
    alice.done(&["send", "hello"]);
    bob.event("message.received");
    bob.done(&["sendfile", "a.txt", "aGVsbG8="]);
    alice.event("file.received");
    alice.done(&["escalate", "May I?"]);
    // What is refused is not written down either.
    let (hers, his) = (alice.secret(), bob.secret());
    let nsec = SecretKey::from_hex(&hers).unwrap().to_bech32().unwrap();
    let file = STANDARD_NO_PAD.encode(format!("{{\"key\":\"{hers}\"}}."));
    let mut told = Vec::new();
    for words in [
        &["send", &hers][..],
        &["send", &nsec],
        &["send", &hers, "--to", "bob"],
        &["escalate", &hers],
        &["escalate", "Which?", "--options", &nsec],
        &["sendfile", "key", &file],
        &["sendfile", &hers, "aGVsbG8="],
        &["sendfile", "key", "aGVsbG8=", &nsec],
        &["call", &nsec],
        &["call", "bob", &hers],
        &["call", "bob", "a topic", "--id", &hers],
        &["answer", "reject", &hers],
        &["contacts", "add", &hers, "bob"],
        &["contacts", "block", &hers],
        &["list", "--capability", &hers],
        &["wait", "--timeout", "0", "--as", &hers],
        &["contacts", "add", "me", &nsec],
        &["contacts", "verify", "bob", &hers],
        &["identity", "export"],
    ] {
        let refused = alice.run(words);
        assert_eq!(
            (refused.exit, refused.error_code().as_str()),
            (1, "not-sendable"),
            "{words:?}: {refused:?}"
        );
        told.push((format!("what {words:?} printed"), (refused.stdout + &refused.stderr).into_bytes()));
    }
    alice.done(&["end"]);
    bob.event("call.ended");
    told.push(("what show printed".into(), alice.done(&["identity", "show"]).to_string().into_bytes()));
    told.push(("the log as printed".into(), alice.done(&["daemon", "logs"]).to_string().into_bytes()));
    for (agent, pid) in [&alice, &bob].into_iter().zip(&pids) {
        for file in ["cmdline", "environ"] {
            // Closed to other processes of the same user, but not to root.
            if let Ok(bytes) = fs::read(format!("/proc/{pid}/{file}")) {
                told.push((format!("{file} of {}", agent.name), bytes));
            }
        }
    }
    // Once with the journal of the database beside it, and once with all that the daemons had to say.
    let mut all: Vec<_> = [&alice, &bob].map(|agent| (agent.name, files(agent.home.path()))).into();
    for agent in [&alice, &bob] {
        agent.done(&["daemon", "stop"]);
        all.push((agent.name, files(agent.home.path())));
        let log = fs::read_to_string(agent.home.home().log()).unwrap();
        assert!(log.contains(" DEBUG p2p_comm::"), "everything is logged: {log}");
    }
    let mut in_files = 0;
    for (owner, secret) in [("alice", hers), ("bob", his)] {
        let spellings = Spellings::of(&secret);
        for (whose, files) in &all {
            for must_be in ["state.db", "config.toml", "daemon.log", "p2p-identity.json"] {
                assert!(files.iter().any(|(name, bytes)| name == must_be && !bytes.is_empty()), "{must_be}");
            }
            for (name, bytes) in files {
                let found = spellings.found_in(bytes);
                if name == "p2p-identity.json" && *whose == owner {
                    assert_eq!(found, ["hex"]);
                    in_files += 1;
                } else {
                    assert_eq!(found, [""; 0], "{owner}'s key is in {name} of {whose}");
                }
            }
        }
        for (what, bytes) in &told {
            assert_eq!(spellings.found_in(bytes), [""; 0], "{owner}'s key is in {what}");
        }
    }
    assert_eq!(in_files, 4);
}
