//! Recognises the agent's own secret key in what is about to leave this machine.
//!
//! A guard against an agent that is talked into it, not against an owner who wants it, nor against a cipher: whoever can
//! compute can spell a key in a way that nobody recognises. What is recognised is what a language model or a shell writes
//! without effort: the bytes, hex, `nsec1…`, base64 of either in both alphabets and at any place in a longer text, base32,
//! base58, bytes as decimal numbers; in any case, with anything but letters and digits in between, and backwards.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;
use nostr_sdk::nips::nip19::ToBech32;

use super::identity::Identity;
use super::spelling::holds_encrypted_key;
use super::words::{Numbers, Words};
use crate::proto::wipe;

/// A file is looked through in pieces of this size, so that a copy of it stays small.
const PIECE: usize = 1 << 20;
/// How far pieces overlap: more than any spelling of a key is long, its separators included.
const OVERLAP: usize = 4_096;

/// The spellings of one key, made when they are first needed.
#[derive(Clone, Default)]
pub(super) struct Spellings(Arc<OnceLock<Spelled>>);

struct Spelled {
    raw: [u8; 32],
    /// In letters and digits, folded as [`squeezed`] folds.
    words: Words,
    decimal: Numbers,
}

impl Drop for Spelled {
    fn drop(&mut self) {
        wipe(&mut self.raw);
    }
}

/// Looks for a secret key in something that comes in pieces, however they are cut.
pub struct LeakSearch {
    identity: Identity,
    /// The end of what has come, and then the next piece.
    window: Vec<u8>,
}

impl LeakSearch {
    /// Whether the key stands in what has come so far. Takes pieces of any size, and keeps a few kilobytes.
    pub fn feed(&mut self, piece: &[u8]) -> bool {
        let overlap = self.window.len().min(OVERLAP);
        self.window.drain(..self.window.len() - overlap);
        self.window.extend_from_slice(piece);
        self.identity.is_in(&self.window)
    }
}

impl Drop for LeakSearch {
    fn drop(&mut self) {
        wipe(&mut self.window);
    }
}

impl Identity {
    /// A search for the secret key in something that is too large to be held as a whole.
    pub fn search(&self) -> LeakSearch {
        LeakSearch { identity: self.clone(), window: Vec::new() }
    }

    /// Whether bytes hold the secret key in one of its spellings. A key under a password (NIP-49) counts too: nobody can
    /// tell whose it is.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let spelled = self.spellings().0.get_or_init(|| Spelled::of(self));
        let step = PIECE - OVERLAP;
        (0..bytes.len().max(1)).step_by(step).any(|from| {
            let piece = &bytes[from.min(bytes.len())..(from + PIECE).min(bytes.len())];
            spelled.is_in(piece)
        })
    }
}

impl Spelled {
    fn of(identity: &Identity) -> Self {
        let secret = identity.keys().secret_key();
        let (raw, hex) = (secret.to_secret_bytes(), secret.to_secret_hex());
        let Ok(nsec) = secret.to_bech32();
        let mut words = vec![hex.clone(), nsec.clone(), base32(&raw), base58(&raw)];
        for text in [&raw[..], hex.as_bytes(), hex.to_uppercase().as_bytes(), nsec.as_bytes()] {
            for offset in 0..3 {
                words.push(within(&STANDARD_NO_PAD.encode([&vec![0; offset], text].concat()), offset));
                words.push(within(&URL_SAFE_NO_PAD.encode([&vec![0; offset], text].concat()), offset));
            }
        }
        words.extend(words.clone().iter().map(|word| word.chars().rev().collect()));
        words.push(raw.iter().rev().map(|byte| format!("{byte:02x}")).collect());
        let mut words: Vec<Vec<u8>> = words.iter().map(|word| core(squeezed(word.as_bytes()))).collect();
        words.sort();
        words.dedup();
        Self { raw, words: Words::new(words), decimal: Numbers::new(&raw) }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let mut backwards = self.raw;
        backwards.reverse();
        holds(bytes, &self.raw)
            || holds(bytes, &backwards)
            || self.words.are_in(&squeezed(bytes))
            || self.decimal.are_in(bytes)
            || holds_encrypted_key(bytes)
    }
}

/// The part of a base64 text that depends on nothing before or after the bytes that are looked for.
fn within(text: &str, offset: usize) -> String {
    let start = [0, 2, 3][offset];
    text[start..text.len() - 2].to_owned()
}

/// What [`squeezed`] writes for a byte; nothing, for what is neither letter nor digit.
const FOLDED: [u8; 256] = {
    let mut folded = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if (byte as u8).is_ascii_alphanumeric() {
            folded[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    folded
};

/// Letters in lower case and digits, without what stands between them and without the `0x` and `\x` of bytes. Each byte is
/// written, and the next one over it if it does not count: a branch would be guessed wrong in every other byte of a file.
fn squeezed(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut length, mut previous) = (vec![0; bytes.len()], 0, 0);
    for &byte in bytes {
        let folded = FOLDED[usize::from(byte)];
        out[length] = folded;
        length += usize::from(folded != 0);
        if folded == b'x' {
            if previous == b'\\' {
                length -= 1;
            } else if length > 1 && out[length - 2] == b'0' {
                length -= 2;
            }
        }
        previous = byte;
    }
    out.truncate(length);
    out
}

/// A word without what its surroundings may have taken from it: an `x` at its front after a `0`, a `0` at its end before
/// an `x`.
fn core(mut word: Vec<u8>) -> Vec<u8> {
    if word.last() == Some(&b'0') {
        word.pop();
    }
    if word.first() == Some(&b'x') {
        word.remove(0);
    }
    word
}

/// RFC 4648, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bits: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)).collect();
    let digit = |bits: &[u8]| bits.iter().fold(0, |digit, bit| digit << 1 | bit) << (5 - bits.len());
    bits.chunks(5).map(|bits| char::from(ALPHABET[usize::from(digit(bits))])).collect()
}

/// As Bitcoin writes it.
fn base58(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut digits: Vec<u32> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += *digit << 8;
            *digit = carry % 58;
            carry /= 58;
        }
        while carry > 0 {
            digits.push(carry % 58);
            carry /= 58;
        }
    }
    // Zeros at the front have a digit each.
    let zeros = bytes.iter().take_while(|byte| **byte == 0).map(|_| 0);
    zeros.chain(digits.into_iter().rev()).map(|digit| char::from(ALPHABET[digit as usize])).collect()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    memmem::find(bytes, part).is_some()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::proto::SecretText;

    fn spelled(identity: &Identity) -> Vec<(&'static str, Vec<u8>)> {
        let raw = identity.keys().secret_key().to_secret_bytes();
        let hex = identity.secret_hex().expose().to_owned();
        let nsec = identity.keys().secret_key().to_bech32().unwrap();
        let bytes = |separator: &str, write: &dyn Fn(&u8) -> String| {
            raw.iter().map(write).collect::<Vec<_>>().join(separator).into_bytes()
        };
        let backwards = |text: &str| text.chars().rev().collect::<String>().into_bytes();
        vec![
            ("raw", raw.to_vec()),
            ("raw backwards", raw.iter().rev().copied().collect()),
            ("hex", hex.clone().into_bytes()),
            ("HEX", hex.to_uppercase().into_bytes()),
            ("hex backwards", backwards(&hex)),
            ("hex with colons", bytes(":", &|byte| format!("{byte:02x}"))),
            (
                "hex in quarters",
                format!("{} / {}\n{} / {}", &hex[..16], &hex[16..32], &hex[32..48], &hex[48..]).into_bytes(),
            ),
            ("bytes of C", bytes(", ", &|byte| format!("0x{byte:02X}"))),
            ("bytes of Python", bytes("", &|byte| format!("\\x{byte:02x}"))),
            ("percent", bytes("", &|byte| format!("%{byte:02X}"))),
            ("nsec", nsec.clone().into_bytes()),
            ("nsec spelled", nsec.chars().map(|c| format!("{c}-")).collect::<String>().into_bytes()),
            ("nsec backwards", backwards(&nsec)),
            ("base64", STANDARD.encode(raw).into_bytes()),
            ("base64 of hex", STANDARD.encode(&hex).into_bytes()),
            ("base64 of nsec", STANDARD.encode(&nsec).into_bytes()),
            ("base64 backwards", backwards(&STANDARD.encode(raw))),
            ("base64 within", STANDARD.encode(format!("k={hex} ok")).into_bytes()),
            ("base64 further within", URL_SAFE_NO_PAD.encode(format!("ke={hex} ok")).into_bytes()),
            ("base32", base32(&raw).into_bytes()),
            ("base58", base58(&raw).into_bytes()),
            ("decimal", format!("{raw:?}").into_bytes()),
            ("encrypted", identity.encrypted(&SecretText::new("guess me".into())).unwrap().into_bytes()),
        ]
    }

    #[test]
    fn the_secret_key_is_recognised_in_every_plain_spelling_and_anywhere() {
        let identity = Identity::generate();
        for (name, text) in spelled(&identity) {
            assert!(identity.is_in(&text), "{name}");
            let inside = [b"my key is \xff", &text[..], b", keep it"].concat();
            assert!(identity.is_in(&inside), "{name} in words");
            // In a file, where one piece ends and the next one begins. Slow without optimisation: not for all of them.
            if ["raw", "hex with colons", "base64 within", "decimal"].contains(&name) {
                let file = [&vec![b'-'; PIECE - 20], &text[..], &[b'-'; 5_000]].concat();
                assert!(identity.is_in(&file), "{name} in a file");
            }
        }
    }

    #[test]
    fn what_is_not_the_key_is_not_taken_for_it() {
        let identity = Identity::generate();
        for (name, text) in spelled(&Identity::generate()) {
            // Whose key is under a password nobody can tell.
            assert_eq!(identity.is_in(&text), name == "encrypted", "{name}");
        }
        assert!(!identity.is_in(identity.public_key().to_string().as_bytes()));
        assert!(!identity.is_in(&identity.secret_hex().expose().as_bytes()[..62]));
        for text in ["", "x", "0x", "\\x", "a key has 64 digits"] {
            assert!(!identity.is_in(text.as_bytes()));
        }
    }

    #[test]
    fn the_key_of_a_small_number_is_recognised_and_nothing_else_is() {
        let identity = Identity::from_secret_hex(&format!("{:064x}", 3)).unwrap();
        assert!(identity.is_in(base58(&identity.keys().secret_key().to_secret_bytes()).as_bytes()));
        assert!(!identity.is_in(b"4 words, of which none is 3"));
        assert!(!identity.is_in(b""));
    }

    proptest::proptest! {
        #[test]
        fn a_text_is_squeezed_as_its_rule_says(text in r"[0xX\\\\ aZ9é]{0,40}") {
            let (mut plain, mut previous) = (Vec::new(), 0);
            for byte in text.bytes() {
                match byte {
                    b'x' | b'X' if previous == b'\\' => {}
                    b'x' | b'X' if plain.last() == Some(&b'0') => _ = plain.pop(),
                    _ if byte.is_ascii_alphanumeric() => plain.push(byte.to_ascii_lowercase()),
                    _ => {}
                }
                previous = byte;
            }
            proptest::prop_assert_eq!(squeezed(text.as_bytes()), plain);
        }
    }

    #[test]
    fn what_stands_around_a_key_takes_nothing_of_it() {
        let hex = format!("{}0", "1".repeat(63));
        let identity = Identity::from_secret_hex(&hex).unwrap();
        assert!(identity.is_in(format!("{hex} xyz").as_bytes()));
        let backwards: String = hex.chars().rev().collect();
        assert!(identity.is_in(format!("0 {backwards}x").as_bytes()));
    }

    #[test]
    fn a_key_that_is_cut_anywhere_is_found_in_the_pieces() {
        let identity = Identity::generate();
        let hex = identity.secret_hex().expose().to_owned();
        let text = format!("{}{hex}{}", "-".repeat(300), "-".repeat(300)).into_bytes();
        for size in [1, 63, 64, 100, 333, text.len()] {
            let mut search = identity.search();
            assert!(text.chunks(size).any(|piece| search.feed(piece)), "in pieces of {size}");
        }
        let mut search = identity.search();
        assert!(!text[..362].chunks(50).any(|piece| search.feed(piece)));
    }

    #[test]
    fn base32_and_base58_are_those_of_their_sources() {
        // RFC 4648, section 10; draft-msporny-base58, section 5.
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32(b"foob"), "mzxw6yq");
        assert_eq!(base58(b"Hello World!"), "2NEpo7TZRRrLZSi2U");
        assert_eq!(base58(b"\x00\x00\x28\x7f\xb4\xcd"), "11233QC4");
    }
}
