//! Files from peers onto this disk, and files of this disk to peers.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::folders;
use super::works::{Keeping, Over};
use crate::api::{Error, ErrorKind, File};
use crate::home::Home;
use crate::proto::{CallId, Hex, MessageId, safe_file_name};

/// How a folder is called that is being unpacked beside its part file.
const UNPACKED: &str = "unpacked";
/// How the note beside it is called that says which name it is about to get.
const NAMED: &str = "named";
/// Most files of one name kept in a call: `report.json`, `report-2.json`, ….
const SAME_NAME_LIMIT: u32 = 10_000;

/// The SHA-256 of bytes.
pub(super) fn sha256(bytes: &[u8]) -> Hex<32> {
    Hex(Sha256::digest(bytes).into())
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
    let given =
        written.and_then(|()| give_name(&folder, &safe_file_name(name), &part, bytes.len() as u64, &sha256));
    // Whether it worked or not, only the name counts from here.
    let removed = fs::remove_file(&part);
    let path = given?;
    removed?;
    Ok(described(&path, bytes.len() as u64, sha256.to_string(), mime))
}

/// Why a file of a peer was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotKept {
    /// What the disk said; it may pass.
    Disk(String),
    /// Its bytes are not those that were announced.
    Altered,
    /// A folder with something in it that is not unpacked.
    Unsafe(String),
    /// The engine ends.
    Over,
}

impl From<io::Error> for NotKept {
    fn from(error: io::Error) -> Self {
        Self::Disk(error.to_string())
    }
}

impl From<folders::Refused> for NotKept {
    fn from(refused: folders::Refused) -> Self {
        match refused {
            folders::Refused::Disk(error) => error.into(),
            folders::Refused::Content(why) => Self::Unsafe(why),
            folders::Refused::Over => Self::Over,
        }
    }
}

/// Checks a part file that is whole, and gives it its name. A second time, it finds what the first one made.
///
/// # Errors
/// [`NotKept`]; nothing has changed then.
pub(super) fn keep(home: &Home, keeping: &Keeping, over: &Over) -> Result<File, NotKept> {
    let Keeping { transfer, sha256 } = keeping;
    let path = part(home, &transfer.call, &transfer.message);
    let mut file = open_part(&path)?;
    let hash = match sha256 {
        Some(hash) => *hash,
        None => hash_of(&mut file, over)?,
    };
    if Hex(hash) != transfer.sha256 || file.metadata()?.len() != transfer.size {
        return Err(NotKept::Altered);
    }
    file.sync_all()?;
    let call = Some(&transfer.call).filter(|call| **call != CallId::default());
    let folder = Folder::of_call(home, call)?;
    let named = match transfer.mime == folders::MIME {
        true => keep_folder(&folder, &transfer.name, &mut file, &path, over)?,
        false => give_name(&folder, &transfer.name, &path, transfer.size, &Hex(hash))?,
    };
    Ok(described(&named, transfer.size, Hex(hash).to_string(), &transfer.mime))
}

/// Unpacks a folder beside its part file, and gives it its name when it is whole. The name is noted first: a folder that
/// has gone from beside its note has got that name, and a crash before that is known unpacks nothing a second time.
fn keep_folder(
    folder: &Folder,
    name: &str,
    tar: &mut fs::File,
    part: &Path,
    over: &Over,
) -> Result<PathBuf, NotKept> {
    let (new, note) = (part.with_extension(UNPACKED), part.with_extension(NAMED));
    if let Ok(named) = fs::read_to_string(&note)
        && !new.exists()
        && folder.path.join(&named).is_dir()
    {
        return Ok(folder.path.join(named));
    }
    remove(&note)?;
    sync_folder(&note)?;
    remove(&new)?;
    tar.seek(SeekFrom::Start(0))?;
    if let Err(refused) = folders::unpack(tar, &new, over) {
        remove(&new)?;
        return Err(refused.into());
    }
    for copy in 1..=SAME_NAME_LIMIT {
        let named = numbered(name, copy);
        let path = folder.path.join(&named);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        let mut written = fs::OpenOptions::new();
        let mut written = written.write(true).create(true).truncate(true).mode(0o600).open(&note)?;
        written.write_all(named.as_bytes())?;
        written.sync_all()?;
        sync_folder(&note)?;
        match rustix::fs::renameat_with(CWD, &new, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {
                folder.handle.sync_all()?;
                return Ok(path);
            }
            // Somebody was quicker.
            Err(Errno::EXIST) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    Err(NotKept::Disk("too many folders of this name".to_owned()))
}

/// Reads a file to its end, in pieces.
fn hash_of(file: &mut fs::File, over: &Over) -> Result<[u8; 32], NotKept> {
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
    file.seek(SeekFrom::Start(0))?;
    loop {
        if over.is_told() {
            return Err(NotKept::Over);
        }
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(&piece[..length]),
        }
    }
}

/// Where the copy of a file of ours is, for as long as the peer does not have it.
pub(super) fn spool(home: &Home, call: &CallId, message: &MessageId) -> PathBuf {
    home.state().join("outgoing").join(format!("{call}-{message}"))
}

/// Where a file of a peer is, for as long as it is not whole.
pub(super) fn part(home: &Home, call: &CallId, message: &MessageId) -> PathBuf {
    home.state().join("incoming").join(format!("{call}-{message}"))
}

/// All that may lie where a file of a peer is written: the part, and what a folder has beside it.
pub(super) fn leftovers(part: &Path) -> [PathBuf; 3] {
    [part.to_owned(), part.with_extension(UNPACKED), part.with_extension(NAMED)]
}

/// The copies and parts that lie around: whether it is ours, the call, the message, and where.
pub(super) fn under_way(home: &Home) -> Vec<(bool, CallId, MessageId, PathBuf)> {
    let mut found = Vec::new();
    for (ours, folder) in [(true, "outgoing"), (false, "incoming")] {
        // A folder that was never needed is not there.
        let Ok(entries) = fs::read_dir(home.state().join(folder)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = name.split_once('.').map_or(name.as_str(), |(name, _)| name);
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

/// Begins the copy of a file of ours, in the place of one that a crash may have left behind.
///
/// # Errors
/// What the disk says.
pub(super) fn create_spool(path: &Path) -> io::Result<fs::File> {
    let folder = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    remove(path)?;
    open_new(path)
}

/// That a file has been made, or named, is on the disk for certain.
///
/// # Errors
/// What the disk says.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path.parent().unwrap_or(path))?.sync_all()
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

/// Removes a file or a folder that need not be there.
///
/// # Errors
/// What the disk says.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let remove = |about: fs::Metadata| match about.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match fs::symlink_metadata(path).and_then(remove) {
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
    fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Gives a file a name in a folder, or the next free one like it: never over something, never half, no link followed. The
/// same bytes under the same name are the same file.
fn give_name(folder: &Folder, name: &str, part: &Path, size: u64, hash: &Hex<32>) -> io::Result<PathBuf> {
    for copy in 1..=SAME_NAME_LIMIT {
        let path = folder.path.join(numbered(name, copy));
        match fs::hard_link(part, &path) {
            Ok(()) => {
                folder.handle.sync_all()?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if is_same(&path, part, size, hash)? {
                    return Ok(path);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many files of this name"))
}

/// Whether what has the name is this file, or one with the same bytes.
fn is_same(path: &Path, part: &Path, size: u64, hash: &Hex<32>) -> io::Result<bool> {
    let (named, part) = (fs::symlink_metadata(path)?, fs::symlink_metadata(part)?);
    if (named.dev(), named.ino()) == (part.dev(), part.ino()) {
        return Ok(true);
    }
    // Only what has its size is worth being read.
    let same = named.is_file() && named.len() == size;
    Ok(same && fs::File::open(path).is_ok_and(|mut file| hash_of(&mut file, &Over::default()) == Ok(hash.0)))
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

/// Reads a small file to be sent, of at most `limit` bytes.
///
/// # Errors
/// As [`open_to_send`], and `too-large`.
pub(super) fn load(home: &Home, path: &str, limit: usize) -> Result<(PathBuf, Vec<u8>), Error> {
    let (real, file, size) = open_to_send(home, path)?;
    if size > limit as u64 {
        return Err(too_large(size, limit));
    }
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes).map_err(|error| unread(path, &error))?;
    Ok((real, bytes))
}

/// Whether a path, without links, is the agent's own: nothing in its home but what it received is sent.
pub(super) fn is_own(home: &Home, path: &Path) -> bool {
    path.starts_with(home.state()) && !path.starts_with(home.files()) || path == home.identity()
}

/// Opens a file to be sent: where it is without links, and its size. What belongs to this agent's own home is not
/// sendable.
///
/// # Errors
/// `file-not-found`, `io-error`, `not-sendable`.
pub(super) fn open_to_send(home: &Home, path: &str) -> Result<(PathBuf, fs::File, u64), Error> {
    let unread = |error: io::Error| unread(path, &error);
    let real = fs::canonicalize(path).map_err(unread)?;
    if !fs::metadata(&real).map_err(unread)?.is_file() {
        return Err(missing(path, &"it is not a plain file"));
    }
    if is_own(home, &real) {
        return Err(not_sendable("this file belongs to the agent itself"));
    }
    // Something else may have taken its place since: a link is not followed, and nothing is waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(&real);
    let file = file.map_err(unread)?;
    let about = file.metadata().map_err(unread)?;
    if !about.is_file() {
        return Err(missing(path, &"it is not a plain file"));
    }
    Ok((real, file, about.len()))
}

fn missing(path: &str, why: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::FileNotFound,
        format!("cannot read {path}: {why}"),
        "give the path of a readable file: p2p-comm sendfile --path FILE",
    )
}

/// The error for a file that cannot be read, be it the file's fault or not.
pub(super) fn unread(path: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => {
            missing(path, error)
        }
        _ => Error::new(
            ErrorKind::IoError,
            format!("cannot read {path}: {error}"),
            "run the command again: nothing was sent. If it stays so, p2p-comm doctor says what the system lacks",
        ),
    }
}

/// The error for bytes that are not base64.
pub(super) fn no_base64(error: &base64::DecodeError) -> Error {
    Error::new(
        ErrorKind::InvalidBase64,
        format!("the content is not base64: {error}"),
        "encode it (base64 -w0 FILE), or give the file itself: --path FILE",
    )
}

/// The error for a folder that is not packed.
pub(super) fn not_sendable_folder(why: &str) -> Error {
    Error::new(
        ErrorKind::NotSendable,
        format!("the folder is not sent: {why}"),
        "nothing was sent; pack it yourself (tar), and send that file: p2p-comm sendfile --path FILE",
    )
}

/// The error for a file with the agent's own key in it.
pub(super) fn holds_key() -> Error {
    not_sendable("this holds the agent's own secret key")
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
mod tests;
