//! Databases of earlier schemas, kept as SQL in `tests/databases/`: each is opened, nothing in it is lost, and a crash
//! in the middle changes nothing about that.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Batch;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::Value;

use super::super::schema::{MIGRATIONS, TODAY};
use super::*;
use crate::proto::{EndReason, TicketState};

fn kept() -> Vec<(u32, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/databases");
    let mut kept: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_stem().unwrap().to_str().unwrap().parse().unwrap(), fs::read_to_string(path).unwrap())
        })
        .collect();
    kept.sort();
    assert!(!kept.is_empty());
    kept
}

/// A database as it was, closed.
fn restored(folder: &tempfile::TempDir, sql: &str) -> PathBuf {
    let path = folder.path().join("state.db");
    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db.execute_batch(sql).unwrap();
    path
}

type Rows = BTreeMap<String, Vec<BTreeMap<String, Value>>>;

/// Every row of every table, in columns by their names.
fn rows(db: &Connection) -> Rows {
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut tables = db.prepare(names).unwrap();
    let names: Vec<String> =
        tables.query_map([], |row| row.get(0)).unwrap().map(|name| name.unwrap()).collect();
    let read = |name: String| {
        let mut statement = db.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns: Vec<String> = statement.column_names().into_iter().map(String::from).collect();
        let cells = |row: &rusqlite::Row<'_>| {
            columns.iter().enumerate().map(|(place, column)| Ok((column.clone(), row.get(place)?))).collect()
        };
        let rows = statement.query_map([], cells).unwrap().map(|row| row.unwrap()).collect();
        (name, rows)
    };
    names.into_iter().map(read).collect()
}

/// Nothing that was there is gone or different.
fn assert_kept(before: &Rows, after: &Rows) {
    for (table, old) in before {
        let new = &after[table];
        assert_eq!(old.len(), new.len(), "{table}");
        for (old, new) in old.iter().zip(new) {
            for (column, value) in old {
                assert_eq!(new.get(column), Some(value), "{table}.{column}");
            }
        }
    }
}

fn schema(db: &Connection) -> Vec<(String, String)> {
    let mut names = db
        .prepare("SELECT name, type FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name")
        .unwrap();
    let names = names.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let mut found: Vec<(String, String)> = names.map(|name| name.unwrap()).collect();
    let mut columns = Vec::new();
    for (table, _) in found.iter().filter(|(_, kind)| kind == "table") {
        let mut info = db
            .prepare("SELECT name, type || pk || \"notnull\" FROM pragma_table_info(?) ORDER BY cid")
            .unwrap();
        let info = info.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).unwrap();
        columns
            .extend(info.map(|column| column.unwrap()).map(|(name, kind)| (format!("{table}.{name}"), kind)));
    }
    found.extend(columns);
    found
}

#[test]
fn a_database_of_each_kept_schema_opens_with_every_row_that_it_had() {
    for (version, sql) in kept() {
        let folder = folder();
        let path = restored(&folder, &sql);
        let before = rows(&Connection::open(&path).unwrap());
        assert!(before.values().all(|rows| !rows.is_empty()), "{version}: every table has rows");
        let store = Store::open(&path).unwrap();
        assert_kept(&before, &rows(&store.db));
        let fresh = folder.path().join("fresh.db");
        assert_eq!(schema(&store.db), schema(&Store::open(&fresh).unwrap().db), "{version}");
        // What is shown has come through too, and is believed.
        assert_eq!(store.messages(None, false, 1_000).unwrap().len(), before["messages"].len());
        let events = |after| {
            store.peek(&Filter { after, kinds: EventKind::ALL.to_vec(), ..Filter::default() }).unwrap()
        };
        let shown = std::iter::successors(events(0), |entry| events(entry.cursor)).count();
        assert_eq!(shown, before["events"].len());
    }
}

#[test]
fn a_new_database_is_what_the_migrations_make_of_an_empty_one() {
    let made = |sql: &[&str]| {
        let db = Connection::open_in_memory().unwrap();
        sql.iter().for_each(|sql| db.execute_batch(sql).unwrap());
        let mut statements = db.prepare("SELECT name, sql FROM sqlite_schema ORDER BY rowid").unwrap();
        let rows = statements.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(|row| row.unwrap()).collect::<Vec<(String, Option<String>)>>()
    };
    let by_steps = made(MIGRATIONS);
    let text: Vec<_> = by_steps.iter().filter(|(name, _)| !name.starts_with("sqlite_")).collect();
    let text: String =
        text.iter().filter_map(|(_, sql)| sql.as_ref()).map(|sql| format!("{sql};\n")).collect();
    assert_eq!(made(&[TODAY]), by_steps, "src/store/today.sql has to say:\n{text}");
}

#[test]
fn what_the_first_kept_database_says_is_read_as_it_was_meant() {
    let (version, sql) = kept().remove(0);
    assert_eq!(version, 2);
    let folder = folder();
    let mut store = Store::open(&restored(&folder, &sql)).unwrap();
    let call = store.call(&Hex([1; 8])).unwrap().unwrap();
    assert_eq!((call.call.topic.as_str(), call.messages), ("an old friend", 3));
    assert_eq!(
        call.call.ended.map(|end| (end.reason, end.words)),
        Some((EndReason::Completed, Some("bye".into())))
    );
    assert_eq!(store.live_calls().unwrap()[0].call.topic, "Grüße, 日本");
    let said: Vec<String> = store
        .messages(Some(&Hex([2; 8])), false, 9)
        .unwrap()
        .into_iter()
        .map(|said| said.message.text)
        .collect();
    assert_eq!(said, ["hello 👋", "line one\nline two", ""]);
    let delivery = store.delivery(&Hex([2; 8])).unwrap();
    assert_eq!(delivery.unacked[0].entry.body, "hello 👋".as_bytes());
    assert_eq!(delivery.held[0].body, b"before its turn");
    let ticket = store.ticket(&Hex([5; 4])).unwrap().unwrap();
    assert_eq!((ticket.state, ticket.answer.as_deref()), (TicketState::Answered, Some("no")));
    let (row, _) = store.surface_message(&Hex([1; 8]), &Hex([9; 16])).unwrap().unwrap();
    assert_eq!(store.message_at(row).unwrap().unwrap().message.text, "before its turn");
}

/// What a crash leaves: the files as they are while the statements are carried out but not committed.
#[test]
fn a_crash_after_any_statement_of_any_migration_loses_nothing() {
    for (version, sql) in kept() {
        let origin = folder();
        let path = restored(&origin, &sql);
        let before = rows(&Connection::open(&path).unwrap());
        let mut crashes = 0;
        for (step, migration) in MIGRATIONS.iter().enumerate().skip(version as usize) {
            let statements = {
                let db = Connection::open(&path).unwrap();
                let mut batch = Batch::new(&db, migration);
                let mut count = 0;
                // A statement is prepared only where the ones before it were carried out.
                while let Some(mut statement) = batch.next().unwrap() {
                    statement.execute([]).unwrap();
                    count += 1;
                }
                count
            };
            for carried_out in 0..=statements {
                let (dying, left) = (folder(), folder());
                let path = restored(&dying, &sql);
                let db = Connection::open(&path).unwrap();
                for done in MIGRATIONS.iter().take(step).skip(version as usize) {
                    db.execute_batch(done).unwrap();
                }
                db.pragma_update(None, "user_version", step as u32).unwrap();
                // Pages go to the log before the commit, as they do where memory is short.
                db.pragma_update(None, "cache_size", 1).unwrap();
                db.execute_batch("BEGIN IMMEDIATE").unwrap();
                let mut batch = Batch::new(&db, migration);
                for _ in 0..carried_out {
                    batch.next().unwrap().unwrap().execute([]).unwrap();
                }
                if carried_out == statements {
                    db.pragma_update(None, "user_version", step as u32 + 1).unwrap();
                }
                for part in ["state.db", "state.db-wal"] {
                    fs::copy(dying.path().join(part), left.path().join(part)).unwrap();
                }
                let store = Store::open(&left.path().join("state.db")).unwrap();
                assert_kept(&before, &rows(&store.db));
                assert_eq!(fs::read_dir(left.path()).unwrap().count(), 3, "nothing was kept aside");
                crashes += 1;
            }
        }
        assert!(crashes > 0 || version as usize == MIGRATIONS.len());
    }
}

/// At the release of a version with another schema: `scripts/keep-database.py`.
#[test]
fn the_schema_of_each_release_is_kept() {
    let changes = include_str!("../../../CHANGELOG.md");
    let newest = changes.lines().find(|line| line.starts_with("## ")).unwrap();
    assert!(newest.starts_with(&format!("## {}", env!("CARGO_PKG_VERSION"))), "{newest}");
    if newest.ends_with("unreleased") {
        return;
    }
    let schema = MIGRATIONS.len() as u32;
    assert!(
        kept().iter().any(|(version, _)| *version == schema),
        "{newest} has schema {schema}: keep a database of it with scripts/keep-database.py"
    );
}

#[test]
fn no_merged_migration_was_edited() {
    for (version, sql) in kept() {
        let folder = folder();
        let db = Connection::open(restored(&folder, &sql)).unwrap();
        let fresh = Connection::open_in_memory().unwrap();
        for migration in &MIGRATIONS[..version as usize] {
            fresh.execute_batch(migration).unwrap();
        }
        assert_eq!(schema(&db), schema(&fresh), "schema {version}");
    }
}
