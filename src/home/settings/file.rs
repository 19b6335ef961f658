//! `config.toml`: read with the line of every mistake, changed value by value, so that comments, order and keys that we
//! do not know stay as the user wrote them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use toml::Spanned;

use super::{Key, Warning};
use crate::api::{Error, ErrorKind};
use crate::home::folder::unwritable;
use crate::home::{Home, write_atomically};
use crate::proto::text::quote;

/// Nobody writes that much by hand.
const FILE_LIMIT: u64 = 64 * 1024;

/// What becomes of a value that the file already has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Stays,
    IsReplaced,
}

/// The values of the known keys, and a sentence for each key that is not known.
pub(super) fn read(home: &Home) -> Result<(BTreeMap<String, toml::Value>, Vec<Warning>), Error> {
    let text = read_text(home)?;
    let mut known = BTreeMap::new();
    let mut warnings = Vec::new();
    for (name, value) in parse(home, &text)? {
        match Key::find(&name) {
            Some(key) => {
                let span = value.span();
                let value = value.into_inner();
                key.check(&value)
                    .map_err(|why| mistake(home, line(&text, span.start), &format!("{name}: {why}")))?;
                known.insert(name, value);
            }
            None => {
                let (file, line) = (home.config(), line(&text, value.span().start));
                warnings.push(Warning {
                    what: format!("{}, line {line}: unknown setting {}", file.display(), quote(&name)),
                    remedy: "correct or remove that line; p2p-comm config --help has the settings".to_owned(),
                });
            }
        }
    }
    Ok((known, warnings))
}

/// Changes values, all of them or none.
pub(super) fn change(home: &Home, values: &[(&str, toml::Value)], existing: Existing) -> Result<(), Error> {
    // Of two commands that change the file at once, the second sees what the first wrote.
    let folder = File::open(home.state()).and_then(|folder| folder.lock().map(|()| folder));
    let _lock = folder.map_err(|error| unwritable(&home.config(), &error))?;
    let before = read_text(home)?;
    let mut text = before.clone();
    let mut added = String::new();
    for (name, value) in values {
        match parse(home, &text)?.get(*name).map(Spanned::span) {
            Some(_) if existing == Existing::Stays => {}
            Some(span) => text.replace_range(span, &value.to_string()),
            None => added.push_str(&format!("{name} = {value}\n")),
        }
    }
    // Behind a table's header a key would belong to the table.
    if text.lines().any(|line| line.trim_start().starts_with('[')) {
        text.insert_str(0, &added);
    } else {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&added);
    }
    if text == before {
        return Ok(());
    }
    write_atomically(&home.config(), text.as_bytes()).map_err(|error| unwritable(&home.config(), &error))
}

fn read_text(home: &Home) -> Result<String, Error> {
    let mut bytes = Vec::new();
    match File::open(home.config()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(mistake(home, 1, &error.to_string())),
        Ok(file) => file.take(FILE_LIMIT + 1).read_to_end(&mut bytes),
    }
    .map_err(|error| mistake(home, 1, &error.to_string()))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(mistake(home, 1, &format!("it has more than {FILE_LIMIT} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let start = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..start]).into_owned();
        mistake(home, line(&before, before.len()), "it is not UTF-8")
    })
}

fn parse(home: &Home, text: &str) -> Result<BTreeMap<String, Spanned<toml::Value>>, Error> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        mistake(home, line(text, start), error.message())
    })
}

fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn mistake(home: &Home, line: usize, why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidValue,
        format!("{}, line {line}: {why}", home.config().display()),
        "correct that line; p2p-comm config --help has the settings",
    )
}
