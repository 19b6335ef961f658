//! `sendfile`: sends a file, by its bytes in base64 or by its path.

use std::path::PathBuf;

use clap::Args;

use super::session::{Session, ask, call_id};
use super::usage::usage;
use super::{DONE, Verdict, show};
use crate::api::{Command, Message};
use crate::daemon::absolute;

/// Send a file
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm sendfile report.json \"eyJkYXRhIjogdHJ1ZX0=\" application/json
         p2p-comm sendfile --path ./report.json

The system limits an argument to 128 KiB: larger files go by --path.")]
pub(super) struct SendFile {
    /// The name that the peer sees
    #[arg(required_unless_present = "path", requires = "base64")]
    name: Option<String>,
    /// The bytes in base64
    base64: Option<String>,
    /// MIME type; guessed from the name if absent
    mime: Option<String>,
    /// A file on this machine instead
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    path: Option<PathBuf>,
    /// Which call, if several are up
    #[arg(long, value_name = "ID")]
    call: Option<String>,
}

impl SendFile {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let path = self.path.as_deref().map(absolute).transpose()?;
        if path.is_none() && self.base64.is_none() {
            return Err(usage("there is no file", "give NAME and BASE64, or --path FILE").into());
        }
        let call = call_id(self.call.as_deref())?;
        let client = session.client().await?;
        let command =
            Command::SendFile { name: self.name, content: self.base64, path, mime: self.mime, call };
        let message: Message = ask(&client, command).await?;
        session.printer.data(&message, || show::message(&message))?;
        Ok(DONE)
    }
}
