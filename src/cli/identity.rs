//! `identity`: the names and the keys of this agent.

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::session::{Session, ask};
use super::{DONE, Verdict, password};
use crate::api::{AgentSelf, Command, Error, ErrorKind, Status};
use crate::daemon;
use crate::daemon::keys::{self, Import, Rotated, Spelling};
use crate::proto::authority::{self, Action, Role, State};
use crate::proto::text::quote;

/// The agent's names and keys
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm identity show
         p2p-comm identity export --encrypted --file backup.ncryptsec
         p2p-comm --home DIR identity import backup.ncryptsec")]
pub(super) struct Identity {
    #[command(subcommand)]
    verb: Option<IdentityVerb>,
}

#[derive(Debug, Subcommand)]
enum IdentityVerb {
    /// Show it (also without a verb); the secret key stays in its file
    Show,
    /// The secret key, to a terminal or into a new file; whoever has it is this agent
    Export(Export),
    /// Make a key the identity of a home that has none
    Import(ImportKey),
    /// Replace the key by a new one that the old one vouches for; peers that know this agent follow it
    Rotate(Rotate),
}

/// Replace the agent's key by a new one that the old one vouches for
#[derive(Debug, Args)]
#[command(after_help = "Example: p2p-comm rotate-keys")]
pub(super) struct Rotate {}

#[derive(Debug, Args)]
struct Export {
    /// The new file, made with mode 0600; without it the key is shown, on a terminal only
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Under a password (NIP-49), which is asked for
    #[arg(long)]
    encrypted: bool,
    /// The file whose first line is the password; yours alone (chmod 600)
    #[arg(long, value_name = "FILE", requires = "encrypted")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ImportKey {
    /// An identity file, or one that holds an nsec1… or an ncryptsec1…; yours alone (chmod 600)
    file: PathBuf,
    /// The file whose first line is the password of an ncryptsec1…; otherwise it is asked for
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    agent: AgentSelf,
    file: String,
}

impl Identity {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        match self.verb {
            None | Some(IdentityVerb::Show) => show(session).await,
            Some(IdentityVerb::Export(export)) => export.run(session).await,
            Some(IdentityVerb::Import(import)) => import.run(session).await,
            Some(IdentityVerb::Rotate(rotate)) => rotate.run(session).await,
        }
    }
}

async fn show(session: &Session) -> Verdict {
    let file = session.home()?.identity().display().to_string();
    let client = session.client().await?;
    let Status { agent, .. } = ask(&client, Command::Status {}).await?;
    let shown = Shown { agent, file };
    session.printer.data(&shown, || {
        let Shown { agent, file } = &shown;
        format!(
            "agent {} {}\nnpub {}\nkey {}\nfile {file}",
            quote(&agent.id),
            quote(&agent.name),
            agent.npub,
            agent.pubkey
        )
    })?;
    Ok(DONE)
}

impl Export {
    async fn run(self, session: &Session) -> Verdict {
        // Everything that can refuse it without the person comes before the person is asked for a password.
        match &self.file {
            Some(file) => keys::must_be_new(file)?,
            None => must_be_seen_by_a_person()?,
        }
        let home = session.home()?;
        let password = match self.encrypted {
            true => Some(password::get(session, self.password_file.as_deref(), true).await?),
            false => None,
        };
        let spelling = match (&password, &self.file) {
            (Some(password), _) => Spelling::Encrypted(password),
            (None, Some(_)) => Spelling::File,
            (None, None) => Spelling::Nsec,
        };
        let (owner, secret) = keys::export(&home, &spelling)?;
        let Some(file) = self.file else {
            let name = if self.encrypted { "ncryptsec" } else { "nsec" };
            let shown = json!({"pubkey": owner.pubkey, "npub": owner.npub, name: secret.expose()});
            session.printer.data(&shown, || secret.expose().to_owned())?;
            return Ok(DONE);
        };
        keys::write(&file, &secret)?;
        let place = absolute(&file);
        let written = json!({
            "pubkey": owner.pubkey,
            "npub": owner.npub,
            "file": place,
            "encrypted": self.encrypted,
        });
        session.printer.data(&written, || {
            let how = if self.encrypted { "under the password" } else { "as it is" };
            format!("the secret key of {}, {how}: {place}", owner.npub)
        })?;
        Ok(DONE)
    }
}

impl ImportKey {
    async fn run(self, session: &Session) -> Verdict {
        let home = session.home()?;
        let import = Import::begin(&home, &self.file)?;
        let password = match import.needs_password() {
            true => Some(password::get(session, self.password_file.as_deref(), false).await?),
            false => None,
        };
        let owner = import.finish(password.as_ref())?;
        let file = home.identity().display().to_string();
        session.printer.data(&json!({"pubkey": owner.pubkey, "npub": owner.npub, "file": file}), || {
            format!("this home is now {}: {file}", owner.npub)
        })?;
        Ok(DONE)
    }
}

impl Rotate {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let home = session.home()?;
        keys::must_be_there(&home)?;
        // Asked of the daemon, because calls outlive it.
        let client = session.client().await?;
        let Status { calls, .. } = ask(&client, Command::Status {}).await?;
        if !calls.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidValue,
                "calls are up, and they belong to the key that would go",
                "end them first: p2p-comm end",
            )
            .into());
        }
        drop(client);
        daemon::stop(&home).await?;
        let rotated = keys::rotate(&home)?;
        // What comes next announces it; if it cannot start, the key has changed all the same.
        if let Err(error) = session.client().await {
            session.printer.talk(&format!("warning: the new key is not announced yet: {error}"));
        }
        let Rotated { old, new, kept } = rotated;
        let data = json!({
            "pubkey": new.pubkey,
            "npub": new.npub,
            "file": home.identity(),
            "old": {"pubkey": old.pubkey, "npub": old.npub, "file": kept},
        });
        session.printer.data(&data, || {
            format!(
                "this agent is now {}\nbefore it was {}, whose key is kept: {}",
                new.npub,
                old.npub,
                kept.display()
            )
        })?;
        Ok(DONE)
    }
}

/// An agent reads this program through pipes, and passes on what it reads.
fn must_be_seen_by_a_person() -> Result<(), Error> {
    let role = if stdout().is_terminal() { Role::Terminal } else { Role::Agent };
    if authority::verdict(role, Action::ShowKey, State::None) == authority::Verdict::Allowed {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotSendable,
        "the secret key is shown on a terminal only, and stdout is none",
        "into a new file: p2p-comm identity export --file FILE [--encrypted]",
    ))
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}
