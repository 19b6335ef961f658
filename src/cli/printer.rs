//! What leaves this program: data on stdout, talk on stderr.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::api::{Error, ErrorKind};
use crate::proto::text::{is_deceptive, printable};

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

/// One line of JSON, with everything escaped that could harm a terminal it is looked at in.
pub(super) fn to_json(data: &impl Serialize) -> Result<String, Error> {
    let mut bytes = Vec::new();
    data.serialize(&mut Serializer::with_formatter(&mut bytes, Harmless)).map_err(Error::internal)?;
    String::from_utf8(bytes).map_err(Error::internal)
}

/// Compact JSON in which no deceptive character stands as itself.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((place, character)) =
            rest.char_indices().find(|(_, character)| is_deceptive(*character))
        {
            writer.write_all(&rest.as_bytes()[..place])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[place + character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn deceptive_characters_are_escaped_in_json_and_mean_the_same() {
        let text = "a\u{1b}[31m\u{9b}\u{202e}\u{e0041}é\n";
        let json = to_json(&text).unwrap();
        assert_eq!(json, r#""a\u001b[31m\u009b\u202e\udb40\udc41é\n""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    proptest! {
        #[test]
        fn json_is_harmless_and_lossless(text in any::<String>()) {
            let json = to_json(&text).unwrap();
            prop_assert!(!json.chars().any(is_deceptive));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
