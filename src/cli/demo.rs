//! `demo`: two agents and a relay on this machine alone, driven through the real command line, step by step.
//!
//! Every step is a command line of its own process, with `--json`, as an agent would give it; what it must answer is
//! checked. The relay lives in this process, the two daemons in temporary homes. All of it is gone at the end, however
//! the end comes about.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::session::Session;
use super::{DONE, FAILED, Verdict};
use crate::api::Error;
use crate::daemon::Launcher;
use crate::relay::{EmbeddedRelay, Options};

/// How long the agents may take to see each other. It takes milliseconds.
const FIND_WITHIN: Duration = Duration::from_secs(20);
/// What the file in the demo holds: every byte, many times over, so that an encoding that is not clean is noticed.
const FILE_BYTES: usize = 20_000;
/// The owner's program: reads the question, and decides.
const OWNER: &str = "#!/bin/sh\n# A human would read this and think; this one likes APIs.\ncat > \"$0.asked\"\necho '{\"answer\": \"yes\"}'\n";

/// Two agents find, call and answer each other, on this machine alone
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm demo

Starts a relay and two agents in temporary homes, holds a whole call between them, and leaves nothing behind. Exit 0 only
if every step did what it should.")]
pub(super) struct Demo {}

/// One step, as it went.
#[derive(Debug, Serialize)]
struct Step {
    what: String,
    ms: f64,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Demo {
    /// Blocks; the relay has a runtime of its own.
    pub(super) fn run(self, session: &Session) -> Verdict {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::internal)?;
        let address = ([127, 0, 0, 1], 0).into();
        let options = Options { address, ..Options::default() };
        let relay = runtime.block_on(EmbeddedRelay::start(options)).map_err(Error::internal)?;
        let mut show = Show { session, steps: Vec::new() };
        let played = Stage::open(&relay.url(), session.launcher.clone())
            .map_err(|error| error.to_string())
            .and_then(|stage| play(&stage, &mut show));
        runtime.block_on(relay.stop());
        show.close(played)
    }
}

/// What the audience sees.
struct Show<'a> {
    session: &'a Session,
    steps: Vec<Step>,
}

impl Show<'_> {
    /// Does a step, and tells how it went and how long it took.
    fn step<T>(&mut self, what: &str, act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let begun = Instant::now();
        let outcome = act();
        let ms = begun.elapsed().as_secs_f64() * 1_000.0;
        let step =
            Step { what: what.to_owned(), ms, ok: outcome.is_ok(), error: outcome.as_ref().err().cloned() };
        let mark = if step.ok { "ok" } else { "FAILED" };
        self.session.printer.talk(&format!("{ms:8.1} ms  {mark:6}  {what}"));
        self.steps.push(step);
        outcome
    }

    fn close(self, played: Result<[String; 2], String>) -> Verdict {
        let ok = played.is_ok();
        let transcripts = played.as_ref().ok();
        let data = json!({"ok": ok, "steps": self.steps, "transcripts": transcripts, "error": played.as_ref().err()});
        self.session.printer.data(&data, || match &played {
            Ok([alice, bob]) => {
                let mut text = String::new();
                for (who, transcript) in [("alice", alice), ("bob", bob)] {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "\n== {who}'s transcript ==\n\n{}\n", transcript.trim_end());
                }
                let total: f64 = self.steps.iter().map(|step| step.ms).sum();
                text + &format!(
                    "\nTwo agents found, called and answered each other: {} steps, {total:.0} ms.",
                    self.steps.len()
                )
            }
            Err(error) => format!("the demo failed: {error}"),
        })?;
        Ok(if ok { DONE } else { FAILED })
    }
}

/// Two homes in a temporary folder, which goes with them.
struct Stage {
    folder: TempDir,
    alice: Player,
    bob: Player,
}

/// One agent, driven through the command line.
struct Player {
    name: &'static str,
    home: std::path::PathBuf,
    relay: String,
    launcher: Launcher,
}

impl Stage {
    fn open(relay: &str, launcher: Launcher) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("p2p-comm-demo-").tempdir()?;
        let player = |name| {
            let home = folder.path().join(name);
            fs::create_dir(&home)?;
            fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
            Ok::<_, std::io::Error>(Player {
                name,
                home,
                relay: relay.to_owned(),
                launcher: launcher.clone(),
            })
        };
        let (alice, bob) = (player("alice")?, player("bob")?);
        Ok(Self { folder, alice, bob })
    }
}

impl Drop for Stage {
    /// The daemons go before their homes do.
    fn drop(&mut self) {
        for player in [&self.alice, &self.bob] {
            if let Err(error) = player.run(&["daemon", "stop"]) {
                tracing::warn!(error, "a daemon of the demo did not stop");
            }
        }
    }
}

impl Player {
    /// Gives a command line, and reads its JSON; exit codes other than 0 are failures.
    fn run(&self, words: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(&self.launcher.program);
        command.args(&self.launcher.args).arg("--json").arg("--home").arg(&self.home).args(words);
        // The demo is the same on every machine: what the user has set is not part of it.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("P2P_") {
                command.env_remove(name);
            }
        }
        command.env("P2P_NOSTR_RELAYS", &self.relay).env("P2P_AGENT_ID", self.name).stdin(Stdio::null());
        let output = command.output().map_err(|error| format!("{} {words:?}: {error}", self.name))?;
        let told: Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| format!("{} {words:?}: {}", self.name, String::from_utf8_lossy(&output.stderr)))?;
        match output.status.success() {
            true => Ok(told),
            false => Err(format!(
                "{} {words:?}: {}",
                self.name,
                told["error"]["message"].as_str().unwrap_or("failed")
            )),
        }
    }

    /// Waits for the next event, which must be of this kind.
    fn event(&self, kind: &str) -> Result<Value, String> {
        // Receipts are events too, and nobody here waits for one.
        let mut event = self.run(&["wait", "--for", kind, "--timeout", "30"])?["event"].take();
        match event["kind"] == kind {
            true => Ok(event.take()),
            false => Err(format!("{} waited for {kind} and got {}", self.name, event["kind"])),
        }
    }
}

/// The checks of the demo: a step that did not do what it should.
fn expect(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("expected that {what}")) }
}

/// The play. Both transcripts at the end.
fn play(stage: &Stage, show: &mut Show<'_>) -> Result<[String; 2], String> {
    let (alice, bob) = (&stage.alice, &stage.bob);
    let folder = stage.folder.path();
    show.step("alice: owner set exec:…    a program that answers for her human", || {
        let program = folder.join("owner");
        fs::write(&program, OWNER).map_err(|error| error.to_string())?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700))
            .map_err(|error| error.to_string())?;
        alice.run(&["owner", "set", &format!("exec:{}", program.display())])
    })?;
    for player in [alice, bob] {
        show.step(&format!("{}: status    makes the identity, starts the daemon", player.name), || {
            let status = player.run(&["status"])?;
            expect(status["agent"]["id"] == player.name, "the agent has its name")
        })?;
    }
    show.step("alice: list    finds bob", || {
        let begun = Instant::now();
        loop {
            let list = alice.run(&["list"])?;
            let found = list["agents"]
                .as_array()
                .is_some_and(|agents| agents.iter().any(|agent| agent["id"] == "bob"));
            if found || begun.elapsed() > FIND_WITHIN {
                return expect(found, "bob is online");
            }
        }
    })?;
    show.step("alice: call bob \"API design\"", || {
        let call = alice.run(&["call", "bob", "API design"])?;
        expect(call["state"] == "ringing", "the call rings")
    })?;
    show.step("bob: wait    it rings", || {
        let event = bob.event("call.ringing")?;
        expect(event["call_state"]["topic"] == "API design", "the topic is there")
    })?;
    show.step("bob: inbox", || {
        let inbox = bob.run(&["inbox"])?;
        expect(inbox["ringing"].as_array().is_some_and(|calls| calls.len() == 1), "one call rings")
    })?;
    show.step("bob: answer accept", || {
        expect(bob.run(&["answer", "accept"])?["state"] == "connected", "the call is connected")
    })?;
    show.step("alice: wait    connected", || alice.event("call.connected"))?;
    for (from, to, words) in [
        (alice, bob, "Which of the two schemas? Ours is in the file."),
        (bob, alice, "The second one: “id” first, then “name”. 👍"),
    ] {
        show.step(&format!("{}: send    {}: wait", from.name, to.name), || {
            from.run(&["send", words])?;
            expect(to.event("message.received")?["message"]["text"] == words, "the words arrive as they were")
        })?;
    }
    show.step(
        &format!("alice: sendfile --path schema.bin    {FILE_BYTES} bytes, compared by their hash"),
        || send_file(alice, bob, folder),
    )?;
    show.step(
        "alice: escalate \"May I …?\" --options yes,no --wait=30    her human decides, bob is told",
        || {
            let asked =
                ["escalate", "May I promise them version 2 for Friday?", "--options", "yes,no", "--wait=30"];
            let ticket = alice.run(&asked)?;
            expect(ticket["state"] == "answered" && ticket["answer"] == "yes", "the owner has decided")?;
            let question =
                fs::read_to_string(folder.join("owner.asked")).map_err(|error| error.to_string())?;
            expect(question.contains("version 2 for Friday"), "the owner was asked the question")?;
            bob.event("escalation.received").map(drop)
        },
    )?;
    show.step("alice: send    bob: wait", || {
        alice.run(&["send", "Version 2 on Friday: my human agrees."])?;
        bob.event("message.received").map(drop)
    })?;
    show.step("alice: end    bob: wait", || {
        let end = alice.run(&["end"])?;
        expect(end["call"]["end_reason"] == "completed", "the call is completed")?;
        bob.event("call.ended").map(drop)
    })?;
    show.step("both: transcript    the same words on both sides", || {
        let [alice, bob] = [alice, bob].map(|player| player.run(&["transcript"]));
        let (alice, bob) = (alice?, bob?);
        let said = |transcript: &Value| -> Vec<String> {
            let messages = transcript["messages"].as_array().cloned().unwrap_or_default();
            messages.iter().map(|one| one["text"].to_string()).collect()
        };
        let same = said(&alice) == said(&bob);
        expect(said(&alice).len() == 6 && same, "both have the same five messages and the owner's answer")?;
        Ok([as_text(&alice), as_text(&bob)])
    })
}

/// A real file, over the wire and back to its hash.
fn send_file(from: &Player, to: &Player, folder: &Path) -> Result<(), String> {
    let bytes: Vec<u8> = (0..FILE_BYTES).map(|index| (index * index / 7) as u8).collect();
    let path = folder.join("schema.bin");
    fs::write(&path, &bytes).map_err(|error| error.to_string())?;
    let sent = from.run(&["sendfile", "--path", &path.to_string_lossy()])?;
    let event = to.event("file.received")?;
    let file = &event["message"]["file"];
    expect(file["sha256"] == sent["file"]["sha256"], "both sides name the same hash")?;
    let received = fs::read(file["path"].as_str().unwrap_or_default()).map_err(|error| error.to_string())?;
    expect(received == bytes, "the bytes are the same")
}

fn as_text(transcript: &Value) -> String {
    match serde_json::from_value(transcript.clone()) {
        Ok(transcript) => super::show::transcript_text(&transcript),
        Err(error) => error.to_string(),
    }
}
