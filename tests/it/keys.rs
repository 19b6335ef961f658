//! The key out of a home and into another: `identity export` and `identity import`, by pipes and at a terminal.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nostr_sdk::nips::nip49::EncryptedSecretKey;
use nostr_sdk::{FromBech32, SecretKey, ToBech32};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::cli::seen;
use crate::sample;
use crate::support::{FakeDaemon, TestHome, eventually, idle};

/// The key of NIP-49's example, and what belongs to it.
const SECRET: &str = "3501454135014541350145413501453fefb02227e449e57cf4d3a3ce05378683";
const ENCRYPTED: &str = "ncryptsec1qgg9947rlpvqu76pj5ecreduf9jxhselq2nae2kghhvd5g7dgjtcxfqtd67p9m0w57lspw8gsq6yphnm8623nsl8xn9j4jdzz84zm3frztj3z7s35vpzmqf6ksu8r89qk5z2zxfmu5gv8th8wclt0h4p";
const PASSWORD: &str = "nostr";

fn secret() -> SecretKey {
    SecretKey::from_hex(SECRET).unwrap()
}

fn nsec() -> String {
    secret().to_bech32().unwrap()
}

/// The text of the identity file with that key.
fn identity() -> String {
    let public = nostr_sdk::Keys::new(secret()).public_key();
    format!("{{\"privateKeyHex\":\"{SECRET}\",\"publicKey\":\"{public}\"}}\n")
}

/// A file in the home's folder that is its user's alone.
fn put(home: &TestHome, name: &str, text: &str) -> String {
    let path = home.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn home_with_that_key() -> TestHome {
    let home = TestHome::new();
    put(&home, "p2p-identity.json", &identity());
    home
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn identity_is_exported_into_a_new_file_and_never_over_one_that_is_there() {
    let home = home_with_that_key();
    let place = home.path().canonicalize().unwrap();
    let [plain, encrypted, again] =
        ["plain.json", "key.ncryptsec", "again"].map(|name| place.join(name).display().to_string());
    let password = put(&home, "password", "correct horse\n");
    let by_password = ["--encrypted", "--password-file", &password];
    let lines = [
        seen(&home, &["identity", "export", "--file", &plain]),
        seen(&home, &[&["identity", "export", "--file", &encrypted, "--json"], &by_password[..]].concat()),
        seen(&home, &["identity", "export", "--file", &plain, "--json"]),
        seen(&home, &["identity", "export"]),
        seen(&home, &["identity", "export", "--json"]),
        seen(&home, &[&["identity", "export", "--json"], &by_password[..]].concat()),
        seen(&home, &["identity", "export", "--encrypted", "--file", &again]),
        seen(&home, &["identity", "export", "--password-file", &password]),
    ];
    insta::assert_snapshot!(lines.join("\n").replace(&home.path().display().to_string(), "[home]"));
    assert_eq!(fs::read_to_string(&plain).unwrap(), identity());
    let key = EncryptedSecretKey::from_bech32(fs::read_to_string(&encrypted).unwrap().trim()).unwrap();
    assert_eq!(key.decrypt("correct horse").unwrap(), secret());
    assert_eq!((mode(plain.as_ref()), mode(encrypted.as_ref())), (0o600, 0o600));
    assert!(!Path::new(&again).exists(), "a refused export leaves no file");
    assert!(!home.home().state().join("daemon.sock").exists(), "no daemon was started for it");
}

#[test]
fn identity_is_imported_from_every_spelling() {
    for (text, password) in [
        (identity(), None),
        (
            serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&identity()).unwrap())
                .unwrap(),
            None,
        ),
        (nsec(), None),
        (format!(" {}\r\n", nsec()), None),
        (format!("{ENCRYPTED}\n"), Some(PASSWORD)),
    ] {
        let home = TestHome::new();
        let file = put(&home, "handed", &text);
        let mut words = vec!["identity", "import", &file];
        let path = password.map(|password| put(&home, "password", &format!("{password}\n")));
        if let Some(path) = &path {
            words.extend(["--password-file", path]);
        }
        let outcome = home.run(&words);
        assert_eq!(outcome.exit, 0, "{outcome:?}");
        let path = home.home().identity();
        assert_eq!((fs::read_to_string(&path).unwrap(), mode(&path)), (identity(), 0o600));
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "what was imported stays as it is");
    }
}

#[test]
fn identity_is_imported_into_an_empty_home_and_never_over_another() {
    let home = TestHome::new();
    let file = put(&home, "handed", ENCRYPTED);
    let (right, wrong) = (put(&home, "right", PASSWORD), put(&home, "wrong", "Nostr"));
    let import = ["identity", "import", &file, "--json", "--password-file"];
    let none = put(&home, "none", "nsec1qqqq");
    let halves = put(&home, "halves", &identity().replace(SECRET, &"a".repeat(64)));
    let loose = put(&home, "loose", &nsec());
    fs::set_permissions(&loose, fs::Permissions::from_mode(0o644)).unwrap();
    let missing = home.path().join("missing").display().to_string();
    let lines = [
        seen(&home, &[&import[..], &[&wrong]].concat()),
        seen(&home, &["identity", "import", &file]),
        seen(&home, &["identity", "import", &none]),
        seen(&home, &["identity", "import", &halves]),
        seen(&home, &["identity", "import", &loose]),
        seen(&home, &["identity", "import", &missing]),
        seen(&home, &["identity", "export", "--file", &missing]),
        seen(&home, &[&import[..], &[&right]].concat()),
        seen(&home, &[&import[..], &[&right]].concat()),
    ];
    insta::assert_snapshot!(lines.join("\n").replace(&home.path().display().to_string(), "[home]"));
    let shown = home.run(&["identity", "show", "--json"]);
    let public = nostr_sdk::Keys::new(secret()).public_key().to_string();
    assert_eq!(shown.json()["pubkey"], public, "the daemon starts with the imported key");
}

#[test]
fn an_identity_that_is_there_in_any_form_keeps_its_bytes() {
    let home = TestHome::new();
    let file = put(&home, "handed", &nsec());
    for text in ["", "{", &identity().replace('3', "4")] {
        put(&home, "p2p-identity.json", text);
        let refused = home.run(&["identity", "import", &file, "--json"]);
        assert_eq!(refused.error_code(), "invalid-value");
        assert_eq!(fs::read_to_string(home.home().identity()).unwrap(), text);
    }
    fs::remove_file(home.home().identity()).unwrap();
    std::os::unix::fs::symlink("/nowhere/key", home.home().identity()).unwrap();
    assert_eq!(home.run(&["identity", "import", &file, "--json"]).error_code(), "invalid-value");
    assert!(fs::symlink_metadata(home.home().identity()).unwrap().is_symlink());
}

#[test]
fn nothing_is_imported_while_an_engine_may_begin() {
    let home = TestHome::new();
    let file = put(&home, "handed", &nsec());
    let lock = home.home().lock().unwrap().unwrap();
    assert_eq!(home.run(&["identity", "import", &file, "--json"]).error_code(), "invalid-value");
    assert!(!home.home().identity().exists());
    drop(lock);
    assert_eq!(home.run(&["identity", "import", &file, "--json"]).exit, 0);
}

/// The keys of the home's identity file.
fn keys_of(text: &str) -> (String, String) {
    let file: serde_json::Value = serde_json::from_str(text).unwrap();
    let member = |name: &str| file[name].as_str().unwrap().to_owned();
    (member("privateKeyHex"), member("publicKey"))
}

#[test]
fn identity_is_rotated_and_its_old_key_is_kept() {
    let home = TestHome::new();
    let missing = seen(&home, &["identity", "rotate", "--json"]);
    put(&home, "p2p-identity.json", &identity());
    let in_a_call = FakeDaemon::start(&home, |_| {
        let mut status = idle();
        status.calls.push(sample::call());
        status.into()
    });
    let busy = seen(&home, &["identity", "rotate"]);
    drop(in_a_call);
    assert_eq!(fs::read_to_string(home.home().identity()).unwrap(), identity());
    let rotated = seen(&home, &["identity", "rotate"]);
    let (secret, public) = keys_of(&fs::read_to_string(home.home().identity()).unwrap());
    assert_ne!(secret, SECRET);
    let kept = home.home().earlier_keys().join(format!("{}.json", keys_of(&identity()).1));
    assert_eq!((fs::read_to_string(&kept).unwrap(), mode(&kept)), (identity(), 0o600));
    let npub = nostr_sdk::PublicKey::from_hex(&public).unwrap().to_bech32().unwrap();
    let lines = [missing, busy, rotated.replace(&npub, "[the new npub]")].join("\n");
    insta::assert_snapshot!(lines);
    // As the deployed agents call it; and the daemon that announces it runs.
    let again = home.run(&["rotate-keys", "--json"]).json();
    assert_eq!(again["old"]["pubkey"], public);
    assert_eq!(home.run(&["daemon", "status", "--json"]).json()["running"], true);
    assert_eq!(home.run(&["status", "--json"]).json()["agent"]["pubkey"], again["pubkey"]);
    assert_eq!(mode(&home.home().identity()), 0o600);
    // What leads from the old keys to the new one goes with it.
    let file = home.path().join("exported").display().to_string();
    home.run(&["identity", "export", "--file", &file]);
    let exported = fs::read_to_string(&file).unwrap();
    assert_eq!(exported.matches("\"proof\"").count(), 2, "{exported}");
    let elsewhere = TestHome::new();
    assert_eq!(elsewhere.run(&["identity", "import", &file]).exit, 0);
    assert_eq!(fs::read_to_string(elsewhere.home().identity()).unwrap(), exported);
}

/// A terminal with somebody at it.
struct Terminal {
    keyboard: File,
    slave: File,
    shown: String,
}

impl Terminal {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave =
            File::options().read(true).write(true).open(PathBuf::from(name.to_str().unwrap())).unwrap();
        Self { keyboard: File::from(master), slave, shown: String::new() }
    }

    fn stdio(&self) -> Stdio {
        Stdio::from(self.slave.try_clone().unwrap())
    }

    fn start(&self, home: &TestHome, words: &[&str]) -> Child {
        home.process(words).stdin(self.stdio()).stdout(self.stdio()).stderr(self.stdio()).spawn().unwrap()
    }

    /// Reads what is shown until a text has come.
    fn until(&mut self, text: &str) {
        self.until_it(|shown| shown.contains(text));
    }

    fn until_it(&mut self, is_enough: impl Fn(&str) -> bool) {
        let mut bytes = [0; 1_024];
        while !is_enough(&self.shown) {
            let count = self.keyboard.read(&mut bytes).unwrap();
            self.shown.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    }

    fn type_line(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn shows_what_is_typed(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ECHO)
    }
}

#[test]
fn at_a_terminal_the_bare_key_is_shown() {
    let home = home_with_that_key();
    let mut terminal = Terminal::new();
    let mut child = terminal.start(&home, &["identity", "export"]);
    terminal.until(&nsec());
    assert!(child.wait().unwrap().success());
}

#[test]
fn at_a_terminal_the_password_is_asked_for_twice_and_never_shown() {
    let home = home_with_that_key();
    let mut terminal = Terminal::new();
    let mut child = terminal.start(&home, &["identity", "export", "--encrypted"]);
    terminal.until("password: ");
    assert!(!terminal.shows_what_is_typed());
    terminal.type_line("swordfish");
    terminal.until("the same again: ");
    terminal.type_line("swordfish");
    let key = |shown: &str| {
        let word = shown.split_whitespace().find(|word| word.starts_with("ncryptsec1"));
        word.and_then(|word| EncryptedSecretKey::from_bech32(word).ok())
    };
    terminal.until_it(|shown| key(shown).is_some());
    assert!(child.wait().unwrap().success());
    assert!(!terminal.shown.contains("swordfish"), "{}", terminal.shown);
    assert!(terminal.shows_what_is_typed(), "the terminal is as it was");
    assert_eq!(key(&terminal.shown).unwrap().decrypt("swordfish").unwrap(), secret());
}

#[test]
fn two_passwords_that_differ_export_nothing() {
    let home = home_with_that_key();
    let file = home.path().join("key").display().to_string();
    let mut terminal = Terminal::new();
    let mut child = terminal.start(&home, &["identity", "export", "--encrypted", "--file", &file]);
    terminal.until("password: ");
    terminal.type_line("swordfish");
    terminal.until("the same again: ");
    terminal.type_line("sawfish");
    terminal.until("differ");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!Path::new(&file).exists());
}

#[test]
fn at_a_terminal_an_import_asks_for_the_password_once() {
    let home = TestHome::new();
    let file = put(&home, "handed", ENCRYPTED);
    let mut terminal = Terminal::new();
    let mut child = terminal.start(&home, &["identity", "import", &file]);
    terminal.until("password: ");
    terminal.type_line(PASSWORD);
    terminal.until("this home is now npub1");
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_to_string(home.home().identity()).unwrap(), identity());
}

#[test]
fn ctrl_c_at_the_password_leaves_the_terminal_as_it_was() {
    let home = home_with_that_key();
    let mut terminal = Terminal::new();
    let mut child = terminal.start(&home, &["identity", "export", "--encrypted"]);
    terminal.until("password: ");
    eventually("the terminal to be silent", || !terminal.shows_what_is_typed());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(terminal.shows_what_is_typed());
}
