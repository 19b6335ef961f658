//! Files from peers onto this disk, and files of this disk to peers.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::api::{Error, ErrorKind, File};
use crate::home::Home;
use crate::proto::{CallId, Hex, MessageId, safe_file_name};
use crate::store::StoredTransfer;

/// Most files of one name kept in a call: `report.json`, `report-2.json`, ….
const SAME_NAME_LIMIT: u32 = 10_000;

/// The SHA-256 of bytes, lower-case hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    Hex(digest).to_string()
}

/// Writes a file that a peer sent, on the disk before this returns: `files/<call>/<name>`, or `files/mail/<name>` outside
/// of any call. The same bytes under the same name are the same file, so receiving twice writes once.
///
/// # Errors
/// What the disk says, or that the peer's base64 is none (`InvalidData`).
pub(super) fn receive(
    home: &Home,
    call: Option<&CallId>,
    name: &str,
    mime: &str,
    base64: &str,
) -> io::Result<File> {
    let bytes = decode(base64).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let folder = Folder::of_call(home, call)?;
    let part = folder.path.join(format!(".{}.part", super::clock::fresh::<8>()));
    let written = open_new(&part).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
    let sha256 = sha256(&bytes);
    let given = written.and_then(|()| give_name(&folder, &safe_file_name(name), &part, &sha256));
    // Whether it worked or not, only the name counts from here.
    let removed = fs::remove_file(&part);
    let path = given?;
    removed?;
    Ok(described(&path, bytes.len() as u64, sha256, mime))
}

/// Gives a part file that is whole and on the disk its name.
///
/// # Errors
/// What the disk says.
pub(super) fn adopt(folder: &Folder, transfer: &StoredTransfer, part: &Path) -> io::Result<File> {
    let sha256 = transfer.sha256.to_string();
    let path = give_name(folder, &transfer.name, part, &sha256)?;
    Ok(described(&path, transfer.size, sha256, &transfer.mime))
}

/// Where the copy of a file of ours is, for as long as the peer does not have it.
pub(super) fn spool(home: &Home, call: &CallId, message: &MessageId) -> PathBuf {
    home.state().join("outgoing").join(format!("{call}-{message}"))
}

/// Where a file of a peer is, for as long as it is not whole.
pub(super) fn part(home: &Home, call: &CallId, message: &MessageId) -> PathBuf {
    home.state().join("incoming").join(format!("{call}-{message}"))
}

/// The copies and parts that lie around: whether it is ours, the call, the message, and where.
pub(super) fn under_way(home: &Home) -> Vec<(bool, CallId, MessageId, PathBuf)> {
    let mut found = Vec::new();
    for (ours, folder) in [(true, "outgoing"), (false, "incoming")] {
        // A folder that was never needed is not there.
        let Ok(entries) = fs::read_dir(home.state().join(folder)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let named = name.split_once('-').and_then(|(call, message)| {
                Some((call.parse::<CallId>().ok()?, message.parse::<MessageId>().ok()?))
            });
            if let Some((call, message)) = named {
                found.push((ours, call, message, entry.path()));
            }
        }
    }
    found
}

/// Writes the copy of a file of ours; it is on the disk before this returns.
///
/// # Errors
/// What the disk says.
pub(super) fn write_spool(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // One that a lost batch has left behind.
    remove(path)?;
    open_new(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))?;
    fs::File::open(folder)?.sync_all()
}

/// Opens a file of a peer that is not whole yet. A link in its place is not followed.
///
/// # Errors
/// What the disk says.
pub(super) fn open_part(path: &Path) -> io::Result<fs::File> {
    let folder = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if fs::symlink_metadata(path).is_ok_and(|about| !about.is_file()) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Removes a file that need not be there.
///
/// # Errors
/// What the disk says.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where the files of a call are, held open: naming one takes nothing more of the system.
pub(super) struct Folder {
    path: PathBuf,
    handle: fs::File,
}

impl Folder {
    /// The folder of a call's files, or of those outside of any call. It is made if need be.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn of_call(home: &Home, call: Option<&CallId>) -> io::Result<Self> {
        let path = home.files().join(call.map_or_else(|| "mail".to_owned(), ToString::to_string));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let handle = fs::File::open(&path)?;
        Ok(Self { path, handle })
    }
}

fn open_new(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Gives a file a name in a folder, or the next free one like it: never over something, never half, no link followed. The
/// same bytes under the same name are the same file.
fn give_name(folder: &Folder, name: &str, part: &Path, hash: &str) -> io::Result<PathBuf> {
    for copy in 1..=SAME_NAME_LIMIT {
        let path = folder.path.join(numbered(name, copy));
        match fs::hard_link(part, &path) {
            Ok(()) => {
                folder.handle.sync_all()?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let is_file = fs::symlink_metadata(&path)?.is_file();
                if is_file && fs::read(&path).is_ok_and(|known| sha256(&known) == hash) {
                    return Ok(path);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many files of this name"))
}

fn described(path: &Path, size: u64, sha256: String, mime: &str) -> File {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mime = if mime.is_empty() { mime_of(&name).to_owned() } else { mime.to_owned() };
    File { name, size, mime, sha256, path: Some(path.to_string_lossy().into_owned()) }
}

fn numbered(name: &str, copy: u32) -> String {
    match (copy, name.rsplit_once('.')) {
        (1, _) => name.to_owned(),
        (copy, Some((stem, extension))) if !stem.is_empty() => format!("{stem}-{copy}.{extension}"),
        (copy, _) => format!("{name}-{copy}"),
    }
}

/// Decodes base64 as people and programs write it: padded, with or without line ends.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    match text.contains(char::is_whitespace) {
        true => STANDARD.decode(text.split_whitespace().collect::<String>()),
        false => STANDARD.decode(text),
    }
}

/// Base64 for the wire.
pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads a file to be sent, of at most `limit` bytes. What belongs to this agent's own home is not sendable.
///
/// # Errors
/// `file-not-found`, `io-error`, `too-large`, `not-sendable`.
pub(super) fn load(home: &Home, path: &str, limit: usize) -> Result<(PathBuf, Vec<u8>), Error> {
    let missing = |why: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::FileNotFound,
            format!("cannot read {path}: {why}"),
            "give the path of a readable file: p2p-comm sendfile --path FILE",
        )
    };
    // What is not the file's fault.
    let unread = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => {
            missing(&error)
        }
        _ => Error::new(
            ErrorKind::IoError,
            format!("cannot read {path}: {error}"),
            "run the command again: nothing was sent. If it stays so, p2p-comm doctor says what the system lacks",
        ),
    };
    let real = fs::canonicalize(path).map_err(unread)?;
    let data = fs::metadata(&real).map_err(unread)?;
    if !data.is_file() {
        return Err(missing(&"it is not a plain file"));
    }
    if real.starts_with(home.state()) && !real.starts_with(home.files()) || real == home.identity() {
        return Err(not_sendable("this file belongs to the agent itself"));
    }
    if data.len() > limit as u64 {
        return Err(too_large(data.len(), limit));
    }
    let bytes = fs::read(&real).map_err(unread)?;
    Ok((real, bytes))
}

/// The error for what must not leave the machine.
pub(super) fn not_sendable(why: &str) -> Error {
    Error::new(
        ErrorKind::NotSendable,
        why,
        "nothing was sent; a key or a database never has to leave this machine",
    )
}

/// The error for a file that does not fit.
pub(super) fn too_large(size: u64, limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the file has {size} bytes; this call carries at most {limit} bytes a file"),
        "split the file, or send a link to it",
    )
}

/// The MIME type that a name's extension suggests.
pub(super) fn mime_of(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref().unwrap_or_default() {
        "txt" | "log" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "json" => "application/json",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "tar" => "application/x-tar",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "py" => "text/x-python",
        "rs" => "text/x-rust",
        "js" => "text/javascript",
        "toml" => "application/toml",
        "yaml" | "yml" => "application/yaml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
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
}
