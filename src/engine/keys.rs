//! The agent's key between its file and an engine, and out of and into a home.

use std::path::PathBuf;

use super::clock;
use crate::api::{Error, ErrorKind};
use crate::home::{Home, HomeLock, identity};
use crate::mutants::{Mutant, planted};
use crate::proto::rotation::ROTATIONS_LIMIT;
use crate::proto::{PublicKey, Rotation, SecretText};
use crate::transport::{ENCRYPTED_PREFIX, Identity, PLAIN_PREFIX, SpellingError, npub, rotation};

/// How a key is spelled that leaves a home.
pub enum Spelling<'a> {
    /// As the identity file has it, so that it can be put back by hand.
    File,
    /// `nsec1…` (NIP-19).
    Nsec,
    /// `ncryptsec1…` (NIP-49), which opens with this password.
    Encrypted(&'a SecretText),
}

/// Whose key it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The public key.
    pub pubkey: PublicKey,
    /// The public key as people write it.
    pub npub: String,
}

/// A key that was read from a file and is not in a home yet.
pub enum Handed {
    /// The bare key.
    Plain(Key),
    /// One that needs its password.
    Encrypted(SecretText),
}

/// A key that was read from a file, and the statements that lead to it.
pub struct Key(Identity, Vec<Rotation>);

/// The identity of a home; made if there is none, never replaced.
pub(super) fn open_or_create(home: &Home) -> Result<(Identity, Vec<Rotation>), Error> {
    if planted(Mutant::NewKey) && open(home).is_err() {
        std::fs::remove_file(home.identity()).map_err(Error::internal)?;
    }
    match open(home)? {
        Some(found) => Ok(found),
        None => {
            let fresh = raw(&Identity::generate(), Vec::new())?;
            checked(identity::create(home, fresh)?).map_err(|why| identity::damaged(&home.identity(), why))
        }
    }
}

/// A key of this home that another has taken the place of; none if it is not kept here.
pub(super) fn earlier(home: &Home, key: &PublicKey) -> Option<Identity> {
    let path = home.earlier_keys().join(format!("{key}.json"));
    let kept = crate::home::read_secret(&path).map_err(|error| error.message).and_then(|text| {
        let (identity, _) = identity::parse(text.expose().as_bytes()).and_then(checked)?;
        Ok(identity)
    });
    match kept {
        Ok(identity) => Some(identity).filter(|identity| identity.public_key() == *key),
        Err(why) => {
            tracing::warn!(why, "the key from before cannot be read, and is not listened to");
            None
        }
    }
}

/// The key of a home as text, and whose it is.
///
/// # Errors
/// `file-not-found` if the home has none yet, and those of reading it.
pub fn export(home: &Home, spelling: &Spelling<'_>) -> Result<(Owner, SecretText), Error> {
    let (identity, rotations) = open(home)?.ok_or_else(|| none_yet(home))?;
    let text = match spelling {
        Spelling::File => identity::text(&raw(&identity, rotations)?),
        Spelling::Nsec => identity.nsec(),
        Spelling::Encrypted(password) => {
            SecretText::new(identity.encrypted(password).map_err(Error::internal)?)
        }
    };
    Ok((owner(&identity), text))
}

/// Recognises a key in the text of a file.
///
/// # Errors
/// `invalid-value`; nothing of the text is repeated.
pub fn recognise(text: &str) -> Result<Handed, Error> {
    let text = text.trim();
    let plain = |(identity, rotations)| Handed::Plain(Key(identity, rotations));
    if text.starts_with(ENCRYPTED_PREFIX) {
        Ok(Handed::Encrypted(SecretText::new(text.to_owned())))
    } else if text.starts_with(PLAIN_PREFIX) {
        Identity::from_nsec(text).map(|identity| plain((identity, Vec::new()))).map_err(no_key)
    } else {
        identity::parse(text.as_bytes()).and_then(checked).map(plain).map_err(no_key)
    }
}

/// Opens an encrypted key. Takes up to half a second and 256 MiB.
///
/// # Errors
/// `invalid-value`.
pub fn decrypt(text: &SecretText, password: &SecretText) -> Result<Key, Error> {
    Identity::from_encrypted(text.expose(), password).map(|identity| Key(identity, Vec::new())).map_err(
        |error| match error {
            SpellingError::Password => {
                Error::new(ErrorKind::InvalidValue, "the key does not open with this password", "try another")
            }
            other => no_key(other),
        },
    )
}

/// Makes a key the identity of a home that has none, as the first start would. The lock says that no engine runs.
///
/// # Errors
/// `invalid-value` if the home has an identity, which stays as it is; `disk-full`, `unsafe-home`.
pub fn import(lock: &HomeLock, key: &Key) -> Result<Owner, Error> {
    let home = lock.home();
    must_be_vacant(home)?;
    let Key(identity, rotations) = key;
    let kept = identity::create(home, raw(identity, rotations.clone())?)?;
    // Somebody else may have put a key there meanwhile, without a lock.
    if kept.public_key == identity.public_key() { Ok(owner(identity)) } else { Err(occupied(home)) }
}

/// A key that has taken the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The key that the agent had.
    pub old: Owner,
    /// The key that it has.
    pub new: Owner,
    /// Where the old one is kept.
    pub kept: PathBuf,
}

/// Makes a new key, and puts it in the place of the home's, with a statement that both keys have signed. The next
/// engine announces it. The lock says that none runs.
///
/// # Errors
/// `file-not-found` if there is none to replace; `disk-full`, `unsafe-home`: then nothing has changed.
pub fn rotate(lock: &HomeLock) -> Result<Rotated, Error> {
    let home = lock.home();
    let (old, mut rotations) = open(home)?.ok_or_else(|| none_yet(home))?;
    let new = Identity::generate();
    let old_raw = raw(&old, rotations.clone())?;
    rotations.push(rotation::sign(&old, &new, clock::now().as_secs()).map_err(Error::internal)?);
    // The last ones: who has seen none of them has not been there for as many keys.
    rotations.drain(..rotations.len().saturating_sub(ROTATIONS_LIMIT));
    let kept = identity::replace(home, &old_raw, &raw(&new, rotations)?)?;
    Ok(Rotated { old: owner(&old), new: owner(&new), kept })
}

/// Refuses a home that has no identity.
///
/// # Errors
/// `file-not-found`.
pub fn must_be_there(home: &Home) -> Result<(), Error> {
    if identity::is_there(home) { Ok(()) } else { Err(none_yet(home)) }
}

fn none_yet(home: &Home) -> Error {
    Error::new(
        ErrorKind::FileNotFound,
        format!("{} has no identity yet", home.path().display()),
        "the first start makes one: p2p-comm status",
    )
}

/// Refuses a home that has an identity, be it a broken one.
///
/// # Errors
/// `invalid-value`, which names the file.
pub fn must_be_vacant(home: &Home) -> Result<(), Error> {
    if identity::is_there(home) { Err(occupied(home)) } else { Ok(()) }
}

fn occupied(home: &Home) -> Error {
    Error::new(
        ErrorKind::InvalidValue,
        format!("this home has an identity, which is never replaced: {}", home.identity().display()),
        "one home is one agent: import into another one, --home DIR",
    )
}

fn no_key(why: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::InvalidValue,
        format!("the file holds no key that can be used: {why}"),
        "an identity file, an nsec1… or an ncryptsec1… is taken",
    )
}

fn open(home: &Home) -> Result<Option<(Identity, Vec<Rotation>)>, Error> {
    let Some(raw) = identity::read(home)? else { return Ok(None) };
    checked(raw).map(Some).map_err(|why| identity::damaged(&home.identity(), why))
}

/// Checks the two keys of a file against each other.
fn checked(raw: identity::RawIdentity) -> Result<(Identity, Vec<Rotation>), String> {
    let identity =
        Identity::from_secret_hex(raw.private_key_hex.expose()).map_err(|error| error.to_string())?;
    if identity.public_key() == raw.public_key {
        Ok((identity, raw.rotations))
    } else {
        Err("its two keys do not belong together".to_owned())
    }
}

fn raw(identity: &Identity, rotations: Vec<Rotation>) -> Result<identity::RawIdentity, Error> {
    let private_key_hex = identity::PrivateKeyHex::new(identity.secret_hex().expose())
        .ok_or_else(|| Error::internal("a key is not hex"))?;
    Ok(identity::RawIdentity { private_key_hex, public_key: identity.public_key(), rotations })
}

fn owner(identity: &Identity) -> Owner {
    let pubkey = identity.public_key();
    Owner { pubkey, npub: npub(&pubkey) }
}
