//! `dashboard`: a page for the owner, on this machine alone.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::Path;
use std::process::Stdio;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::session::Session;
use super::{DONE, Verdict};
use crate::api::Error;
use crate::dashboard;

/// A page for the owner: calls, transcripts, relays, questions to answer
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm dashboard
         p2p-comm dashboard --port 8400 --no-open

It prints an address of this machine that counts once, opens it in a browser where there is one, and serves it until
Ctrl-C. Questions are answered in it only if a person began it: standard input, output and error are a terminal.")]
pub(super) struct Dashboard {
    /// The port; 0 takes any free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Only print the address
    #[arg(long)]
    no_open: bool,
}

impl Dashboard {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::internal)?;
        let home = session.home()?;
        // Starts the daemon, so that there is something to look at.
        drop(session.client().await?);
        let person = is_a_person();
        let options = dashboard::Options { folder: session.folder(), port: self.port, person };
        let page = dashboard::Dashboard::open(options).await?;
        let url = page.url();
        session.printer.data(&json!({"url": url, "answers": person}), || url.clone())?;
        if !person {
            session.printer.talk("note: begun without a terminal, so this page answers no questions");
        }
        let opens = person && !self.no_open && !session.printer.is_json();
        let way_in = if opens && has_screen() { Some(page.way_in(&home)?) } else { None };
        if let Some(way_in) = &way_in {
            browse(way_in.path());
        }
        tokio::select! {
            _ = terminate.recv() => {}
            () = page.serve() => {}
        }
        Ok(DONE)
    }
}

/// Whoever reads the address may answer, so all three have to be a terminal: an agent reads and writes pipes.
fn is_a_person() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
}

fn has_screen() -> bool {
    cfg!(target_os = "macos")
        || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some())
}

/// Opens a file in the user's browser; where that fails, the address stands in the terminal.
fn browse(file: &Path) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started = tokio::process::Command::new(OsStr::new(opener))
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        tracing::debug!(%error, "no browser was opened");
    }
}
