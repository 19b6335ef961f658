//! The names of things: keys, events, calls, messages. Plain values, compared and printed, never derived here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that was to be lower-case hex of a fixed length, and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hex characters")]
pub struct NotHex {
    /// How many characters the type takes.
    pub expected: usize,
}

/// `N` bytes that are written as lower-case hex everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex<const N: usize>(pub [u8; N]);

/// A Nostr public key: x-only secp256k1, 32 bytes (NIP-01). The public key *is* the agent.
pub type PublicKey = Hex<32>;
/// The SHA-256 of a Nostr event's serialisation, 32 bytes (NIP-01).
pub type EventId = Hex<32>;
/// One call as this home knows it, 8 bytes. Local: the peer has another one.
pub type CallId = Hex<8>;
/// One message, 16 bytes, chosen by its sender and unique per sender.
pub type MessageId = Hex<16>;
/// One question to the owner, 4 bytes: short, because a human types it.
pub type TicketId = Hex<4>;

/// The first 80 bits of a key in groups of four digits, for people who compare two keys by ear or eye. Nobody makes a key
/// with a given fingerprint: that would take 2^80 tries.
pub fn fingerprint(key: &PublicKey) -> String {
    let pair = |pair: &[u8]| pair.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    key.0[..10].chunks_exact(2).map(pair).collect::<Vec<_>>().join(" ")
}

impl<const N: usize> Default for Hex<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // A key at a time: long lists are made of keys.
        self.0.chunks(32).try_for_each(|bytes| {
            let mut digits = [0; 64];
            for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
                pair[0] = DIGITS[usize::from(byte >> 4)];
                pair[1] = DIGITS[usize::from(byte & 15)];
            }
            let digits = std::str::from_utf8(&digits[..2 * bytes.len()]).map_err(|_| fmt::Error)?;
            formatter.write_str(digits)
        })
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        let wrong = NotHex { expected: 2 * N };
        if text.len() != 2 * N {
            return Err(wrong);
        }
        let digit = |byte: u8| (byte as char).to_digit(16).map(|value| value as u8);
        let mut bytes = [0; N];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return Err(wrong) };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_survives_a_round_trip_and_upper_case_is_folded() {
        let id: TicketId = "00fFa1b2".parse().unwrap();
        assert_eq!(id.to_string(), "00ffa1b2");
        assert_eq!(id, Hex([0x00, 0xff, 0xa1, 0xb2]));
    }

    #[test]
    fn what_is_not_hex_of_the_right_length_is_refused() {
        for text in ["", "00", "00ffa1b2c3", "00ffa1bg", "00ffa1bé"] {
            assert_eq!(text.parse::<TicketId>(), Err(NotHex { expected: 8 }), "{text}");
        }
    }
}
