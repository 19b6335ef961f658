//! Ways that are programs of this machine. None is given anything on its command line that an agent or a peer wrote.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::way::Unreached;
use crate::proto::TicketId;

/// How long an owner's program may take. It may wait for the human: an hour is a meeting.
const EXEC_TIME: Duration = Duration::from_secs(3_600);
/// How long a program may take that only passes a message on: OpenClaw's takes seconds to start.
const SEND_TIME: Duration = Duration::from_secs(90);
/// Most bytes read from a program: an answer is a line.
const OUTPUT_LIMIT: u64 = 64 * 1024;
/// Most characters kept of what a program says about its failure.
const WORDS_LIMIT: usize = 200;

/// The interpreter that this program is a module of.
static PYTHON: OnceLock<OsString> = OnceLock::new();

/// This program is a module of Python, and that is its interpreter.
pub fn runs_in_python(interpreter: OsString) {
    // The first word counts: an interpreter does not change.
    let _ = PYTHON.set(interpreter);
}

/// What a program of the owner's prints: a decision, or several by question.
#[derive(Deserialize)]
struct Decision {
    answer: Option<String>,
    #[serde(default)]
    answers: BTreeMap<String, String>,
}

/// Looks for a program where the system would: under its path, or in the folders of `PATH`.
pub(super) fn find(program: &str) -> io::Result<()> {
    let is_runnable = |path: &Path| -> io::Result<()> {
        let about = fs::metadata(path)?;
        match about.is_file() && about.permissions().mode() & 0o111 != 0 {
            true => Ok(()),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    };
    if program.contains('/') {
        return is_runnable(Path::new(program));
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).any(|folder| is_runnable(&folder.join(program)).is_ok());
    if found { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

pub(super) fn openclaw() -> Result<(), Unreached> {
    let hint = "install OpenClaw, or name another way: p2p-comm owner set";
    find("openclaw").map_err(|_| Unreached::Missing("openclaw", hint))
}

pub(super) fn python() -> Result<&'static OsString, Unreached> {
    PYTHON
        .get()
        .ok_or(Unreached::Unusable("apprise needs the Python package: pip install 'p2p-comm[notify]'"))
}

pub(super) fn desktop() -> Result<(), Unreached> {
    if cfg!(target_os = "macos") {
        return find("osascript").map_err(|_| Unreached::Missing("osascript", "it is a part of macOS"));
    }
    find("notify-send").map_err(|_| Unreached::Missing("notify-send", "apt install libnotify-bin"))?;
    let named = env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some();
    let usual = env::var_os("XDG_RUNTIME_DIR").is_some_and(|folder| Path::new(&folder).join("bus").exists());
    match named || usual {
        true => Ok(()),
        false => {
            Err(Unreached::Unusable("the daemon was started without a desktop session (no session bus)"))
        }
    }
}

/// Runs the owner's program, and ends it when its time is over or the engine stops.
pub(super) async fn exec(program: &str, json: String) -> Result<Vec<(Option<TicketId>, String)>, Unreached> {
    let done = run(Command::new(program).stderr(Stdio::null()), Some(json), EXEC_TIME).await?;
    if !done.status.success() {
        return Err(Unreached::Failed(done.status));
    }
    let Ok(Decision { answer, answers }) = serde_json::from_slice(&done.output) else {
        return Ok(Vec::new());
    };
    let named = answers.into_iter().filter_map(|(ticket, answer)| Some((Some(ticket.parse().ok()?), answer)));
    Ok(answer.map(|answer| (None, answer)).into_iter().chain(named).collect())
}

/// By `openclaw message send`, which takes its message on the command line and nowhere else.
pub(super) async fn send_by_openclaw(channel: &str, target: &str, text: &str) -> Result<(), Unreached> {
    openclaw()?;
    let mut command = Command::new("openclaw");
    // A chat's number may begin with a dash.
    let (target, text) = (format!("--target={target}"), format!("--message={text}"));
    command.args(["message", "send", "--channel", channel, &target, &text]);
    told(run(command.stderr(Stdio::piped()), None, SEND_TIME).await?)
}

/// By PyPI apprise, in a Python of its own, which reads the URL and the text on its standard input.
pub(super) async fn send_by_apprise(url: &str, title: &str, text: &str) -> Result<(), Unreached> {
    let mut command = Command::new(python()?);
    // Nothing is imported from wherever the engine happens to stand.
    command.args(["-m", "p2p_comm._notify"]).current_dir("/").env("PYTHONSAFEPATH", "1");
    let job = json!({"url": url, "title": title, "body": text}).to_string();
    let done = run(command.stderr(Stdio::null()), Some(job), SEND_TIME).await?;
    match done.status.code() {
        Some(0) => Ok(()),
        Some(3) => Err(Unreached::Unusable("apprise is not installed: pip install 'p2p-comm[notify]'")),
        Some(4) => {
            Err(Unreached::Unusable("apprise does not know this URL: https://appriseit.com/services/"))
        }
        Some(5) => Err(Unreached::Told("the service that apprise told did not take it".into())),
        _ => Err(Unreached::Failed(done.status)),
    }
}

/// On the screen of this machine.
pub(super) async fn show_on_desktop(title: &str, text: &str) -> Result<(), Unreached> {
    desktop()?;
    if cfg!(target_os = "macos") {
        let script = format!("display notification {} with title {}", apple(text), apple(title));
        let mut command = Command::new("osascript");
        command.arg("-").stderr(Stdio::piped());
        return told(run(&mut command, Some(script), SEND_TIME).await?);
    }
    let mut command = Command::new("notify-send");
    command.args(["--app-name=p2p-comm", "--", title, &markup(text)]).stderr(Stdio::piped());
    told(run(&mut command, None, SEND_TIME).await?)
}

/// Text for notify-send, whose second word may hold markup.
fn markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Text in AppleScript.
fn apple(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    words: Vec<u8>,
}

/// What a program said about its failure.
fn told(done: Ended) -> Result<(), Unreached> {
    if done.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&done.words);
    let last = words.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    match last {
        "" => Err(Unreached::Failed(done.status)),
        last => Err(Unreached::Told(last.chars().take(WORDS_LIMIT).collect())),
    }
}

async fn run(command: &mut Command, input: Option<String>, time: Duration) -> Result<Ended, Unreached> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let work = async {
        let write = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that does not read its question may still be a notification: not an error.
                _ = stdin.write_all(input.as_bytes()).await;
                _ = stdin.write_all(b"\n").await;
            }
        };
        let ((), output, words) = tokio::join!(write, read(stdout), read(stderr));
        Ok(Ended { status: child.wait().await?, output: output?, words: words? })
    };
    tokio::time::timeout(time, work).await.map_err(|_| Unreached::Slow(time))?
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Hex;

    fn program(folder: &tempfile::TempDir, script: &str) -> String {
        let path = folder.path().join("owner");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path.display().to_string()
    }

    fn carry(program: &str) -> Result<Vec<(Option<TicketId>, String)>, Unreached> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(exec(program, "{\"question\": \"may I? $(touch owned) `touch owned`\"}".into()))
    }

    #[test]
    fn a_program_gets_the_question_on_its_input_and_may_bring_the_answer() {
        let folder = tempfile::tempdir().unwrap();
        let asked = folder.path().join("asked");
        let script = format!("cat > {}; echo '{{\"answer\": \"yes\"}}'", asked.display());
        assert_eq!(carry(&program(&folder, &script)).unwrap(), [(None, "yes".to_owned())]);
        let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(asked).unwrap()).unwrap();
        assert_eq!(json["question"], "may I? $(touch owned) `touch owned`");
    }

    #[test]
    fn a_program_that_is_asked_several_questions_names_the_ones_that_it_answers() {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"echo '{"answers": {"01010101": "yes", "no id": "no"}}'"#;
        assert_eq!(carry(&program(&folder, script)).unwrap(), [(Some(Hex([1; 4])), "yes".to_owned())]);
    }

    #[test]
    fn a_program_that_only_notifies_brings_no_answer_and_one_that_fails_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(carry(&program(&folder, "exit 0")).unwrap(), []);
        assert_eq!(carry(&program(&folder, "echo yes")).unwrap(), [], "only a JSON object is a decision");
        assert!(matches!(carry(&program(&folder, "exit 3")), Err(Unreached::Failed(_))));
        assert!(matches!(carry("/nowhere"), Err(Unreached::Run(_))));
        // More than a pipe holds, unread: neither waits for the other.
        assert_eq!(carry(&program(&folder, "head -c 200000 /dev/zero; exit 0")).unwrap(), []);
    }

    #[test]
    fn a_program_that_cannot_be_run_is_known_before_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = program(&folder, "exit 0");
        assert!(find(&path).is_ok() && find("sh").is_ok(), "under its path, and in a folder of PATH");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for program in [&path, "/nowhere", "no-such-program-anywhere"] {
            assert!(find(program).is_err(), "{program}");
        }
    }

    #[test]
    fn what_is_shown_on_a_screen_is_text_and_no_markup() {
        assert_eq!(markup("<b>&\"x\""), "&lt;b&gt;&amp;\"x\"");
        assert_eq!(apple("say \"hi\" \\ & quit"), "\"say \\\"hi\\\" \\\\ & quit\"");
    }
}
