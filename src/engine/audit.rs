//! The audit log: one JSON line for each event of the journal, in a file of the user's choice.
//!
//! `audit_log` (`P2P_AUDIT_LOG`) names the file, `audit_mode` (`P2P_AUDIT_MODE`) what is in it: `off` nothing, `full`
//! the events as `wait` prints them, anything else who, what and when, without anybody's words.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::api::Event;
use crate::home::Settings;

/// Members that hold somebody's words.
const WORDS: [&str; 6] = ["text", "topic", "reason", "question", "answer", "options"];

/// Where events are written down, if the user wants that.
#[derive(Debug)]
pub(super) struct Audit {
    path: Option<PathBuf>,
    with_words: bool,
}

impl Audit {
    pub(super) fn new(settings: &Settings) -> Self {
        let mode = settings.audit_mode.as_deref().map(str::to_lowercase);
        let off = matches!(mode.as_deref(), Some("off" | "none" | "false" | "0"));
        Self {
            path: settings.audit_log.clone().filter(|_| !off),
            with_words: mode.as_deref() == Some("full"),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.path.is_some()
    }

    /// Appends a committed event. A log that cannot be written is complained about, and stops nothing.
    pub(super) fn write(&self, event: &Event) {
        let Some(path) = &self.path else { return };
        let written = self.line(event).and_then(|line| {
            OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(line.as_bytes())
        });
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "the audit log cannot be written");
        }
    }

    fn line(&self, event: &Event) -> io::Result<String> {
        let mut json = serde_json::to_value(event)?;
        if !self.with_words {
            without_words(&mut json);
        }
        Ok(format!("{json}\n"))
    }
}

fn without_words(json: &mut Value) {
    match json {
        Value::Object(members) => {
            members.retain(|name, _| !WORDS.contains(&name.as_str()));
            members.values_mut().for_each(without_words);
        }
        Value::Array(items) => items.iter_mut().for_each(without_words),
        _ => {}
    }
}
