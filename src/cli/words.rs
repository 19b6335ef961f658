//! The words of `send` and `escalate`: known flags are flags anywhere, an unknown word with a dash is text, `--` ends the
//! flags. Clap cannot say that, so the words are sorted before it sees them: `send a --call X -b` becomes
//! `send --call X -- a -b`.

use std::ffi::{OsStr, OsString};
use std::io::Read;

use clap::CommandFactory;

use super::Cli;
use crate::api::{Error, ErrorKind};

/// The verbs whose words are text.
const VERBS: [&str; 2] = ["send", "escalate"];
/// The longest text that any dialect carries; more is certainly refused, so it is not even read.
const STDIN_LIMIT: u64 = 1024 * 1024;

/// Sorts flags from text where a verb takes text.
pub(super) fn arrange(args: Vec<OsString>) -> Vec<OsString> {
    let cli = Cli::command();
    let Some((place, verb)) = find_verb(&cli, &args) else { return args };
    let Some(verb) = VERBS.iter().find(|name| verb == **name).and_then(|name| cli.find_subcommand(name))
    else {
        return args;
    };
    let mut flags = args[..=place].to_vec();
    let mut text = Vec::new();
    let mut rest = args.into_iter().skip(place + 1);
    while let Some(word) = rest.next() {
        if word == "--" {
            text.extend(rest.by_ref());
        } else if let Some(flag) = known_flag(&cli, verb, &word) {
            flags.push(word);
            if flag.needs_next_word {
                flags.extend(rest.next());
            }
        } else {
            text.push(word);
        }
    }
    if !text.is_empty() {
        flags.push("--".into());
        flags.append(&mut text);
    }
    flags
}

/// The verb of a command line; none if it is not one of ours, so that a hint never repeats somebody else's words.
pub(super) fn verb(args: &[OsString]) -> Option<String> {
    let cli = Cli::command();
    let (_, word) = find_verb(&cli, args)?;
    cli.get_subcommands().map(clap::Command::get_name).find(|name| word == *name).map(String::from)
}

struct Flag {
    needs_next_word: bool,
}

fn find_verb<'a>(cli: &clap::Command, args: &'a [OsString]) -> Option<(usize, &'a OsStr)> {
    let mut place = 1;
    while let Some(word) = args.get(place) {
        match known_flag(cli, cli, word) {
            Some(flag) => place += 1 + usize::from(flag.needs_next_word),
            None => return Some((place, word)),
        }
    }
    None
}

/// The flag that a word is, of the verb or of the whole program.
fn known_flag(cli: &clap::Command, verb: &clap::Command, word: &OsStr) -> Option<Flag> {
    let word = word.to_str()?;
    if matches!(word, "-h" | "--help") {
        return Some(Flag { needs_next_word: false });
    }
    let (name, has_value) = match word.strip_prefix("--")?.split_once('=') {
        Some((name, _)) => (name, true),
        None => (&word[2..], false),
    };
    let flag = verb.get_arguments().chain(cli.get_arguments()).find(|flag| flag.get_long() == Some(name))?;
    Some(Flag { needs_next_word: !has_value && flag.get_action().takes_values() })
}

/// The text that the words make: joined by spaces, or standard input for a single `-`.
pub(super) fn join(words: &[String]) -> Result<String, Error> {
    let text = if words == ["-"] { read_stdin()? } else { words.join(" ") };
    if text.trim().is_empty() {
        return Err(Error::new(ErrorKind::InvalidValue, "there is no text", "put the words behind the verb"));
    }
    Ok(text)
}

fn read_stdin() -> Result<String, Error> {
    let mut text = String::new();
    std::io::stdin().lock().take(STDIN_LIMIT + 1).read_to_string(&mut text).map_err(|error| {
        Error::new(
            ErrorKind::InvalidValue,
            format!("standard input cannot be read as text: {error}"),
            "send bytes as a file: p2p-comm sendfile --path FILE",
        )
    })?;
    if text.len() as u64 > STDIN_LIMIT {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("more than {STDIN_LIMIT} bytes of text"),
            "send it as a file: p2p-comm sendfile --path FILE",
        ));
    }
    // The end of the last line is the shell's, not the text's.
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(line: &str) -> String {
        let words = line.split(' ').map(OsString::from).collect();
        let arranged = arrange(words);
        arranged.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn known_flags_are_flags_anywhere_and_other_dashes_are_text() {
        assert_eq!(
            arranged("p send hello --json -x --call 1 world"),
            "p send --json --call 1 -- hello -x world"
        );
        assert_eq!(arranged("p send --foo=1 --wait=read -"), "p send --wait=read -- --foo=1 -");
        assert_eq!(arranged("p --home d send a"), "p --home d send -- a");
        assert_eq!(arranged("p escalate a --options yes,no -1"), "p escalate --options yes,no -- a -1");
    }

    #[test]
    fn after_two_dashes_everything_is_text() {
        assert_eq!(arranged("p send a -- --json b -- c"), "p send -- a --json b -- c");
    }

    #[test]
    fn other_verbs_and_help_are_left_alone() {
        assert_eq!(arranged("p call --unknown bob"), "p call --unknown bob");
        assert_eq!(arranged("p send --help"), "p send --help");
        assert_eq!(arranged("p"), "p");
    }
}
