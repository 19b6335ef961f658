//! What a peer sends is written once, under a name of its own, and nothing of the agent leaves.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn home() -> (tempfile::TempDir, Home) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(Some(folder.path())).unwrap();
    (folder, home)
}

const CALL: CallId = Hex([1; 8]);

#[test]
fn a_file_is_received_once_and_another_of_its_name_beside_it() {
    let (_folder, home) = home();
    let first = receive(&home, Some(&CALL), "../a.txt", "", "aGVsbG8=").unwrap();
    assert_eq!((first.name.as_str(), first.size, first.mime.as_str()), ("a.txt", 5, "text/plain"));
    assert_eq!(first.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!(receive(&home, Some(&CALL), "a.txt", "", "aGVs\nbG8=").unwrap(), first);
    assert_eq!(receive(&home, Some(&CALL), "a.txt", "", "aGk=").unwrap().name, "a-2.txt");
    let folder = home.files().join(CALL.to_string());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no parts are left");
    let path = first.path.unwrap();
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_planted_link_is_neither_followed_nor_replaced() {
    let (outside, home) = home();
    let folder = home.files().join(CALL.to_string());
    fs::create_dir_all(&folder).unwrap();
    let target = outside.path().join("target");
    fs::write(&target, "mine").unwrap();
    symlink(&target, folder.join("a.txt")).unwrap();
    symlink(outside.path().join("nowhere"), folder.join("b.txt")).unwrap();
    assert_eq!(receive(&home, Some(&CALL), "a.txt", "", "aGk=").unwrap().name, "a-2.txt");
    assert_eq!(receive(&home, Some(&CALL), "b.txt", "", "aGk=").unwrap().name, "b-2.txt");
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    assert!(!outside.path().join("nowhere").exists());
}

#[test]
fn what_is_no_base64_is_refused() {
    let (_folder, home) = home();
    let error = receive(&home, Some(&CALL), "a", "", "!").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

/// A folder of a peer with one file in it, packed, all of it here.
fn packed(home: &Home, message: u8) -> Keeping {
    let message = Hex([message; 16]);
    let path = part(home, &CALL, &message);
    let file = open_part(&path).unwrap();
    let mut tar = tar::Builder::new(file);
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o600);
    tar.append_data(&mut header, "a.txt", &b"hello"[..]).unwrap();
    drop(tar.into_inner().unwrap());
    let bytes = fs::read(&path).unwrap();
    let transfer = crate::store::StoredTransfer {
        call: CALL,
        outgoing: false,
        message,
        stream: 2,
        name: "report".into(),
        mime: folders::MIME.into(),
        size: bytes.len() as u64,
        sha256: sha256(&bytes),
        done: bytes.len() as u64,
        accepted: true,
    };
    Keeping { transfer, sha256: None }
}

fn names(home: &Home) -> Vec<String> {
    let folder = fs::read_dir(home.files().join(CALL.to_string())).unwrap();
    let mut names: Vec<String> =
        folder.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_folder_that_has_its_name_is_not_unpacked_again_after_a_crash() {
    let (_folder, home) = home();
    let over = Over::default();
    let first = packed(&home, 1);
    let named = keep(&home, &first, &over).unwrap();
    assert_eq!(keep(&home, &first, &over).unwrap(), named, "as after a crash before the commit");
    assert_eq!(names(&home), ["report"]);
    // Another one of its name, and a crash before that got its own: with the note written, and without.
    let second = packed(&home, 2);
    let path = part(&home, &CALL, &second.transfer.message);
    let [_, new, note] = leftovers(&path);
    for noted in [true, false] {
        fs::create_dir(&new).unwrap();
        fs::write(new.join("half"), "").unwrap();
        if noted {
            fs::write(&note, "report-2").unwrap();
        }
        let again = keep(&home, &second, &over).unwrap();
        assert_eq!(again.name, "report-2");
        assert_eq!(names(&home), ["report", "report-2"]);
        assert_eq!(fs::read_dir(again.path.as_ref().unwrap()).unwrap().count(), 1, "nothing half of it");
        assert!(!new.exists());
        fs::remove_dir_all(again.path.unwrap()).unwrap();
    }
    // The user has removed it meanwhile: it is unpacked once more, and not told to be where it is not.
    let third = keep(&home, &second, &over).unwrap();
    assert!(fs::read_dir(third.path.unwrap()).unwrap().count() == 1);
}

#[test]
fn the_agents_own_files_are_not_sendable_by_any_path() {
    let (folder, home) = home();
    fs::write(home.identity(), "{}").unwrap();
    fs::write(home.database(), "x").unwrap();
    let link = folder.path().join("innocent.txt");
    symlink(home.identity(), &link).unwrap();
    for path in [home.identity(), home.database(), link] {
        let error = load(&home, &path.to_string_lossy(), 100).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotSendable, "{}", path.display());
    }
    let received = receive(&home, Some(&CALL), "a.txt", "", "aGk=").unwrap().path.unwrap();
    assert!(load(&home, &received, 100).is_ok(), "what a peer sent can be sent on");
    assert_eq!(load(&home, &received, 1).unwrap_err().kind, ErrorKind::TooLarge);
    assert_eq!(load(&home, "/nowhere", 1).unwrap_err().kind, ErrorKind::FileNotFound);
    assert_eq!(load(&home, "/", 1).unwrap_err().kind, ErrorKind::FileNotFound);
}
