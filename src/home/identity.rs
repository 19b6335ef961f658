//! The key file `<home>/p2p-identity.json`, in the format of the deployed agents (docs/protocol.md, section 1):
//!
//! ```json
//! {"privateKeyHex": "<64 hex>", "publicKey": "<64 hex>"}
//! ```
//!
//! # Invariants
//!
//! * What cannot be read is an error that names the file; its bytes are never touched, and a new key never takes its
//!   place. Losing the key is losing the agent. Only [`replace`] changes a key, and only after it has kept the old one.
//! * Of two processes that make the first key at once, one wins, and both use that one.
//! * The private key is no `Debug`, no `Display`, and is wiped when dropped.
//!
//! Whether the two keys belong together is a question of curves, and asked by the engine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::private::{self, NotPrivate};
use super::{Home, folder, forbid_core_dumps};
use crate::api::{Error, ErrorKind};
use crate::proto::{PublicKey, Rotation, SecretText, wipe};

/// The file holds 173 bytes as the deployed agents write it; this leaves room for indentation and further members.
const FILE_LIMIT: u64 = 4 * 1024;

/// A private key in hex. Deliberately without `Debug`, `Display` and `Clone`.
pub struct PrivateKeyHex([u8; 64]);

/// The pair of keys as the file has it; not yet checked against each other.
pub struct RawIdentity {
    /// The private key.
    pub private_key_hex: PrivateKeyHex,
    /// The public key.
    pub public_key: PublicKey,
    /// The statements that lead from earlier keys to this one. In the same file, so that a key never lacks them.
    pub rotations: Vec<Rotation>,
}

impl PrivateKeyHex {
    /// Takes 64 hex characters.
    pub fn new(hex: &str) -> Option<Self> {
        let bytes: [u8; 64] = hex.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_hexdigit).then(|| Self(bytes))
    }

    /// The 64 hex characters. What is made of them is the caller's to wipe.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits are ASCII: `new` checked them")
    }
}

impl Drop for PrivateKeyHex {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl<'de> Deserialize<'de> for PrivateKeyHex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl Visitor<'_> for Hex {
            type Value = PrivateKeyHex;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("64 hex characters")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PrivateKeyHex, E> {
                PrivateKeyHex::new(text).ok_or_else(|| E::custom("privateKeyHex is not 64 hex characters"))
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

/// Reads the key file; `None` if there is none.
///
/// # Errors
/// `identity-damaged`, `unsafe-identity`; both name the file and leave it as it is.
pub fn read(home: &Home) -> Result<Option<RawIdentity>, Error> {
    forbid_core_dumps();
    let path = home.identity();
    // A link that leads nowhere is not "no file": a new key must not take its place.
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(&path, error)),
        Ok(_) => {}
    }
    let mut bytes = read_file(&path)?;
    let identity = parse(&bytes).map_err(|why| damaged(&path, why));
    wipe(&mut bytes);
    identity.map(Some)
}

/// Whether anything is where the key belongs, be it broken, or a link that leads nowhere.
pub fn is_there(home: &Home) -> bool {
    !matches!(fs::symlink_metadata(home.identity()), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Writes the first key, or, if another process was faster, reads the key that it wrote.
///
/// # Errors
/// `disk-full`, `unsafe-home`, and those of [`read`].
pub fn create(home: &Home, identity: RawIdentity) -> Result<RawIdentity, Error> {
    forbid_core_dumps();
    let path = home.identity();
    let written = folder::create_atomically(&path, text(&identity).expose().as_bytes());
    match written {
        Ok(()) => Ok(identity),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read(home)?.ok_or_else(|| damaged(&path, "it vanished while it was read"))
        }
        Err(error) => Err(unwritable(&path, &error)),
    }
}

/// Puts a key in the place of the one that is there, which is kept among the earlier keys first. Returns where. A crash
/// leaves the one or the other.
///
/// # Errors
/// `disk-full`, `unsafe-home`; the old key is then still there.
pub fn replace(home: &Home, old: &RawIdentity, new: &RawIdentity) -> Result<PathBuf, Error> {
    let folder = home.earlier_keys();
    folder::prepare_private(&folder)?;
    let kept = folder.join(format!("{}.json", old.public_key));
    folder::clear_leftovers(&kept);
    folder::clear_leftovers(&home.identity());
    match folder::create_atomically(&kept, text(old).expose().as_bytes()) {
        // A crash came between the two, or the user has put it back by hand. There is one text for one key.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.map_err(|error| unwritable(&kept, &error))?,
    }
    let path = home.identity();
    folder::write_atomically(&path, text(new).expose().as_bytes())
        .map_err(|error| unwritable(&path, &error))?;
    Ok(kept)
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull => Error::new(
            ErrorKind::DiskFull,
            format!("no space left to write {}", path.display()),
            "free some space, then run the command again",
        ),
        _ => Error::new(
            ErrorKind::UnsafeHome,
            format!("{} cannot be written: {error}", path.display()),
            "use a folder that you can write to: --home DIR",
        ),
    }
}

/// Reads the two keys out of the text of such a file.
///
/// # Errors
/// What is wrong, in words that quote nothing of it.
pub fn parse(bytes: &[u8]) -> Result<RawIdentity, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct IdentityFile {
        private_key_hex: PrivateKeyHex,
        public_key: PublicKey,
        #[serde(default)]
        rotations: Vec<Rotation>,
    }
    let file: IdentityFile = serde_json::from_slice(bytes).map_err(|error| {
        // Where, not what: serde's own message may quote a piece of the key.
        let wrong = if error.is_data() { "not the two keys of 64 hex characters" } else { "not JSON" };
        format!("{wrong} (line {}, column {})", error.line(), error.column())
    })?;
    let IdentityFile { private_key_hex, public_key, rotations } = file;
    Ok(RawIdentity { private_key_hex, public_key, rotations })
}

/// The text of such a file.
pub fn text(identity: &RawIdentity) -> SecretText {
    let rotations = match identity.rotations.as_slice() {
        [] => String::new(),
        some => {
            let some = serde_json::to_string(some).expect("numbers and strings always serialise");
            format!(",\"rotations\":{some}")
        }
    };
    SecretText::new(format!(
        "{{\"privateKeyHex\":\"{}\",\"publicKey\":\"{}\"{rotations}}}\n",
        identity.private_key_hex.expose(),
        identity.public_key,
    ))
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    private::read(path, FILE_LIMIT).map_err(|error| match error {
        NotPrivate::Foreign => Error::new(
            ErrorKind::UnsafeIdentity,
            format!("the identity file {} belongs to another user", path.display()),
            "an identity is for one user: use a home of your own, --home DIR",
        ),
        NotPrivate::Open => Error::new(
            ErrorKind::UnsafeIdentity,
            format!("others may read the identity file {}", path.display()),
            format!("chmod 600 {}", path.display()),
        ),
        other => damaged(path, other),
    })
}

/// The error for an identity file that cannot be used; also for the engine, when the two keys disagree.
pub fn damaged(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::IdentityDamaged,
        format!("the identity file {} cannot be used: {why}", path.display()),
        "nothing was changed: restore the file from a backup, or move it away to begin as a new agent",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    const SECRET: &str = "00000000000000000000000000000000000000000000000000000000000000a1";
    const PUBLIC: &str = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        (folder, home)
    }

    fn identity() -> RawIdentity {
        RawIdentity {
            private_key_hex: PrivateKeyHex::new(SECRET).unwrap(),
            public_key: PUBLIC.parse().unwrap(),
            rotations: Vec::new(),
        }
    }

    fn put(home: &Home, text: &[u8], mode: u32) {
        fs::write(home.identity(), text).unwrap();
        fs::set_permissions(home.identity(), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refused(home: &Home) -> ErrorKind {
        let before = fs::read(home.identity()).unwrap();
        let error = read(home).err().unwrap();
        assert!(error.message.contains("p2p-identity.json"), "{error}");
        assert!(!error.message.contains("00000000"), "part of a key in: {error}");
        assert_eq!(fs::read(home.identity()).unwrap(), before);
        error.kind
    }

    #[test]
    fn a_key_is_written_once_and_read_back() {
        let (_folder, home) = home();
        assert!(read(&home).unwrap().is_none());
        create(&home, identity()).unwrap();
        let text = fs::read_to_string(home.identity()).unwrap();
        assert_eq!(text, format!("{{\"privateKeyHex\":\"{SECRET}\",\"publicKey\":\"{PUBLIC}\"}}\n"));
        assert_eq!(fs::metadata(home.identity()).unwrap().mode() & 0o777, 0o600);
        let back = read(&home).unwrap().unwrap();
        assert_eq!(back.private_key_hex.expose(), SECRET);
        assert_eq!(back.public_key.to_string(), PUBLIC);
    }

    #[test]
    fn the_second_of_two_creators_uses_the_key_of_the_first() {
        let (_folder, home) = home();
        create(&home, identity()).unwrap();
        let other = RawIdentity {
            private_key_hex: PrivateKeyHex::new(&"b".repeat(64)).unwrap(),
            public_key: PUBLIC.parse().unwrap(),
            rotations: Vec::new(),
        };
        assert_eq!(create(&home, other).unwrap().private_key_hex.expose(), SECRET);
    }

    #[test]
    fn a_deployed_agents_file_is_read_with_its_indentation_and_further_members() {
        let (_folder, home) = home();
        let text = format!(
            "{{\n  \"privateKeyHex\": \"{SECRET}\",\n  \"publicKey\": \"{PUBLIC}\",\n  \"created\": 1\n}}"
        );
        put(&home, text.as_bytes(), 0o600);
        assert_eq!(read(&home).unwrap().unwrap().public_key.to_string(), PUBLIC);
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused_and_stays_as_it_is() {
        let (_folder, home) = home();
        let whole = format!("{{\"privateKeyHex\":\"{SECRET}\",\"publicKey\":\"{PUBLIC}\"}}");
        for end in 0..whole.len() {
            put(&home, &whole.as_bytes()[..end], 0o600);
            assert_eq!(refused(&home), ErrorKind::IdentityDamaged, "cut at {end}");
        }
    }

    #[test]
    fn a_file_of_other_shapes_is_refused_and_stays_as_it_is() {
        let (_folder, home) = home();
        let deep = "[".repeat(2_000);
        let large =
            format!("{{\"privateKeyHex\":\"{SECRET}\",\"publicKey\":\"{PUBLIC}\"}}{}", " ".repeat(5_000));
        for text in ["null", "[]", "{}", "{\"privateKeyHex\":1,\"publicKey\":2}", "\u{feff}{}", &deep, &large]
        {
            put(&home, text.as_bytes(), 0o600);
            assert_eq!(refused(&home), ErrorKind::IdentityDamaged, "{text:.40}");
        }
        put(&home, &[0xff; 200], 0o600);
        assert_eq!(refused(&home), ErrorKind::IdentityDamaged);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let (_folder, home) = home();
        for mode in [0o640, 0o604, 0o644, 0o666] {
            put(&home, b"{}", mode);
            assert_eq!(refused(&home), ErrorKind::UnsafeIdentity, "{mode:o}");
        }
    }

    #[test]
    fn a_key_that_is_replaced_is_kept_and_its_successor_has_the_statements() {
        let (_folder, home) = home();
        let old = create(&home, identity()).unwrap();
        let sign = |byte| crate::proto::Hex([byte; 64]);
        let rotation = Rotation {
            old: old.public_key,
            new: crate::proto::Hex([9; 32]),
            at: 1_790_000_000,
            sig: sign(1),
            proof: sign(2),
        };
        let new = RawIdentity {
            private_key_hex: PrivateKeyHex::new(&"b".repeat(64)).unwrap(),
            public_key: rotation.new,
            rotations: vec![rotation; crate::proto::rotation::ROTATIONS_LIMIT],
        };
        // Of a process that was killed while it wrote; and something of the user's.
        let left = home.path().join(".p2p-identity.json.4242.0");
        let users = home.path().join(".p2p-identity.json.2026.bak");
        for path in [&left, &users] {
            fs::write(path, "secret").unwrap();
        }
        // Twice, as after a crash between the two writes.
        for _ in 0..2 {
            let kept = replace(&home, &old, &new).unwrap();
            assert_eq!(fs::read_to_string(&kept).unwrap(), text(&identity()).expose());
            assert!(!left.exists() && users.exists());
            assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
            let back = read(&home).unwrap().unwrap();
            assert_eq!((back.public_key, back.rotations), (new.public_key, new.rotations.clone()));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_has_looked_for_the_key_leaves_no_core_dump() {
        use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
        let (_folder, home) = home();
        read(&home).unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
    }

    #[test]
    fn what_is_no_file_is_refused_and_a_link_to_nowhere_is_not_replaced() {
        let (_folder, home) = home();
        symlink("/nowhere/key", home.identity()).unwrap();
        assert_eq!(read(&home).err().unwrap().kind, ErrorKind::IdentityDamaged);
        assert!(create(&home, identity()).is_err());
        assert!(fs::symlink_metadata(home.identity()).unwrap().is_symlink());
        fs::remove_file(home.identity()).unwrap();
        fs::create_dir(home.identity()).unwrap();
        assert_eq!(read(&home).err().unwrap().kind, ErrorKind::IdentityDamaged);
    }
}
