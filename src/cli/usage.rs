//! Help, versions and wrong words: what clap has to say, in the form that the user asked for.

use std::ffi::OsString;

use clap::error::ErrorKind as Kind;
use serde_json::json;

use super::printer::{Printer, Stop};
use super::{BROKEN_PIPE, DONE, FAILED};
use crate::api::{Error, ErrorKind};

/// The variable that stands for `--json`.
const OUTPUT: &str = "P2P_COMM_OUTPUT";

/// Is the output to be JSON? Asked before the words are understood, because a usage error is output too.
pub(super) fn wants_json(args: &[OsString]) -> bool {
    let flag = args.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    flag || std::env::var_os(OUTPUT).is_some_and(|format| format.eq_ignore_ascii_case("json"))
}

/// Prints what clap answered instead of a command; returns the exit code.
pub(super) fn answer(error: &clap::Error, args: &[OsString], printer: &Printer) -> u8 {
    let text = error.render().to_string();
    let printed = match error.kind() {
        Kind::DisplayHelp => printer.data(&json!({"help": text}), || text),
        Kind::DisplayVersion => printer.data(&json!({"version": crate::daemon::VERSION}), || text),
        _ => {
            let code = printer.error(&wrong(&text, args));
            // To the program that runs a hook, the exit code of wrong words means something else.
            let is_hook = args.iter().any(|word| word.as_encoded_bytes().starts_with(b"--hook"));
            return if is_hook { FAILED } else { code };
        }
    };
    match printed {
        Ok(()) => DONE,
        Err(Stop::BrokenPipe) => BROKEN_PIPE,
        Err(Stop::Error(error)) => printer.error(&error),
    }
}

fn wrong(text: &str, args: &[OsString]) -> Error {
    let (what, usage) = text.split_once("\n\nUsage: ").unwrap_or((text, ""));
    let what = what.split("\n\nFor more information").next().unwrap_or(what);
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let message = what.split_whitespace().collect::<Vec<_>>().join(" ");
    let usage = usage.lines().next().unwrap_or_default();
    let verb = super::words::verb(args).map_or_else(String::new, |verb| format!("{verb} "));
    let hint = if usage.is_empty() {
        format!("see: p2p-comm {verb}--help")
    } else {
        format!("usage: {usage}; see: p2p-comm {verb}--help")
    };
    Error::new(ErrorKind::Usage, message, hint)
}

/// An error of ours about the words of a command.
pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message, hint)
}
