//! The files of a home that people edit, restore and damage (see [`crate::fuzz`]).

use std::cell::RefCell;
use std::fs;

use super::{Home, identity, settings};
use crate::fuzz::Bytes;

thread_local! {
    static HOME: RefCell<Option<(tempfile::TempDir, Home)>> = const { RefCell::new(None) };
}

/// A key file, or a configuration that is then changed: what cannot be read stays as it was.
pub fn files(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    if bytes.byte() % 2 == 0 {
        if let Ok(identity) = identity::parse(bytes.0) {
            let written = identity::text(&identity);
            let again = identity::parse(written.expose().as_bytes()).map(|again| again.public_key);
            assert_eq!(again, Ok(identity.public_key));
        }
        return;
    }
    HOME.with_borrow_mut(|place| {
        let (_, home) = place.get_or_insert_with(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let home = Home::open(Some(folder.path())).expect("a home");
            (folder, home)
        });
        fs::write(home.config(), bytes.0).expect("written");
        let loaded = settings::load(home, &[]).map(|layers| layers.settings());
        let changed = settings::set(home, "agent_id", "somebody");
        match (&loaded, changed) {
            // Another setting of the file is wrong, and stays so.
            (Err(_), Ok(_)) => {}
            (Ok(_), Ok(_)) => {
                let id = settings::remembered_agent_id(home).expect("what was changed is read");
                assert_eq!(id.as_deref(), Some("somebody"));
            }
            (_, Err(_)) => {
                assert!(loaded.is_err(), "what can be read can be changed");
                assert_eq!(fs::read(home.config()).expect("there"), bytes.0, "what cannot be read stays");
            }
        }
    });
}
