//! A file that travels by a server of blobs: encrypted under a key of its own, and named in a message of kind 15 (NIP-17).
//!
//! What a peer writes into the tags is kept as it stands, and judged when the file is wanted: what this agent cannot open
//! is refused with the reason, and not fetched.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::proto::Hex;

/// Largest file that goes this way, bytes: it is encrypted and opened in memory, since AES-GCM says only at the end
/// whether anything of it is true.
pub const PARCEL_LIMIT: u64 = 16 << 20;
/// What encryption adds: the tag of AES-GCM, bytes.
pub const OVERHEAD: u64 = 16;
/// The only algorithm: AES-256 in GCM, the tag behind the ciphertext.
pub const ALGORITHM: &str = "aes-gcm";
/// Longest value of a tag that is kept, characters.
const LABEL_LIMIT: usize = 512;
/// Longest address, bytes.
const URL_LIMIT: usize = 2_048;

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hidden")
    }
}

/// A file as its message names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// Where the encrypted file is; empty while it is nowhere.
    pub url: String,
    /// Its name, as the sender says: see [`crate::proto::safe_file_name`].
    pub name: String,
    /// MIME type, as the sender says.
    pub mime: String,
    /// How it is encrypted.
    pub algorithm: String,
    /// The key, hex.
    key: Hidden,
    /// The nonce, hex.
    nonce: Hidden,
    /// SHA-256 of the encrypted file (`x`).
    pub sealed: Option<Hex<32>>,
    /// SHA-256 of the file itself (`ox`).
    pub plain: Option<Hex<32>>,
    /// Bytes of the encrypted file.
    pub size: Option<u64>,
}

/// What opens a parcel.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Of AES-256.
    pub key: [u8; 32],
    /// As clients choose it: 12 bytes, or 16.
    pub nonce: Vec<u8>,
}

/// Why a parcel cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Encrypted in a way that is not known here.
    #[error("it is encrypted with {0:?}, and only aes-gcm is read here")]
    Algorithm(String),
    /// A key or a nonce that is none.
    #[error("its key or its nonce is not one of AES-256-GCM: 32 bytes, and 12 or 16, in hex")]
    Secret,
}

impl Parcel {
    /// One of ours, before it is anywhere. `size` is the file's own.
    pub fn new(name: String, mime: String, size: u64, plain: Hex<32>, secret: &Secret) -> Self {
        Self {
            url: String::new(),
            name,
            mime,
            algorithm: ALGORITHM.to_owned(),
            key: Hidden(hex(&secret.key)),
            nonce: Hidden(hex(&secret.nonce)),
            sealed: None,
            plain: Some(plain),
            size: Some(size + OVERHEAD),
        }
    }

    /// What a message of kind 15 says: `None` if its file is not encrypted, or its address is no address.
    pub fn read(url: &str, tags: &[Vec<String>]) -> Option<Self> {
        let find = |name: &str| {
            tags.iter().find_map(|tag| match tag.as_slice() {
                [first, value, ..] if first == name => Some(cut(value)),
                _ => None,
            })
        };
        let text = |name: &str| find(name).unwrap_or_default();
        let is_url = url.len() <= URL_LIMIT && (url.starts_with("https://") || url.starts_with("http://"));
        let algorithm = find("encryption-algorithm")?;
        is_url.then(|| Self {
            url: url.to_owned(),
            name: find("name").unwrap_or_else(|| text("filename")),
            mime: text("file-type"),
            algorithm,
            key: Hidden(text("decryption-key")),
            nonce: Hidden(text("decryption-nonce")),
            sealed: find("x").and_then(|text| text.parse().ok()),
            plain: find("ox").and_then(|text| text.parse().ok()),
            size: find("size").and_then(|text| text.parse().ok()),
        })
    }

    /// What a message of kind 15 says of it, but for `p`. Its content is the address.
    pub fn tags(&self) -> Vec<Vec<String>> {
        let Self { name, mime, algorithm, key, nonce, .. } = self;
        let sealed = self.sealed.map(|hash| hash.to_string());
        let plain = self.plain.map(|hash| hash.to_string());
        let size = self.size.map(|size| size.to_string());
        let all = [
            ("file-type", Some(mime.clone())),
            ("name", Some(name.clone())),
            ("encryption-algorithm", Some(algorithm.clone())),
            ("decryption-key", Some(key.0.clone())),
            ("decryption-nonce", Some(nonce.0.clone())),
            ("x", sealed),
            ("ox", plain),
            ("size", size),
        ];
        all.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), value?])).collect()
    }

    /// What opens it.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn secret(&self) -> Result<Secret, Unreadable> {
        if self.algorithm != ALGORITHM {
            return Err(Unreadable::Algorithm(cut(&self.algorithm)));
        }
        let key: Hex<32> = self.key.0.parse().map_err(|_| Unreadable::Secret)?;
        let short = self.nonce.0.parse::<Hex<12>>().map(|nonce| nonce.0.to_vec());
        let long = || self.nonce.0.parse::<Hex<16>>().map(|nonce| nonce.0.to_vec());
        let nonce = short.or_else(|_| long()).map_err(|_| Unreadable::Secret)?;
        Ok(Secret { key: key.0, nonce })
    }

    /// Forgets what opens it.
    pub fn forget_secret(&mut self) {
        (self.key, self.nonce) = (Hidden(String::new()), Hidden(String::new()));
    }

    /// Bytes of the file itself, as far as its sender says them.
    pub fn file_size(&self) -> Option<u64> {
        self.size.map(|size| size.saturating_sub(OVERHEAD))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(LABEL_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(nonce: usize) -> Parcel {
        let secret = Secret { key: [0xab; 32], nonce: vec![0xcd; nonce] };
        let ours = Parcel::new("cat.png".into(), "image/png".into(), 1_000, Hex([1; 32]), &secret);
        Parcel { url: "https://blobs.example/2".into(), sealed: Some(Hex([2; 32])), ..ours }
    }

    #[test]
    fn a_parcel_survives_its_tags_and_its_secret_is_in_no_log() {
        for nonce in [12, 16] {
            let parcel = parcel(nonce);
            assert_eq!(Parcel::read(&parcel.url, &parcel.tags()), Some(parcel.clone()));
            let secret = parcel.secret().unwrap();
            assert_eq!((secret.key, secret.nonce.len()), ([0xab; 32], nonce));
            assert_eq!((parcel.size, parcel.file_size()), (Some(1_016), Some(1_000)));
            assert!(!format!("{parcel:?}").contains("abab"), "{parcel:?}");
        }
    }

    #[test]
    fn what_is_encrypted_in_another_way_is_known_and_not_opened() {
        let mut other = parcel(12);
        other.algorithm = "aes-cbc".into();
        let read = Parcel::read(&other.url, &other.tags()).unwrap();
        assert_eq!(read.secret().err(), Some(Unreadable::Algorithm("aes-cbc".into())));
        let forgotten = {
            let mut parcel = parcel(12);
            parcel.forget_secret();
            parcel
        };
        for parcel in [forgotten, parcel(0), parcel(11), parcel(17)] {
            assert_eq!(parcel.secret().err(), Some(Unreadable::Secret));
        }
    }

    #[test]
    fn what_is_not_encrypted_or_has_no_address_of_the_web_is_no_parcel() {
        let parcel = parcel(12);
        assert_eq!(Parcel::read(&parcel.url, &[]), None);
        let long = format!("https://blobs.example/{}", "x".repeat(URL_LIMIT));
        for url in ["", "file:///etc/passwd", "ftp://blobs.example/1", "data:,x", "HTTPS//x", &long] {
            assert_eq!(Parcel::read(url, &parcel.tags()), None, "{url}");
        }
    }
}
