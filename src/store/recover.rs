//! A damaged database: kept aside as it is, and what can be read of it carried over into a new one.
//!
//! ```text
//!   state.db, -wal, -shm ──► state.db.damaged-<seconds> …      nothing of it is changed
//!                                  └── row by row ──► state.db
//! ```
//!
//! SQLite reads a table as a tree of pages: a page that is damaged hides the rows below it and none of the others. So
//! each table is read from both ends, up to where it cannot be read any more. What a row says may be damaged without
//! SQLite noticing; for that rows carry a hash (`intact`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, Row, params_from_iter};

use super::{Error, Result, Store, wrap};

/// Databases up to this size are checked at each start: some 30 ms a 10 MiB. Of a larger one, damage is found when it is
/// met, and leaves a mark for the next start.
const CHECKED_SIZE: u64 = 32 << 20;
/// The files that make up a database.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];

/// Looks for damage that SQLite can see.
pub(super) fn check(store: &Store) -> Result<()> {
    let mark = mark(&store.path);
    let small = fs::metadata(&store.path).is_ok_and(|about| about.len() <= CHECKED_SIZE);
    if !small && !mark.exists() {
        return Ok(());
    }
    let found: String = store
        .db
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|source| wrap(&store.path, source))?;
    if found != "ok" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        let source = rusqlite::Error::SqliteFailure(code, Some(found));
        return Err(Error::Damaged { path: store.path.clone(), source });
    }
    // A mark that is left only means another check.
    let _ = fs::remove_file(mark);
    Ok(())
}

/// Notes that the database was found damaged while it was in use: the next start looks at it whole.
pub(super) fn suspect(path: &Path) {
    if let Err(error) = fs::write(mark(path), b"") {
        tracing::warn!(%error, "the damage of the database cannot be noted for the next start");
    }
}

fn mark(path: &Path) -> PathBuf {
    with_suffix(path, ".suspect")
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Keeps the damaged files aside, and carries over what can be read.
pub(super) fn recover(path: &Path) -> Result<Store> {
    let aside = keep_aside(path).map_err(|error| {
        tracing::warn!(%error, "the damaged database cannot be moved");
        Error::of_disk(path, error)
    })?;
    // A mark that is left only means another check.
    let _ = fs::remove_file(mark(path));
    let store = Store::open_unchecked(path)?;
    let carried = carry_over(&aside, &store)?;
    store.write_back_at_close(true)?;
    tracing::warn!(rows = carried, aside = %aside.display(), "a damaged database was replaced");
    Ok(store)
}

fn keep_aside(path: &Path) -> std::io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let free = |number: &u64| !with_suffix(path, &format!(".damaged-{number}")).exists();
    let number = (now..).find(free).unwrap_or(now);
    let aside = with_suffix(path, &format!(".damaged-{number}"));
    for part in PARTS {
        match fs::rename(with_suffix(path, part), with_suffix(&aside, part)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// How many rows were carried over. What cannot be read is left where it is: nothing here makes the old files worse.
fn carry_over(aside: &Path, store: &Store) -> Result<usize> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = with_suffix(aside, ".copy");
    let readable = PARTS.iter().all(|part| {
        let from = with_suffix(aside, part);
        !from.exists() || fs::copy(from, with_suffix(&copy, part)).is_ok()
    });
    // SQLite replays the log into what it opens: into a copy, so that the evidence stays as it is.
    let old = if readable { Connection::open_with_flags(&copy, flags).ok() } else { None };
    let mut carried = 0;
    if let Some(old) = old {
        store
            .db
            .execute_batch("BEGIN; PRAGMA defer_foreign_keys = ON")
            .map_err(|error| wrap(aside, error))?;
        for table in tables(store)? {
            carried += carry_table(&old, store, &table);
        }
        // Rows whose call could not be read belong to nothing.
        for orphan in [
            "DELETE FROM messages WHERE call IS NOT NULL AND call NOT IN (SELECT id FROM calls)",
            "DELETE FROM held WHERE call NOT IN (SELECT id FROM calls)",
            "DELETE FROM lines WHERE call NOT IN (SELECT id FROM calls)",
            "DELETE FROM aliases WHERE call NOT IN (SELECT id FROM calls)",
            "UPDATE events SET message = NULL, hash = NULL WHERE message NOT IN (SELECT row FROM messages)",
        ] {
            store.db.execute(orphan, []).map_err(|error| wrap(aside, error))?;
        }
        store.db.execute_batch("COMMIT").map_err(|error| wrap(aside, error))?;
    }
    for part in PARTS {
        // One that is left is a copy of what is kept.
        let _ = fs::remove_file(with_suffix(&copy, part));
    }
    Ok(carried)
}

fn tables(store: &Store) -> Result<Vec<String>> {
    store.query_all(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        [],
        |row| row.get(0),
    )
}

fn columns(db: &Connection, table: &str) -> Vec<String> {
    let list = || -> rusqlite::Result<Vec<String>> {
        let mut statement = db.prepare("SELECT name FROM pragma_table_info(?)")?;
        statement.query_map([table], |row| row.get(0))?.collect()
    };
    // A schema that cannot be read has no tables.
    list().unwrap_or_default()
}

/// Reads a table from its beginning and from its end, each up to where it cannot be read.
fn carry_table(old: &Connection, store: &Store, table: &str) -> usize {
    let known = columns(&store.db, table);
    let mut shared: Vec<String> =
        columns(old, table).into_iter().filter(|column| known.contains(column)).collect();
    if shared.is_empty() {
        return 0;
    }
    // The order in which rows came is kept, where no column says it.
    if has_hidden_rowid(&store.db, table) {
        shared.push("rowid".to_owned());
    }
    let names = shared.join(", ");
    let places = vec!["?"; shared.len()].join(", ");
    let insert = format!("INSERT OR IGNORE INTO {table} ({names}) VALUES ({places})");
    let key: Vec<String> = primary_key(&store.db, table);
    let mut carried = 0;
    for direction in ["ASC", "DESC"] {
        let order = key.iter().map(|column| format!("{column} {direction}")).collect::<Vec<_>>().join(", ");
        let select = format!("SELECT {names} FROM {table} ORDER BY {order}");
        match carry_rows(old, store, &select, &insert, shared.len()) {
            (rows, Ok(())) => return carried + rows,
            (rows, Err(error)) => {
                tracing::warn!(table, %error, "not all rows of a damaged table can be read");
                carried += rows;
            }
        }
    }
    carried
}

fn has_hidden_rowid(db: &Connection, table: &str) -> bool {
    let shown = "SELECT count(*) FROM pragma_table_info(?) WHERE pk = 1 AND type = 'INTEGER'";
    db.prepare(&format!("SELECT rowid FROM {table}")).is_ok()
        && db.query_row(shown, [table], |row| row.get(0)).is_ok_and(|shown: i64| shown == 0)
}

/// By what a table is ordered: by the order in which its rows came, if it knows that.
fn primary_key(db: &Connection, table: &str) -> Vec<String> {
    if db.prepare(&format!("SELECT rowid FROM {table}")).is_ok() {
        return vec!["rowid".to_owned()];
    }
    let list = || -> rusqlite::Result<Vec<String>> {
        let mut statement = db.prepare("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk")?;
        statement.query_map([table], |row| row.get(0))?.collect()
    };
    match list() {
        Ok(key) if !key.is_empty() => key,
        _ => vec!["rowid".to_owned()],
    }
}

fn carry_rows(
    old: &Connection,
    store: &Store,
    select: &str,
    insert: &str,
    width: usize,
) -> (usize, rusqlite::Result<()>) {
    let mut carried = 0;
    let mut carry = || -> rusqlite::Result<()> {
        let mut from = old.prepare(select)?;
        let mut into = store.db.prepare_cached(insert)?;
        let mut rows = from.query([])?;
        while let Some(row) = rows.next()? {
            // A row that cannot be read, or that the new schema does not take, is damaged.
            let Some(values) = (0..width).map(|index| value(row, index)).collect::<Option<Vec<Value>>>()
            else {
                continue;
            };
            carried += into.execute(params_from_iter(values)).unwrap_or(0);
        }
        Ok(())
    };
    let result = carry();
    (carried, result)
}

/// A value, if it is one: rusqlite's own conversion panics at text that is not UTF-8.
fn value(row: &Row<'_>, index: usize) -> Option<Value> {
    Some(match row.get_ref(index).ok()? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(std::str::from_utf8(text).ok()?.to_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{call, folder, said};
    use super::*;
    use crate::proto::Hex;

    /// A database with a thousand messages in three calls, closed.
    fn written(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("state.db");
        let mut store = Store::open(&path).unwrap();
        store.begin().unwrap();
        for id in 1..=3 {
            store.save_call(&call(id)).unwrap();
        }
        for number in 0..1_000_u32 {
            let mut message = said(Hex([1 + (number % 3) as u8; 8]), 0);
            message.message.0[..4].copy_from_slice(&number.to_be_bytes());
            message.text = format!("message {number} {}", "x".repeat(100));
            store.add_message(&message).unwrap();
        }
        store.commit().unwrap();
        path
    }

    fn texts(store: &Store) -> Vec<String> {
        let messages = store.messages(None, false, 10_000).unwrap();
        messages.into_iter().map(|stored| stored.message.text).collect()
    }

    fn is_genuine(text: &str) -> bool {
        let number = text.split(' ').nth(1).and_then(|number| number.parse::<u32>().ok());
        number.is_some_and(|number| text == format!("message {number} {}", "x".repeat(100)))
    }

    #[test]
    fn what_is_no_database_is_kept_aside_and_a_new_one_begins() {
        let folder = folder();
        let path = folder.path().join("state.db");
        fs::write(&path, vec![7; 10_000]).unwrap();
        let store = Store::open(&path).unwrap();
        assert!(texts(&store).is_empty());
        let aside = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .find(|entry| entry.file_name().to_string_lossy().contains(".damaged-"))
            .unwrap();
        assert_eq!(fs::read(aside.path()).unwrap(), vec![7; 10_000], "as it was");
    }

    #[test]
    fn of_a_damaged_database_the_readable_rows_are_carried_over() {
        let folder = folder();
        let path = written(&folder);
        let mut bytes = fs::read(&path).unwrap();
        // Pages in the middle of the messages.
        let middle = bytes.len() / 2 / 4_096 * 4_096;
        bytes[middle..middle + 10 * 4_096].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        let store = Store::open(&path).unwrap();
        let texts = texts(&store);
        assert!(texts.len() > 300 && texts.len() < 1_000, "{}", texts.len());
        assert!(texts.iter().all(|text| is_genuine(text)));
        let calls: Vec<u8> = store.calls(10).unwrap().iter().map(|stored| stored.call.id.0[0]).collect();
        assert_eq!(calls, [3, 2, 1], "in the order in which they came");
        check(&store).unwrap();
    }

    #[test]
    fn a_damaged_database_and_its_log_are_kept_byte_for_byte() {
        let folder = folder();
        let path = written(&folder);
        // As a kill leaves it: what was said last is in the log alone.
        let killed = folder.path().join("killed.db");
        {
            let mut store = Store::open(&path).unwrap();
            store.begin().unwrap();
            store.add_message(&said(Hex([1; 8]), 7)).unwrap();
            store.commit().unwrap();
            for part in ["", "-wal"] {
                fs::copy(with_suffix(&path, part), with_suffix(&killed, part)).unwrap();
            }
        }
        let mut bytes = fs::read(&killed).unwrap();
        let middle = bytes.len() / 2 / 4_096 * 4_096;
        bytes[middle..middle + 10 * 4_096].fill(0xa5);
        fs::write(&killed, &bytes).unwrap();
        let log = fs::read(with_suffix(&killed, "-wal")).unwrap();
        assert!(!log.is_empty());
        Store::open(&killed).unwrap();
        let kept = |part| {
            let paths = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
            let mut kept = paths.filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                let end = name.strip_prefix("killed.db.damaged-");
                end.is_some_and(|end| end.trim_start_matches(|c: char| c.is_ascii_digit()) == part)
            });
            fs::read(kept.next().unwrap()).unwrap()
        };
        assert!(kept("") == bytes, "the database is as it was found");
        assert!(kept("-wal") == log, "and so is its log");
    }

    #[test]
    fn a_word_that_was_changed_on_the_disk_is_not_shown() {
        let folder = folder();
        let path = written(&folder);
        {
            let db = Connection::open(&path).unwrap();
            db.execute("UPDATE messages SET text = 'the owner agreed' WHERE row = 10", []).unwrap();
            db.execute("UPDATE messages SET peer = zeroblob(32) WHERE row = 11", []).unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(texts(&store).len(), 998);
        assert!(store.message_at(10).unwrap().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Wherever bits flip or the file is cut, it opens, and nothing is shown that was not written.
        #[test]
        fn nothing_is_shown_that_was_not_written(
            flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 0..20),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let folder = folder();
            let path = written(&folder);
            let mut bytes = fs::read(&path).unwrap();
            for (index, bit) in flips {
                let at = index.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            if let Some(cut) = cut {
                let length = cut.index(bytes.len());
                bytes.truncate(length);
            }
            fs::write(&path, &bytes).unwrap();
            match Store::open(&path) {
                Ok(store) => {
                    let shown = store.messages(None, false, 10_000).unwrap_or_default();
                    for stored in shown {
                        prop_assert!(is_genuine(&stored.message.text), "{}", stored.message.text);
                    }
                }
                // A version number from the future is refused, and the file left alone.
                Err(Error::TooNew { .. }) => prop_assert_eq!(fs::read(&path).unwrap(), bytes),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }
}
