//! `daemon install` and `daemon uninstall`: the daemon as a service of the user's.

use clap::{Args, ValueEnum};

use super::session::Session;
use super::{DONE, FAILED, Verdict, show};
use crate::daemon::install::{self, Manager, Outcome};
use crate::home::settings::{self, KEYS};

#[derive(Debug, Args)]
pub(super) struct Install {
    /// Only show what would be written
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    manager: WhichManager,
}

#[derive(Debug, Args)]
pub(super) struct WhichManager {
    /// Whose service [default: that of this system]
    #[arg(long = "manager", value_enum)]
    manager: Option<Named>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Named {
    Systemd,
    Launchd,
}

impl WhichManager {
    fn manager(&self) -> Manager {
        match self.manager {
            Some(Named::Systemd) => Manager::Systemd,
            Some(Named::Launchd) => Manager::Launchd,
            None => Manager::of_this_system(),
        }
    }
}

impl Install {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let (home, manager) = (session.home()?, self.manager.manager());
        if self.dry_run {
            let plan = install::plan(&home, &session.launcher, manager)?;
            session.printer.data(&plan, || format!("{}\n\n{}", plan.file.display(), plan.text))?;
            return Ok(DONE);
        }
        // Refused before anything is begun.
        install::plan(&home, &session.launcher, manager)?;
        // The first start of a home keeps what this shell says of its agent; a service has no shell.
        session.client().await?;
        point_out_what_stays_behind(session)?;
        told(session, &install::install(&home, &session.launcher, manager).await?, "installed")
    }
}

pub(super) async fn uninstall(session: &Session, manager: &WhichManager) -> Verdict {
    told(session, &install::uninstall(&session.home()?, manager.manager()).await?, "removed")
}

/// Exit 1 says that something is left to do.
fn told(session: &Session, outcome: &Outcome, what: &str) -> Verdict {
    session.printer.data(outcome, || {
        let already = if outcome.already { ", as it was" } else { "" };
        let runs = if outcome.active { "; it runs now, and starts at log-in" } else { "" };
        format!("{what}{already}: {}{runs}", outcome.file.display())
    })?;
    if !outcome.todo.is_empty() {
        session.printer.talk(&format!(
            "hint: left to do:\n{}",
            show::lines(&outcome.todo, "", |line| format!("  {line}"))
        ));
    }
    let is_done = what == "removed" && outcome.todo.is_empty() || outcome.active;
    Ok(if is_done { DONE } else { FAILED })
}

/// Variables of this shell that the service will not see and nobody has written down.
fn point_out_what_stays_behind(session: &Session) -> Result<(), crate::api::Error> {
    let layers = settings::load(&session.home()?, &[])?;
    for entry in &layers.entries {
        let key = KEYS.iter().find(|key| *key == entry.key && !key.remembered);
        if let (Some(key), settings::Source::Variable(name)) = (key, entry.source) {
            let fix = format!("p2p-comm config set {} \"${name}\"", key.name);
            session.printer.talk(&format!(
                "warning: {name} is set in this shell, and a service does not see it; to keep it: {fix}"
            ));
        }
    }
    Ok(())
}
