//! One way to the owner.

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::Question;

/// How long an owner's program may take. It may wait for the human: an hour is a meeting.
const EXEC_TIME: Duration = Duration::from_secs(3_600);
/// How long a webhook may take.
const POST_TIME: Duration = Duration::from_secs(15);
/// Pauses before a webhook is tried again.
const POST_AGAIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];
/// Most bytes read from a program: an answer is a line.
const OUTPUT_LIMIT: u64 = 64 * 1024;

/// One way to the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// A program, without arguments, without a shell.
    Exec(String),
    /// A URL that takes a POST.
    Webhook(String),
    /// What deployed agents or a later version reach, and this one does not: kept, and reported with each question.
    Unknown(String),
}

/// Why the owner was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    #[error("cannot run it: {0}")]
    Run(#[from] io::Error),
    #[error("it ended with {0}")]
    Failed(std::process::ExitStatus),
    #[error("it took longer than {} s", .0.as_secs())]
    Slow(Duration),
    #[error("{0}")]
    Post(String),
    #[error("this version does not know this way; it knows exec:PROGRAM and https://…")]
    Unknown,
}

#[derive(Deserialize)]
struct Decision {
    answer: Option<String>,
}

impl fmt::Display for Way {
    /// Without what a URL may carry after its host: often a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec(program) => write!(formatter, "exec:{program}"),
            Self::Webhook(url) => match url.split_once("://") {
                Some((scheme, rest)) => {
                    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
                    write!(formatter, "{scheme}://{}", place.rsplit('@').next().unwrap_or_default())
                }
                None => formatter.write_str("webhook"),
            },
            // The number or name behind it is the owner's own.
            Self::Unknown(text) => match text.split_once(':') {
                Some((scheme, _)) => write!(formatter, "{scheme}:…"),
                None => formatter.write_str("unknown"),
            },
        }
    }
}

impl Way {
    /// Reads a way as the settings name it. One that is not known stops nobody from working: a deployed agent's
    /// environment names `telegram:…`, and the owner can still answer at a terminal.
    pub(super) fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some(program) = text.strip_prefix("exec:").filter(|program| !program.is_empty()) {
            return Self::Exec(program.to_owned());
        }
        let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let is_local = local.iter().any(|start| {
            text.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '?']))
        });
        if text.starts_with("https://") || is_local {
            return Self::Webhook(text.to_owned());
        }
        Self::Unknown(text.chars().filter(|c| !c.is_control()).take(80).collect())
    }

    /// Why a question cannot be carried, as far as can be told without one.
    pub(super) fn flaw(&self) -> Option<Unreached> {
        match self {
            Self::Exec(program) => runnable(program).err().map(Unreached::Run),
            Self::Webhook(_) => None,
            Self::Unknown(_) => Some(Unreached::Unknown),
        }
    }

    /// Carries a question. The owner's decision, if this way brings one.
    pub(super) async fn carry(&self, question: &Question) -> Result<Option<String>, Unreached> {
        self.bring(serde_json::to_string(question).map_err(io::Error::from)?).await
    }

    /// Carries one JSON object, and brings back what the other side has decided, if it was asked.
    pub(super) async fn bring(&self, json: String) -> Result<Option<String>, Unreached> {
        match self {
            Self::Exec(program) => run(program, json).await,
            Self::Webhook(url) => post(url, json).await.map(|()| None),
            Self::Unknown(_) => Err(Unreached::Unknown),
        }
    }
}

/// Looks for a program where the system would: under its path, or in the folders of `PATH`.
fn runnable(program: &str) -> io::Result<()> {
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

/// Runs the owner's program, and ends it when its time is over or the engine stops.
async fn run(program: &str, json: String) -> Result<Option<String>, Unreached> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let work = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its question may still be a notification: not an error.
            _ = stdin.write_all(json.as_bytes()).await;
            _ = stdin.write_all(b"\n").await;
        }
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(OUTPUT_LIMIT).read_to_end(&mut output).await?;
        }
        let status = child.wait().await?;
        if !status.success() {
            return Err(Unreached::Failed(status));
        }
        Ok(serde_json::from_slice::<Decision>(&output).ok().and_then(|decision| decision.answer))
    };
    tokio::time::timeout(EXEC_TIME, work).await.map_err(|_| Unreached::Slow(EXEC_TIME))?
}

/// POSTs the question, and again if the other side did not take it.
async fn post(url: &str, json: String) -> Result<(), Unreached> {
    let mut pauses = POST_AGAIN.into_iter();
    loop {
        let (url, json) = (url.to_owned(), json.clone());
        let sent = tokio::task::spawn_blocking(move || post_once(&url, &json)).await;
        match (sent, pauses.next()) {
            (Ok(Ok(())), _) => return Ok(()),
            (_, Some(pause)) => tokio::time::sleep(pause).await,
            (Ok(Err(error)), None) => return Err(Unreached::Post(error)),
            (Err(error), None) => return Err(Unreached::Post(error.to_string())),
        }
    }
}

fn post_once(url: &str, json: &str) -> Result<(), String> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(POST_TIME)).max_redirects(0).build().into();
    // The error could repeat the URL, which may carry a secret: its kind is enough.
    match agent.post(url).content_type("application/json").send(json) {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("it answered {}", answer.status().as_u16())),
        Err(ureq::Error::StatusCode(code)) => Err(format!("it answered {code}")),
        Err(ureq::Error::Timeout(_)) => Err(format!("no answer in {} s", POST_TIME.as_secs())),
        Err(ureq::Error::HostNotFound) => Err("its host is not known".into()),
        Err(ureq::Error::Io(error)) => Err(error.kind().to_string()),
        Err(_) => Err("it cannot be reached".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Hex, Millis};

    fn question() -> Question {
        Question {
            ticket: Hex([1; 4]),
            agent: "alice".into(),
            text: "may I? $(touch owned) `touch owned`".into(),
            options: vec!["yes".into(), "no".into()],
            call: None,
            peer: None,
            topic: String::new(),
            expires_at: Millis::from_secs(1_800_000_000),
        }
    }

    fn program(folder: &tempfile::TempDir, script: &str) -> Way {
        let path = folder.path().join("owner");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Way::parse(&format!("exec:{}", path.display()))
    }

    fn carry(way: &Way) -> Result<Option<String>, Unreached> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(way.carry(&question()))
    }

    #[test]
    fn a_program_gets_the_question_on_its_input_and_may_bring_the_answer() {
        let folder = tempfile::tempdir().unwrap();
        let asked = folder.path().join("asked");
        let way = program(&folder, &format!("cat > {}; echo '{{\"answer\": \"yes\"}}'", asked.display()));
        assert_eq!(carry(&way).unwrap().as_deref(), Some("yes"));
        let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(asked).unwrap()).unwrap();
        assert_eq!(json["question"], question().text);
        assert_eq!(json["ticket"], "01010101");
        assert_eq!(json["expires_at"], "2027-01-15T08:00:00.000Z");
    }

    #[test]
    fn a_program_that_only_notifies_brings_no_answer_and_one_that_fails_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(carry(&program(&folder, "exit 0")).unwrap(), None);
        assert_eq!(carry(&program(&folder, "echo yes")).unwrap(), None, "only a JSON object is a decision");
        assert!(matches!(carry(&program(&folder, "exit 3")), Err(Unreached::Failed(_))));
        assert!(matches!(carry(&Way::Exec("/nowhere".into())), Err(Unreached::Run(_))));
    }

    #[test]
    fn a_program_that_cannot_be_run_is_known_before_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let way = program(&folder, "exit 0");
        assert!(way.flaw().is_none());
        assert!(Way::parse("exec:sh").flaw().is_none(), "in a folder of PATH");
        fs::set_permissions(folder.path().join("owner"), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(way.flaw().is_some());
        for text in ["exec:/nowhere", "exec:no-such-program-anywhere", "telegram:1"] {
            assert!(Way::parse(text).flaw().is_some(), "{text}");
        }
        assert!(Way::parse("https://hooks.example").flaw().is_none());
    }

    #[test]
    fn only_encrypted_or_local_webhooks_are_taken_and_shown_without_their_secrets() {
        for url in ["https://hooks.example/secret?token=1", "http://127.0.0.1:80/x", "http://localhost"] {
            assert!(matches!(Way::parse(url), Way::Webhook(_)), "{url}");
        }
        for url in
            ["http://hooks.example", "http://127.0.0.1.evil.example", "ftp://x", "exec:", "", "telegram:1"]
        {
            let way = Way::parse(url);
            assert!(matches!(way, Way::Unknown(_)), "{url}");
            assert!(matches!(carry(&way), Err(Unreached::Unknown)), "{url}");
        }
        assert_eq!(Way::parse("https://user:pw@h.example/secret").to_string(), "https://h.example");
        assert_eq!(Way::parse("telegram:123").to_string(), "telegram:…");
    }
}
