//! Imports only go down: the table of ARCHITECTURE.md, read out of the sources.
//!
//! Every `crate::room` of a room's files is looked at, and every path that begins with the name of an external crate
//! which has one home. Comments and string literals are left out, and files that hold nothing but tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What every room may import: a file beside them, which imports nothing.
const BELOW_ALL: &str = "mutants";

/// The macro that marks what a message passes: a file beside them, too. Nobody needs to import it.
const MARKS: &str = "stage";

/// A room, and the rooms that it may import.
const ROOMS: [(&str, &[&str]); 17] = [
    ("proto", &[]),
    ("api", &["proto"]),
    ("home", &["proto", "api"]),
    ("store", &["proto"]),
    ("transport", &["proto", "api"]),
    ("relay", &[]),
    ("http", &["api"]),
    ("engine", &["proto", "api", "home", "store", "transport", "owner"]),
    ("owner", &["proto", "api", "home", "store", "transport"]),
    ("ipc", &["proto", "api", "engine"]),
    ("wake", &["proto", "api", "home", "engine"]),
    ("daemon", &["proto", "api", "home", "http", "engine", "ipc", "wake", "relay"]),
    ("mcp", &["proto", "api", "home", "ipc", "daemon"]),
    ("dashboard", &["proto", "api", "home", "http", "ipc", "daemon"]),
    ("a2a", &["proto", "api", "home", "http", "ipc", "daemon"]),
    ("cli", &["proto", "api", "home", "ipc", "wake", "daemon", "relay", "mcp", "dashboard", "a2a"]),
    ("py", &["proto", "api", "home", "engine", "ipc", "daemon", "cli", "relay"]),
];

/// An external crate, and the only rooms that may use it.
const CRATES: [(&str, &[&str]); 20] = [
    ("tar", &["engine"]),
    ("aes_gcm", &["transport"]),
    ("rusqlite", &["store"]),
    ("nostr_sdk", &["transport", "relay"]),
    ("nostr_relay_builder", &["relay"]),
    ("nostr_lmdb", &["relay"]),
    ("tokio_tungstenite", &["transport", "relay"]),
    ("toml", &["home"]),
    ("ureq", &["transport", "owner", "wake"]),
    ("hmac", &["owner"]),
    ("chrono", &["engine"]),
    ("clap", &["cli"]),
    ("rmcp", &["mcp"]),
    ("axum", &["http", "dashboard", "a2a", "daemon"]),
    ("hyper", &["http"]),
    ("hyper_util", &["http"]),
    ("pyo3", &["py"]),
    ("pythonize", &["py"]),
    ("tracing_subscriber", &["daemon", "py"]),
    (
        "tokio",
        &[
            "transport",
            "relay",
            "engine",
            "owner",
            "ipc",
            "wake",
            "daemon",
            "mcp",
            "http",
            "dashboard",
            "a2a",
            "cli",
            "py",
        ],
    ),
];

/// What a pure room may not even name.
const IMPURE: [&str; 6] = ["SystemTime", "Instant", "async", "rand", "std::fs", "std::net"];

/// A file of tests may look beyond its room: it needs something to test against.
fn is_test(path: &Path) -> bool {
    path.iter().any(|part| part == "tests" || part == "tests.rs")
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A source without comments and without what stands between quotation marks.
fn code(source: &str) -> String {
    let mut code = String::new();
    for line in source.lines() {
        let mut in_text = false;
        let mut previous = ' ';
        for (place, character) in line.char_indices() {
            if character == '"' && previous != '\\' && previous != '\'' {
                in_text = !in_text;
            } else if !in_text && line[place..].starts_with("//") {
                break;
            } else if !in_text {
                code.push(character);
            }
            previous = character;
        }
        code.push('\n');
    }
    code
}

/// Words, and whether `::` comes before and after each.
fn words(code: &str) -> impl Iterator<Item = (&str, bool, bool)> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + code[rest..].find(is_word)?;
        let end = code[start..].find(|character| !is_word(character)).map_or(code.len(), |end| start + end);
        rest = end;
        Some((&code[start..end], code[..start].ends_with("::"), code[end..].starts_with("::")))
    })
}

/// The rooms that are imported: `crate::room`, and each of `crate::{room, other::thing}`.
fn imported(code: &str) -> BTreeSet<&'static str> {
    let names = ROOMS.map(|(room, _)| room);
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let mut depth = 0;
        let group: String = match after.strip_prefix('{') {
            None => after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect(),
            // The names directly inside the braces.
            Some(group) => group
                .chars()
                .take_while(|c| {
                    depth += i32::from(*c == '{') - i32::from(*c == '}');
                    depth >= 0
                })
                .collect(),
        };
        for item in group.split(',') {
            let head = item.trim().split("::").next().unwrap_or_default();
            found.extend(names.iter().find(|name| **name == head));
        }
    }
    found
}

fn violations(room: &str, source: &str) -> Vec<String> {
    let (_, allowed) = ROOMS.iter().find(|(name, _)| *name == room).unwrap();
    let code = code(source);
    let mut found: Vec<String> = imported(&code)
        .into_iter()
        .filter(|other| *other != room && !allowed.contains(other))
        .map(|other| format!("{room} imports {other}"))
        .collect();
    for (word, after_path, before_path) in words(&code) {
        let home = CRATES.iter().find(|(name, _)| *name == word);
        if let Some((name, homes)) = home
            && before_path
            && !after_path
            && !homes.contains(&room)
        {
            found.push(format!("{room} uses {name}"));
        }
        if room == "proto" && IMPURE.contains(&word) {
            found.push(format!("{room} names {word}"));
        }
    }
    if room == "proto" {
        found.extend(
            IMPURE
                .iter()
                .filter(|path| path.contains("::") && code.contains(**path))
                .map(|path| format!("{room} names {path}")),
        );
    }
    found
}

#[test]
fn every_folder_of_src_is_a_room_of_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folders: BTreeSet<String> = fs::read_dir(src)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let rooms: BTreeSet<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(folders, rooms);
}

#[test]
fn what_every_room_may_import_imports_nothing() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_file = |path: &&PathBuf| path.parent() == Some(&src);
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let files: Vec<String> = sources(&src).iter().filter(is_file).map(name).collect();
    assert_eq!(files, ["fuzz", "lib", "main", BELOW_ALL, MARKS], "everything else is in a room");
    let source = code(&fs::read_to_string(src.join(BELOW_ALL).with_extension("rs")).unwrap());
    let is_type = |word: &str| word.starts_with(char::is_uppercase);
    let heads = words(&source)
        .filter(|(word, after_path, before_path)| *before_path && !after_path && !is_type(word));
    assert_eq!(heads.map(|(word, ..)| word).collect::<BTreeSet<_>>(), BTreeSet::from(["std"]));
}

#[test]
fn imports_only_go_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for (room, _) in ROOMS {
        for path in sources(&src.join(room)).iter().filter(|path| !is_test(path)) {
            let source = fs::read_to_string(path).unwrap();
            let place = path.strip_prefix(&src).unwrap().display().to_string();
            found.extend(violations(room, &source).into_iter().map(|what| format!("{place}: {what}")));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_table_itself_goes_down() {
    // The rooms stand in layer order; engine and owner are one layer.
    for (place, (room, allowed)) in ROOMS.iter().enumerate() {
        for other in *allowed {
            let below = ROOMS.iter().position(|(name, _)| name == other).unwrap();
            assert!(below < place || (*room, *other) == ("engine", "owner"), "{room} imports {other}");
        }
    }
}

#[test]
fn a_planted_import_is_found() {
    assert_eq!(violations("store", "use crate::engine::Handle;"), ["store imports engine"]);
    assert_eq!(violations("ipc", "use crate::{api, store::Store};"), ["ipc imports store"]);
    assert_eq!(violations("cli", "let x = rusqlite::Connection::open(p);"), ["cli uses rusqlite"]);
    assert_eq!(violations("proto", "fn f() { std::time::Instant::now(); }"), ["proto names Instant"]);
    assert_eq!(violations("proto", "// crate::engine\nconst A: &str = \"crate::engine\";"), [""; 0]);
}
