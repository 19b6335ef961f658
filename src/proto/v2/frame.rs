//! A frame's outside: what stands in the content of a kind 21059 event, and the padding below the encryption.
//!
//! ```text
//! content     "#p2p1." base64( version 1 B │ epoch 1 B │ number 8 B, big-endian │ ciphertext )
//! plaintext   length of the batch, 2 B, big-endian │ batch │ zeros up to the bucket
//! ```
//!
//! The `#` tells a NIP-44 reader that this is no payload of its own. The buckets are NIP-44's, the smallest 256 bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Malformed;

/// What a frame begins with.
pub const PREFIX: &str = "#p2p1.";
/// The version of the frame's format.
pub const VERSION: u8 = 1;
/// Most bytes of a plaintext. The next bucket is 49,152, and strfry takes no event above 64 KiB.
pub const PLAINTEXT_LIMIT: usize = 40_960;
/// Most bytes of a batch.
pub const BATCH_LIMIT: usize = PLAINTEXT_LIMIT - LENGTH;
/// The smallest bucket: an acknowledgement and a short text look the same.
const SMALLEST_BUCKET: usize = 256;
/// Bytes of the batch's length.
const LENGTH: usize = 2;
/// Bytes before the ciphertext.
const HEADER: usize = 10;
/// Bytes that ChaCha20-Poly1305 adds to a plaintext.
const TAG: usize = 16;

/// A sealed frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The sender's key epoch, its low eight bits: see [`super::delivery::Delivery::receive_epoch`].
    pub epoch: u8,
    /// The frame's number, which is the cipher's nonce.
    pub number: u64,
    /// A sealed plaintext.
    pub ciphertext: Vec<u8>,
}

impl Frame {
    /// The content of the event.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(HEADER + self.ciphertext.len());
        bytes.extend([VERSION, self.epoch]);
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(&self.ciphertext);
        let mut content = PREFIX.to_owned();
        STANDARD.encode_string(&bytes, &mut content);
        content
    }

    /// Reads the content of an event.
    ///
    /// # Errors
    /// [`Malformed`] if it is not exactly what [`Self::encode`] writes.
    pub fn decode(content: &str) -> Result<Self, Malformed> {
        let encoded = content.strip_prefix(PREFIX).ok_or(Malformed::NotAFrame)?;
        if encoded.len() > (HEADER + PLAINTEXT_LIMIT + TAG).div_ceil(3) * 4 {
            return Err(Malformed::Length);
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| Malformed::Base64)?;
        let [version, epoch, rest @ ..] = bytes.as_slice() else { return Err(Malformed::Length) };
        if *version != VERSION {
            return Err(Malformed::Version(*version));
        }
        let (number, ciphertext) = rest.split_first_chunk().ok_or(Malformed::Length)?;
        let sealed = SMALLEST_BUCKET + TAG..=PLAINTEXT_LIMIT + TAG;
        if !sealed.contains(&ciphertext.len()) || bucket(ciphertext.len() - TAG) + TAG != ciphertext.len() {
            return Err(Malformed::Length);
        }
        Ok(Self { epoch: *epoch, number: u64::from_be_bytes(*number), ciphertext: ciphertext.to_vec() })
    }
}

/// The size that `length` bytes are padded to: NIP-44's rule, at least 256.
pub const fn bucket(length: usize) -> usize {
    if length <= SMALLEST_BUCKET {
        return SMALLEST_BUCKET;
    }
    let step = length.next_power_of_two() / 8;
    length.div_ceil(step) * step
}

/// The plaintext that carries a batch.
///
/// # Errors
/// [`Malformed::Length`] if it is longer than [`BATCH_LIMIT`].
pub fn pad(batch: &[u8]) -> Result<Vec<u8>, Malformed> {
    if batch.len() > BATCH_LIMIT {
        return Err(Malformed::Length);
    }
    let size = bucket(LENGTH + batch.len());
    let mut plaintext = Vec::with_capacity(size);
    plaintext.extend((batch.len() as u16).to_be_bytes());
    plaintext.extend(batch);
    plaintext.resize(size, 0);
    Ok(plaintext)
}

/// The batch that a plaintext carries.
///
/// # Errors
/// [`Malformed`] if it is not exactly what [`pad`] writes.
pub fn unpad(plaintext: &[u8]) -> Result<&[u8], Malformed> {
    let (length, rest) = plaintext.split_first_chunk().ok_or(Malformed::Length)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if plaintext.len() > PLAINTEXT_LIMIT || bucket(LENGTH + length) != plaintext.len() {
        return Err(Malformed::Length);
    }
    let (batch, padding) = rest.split_at(length);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Malformed::Padding);
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plaintext_that_is_not_padded_by_the_rule_is_refused() {
        let good = pad(b"batch").unwrap();
        assert_eq!(unpad(&good), Ok(b"batch".as_slice()));
        assert_eq!(unpad(&good[..255]), Err(Malformed::Length));
        assert_eq!(unpad(&[good.as_slice(), &[0]].concat()), Err(Malformed::Length));
        assert_eq!(unpad(&[0; 320]), Err(Malformed::Length), "a larger bucket than is needed");
        let mut odd = good.clone();
        odd[255] = 1;
        assert_eq!(unpad(&odd), Err(Malformed::Padding));
        let mut long = good;
        long[..2].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(unpad(&long), Err(Malformed::Length));
        assert_eq!(unpad(&vec![0xff; 65_537]), Err(Malformed::Length));
    }

    #[test]
    fn the_largest_batch_fits_an_event_of_64_kib_and_one_byte_more_does_not() {
        let plaintext = pad(&vec![7; BATCH_LIMIT]).unwrap();
        assert_eq!(plaintext.len(), PLAINTEXT_LIMIT);
        let frame = Frame { epoch: 255, number: u64::MAX, ciphertext: vec![0xff; PLAINTEXT_LIMIT + TAG] };
        let content = frame.encode();
        assert!(content.len() < 56_000, "{}", content.len());
        assert_eq!(Frame::decode(&content), Ok(frame));
        assert_eq!(pad(&vec![7; BATCH_LIMIT + 1]), Err(Malformed::Length));
    }

    #[test]
    fn what_is_not_a_frame_of_this_version_is_refused() {
        let good = Frame { epoch: 0, number: 1, ciphertext: vec![0; 256 + TAG] }.encode();
        let other = Frame { epoch: 0, number: 1, ciphertext: vec![0; 300 + TAG] }.encode();
        assert_eq!(Frame::decode(&good[1..]), Err(Malformed::NotAFrame));
        assert_eq!(Frame::decode(&good[..good.len() - 1]), Err(Malformed::Base64));
        assert_eq!(Frame::decode(&other), Err(Malformed::Length), "no bucket has this size");
        assert_eq!(Frame::decode(&good.replace(".A", ".B")), Err(Malformed::Version(5)));
        assert_eq!(Frame::decode(&format!("{good} ")), Err(Malformed::Base64));
        assert_eq!(Frame::decode(&format!("{PREFIX}{}", "A".repeat(1 << 20))), Err(Malformed::Length));
        assert_eq!(Frame::decode(PREFIX), Err(Malformed::Length));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic_and_what_is_read_is_written_the_same(
            bytes in prop::collection::vec(any::<u8>(), 0..600), text in ".{0,80}",
        ) {
            if let Ok(batch) = unpad(&bytes) {
                prop_assert_eq!(pad(batch).unwrap(), bytes.clone());
            }
            for content in [text, format!("{PREFIX}{}", STANDARD.encode(&bytes))] {
                if let Ok(frame) = Frame::decode(&content) {
                    prop_assert_eq!(frame.encode(), content);
                }
            }
        }

        #[test]
        fn every_batch_survives_its_padding(batch in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let plaintext = pad(&batch).unwrap();
            prop_assert_eq!(unpad(&plaintext), Ok(batch.as_slice()));
        }
    }
}
