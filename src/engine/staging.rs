//! Copies of files that are about to be sent: made, hashed and looked through for the agent's own key, before the command
//! that asks for it is answered, and never on the engine's thread.
//!
//! What is sent is the copy: a file that changes or goes away meanwhile changes nothing. It is made by the system where
//! that can (`copy_file_range`: on some file systems it shares the blocks and writes nothing), and then read, so that hash
//! and search see the bytes that will leave.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::core::{Core, Fault, Topic};
use super::effects::Effect;
use super::works::Over;
use super::{core, disk, files, folders};
use crate::api::Error;
use crate::home::Home;
use crate::proto::v2::parcel::OVERHEAD;
use crate::proto::{CallId, Hex, MessageId, PublicKey};
use crate::store;
use crate::transport::blossom::Blossom;
use crate::transport::{Identity, LeakSearch};

/// Bytes that are copied, hashed and looked through at a time.
const PIECE: u64 = 1 << 20;

/// Where the bytes of a file come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'a> {
    /// Base64 (RFC 4648).
    Content(&'a str),
    /// A path on this machine.
    Path(&'a str),
}

/// A file of ours that is not copied yet.
#[derive(Debug)]
enum Source {
    Content(String),
    Path(String),
}

/// What is to be copied.
pub(super) struct Job {
    home: Home,
    source: Source,
    to: PathBuf,
    /// The keys that must not be in it.
    keys: Vec<Identity>,
    /// Whom to ask whether it would take the file.
    probe: Option<Probe>,
    over: Over,
}

/// The servers of blobs that are asked, once the file's size is known.
pub(super) struct Probe {
    pub(super) blossom: Arc<Blossom>,
    pub(super) servers: Vec<String>,
    /// The time, seconds.
    pub(super) now: u64,
    /// The largest file that goes into a letter by itself, and the largest that goes at all.
    pub(super) sizes: (u64, u64),
}

/// Where a file is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// All zeros outside of any.
    pub(super) call: CallId,
    pub(super) peer: PublicKey,
}

/// A copy that is on the disk for certain.
#[derive(Debug, Clone)]
pub(super) struct Copied {
    /// Where the file was, without links; none if its bytes were given.
    pub(super) path: Option<PathBuf>,
    pub(super) size: u64,
    pub(super) sha256: Hex<32>,
    /// It is a folder, packed.
    pub(super) folder: bool,
    /// Whether a server of blobs would take it, or why none does; none if nobody was asked.
    pub(super) taken: Option<Result<(), String>>,
}

/// The copies of requests that are not answered yet.
#[derive(Default)]
pub(super) struct Staging(BTreeMap<u64, Stage>);

/// One of them. Dropped, its work ends.
pub(super) struct Stage {
    /// Where it is to be sent: settled when it was asked for.
    pub(super) target: Target,
    pub(super) message: MessageId,
    /// Where the copy is.
    path: PathBuf,
    /// None while it is made.
    copied: Option<Result<Copied, Error>>,
    over: Over,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.over.tell();
    }
}

impl Staging {
    /// How many copies a call waits for.
    pub(super) fn count(&self, call: &CallId) -> usize {
        self.0.values().filter(|stage| stage.target.call == *call).count()
    }

    /// Whether any copy is being made.
    pub(super) fn is_busy(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether a copy at this path is being made.
    pub(super) fn owns(&self, path: &Path) -> bool {
        self.0.values().any(|stage| stage.path == path)
    }

    /// Where the copy goes that this request has made.
    pub(super) fn target(&self, request: u64) -> Option<Target> {
        self.0.get(&request).map(|stage| stage.target)
    }
}

impl Core {
    /// Begins the copy of a file that is sent.
    pub(super) fn begin_staging(
        &mut self,
        request: u64,
        target: Target,
        message: MessageId,
        origin: Origin<'_>,
        probe: Option<Probe>,
    ) {
        let over = Over::default();
        let path = files::spool(&self.home, &target.call, &message);
        let source = match origin {
            Origin::Content(content) => Source::Content(content.to_owned()),
            Origin::Path(path) => Source::Path(path.to_owned()),
        };
        let earlier = self.earlier.as_ref().map(|earlier| earlier.identity().clone());
        let keys = [self.identity.clone()].into_iter().chain(earlier).collect();
        let job = Job { home: self.home.clone(), source, to: path.clone(), keys, probe, over: over.clone() };
        self.works.stage(request, job);
        self.works.staging.0.insert(request, Stage { target, message, path, copied: None, over });
    }

    /// The copy of a request, taken over by whoever sends it; none while it is being made. A copy that could not be made
    /// is the request's answer.
    pub(super) fn take_staged(&mut self, request: u64) -> Result<Option<(MessageId, Copied)>, Fault> {
        let stages = &mut self.works.staging.0;
        if stages.get(&request).is_none_or(|stage| stage.copied.is_none()) {
            return Ok(None);
        }
        let Some((message, Some(copied))) =
            stages.remove(&request).map(|mut stage| (stage.message, stage.copied.take()))
        else {
            return Ok(None);
        };
        Ok(Some((message, copied?)))
    }

    pub(super) fn handle_staged(&mut self, request: u64, copied: Result<Copied, Error>) {
        match self.works.staging.0.get_mut(&request) {
            Some(stage) => {
                stage.copied = Some(copied);
                self.stir(Topic::Files);
            }
            // Its request has gone, and the job has cleared away after itself or is swept up after.
            None => tracing::debug!("a copy was made that nobody waits for"),
        }
    }

    /// Gives up the copies whose requests nobody waits for any more.
    pub(super) fn tidy_staging(&mut self) {
        let waiters = &self.waiters;
        let waits = |request: &u64| waiters.iter().any(|waiter| waiter.number == *request);
        let effects = &mut self.effects;
        self.works.staging.0.retain(|request, stage| {
            let wanted = waits(request);
            if !wanted {
                effects.push(Effect::Remove(stage.path.clone()));
            }
            wanted
        });
        // A batch that was lost has woken nobody.
        if self.works.staging.0.values().any(|stage| stage.copied.is_some()) {
            self.stir(Topic::Files);
        }
    }
}

impl Job {
    /// Makes the copy. What is refused leaves nothing behind.
    ///
    /// # Errors
    /// `file-not-found`, `not-sendable`, `invalid-base64`, `disk-full`, `io-error`.
    pub(super) fn run(self) -> Result<Copied, Error> {
        let mut copied = self.copy();
        if let (Ok(copied), Some(probe)) = (&mut copied, &self.probe)
            && copied.size > probe.sizes.0
            && copied.size <= probe.sizes.1
            && !self.over.is_told()
        {
            copied.taken = Some(probe.blossom.probe(&probe.servers, copied.size + OVERHEAD, probe.now));
        }
        if copied.is_err() || self.over.is_told() {
            // It may never have been there; what stays is swept away at the next start.
            _ = files::remove(&self.to);
        }
        copied
    }

    fn copy(&self) -> Result<Copied, Error> {
        let broken = |error| core::told(&store::Error::of_disk(&self.to, error));
        match &self.source {
            Source::Content(content) => {
                let bytes = files::decode(content).map_err(|error| files::no_base64(&error))?;
                disk::check_room(&self.to, bytes.len() as u64).map_err(broken)?;
                let mut to = files::create_spool(&self.to).map_err(broken)?;
                self.take(&mut bytes.as_slice(), &mut to, None)
            }
            Source::Path(path) if Path::new(path).is_dir() => self.copy_folder(Path::new(path)),
            Source::Path(path) => {
                let (real, mut from, size) = files::open_to_send(&self.home, path)?;
                disk::check_room(&self.to, size).map_err(broken)?;
                let mut to = files::create_spool(&self.to).map_err(broken)?;
                self.take(&mut from, &mut to, Some(real))
            }
        }
    }

    /// Packs a folder, and reads what was packed.
    fn copy_folder(&self, path: &Path) -> Result<Copied, Error> {
        let broken = |error| core::told(&store::Error::of_disk(&self.to, error));
        let refused = |refused| match refused {
            folders::Refused::Disk(error) => files::unread(&path.to_string_lossy(), &error),
            folders::Refused::Content(why) => files::not_sendable_folder(&why),
            folders::Refused::Over => Error::internal("nobody waits for this copy"),
        };
        let real = fs::canonicalize(path).map_err(|error| refused(error.into()))?;
        let own = |path: &Path| files::is_own(&self.home, path);
        if own(&real) {
            return Err(files::not_sendable("this folder belongs to the agent itself"));
        }
        disk::check_room(&self.to, folders::measure(&real, &own).map_err(refused)?).map_err(broken)?;
        let mut to = files::create_spool(&self.to).map_err(broken)?;
        folders::pack(&real, &own, &to, &self.over).map_err(refused)?;
        to.seek(SeekFrom::Start(0)).map_err(broken)?;
        let mut reading = Reading::begin(&self.keys);
        loop {
            self.check_over()?;
            let before = reading.size;
            reading.take(&mut (&mut to).take(PIECE)).map_err(broken)??;
            if reading.size == before {
                return Ok(Copied { folder: true, ..self.finish(reading, &to, Some(real))? });
            }
        }
    }

    /// Copies what a source gives, and reads the copy. From a file to a file, `io::copy` is a call to the system, which
    /// copies or shares the blocks.
    fn take<R: Read>(&self, from: &mut R, to: &mut fs::File, real: Option<PathBuf>) -> Result<Copied, Error> {
        let broken = |error| core::told(&store::Error::of_disk(&self.to, error));
        let mut reading = Reading::begin(&self.keys);
        loop {
            self.check_over()?;
            let copied = io::copy(&mut from.by_ref().take(PIECE), to).map_err(broken)?;
            if copied == 0 {
                break;
            }
            to.seek(SeekFrom::Start(reading.size)).map_err(broken)?;
            reading.take(&mut (&mut *to).take(copied)).map_err(broken)??;
        }
        self.finish(reading, to, real)
    }

    fn finish(&self, reading: Reading, to: &fs::File, path: Option<PathBuf>) -> Result<Copied, Error> {
        let broken = |error| core::told(&store::Error::of_disk(&self.to, error));
        to.sync_all().map_err(broken)?;
        files::sync_folder(&self.to).map_err(broken)?;
        let sha256 = Hex(reading.hash.finalize().into());
        Ok(Copied { path, size: reading.size, sha256, folder: false, taken: None })
    }

    fn check_over(&self) -> Result<(), Error> {
        match self.over.is_told() {
            true => Err(Error::internal("nobody waits for this copy")),
            false => Ok(()),
        }
    }
}

/// What is learned of a file as it is read.
struct Reading {
    size: u64,
    hash: Sha256,
    searches: Vec<LeakSearch>,
    piece: Vec<u8>,
}

impl Reading {
    fn begin(keys: &[Identity]) -> Self {
        let searches = keys.iter().map(Identity::search).collect();
        Self { size: 0, hash: Sha256::new(), searches, piece: Vec::with_capacity(PIECE as usize) }
    }

    /// Reads a piece. The outer error is the disk's, the inner one that a key stands in it.
    fn take(&mut self, from: &mut dyn Read) -> io::Result<Result<(), Error>> {
        self.piece.clear();
        from.read_to_end(&mut self.piece)?;
        self.size += self.piece.len() as u64;
        self.hash.update(&self.piece);
        let found = self.searches.iter_mut().any(|search| search.feed(&self.piece));
        Ok(if found { Err(files::holds_key()) } else { Ok(()) })
    }
}
