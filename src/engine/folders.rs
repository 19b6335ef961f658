//! Folders: sent as a tar stream, and unpacked where nothing of them can do harm.
//!
//! Both sides know only plain files and folders. A path is made of names that a person could type: nothing absolute, no
//! `..`, no control characters. Links, devices and everything else that a tar can hold are refused on both sides, and the
//! right to be run by its owner is all that is taken over of a file's mode. What is unpacked grows in a folder of its own
//! and gets its name when it is whole: there is nothing in it that a path could lead through.

use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use tar::{Archive, Builder, EntryType, Header};

use super::works::Over;

/// The MIME type of a folder, as a tar (POSIX.1-1988 ustar, with GNU long names).
pub(super) const MIME: &str = "application/vnd.p2p-comm.folder+tar";
/// Most files and folders in a folder.
const ENTRIES: usize = 100_000;
/// How deep folders may be nested.
const DEPTH: usize = 64;
/// Most bytes of a path, and of a name in it: what Linux takes.
const PATH: usize = 4_095;
const NAME: usize = 255;
/// Bytes that are read and written at a time.
const BUFFER: usize = 256 << 10;

/// Why a folder is not packed or not unpacked.
#[derive(Debug)]
pub(super) enum Refused {
    /// What the disk says.
    Disk(io::Error),
    /// What is in it.
    Content(String),
    /// Nobody wants it any more.
    Over,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Bytes that the tar of a folder will have at most.
///
/// # Errors
/// [`Refused`], as [`pack`].
pub(super) fn measure(folder: &Path, forbidden: &dyn Fn(&Path) -> bool) -> Result<u64, Refused> {
    let mut size = 10_240;
    walk(folder, forbidden, &mut |name, about, _| {
        size += 512 + name.as_os_str().len() as u64 + 1_536 + about.len().next_multiple_of(512);
        Ok(())
    })?;
    Ok(size)
}

/// Writes a folder as a tar: the same content makes the same bytes.
///
/// # Errors
/// [`Refused`]: a link or a device in it, a name that would not be unpacked, too many files, the agent's own.
pub(super) fn pack(
    folder: &Path,
    forbidden: &dyn Fn(&Path) -> bool,
    to: &fs::File,
    over: &Over,
) -> Result<(), Refused> {
    let mut tar = Builder::new(BufWriter::with_capacity(BUFFER, to));
    walk(folder, forbidden, &mut |name, about, path| {
        if over.is_told() {
            return Err(Refused::Over);
        }
        let mut header = Header::new_ustar();
        let modified = about.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        header.set_mtime(modified.unwrap_or_default().as_secs());
        if about.is_dir() {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o700);
            header.set_size(0);
            tar.append_data(&mut header, name, io::empty())?;
        } else {
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
            let about = file.metadata()?;
            if !about.is_file() {
                return Err(unsendable(name));
            }
            header.set_entry_type(EntryType::Regular);
            header.set_mode(if about.permissions().mode() & 0o100 == 0 { 0o600 } else { 0o700 });
            header.set_size(about.len());
            // One that shrinks meanwhile would leave a hole in the tar.
            let mut content = Exactly { left: about.len(), file };
            tar.append_data(&mut header, name, &mut content)?;
        }
        Ok(())
    })?;
    tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(())
}

/// Reads so many bytes, or fails.
struct Exactly {
    left: u64,
    file: fs::File,
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let read = self.file.read(&mut into[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file changed while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

type Visit<'a> = dyn FnMut(&Path, &fs::Metadata, &Path) -> Result<(), Refused> + 'a;

/// Visits everything below a folder, in the order of names: its path within, what it is, where it is.
fn walk(folder: &Path, forbidden: &dyn Fn(&Path) -> bool, visit: &mut Visit<'_>) -> Result<(), Refused> {
    let (mut waiting, mut entries) = (vec![PathBuf::new()], 0);
    while let Some(within) = waiting.pop() {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder.join(&within))? {
            names.push(entry?.file_name());
            if entries + names.len() > ENTRIES {
                return Err(Refused::Content(format!("more than {ENTRIES} files are in it")));
            }
        }
        entries += names.len();
        names.sort_unstable();
        let mut folders = Vec::new();
        for name in names {
            let name = within.join(name);
            check(&name).map_err(Refused::Content)?;
            let path = folder.join(&name);
            if forbidden(&path) {
                return Err(Refused::Content(format!("{} belongs to the agent itself", shown(&name))));
            }
            let about = fs::symlink_metadata(&path)?;
            if !about.is_dir() && !about.is_file() {
                return Err(unsendable(&name));
            }
            visit(&name, &about, &path)?;
            if about.is_dir() {
                folders.push(name);
            }
        }
        waiting.extend(folders.into_iter().rev());
    }
    Ok(())
}

fn unsendable(name: &Path) -> Refused {
    Refused::Content(format!("{} is a link or a device", shown(name)))
}

/// Unpacks a tar into a new folder.
///
/// # Errors
/// [`Refused`]; what was unpacked stays in the folder, for the caller to remove.
pub(super) fn unpack(tar: &fs::File, folder: &Path, over: &Over) -> Result<(), Refused> {
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER, tar));
    let (mut long_name, mut count) = (None, 0);
    // Raw: the library would read a long name of any length into memory, and follow extensions that nobody needs.
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        count += 1;
        if over.is_told() {
            return Err(Refused::Over);
        }
        if count > 2 * ENTRIES {
            return Err(Refused::Content(format!("more than {ENTRIES} files are in it")));
        }
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            let mut name = Vec::new();
            (&mut entry).take(PATH as u64 + 2).read_to_end(&mut name).map_err(unreadable)?;
            while name.last() == Some(&0) {
                name.pop();
            }
            long_name = Some(name);
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let name =
            String::from_utf8(name).map_err(|_| Refused::Content("a name that is not UTF-8".to_owned()))?;
        let name = Path::new(name.strip_suffix('/').unwrap_or(&name));
        check(name).map_err(Refused::Content)?;
        let path = folder.join(name);
        let twice = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                Refused::Content(format!("{} is in it twice", shown(name)))
            }
            _ => Refused::Disk(error),
        };
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().mode(0o700).recursive(true).create(parent).map_err(twice)?;
        }
        if kind.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(twice)?;
        } else if kind.is_file() {
            let run = entry.header().mode().map_err(unreadable)? & 0o100;
            let size = entry.header().entry_size().map_err(unreadable)?;
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600 | run).open(&path);
            let mut file = BufWriter::with_capacity(BUFFER, file.map_err(twice)?);
            if io::copy(&mut entry, &mut file)? != size {
                return Err(Refused::Content("it ends too early".to_owned()));
            }
            file.flush()?;
            file.get_ref().sync_data()?;
        } else {
            return Err(unsendable(name));
        }
    }
    Ok(())
}

/// The library's errors about what it reads are of all kinds.
fn unreadable(error: io::Error) -> Refused {
    match error.raw_os_error() {
        Some(_) => Refused::Disk(error),
        None => Refused::Content(format!("it is no tar: {error}")),
    }
}

/// Whether a path may be made below a folder.
fn check(name: &Path) -> Result<(), String> {
    let bad = |why: &str| Err(format!("{}: {why}", shown(name)));
    let Some(text) = name.to_str() else { return bad("a name that is not UTF-8") };
    if text.is_empty() || text.len() > PATH {
        return bad("a path that is too long, or none");
    }
    if text.chars().any(char::is_control) {
        return bad("a name with control characters");
    }
    let mut depth = 0;
    for part in name.components() {
        match part {
            Component::Normal(part) if part.len() <= NAME => depth += 1,
            Component::Normal(_) => return bad("a name that is too long"),
            _ => return bad("a path that leads out of the folder"),
        }
    }
    // `a//b` and `a/./b` have other components than their text says.
    if depth > DEPTH || text.split('/').count() != depth {
        return bad("a path that is too deep, or not plain");
    }
    Ok(())
}

fn shown(name: &Path) -> String {
    crate::proto::text::quote(&name.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const NOTHING: &dyn Fn(&Path) -> bool = &|_| false;

    fn packed(folder: &Path) -> Result<fs::File, Refused> {
        let mut file = tempfile::tempfile().unwrap();
        pack(folder, NOTHING, &file, &Over::default())?;
        io::Seek::rewind(&mut file).unwrap();
        Ok(file)
    }

    fn unpacked(tar: &fs::File) -> (tempfile::TempDir, Result<(), Refused>) {
        let around = tempfile::tempdir().unwrap();
        let done = unpack(tar, &around.path().join("new"), &Over::default());
        (around, done)
    }

    fn file_of(bytes: &[u8]) -> fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        file
    }

    /// A tar with one entry, whose name is written as it is.
    fn tar_with(name: &[u8], kind: EntryType, mode: u32, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_link_name("/etc/passwd").unwrap();
        header.set_cksum();
        let mut tar = Builder::new(Vec::new());
        tar.append(&header, content).unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn a_folder_survives_the_journey_with_long_names_and_empty_folders() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a".repeat(200)).join("b".repeat(200));
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(folder.path().join("empty")).unwrap();
        fs::write(deep.join("ä.txt"), vec![7; 100_000]).unwrap();
        fs::write(folder.path().join("run.sh"), "#!/bin/sh").unwrap();
        fs::set_permissions(folder.path().join("run.sh"), fs::Permissions::from_mode(0o4755)).unwrap();
        let tar = packed(folder.path()).unwrap();
        assert!(tar.metadata().unwrap().len() <= measure(folder.path(), NOTHING).unwrap());
        let (around, done) = unpacked(&tar);
        done.unwrap();
        let new = around.path().join("new");
        let there = new.join("a".repeat(200)).join("b".repeat(200)).join("ä.txt");
        assert_eq!(fs::read(there).unwrap(), vec![7; 100_000]);
        assert!(new.join("empty").is_dir());
        let mode = |name| fs::metadata(new.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("run.sh"), 0o700, "the right to be run, and no other");
    }

    #[test]
    fn what_would_lead_out_or_is_no_plain_file_is_refused() {
        let regular = EntryType::Regular;
        for (name, kind) in [
            (&b"../out"[..], regular),
            (b"a/../../out", regular),
            (b"/etc/out", regular),
            (b"./a", regular),
            (b"a//b", regular),
            (b"", regular),
            (b"a\nb", regular),
            (b"\xff", regular),
            (b"..", EntryType::Directory),
            (b"/", EntryType::Directory),
            (b"link", EntryType::Symlink),
            (b"link", EntryType::Link),
            (b"device", EntryType::Char),
            (b"device", EntryType::Block),
            (b"pipe", EntryType::Fifo),
            (b"sparse", EntryType::GNUSparse),
            (b"header", EntryType::XHeader),
            (b"header", EntryType::XGlobalHeader),
            (b"link", EntryType::GNULongLink),
        ] {
            let (around, done) = unpacked(&file_of(&tar_with(name, kind, 0o644, b"")));
            assert!(
                matches!(done, Err(Refused::Content(_))),
                "{:?}: {done:?}",
                String::from_utf8_lossy(name)
            );
            let there: Vec<_> =
                fs::read_dir(around.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
            assert_eq!(there, ["new"]);
            assert_eq!(fs::read_dir(around.path().join("new")).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_is_in_it_twice_or_cut_or_no_tar_is_refused() {
        let file = tar_with(b"a", EntryType::Regular, 0o644, &[1; 600]);
        let end = file.len() - 1_024;
        let twice = [&file[..end], &file[..]].concat();
        let below = [&file[..end], &tar_with(b"a/b", EntryType::Regular, 0o644, b"")].concat();
        for bytes in [twice, below, file[..700].to_vec(), vec![7; 2_000]] {
            let (_around, done) = unpacked(&file_of(&bytes));
            assert!(matches!(done, Err(Refused::Content(_) | Refused::Disk(_))), "{done:?}");
        }
        let setuid = tar_with(b"a", EntryType::Regular, 0o6777, b"x");
        let (around, done) = unpacked(&file_of(&setuid));
        done.unwrap();
        let mode = fs::metadata(around.path().join("new/a")).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o700);
    }

    #[test]
    fn a_long_name_of_gigabytes_is_not_read() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_path("././@LongLink").unwrap();
        header.set_size(1 << 40);
        header.set_cksum();
        let tar = [header.as_bytes().as_slice(), &vec![b'a'; 10_000]].concat();
        let (_around, done) = unpacked(&file_of(&tar));
        assert!(done.is_err());
    }

    #[test]
    fn links_and_what_belongs_to_the_agent_are_not_packed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "x").unwrap();
        assert!(
            pack(
                folder.path(),
                &|path| path.ends_with("mine"),
                &tempfile::tempfile().unwrap(),
                &Over::default()
            )
            .is_err()
        );
        symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert!(matches!(packed(folder.path()), Err(Refused::Content(why)) if why.contains("link")));
    }
}
