//! What leaves this program: data on stdout, talk on stderr.

use std::io::{self, Write};

use serde::Serialize;

use crate::api::{Error, ErrorKind, to_json};
use crate::proto::text::printable;

/// Why a verb was not carried out.
#[derive(Debug)]
pub(super) enum Stop {
    /// What the user is told.
    Error(Error),
    /// Nobody reads stdout any more.
    BrokenPipe,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            io::ErrorKind::StorageFull => Self::Error(Error::new(
                ErrorKind::DiskFull,
                "no space left for the output",
                "free some space, then run the command again: what was not shown is not taken",
            )),
            _ => Self::Error(Error::internal(format_args!("stdout: {error}"))),
        }
    }
}

/// Prints either form. There are no colours in either.
#[derive(Debug, Clone, Copy)]
pub(super) struct Printer {
    json: bool,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// The same printer, for JSON whatever the flags say.
    pub(super) fn as_json(&self) -> Self {
        Self { json: true }
    }

    /// Prints one result, as JSON or as `plain` puts it, and flushes.
    pub(super) fn data(&self, data: &impl Serialize, plain: impl FnOnce() -> String) -> Result<(), Stop> {
        let line = if self.json { to_json(data)? } else { printable(&plain()) };
        let mut stdout = io::stdout().lock();
        stdout.write_all(line.as_bytes())?;
        if !line.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        stdout.flush()?;
        Ok(())
    }

    /// Says something that is no data.
    pub(super) fn talk(&self, text: &str) {
        // Nobody to talk to is no failure.
        let _ = writeln!(io::stderr().lock(), "{}", printable(text));
    }

    /// Asks a person, whose answer goes behind the question.
    pub(super) fn ask(&self, question: &str) {
        let mut stderr = io::stderr().lock();
        // A question that nobody sees gets no answer.
        let _ = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
    }

    /// Tells what went wrong; returns the exit code.
    pub(super) fn error(&self, error: &Error) -> u8 {
        if self.json {
            #[derive(Serialize)]
            struct Failure<'a> {
                error: &'a Error,
            }
            // The exit code still says it.
            let _ = self.data(&Failure { error }, String::new);
        } else {
            self.talk(&format!("error: {}", error.message));
            if !error.hint.is_empty() {
                self.talk(&format!("hint: {}", error.hint));
            }
        }
        error.kind.exit_code()
    }
}
