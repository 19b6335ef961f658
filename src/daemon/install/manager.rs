//! Asking the service manager, or saying what a person has to ask it.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::{Manager, launchd, shell};
use crate::proto::text::shell_word;

/// How long one command may take: starting waits for the daemon's program to be found and run.
const TIME: Duration = Duration::from_secs(30);

/// A command of the manager's, as words.
pub(super) type Words = Vec<String>;

/// What became of commands.
pub(super) enum Answer {
    Done,
    /// These were not carried out, the first of them for this reason.
    Failed {
        left: Vec<String>,
        why: String,
    },
}

fn systemctl(words: &[&str]) -> Words {
    ["systemctl", "--user"].iter().chain(words).map(|word| (*word).to_owned()).collect()
}

fn launchctl(words: &[&str]) -> Words {
    std::iter::once(&"launchctl").chain(words).map(|word| (*word).to_owned()).collect()
}

/// The domain of this user's session.
fn domain() -> String {
    format!("gui/{}", rustix::process::geteuid().as_raw())
}

/// What begins a service, now and at every log-in.
pub(super) fn to_start(manager: Manager, service: &str, file: &Path) -> Vec<Words> {
    match manager {
        Manager::Systemd => {
            let unit = format!("{service}.service");
            vec![systemctl(&["daemon-reload"]), systemctl(&["enable", &unit]), systemctl(&["restart", &unit])]
        }
        Manager::Launchd => vec![launchctl(&["bootstrap", &domain(), &file.display().to_string()])],
    }
}

/// What is left to do for one that runs.
pub(super) fn to_keep(manager: Manager, service: &str) -> Vec<Words> {
    match manager {
        Manager::Systemd => vec![systemctl(&["enable", &format!("{service}.service")])],
        Manager::Launchd => Vec::new(),
    }
}

/// What ends it, and what has the manager forget its file.
pub(super) fn to_end(manager: Manager, service: &str) -> (Vec<Words>, Vec<Words>) {
    match manager {
        Manager::Systemd => (
            vec![systemctl(&["disable", "--now", &format!("{service}.service")])],
            vec![systemctl(&["daemon-reload"])],
        ),
        Manager::Launchd => {
            (vec![launchctl(&["bootout", &format!("{}/{}", domain(), launchd::label(service))])], Vec::new())
        }
    }
}

/// The services of a user end when the user logs out, unless systemd is told otherwise (loginctl(1), "enable-linger").
pub(super) fn to_outlive_log_out(manager: Manager) -> Option<String> {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok()?;
    // A name that is a path of its own would look elsewhere.
    let is_lingering = !user.contains('/') && Path::new("/var/lib/systemd/linger").join(&user).exists();
    (manager == Manager::Systemd && !is_lingering)
        .then(|| format!("loginctl enable-linger {}", shell_word(&user)))
}

/// Whether the manager answers: in a container, or in a session without a bus, it does not.
pub(super) async fn is_there(manager: Manager) -> bool {
    let question = match manager {
        Manager::Systemd => systemctl(&["show-environment"]),
        Manager::Launchd => launchctl(&["print", &domain()]),
    };
    ask(&question).await.is_ok_and(|answer| answer.status.success())
}

/// Whether a service runs.
pub(super) async fn is_active(manager: Manager, service: &str) -> bool {
    let question = match manager {
        Manager::Systemd => systemctl(&["is-active", "--quiet", &format!("{service}.service")]),
        Manager::Launchd => launchctl(&["print", &format!("{}/{}", domain(), launchd::label(service))]),
    };
    ask(&question).await.is_ok_and(|answer| answer.status.success())
}

/// Carries commands out, up to the first that fails.
pub(super) async fn carry_out(commands: &[Words]) -> Answer {
    for (place, command) in commands.iter().enumerate() {
        let why = match ask(command).await {
            Ok(answer) if answer.status.success() => continue,
            Ok(answer) => String::from_utf8_lossy(&answer.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        return Answer::Failed { left: words(&commands[place..]), why };
    }
    Answer::Done
}

async fn ask(command: &Words) -> std::io::Result<Output> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let mut process = Command::new(program);
    process.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(TIME, process.output()).await.map_err(|_| std::io::ErrorKind::TimedOut)?
}

/// Commands as a person types them.
pub(super) fn words(commands: &[Words]) -> Vec<String> {
    let word = |word: &String| shell(Path::new(word));
    commands.iter().map(|command| command.iter().map(word).collect::<Vec<_>>().join(" ")).collect()
}
