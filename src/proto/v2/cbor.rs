//! CBOR in its deterministic encoding (RFC 8949, 4.2.1), and nothing else: shortest heads, definite lengths, the whole
//! input. What is read is written again and compared, so two texts never mean the same thing.

use std::convert::Infallible;

use minicbor::{Decoder, Encoder, decode, encode};

use super::Malformed;

pub(super) type Writer = Encoder<Vec<u8>>;
pub(super) type Written = Result<(), encode::Error<Infallible>>;

/// What `fill` writes.
pub(super) fn write(fill: impl FnOnce(&mut Writer) -> Written) -> Vec<u8> {
    let mut writer = Encoder::new(Vec::new());
    fill(&mut writer).expect("a vector takes every byte, and nothing else here can fail");
    writer.into_writer()
}

/// What `parse` makes of all of `bytes`, provided that `again` writes the same bytes.
pub(super) fn read<'b, T>(
    bytes: &'b [u8],
    parse: impl FnOnce(&mut Decoder<'b>) -> Result<T, Malformed>,
    again: impl FnOnce(&T) -> Vec<u8>,
) -> Result<T, Malformed> {
    let value = parse(&mut Decoder::new(bytes))?;
    if again(&value) == bytes { Ok(value) } else { Err(Malformed::NotDeterministic) }
}

/// The head of an array: how many items follow.
pub(super) fn array(decoder: &mut Decoder<'_>) -> Result<u64, Malformed> {
    decoder.array()?.ok_or(Malformed::NotDeterministic)
}

/// The head of an array that has exactly `items`.
pub(super) fn array_of(decoder: &mut Decoder<'_>, items: u64) -> Result<(), Malformed> {
    if array(decoder)? == items { Ok(()) } else { Err(Malformed::Cbor) }
}

/// Bytes of the head that carries `value`.
pub(super) const fn head_len(value: u64) -> usize {
    match value {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

impl From<decode::Error> for Malformed {
    fn from(_: decode::Error) -> Self {
        Self::Cbor
    }
}
