//! The work of a file that goes by a server of blobs: off the engine's thread, and the same whenever it is done again.
//!
//! Both directions hold the whole file in memory, 16 MiB at most and a few at a time: AES-GCM tells only at its end
//! whether anything of it is true, and nothing untrue is written to the disk.

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::files::{self, NotKept};
use super::works::{Keeping, Over};
use super::{disk, folders};
use crate::api::File;
use crate::home::Home;
use crate::proto::v2::parcel::{OVERHEAD, PARCEL_LIMIT};
use crate::proto::{Hex, MessageId, PublicKey, safe_file_name};
use crate::store::{StoredParcel, StoredTransfer};
use crate::transport::blossom::{self, Blossom, Trouble};

/// How long it is tried: as long as a message waits for a relay.
pub(super) const CARRIED_FOR: Duration = Duration::from_secs(24 * 3_600);
/// The first pause between two tries; each next one is four times as long.
const FIRST_PAUSE_S: u64 = 5;
/// The longest pause.
const LONGEST_PAUSE_S: u64 = 3_600;

/// What was done.
#[derive(Debug)]
pub(super) enum Carried {
    /// One of ours is there: its address, and the hash of what is there.
    Up(String, Hex<32>),
    /// One of a peer has its name.
    Down(File),
}

/// What it is done with.
pub(super) struct Means {
    /// The servers that the user has set.
    pub(super) servers: Vec<String>,
    /// The largest file that is taken of this peer, bytes.
    pub(super) limit: u64,
    /// The time, seconds.
    pub(super) now: u64,
}

/// How long to wait after so many tries in vain.
pub(super) fn pause(tries: u32) -> Duration {
    let factor = 4_u64.saturating_pow(tries.saturating_sub(1));
    Duration::from_secs(FIRST_PAUSE_S.saturating_mul(factor).min(LONGEST_PAUSE_S))
}

/// The name of the part file of a peer's parcel: two peers may choose the same id for a message.
pub(super) fn part_id(peer: &PublicKey, message: &MessageId) -> MessageId {
    let digest = Sha256::new().chain_update(peer.0).chain_update(message.0).finalize();
    let mut id = Hex([0; 16]);
    id.0.copy_from_slice(&digest[..16]);
    id
}

/// Encrypts the copy of a file of ours, and brings it to a server. The key was settled before, so a second time it is
/// the same blob.
///
/// # Errors
/// [`Trouble`].
pub(super) fn bring(
    home: &Home,
    it: &StoredParcel,
    blossom: &Blossom,
    means: &Means,
) -> Result<Carried, Trouble> {
    let gone = || Trouble::Final("its copy cannot be read any more".to_owned());
    let path = files::spool(home, &it.call.unwrap_or_default(), &it.message);
    let mut copy = fs::File::open(&path).map_err(|_| gone())?;
    let size = copy.metadata().map_err(|_| gone())?.len();
    if size > PARCEL_LIMIT {
        return Err(gone());
    }
    let mut bytes = Vec::with_capacity((size + OVERHEAD) as usize);
    copy.read_to_end(&mut bytes).map_err(|_| gone())?;
    if Some(files::sha256(&bytes)) != it.parcel.plain {
        return Err(gone());
    }
    let unsealed = || Trouble::Final("it cannot be encrypted".to_owned());
    let secret = it.parcel.secret().map_err(|_| unsealed())?;
    blossom::seal(&secret, &mut bytes).ok_or_else(unsealed)?;
    let url = blossom.upload(&means.servers, &bytes, means.now)?;
    Ok(Carried::Up(url, blossom::sha256(&bytes)))
}

/// Fetches a file of a peer, checks it, opens it, checks it again, and gives it its name.
///
/// # Errors
/// [`Trouble`].
pub(super) fn fetch(home: &Home, it: &StoredParcel, means: &Means, over: &Over) -> Result<Carried, Trouble> {
    let parcel = &it.parcel;
    let secret = parcel.secret().map_err(|why| Trouble::Final(why.to_string()))?;
    let most = means.limit.min(PARCEL_LIMIT) + OVERHEAD;
    // Some clients name the size of the file itself.
    let limit = parcel.size.map_or(most, |size| size.saturating_add(OVERHEAD).min(most));
    let mut bytes = blossom::fetch(&parcel.url, &means.servers, limit, || !over.is_told())?;
    let altered =
        |what: &str| Trouble::Final(format!("its bytes are not those that were announced: {what} (altered)"));
    if parcel.sealed.is_some_and(|hash| hash != blossom::sha256(&bytes)) {
        let short = parcel.size.is_some_and(|size| (bytes.len() as u64) < size.saturating_sub(OVERHEAD));
        return Err(match short {
            true => Trouble::Passing("it broke off".to_owned()),
            false => altered("the server gave something else"),
        });
    }
    blossom::open(&secret, &mut bytes).ok_or_else(|| altered("its key does not open it"))?;
    let sha256 = files::sha256(&bytes);
    if parcel.plain.is_some_and(|hash| hash != sha256) {
        return Err(altered("the file has another hash"));
    }
    let transfer = StoredTransfer {
        call: it.call.unwrap_or_default(),
        outgoing: false,
        message: part_id(&it.peer, &it.message),
        stream: 0,
        name: safe_file_name(&parcel.name),
        mime: parcel.mime.clone(),
        size: bytes.len() as u64,
        sha256,
        done: bytes.len() as u64,
        accepted: true,
    };
    write(home, &transfer, &bytes).map_err(|error| Trouble::Passing(error.to_string()))?;
    drop(bytes);
    let keeping = Keeping { transfer, sha256: Some(sha256.0) };
    let file = files::keep(home, &keeping, over).map_err(|why| match why {
        NotKept::Disk(why) => Trouble::Passing(why),
        NotKept::Altered => altered("the disk gave something else"),
        NotKept::Unsafe(why) => {
            Trouble::Final(format!("there is something in the folder that is not unpacked: {why}"))
        }
        NotKept::Over => Trouble::Over,
    })?;
    Ok(Carried::Down(file))
}

/// Writes a file that is whole into its place for what is not checked yet.
fn write(home: &Home, transfer: &StoredTransfer, bytes: &[u8]) -> std::io::Result<()> {
    let part = files::part(home, &transfer.call, &transfer.message);
    let twice = if transfer.mime == folders::MIME { 2 } else { 1 };
    disk::check_room(&part, transfer.size * twice)?;
    let mut file = files::open_part(&part)?;
    file.set_len(0)?;
    file.write_all(bytes)
}

/// Where the part of a peer's parcel is.
pub(super) fn part(home: &Home, it: &StoredParcel) -> std::path::PathBuf {
    files::part(home, &it.call.unwrap_or_default(), &part_id(&it.peer, &it.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_hour_and_a_day_has_a_few_dozen_of_them() {
        let seconds: Vec<u64> = (0..8).map(|tries| pause(tries).as_secs()).collect();
        assert_eq!(seconds, [5, 5, 20, 80, 320, 1_280, 3_600, 3_600]);
        assert_eq!(pause(u32::MAX).as_secs(), LONGEST_PAUSE_S);
    }

    #[test]
    fn the_same_id_of_two_peers_is_two_parts() {
        let ids = [1, 2].map(|peer| part_id(&Hex([peer; 32]), &Hex([7; 16])));
        assert_ne!(ids[0], ids[1]);
    }
}
