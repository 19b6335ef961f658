//! `transcript`: the whole of a call, for keeping.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::session::{Session, ask, call_id};
use super::{DONE, Verdict, show};
use crate::api::{self, Command, Error};

/// The whole of a call
#[derive(Debug, Args)]
#[command(after_help = "Example: p2p-comm transcript --format md > call.md")]
pub(super) struct Transcript {
    /// The call; the newest if absent
    #[arg(value_name = "CALL")]
    call: Option<String>,
    /// How it is written; with --json, any but json comes as text inside the one object
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a terminal
    Text,
    /// Markdown
    Md,
    /// A page that fetches nothing
    Html,
    /// One JSON object
    Json,
    /// One JSON object a message
    Jsonl,
}

impl Transcript {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let call = call_id(self.call.as_deref())?;
        let client = session.client().await?;
        let transcript: api::Transcript = ask(&client, Command::Transcript { call }).await?;
        let printer = session.printer;
        let format = self.format.unwrap_or(if printer.is_json() { Format::Json } else { Format::Text });
        if format == Format::Json {
            printer.as_json().data(&transcript, String::new)?;
            return Ok(DONE);
        }
        let text = match format {
            Format::Text => show::transcript_text(&transcript),
            Format::Md => show::transcript_markdown(&transcript),
            Format::Html => show::transcript_html(&transcript),
            Format::Json | Format::Jsonl => json_lines(&transcript)?,
        };
        let name = format.to_possible_value().map(|value| value.get_name().to_owned());
        printer.data(&json!({"format": name, "text": text}), || text)?;
        Ok(DONE)
    }
}

fn json_lines(transcript: &api::Transcript) -> Result<String, Error> {
    transcript
        .messages
        .iter()
        .map(crate::api::to_json)
        .collect::<Result<Vec<_>, _>>()
        .map(|lines| lines.join("\n"))
}
