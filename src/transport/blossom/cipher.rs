//! AES-256-GCM as NIP-17's file messages use it: the ciphertext, and behind it the tag.

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::generic_array::{ArrayLength, GenericArray};
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInPlace, AesGcm, KeyInit, Tag};

use crate::proto::v2::parcel::{OVERHEAD, Secret};

/// Encrypts a file in its place, and puts the tag behind it. `None` if the nonce has no length that is used, or the file
/// is larger than the algorithm takes.
pub fn seal(secret: &Secret, file: &mut Vec<u8>) -> Option<()> {
    let tag = match secret.nonce.len() {
        12 => seal_with::<U12>(secret, file),
        16 => seal_with::<U16>(secret, file),
        _ => None,
    }?;
    file.extend_from_slice(&tag);
    Some(())
}

/// Decrypts what [`seal`] made, in its place. `None` if a single bit of it is another; nothing of it is to be used then.
pub fn open(secret: &Secret, file: &mut Vec<u8>) -> Option<()> {
    let length = file.len().checked_sub(OVERHEAD as usize)?;
    let tag = Tag::clone_from_slice(&file.split_off(length));
    match secret.nonce.len() {
        12 => open_with::<U12>(secret, file, &tag),
        16 => open_with::<U16>(secret, file, &tag),
        _ => None,
    }
}

fn seal_with<N: ArrayLength<u8>>(secret: &Secret, file: &mut [u8]) -> Option<Tag> {
    let cipher = AesGcm::<Aes256, N>::new(GenericArray::from_slice(&secret.key));
    cipher.encrypt_in_place_detached(GenericArray::from_slice(&secret.nonce), b"", file).ok()
}

fn open_with<N: ArrayLength<u8>>(secret: &Secret, file: &mut [u8], tag: &Tag) -> Option<()> {
    let cipher = AesGcm::<Aes256, N>::new(GenericArray::from_slice(&secret.key));
    cipher.decrypt_in_place_detached(GenericArray::from_slice(&secret.nonce), b"", file, tag).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 16 of "The Galois/Counter Mode of Operation" (McGrew and Viega) has additional data; 14 has none:
    /// a key of zeros, a nonce of zeros, sixteen zeros.
    #[test]
    fn a_file_is_encrypted_as_the_papers_test_case_says() {
        let secret = Secret { key: [0; 32], nonce: vec![0; 12] };
        let mut file = vec![0; 16];
        seal(&secret, &mut file).unwrap();
        let hex: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    }

    #[test]
    fn a_file_survives_with_either_nonce_and_no_bit_of_it_may_change() {
        for nonce in [12, 16] {
            let secret = Secret { key: [7; 32], nonce: vec![9; nonce] };
            for length in [0, 1, 1_000] {
                let plain: Vec<u8> = (0..length).map(|n| n as u8).collect();
                let mut sealed = plain.clone();
                seal(&secret, &mut sealed).unwrap();
                assert_eq!(sealed.len(), length + OVERHEAD as usize);
                for place in [0, length, sealed.len() - 1] {
                    let mut altered = sealed.clone();
                    altered[place] ^= 1;
                    assert_eq!(open(&secret, &mut altered), None);
                }
                open(&secret, &mut sealed).unwrap();
                assert_eq!(sealed, plain);
            }
        }
        assert_eq!(
            open(&Secret { key: [7; 32], nonce: vec![9; 12] }, &mut vec![0; 15]),
            None,
            "shorter than a tag"
        );
        assert_eq!(seal(&Secret { key: [7; 32], nonce: vec![9; 13] }, &mut vec![0]), None);
    }
}
