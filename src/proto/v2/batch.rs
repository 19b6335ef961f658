//! What a frame carries: what the sender has received, and entries of its streams.
//!
//! ```text
//! batch  = [ack / null, [* entry]]
//! ack    = [delay in ms, largest, * below]     going down from the largest number received
//! entry  = [stream, seq, type, id, body]       uint, uint, uint, 16 bytes, bytes
//! ```
//!
//! The numbers in `below` are distances downwards, by turns to the end of a range and to the beginning of the next:
//! `[0, 9, 2, 3, 0]` acknowledges 9, 8, 7 and 4. Everything is CBOR in its deterministic encoding.

use std::ops::RangeInclusive;
use std::time::Duration;

use minicbor::Decoder;
use serde::{Deserialize, Serialize};

use super::cbor::{self, Writer, Written};
use super::{Malformed, frame};
use crate::proto::{Hex, MessageId};

/// Most bytes of an entry's body: with its head, and beside a short acknowledgement, it stays within the bucket of
/// 32 KiB.
pub const BODY_LIMIT: usize = 32_640;
/// Most ranges in an acknowledgement, newest first. What is left out was lost, or is acknowledged by a later frame.
pub const RANGES_LIMIT: usize = 64;
/// The stream of read receipts, answers to file offers, pings and the end.
pub const CONTROL: u32 = 0;
/// The stream of everything that stands in the transcript.
pub const TEXT: u32 = 1;
/// The first stream that carries the chunks of a file.
pub const FIRST_FILE: u32 = 2;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $code:literal,)+) => {
        /// What an entry is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(from = "u8", into = "u8")]
        pub enum Kind {
            $($(#[$doc])* $kind,)+
            /// Of a later version: acknowledged, so that the sender goes on, and not acted on.
            Other(u8),
        }

        impl From<u8> for Kind {
            fn from(code: u8) -> Self {
                match code { $($code => Self::$kind,)+ other => Self::Other(other) }
            }
        }

        impl From<Kind> for u8 {
            fn from(kind: Kind) -> Self {
                match kind { $(Kind::$kind => $code,)+ Kind::Other(other) => other }
            }
        }
    };
}

kinds! {
    /// Words, or a part of them.
    Text = 1,
    /// A file, for the peer to accept.
    FileOffer = 2,
    /// The file of this id may come.
    FileAccept = 3,
    /// The file of this id does not come, or is not wanted.
    FileCancel = 4,
    /// The next bytes of a file.
    Chunk = 5,
    /// The sender asks its owner.
    Escalation = 6,
    /// The sender's owner has decided.
    EscalationAnswer = 7,
    /// The application took the message of this id, and all before it.
    Read = 8,
    /// Asks for an acknowledgement. With a `seq`: takes the place of something that was withdrawn.
    Ping = 9,
    /// The sender says no more.
    End = 10,
    /// The file of this id is there as a whole, and its hash is right.
    FileDone = 11,
    /// The trace that a message, which follows it, is part of.
    Trace = 12,
}

/// One thing that is acknowledged, ordered and stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its stream.
    pub stream: u32,
    /// Its place in the stream, from 1. A ping outside of the order has 0.
    pub seq: u64,
    /// What it is.
    pub kind: Kind,
    /// The message that it belongs to.
    pub id: MessageId,
    /// See [`super::body`].
    pub body: Vec<u8>,
}

/// Which frames of the peer have been committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// How long ago the largest of them came, whole milliseconds.
    pub delay: Duration,
    /// Their numbers, in ranges that go down, do not touch, and are not empty.
    pub ranges: Vec<RangeInclusive<u64>>,
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// What the sender has received.
    pub ack: Option<Ack>,
    /// What the sender says.
    pub entries: Vec<Entry>,
}

impl Entry {
    /// Bytes that it takes in a batch.
    pub fn encoded_len(&self) -> usize {
        1 + cbor::head_len(self.stream.into())
            + cbor::head_len(self.seq)
            + cbor::head_len(u8::from(self.kind).into())
            + cbor::head_len(self.id.0.len() as u64)
            + self.id.0.len()
            + cbor::head_len(self.body.len() as u64)
            + self.body.len()
    }

    fn write(&self, writer: &mut Writer) -> Written {
        writer.array(5)?.u32(self.stream)?.u64(self.seq)?.u8(self.kind.into())?;
        writer.bytes(&self.id.0)?.bytes(&self.body)?;
        Ok(())
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        cbor::array_of(decoder, 5)?;
        let (stream, seq, kind) = (decoder.u32()?, decoder.u64()?, Kind::from(decoder.u8()?));
        let id = Hex(decoder.bytes()?.try_into().map_err(|_| Malformed::OutOfBounds("id"))?);
        let body = decoder.bytes()?;
        if body.len() > BODY_LIMIT {
            return Err(Malformed::OutOfBounds("body"));
        }
        if seq == 0 && (kind, stream) != (Kind::Ping, CONTROL) {
            return Err(Malformed::OutOfBounds("seq"));
        }
        Ok(Self { stream, seq, kind, id, body: body.to_vec() })
    }
}

impl Ack {
    /// The largest number.
    pub fn largest(&self) -> Option<u64> {
        self.ranges.first().map(|range| *range.end())
    }

    fn write(&self, writer: &mut Writer) -> Written {
        writer.array(1 + 2 * self.ranges.len() as u64)?.u64(self.delay.as_millis() as u64)?;
        let mut above = None;
        for range in &self.ranges {
            writer.u64(above.map_or(*range.end(), |above: u64| above - range.end()))?;
            writer.u64(range.end() - range.start())?;
            above = Some(*range.start());
        }
        Ok(())
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let items = cbor::array(decoder)?;
        if items % 2 == 0 || items < 3 || items > 1 + 2 * RANGES_LIMIT as u64 {
            return Err(Malformed::OutOfBounds("ranges"));
        }
        let delay = Duration::from_millis(decoder.u64()?);
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for _ in 0..items / 2 {
            let distance = decoder.u64()?;
            let end = match ranges.last() {
                None => distance,
                // Ranges that touch would be one.
                Some(_) if distance < 2 => return Err(Malformed::OutOfBounds("range")),
                Some(above) => above.start().checked_sub(distance).ok_or(Malformed::OutOfBounds("range"))?,
            };
            let start = end.checked_sub(decoder.u64()?).ok_or(Malformed::OutOfBounds("range"))?;
            ranges.push(start..=end);
        }
        Ok(Self { delay, ranges })
    }
}

impl Batch {
    /// How many bytes of entries fit beside this acknowledgement.
    pub fn room_beside(ack: Option<&Ack>) -> usize {
        let ack = ack.map_or(1, |ack| cbor::write(|writer| ack.write(writer)).len());
        // The heads of the two arrays; no frame holds more entries than three bytes count.
        frame::BATCH_LIMIT - 1 - ack - 3
    }

    /// The batch as bytes.
    pub fn encode(&self) -> Vec<u8> {
        cbor::write(|writer| {
            writer.array(2)?;
            match &self.ack {
                Some(ack) => ack.write(writer)?,
                None => _ = writer.null()?,
            }
            writer.array(self.entries.len() as u64)?;
            self.entries.iter().try_for_each(|entry| entry.write(writer))
        })
    }

    /// Reads a batch.
    ///
    /// # Errors
    /// [`Malformed`] if it is not exactly what [`Self::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let parse = |decoder: &mut Decoder<'_>| {
            cbor::array_of(decoder, 2)?;
            let ack = match decoder.datatype()? {
                minicbor::data::Type::Null => decoder.null().map(|()| None)?,
                _ => Some(Ack::read(decoder)?),
            };
            // The number may lie: what is not there ends the loop.
            let mut entries = Vec::new();
            for _ in 0..cbor::array(decoder)? {
                entries.push(Entry::read(decoder)?);
            }
            Ok(Self { ack, entries })
        };
        cbor::read(bytes, parse, Self::encode)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let body = prop::collection::vec(any::<u8>(), 0..300);
        (any::<u32>(), 1..=u64::MAX, any::<u8>(), any::<[u8; 16]>(), body).prop_map(
            |(stream, seq, kind, id, body)| Entry { stream, seq, kind: kind.into(), id: Hex(id), body },
        )
    }

    fn ack() -> impl Strategy<Value = Ack> {
        let steps = prop::collection::vec((2..300u64, 0..300u64), 1..RANGES_LIMIT);
        (any::<u32>(), steps, 40_000..=u64::MAX).prop_map(|(delay, steps, mut above)| {
            let range = |(gap, length)| {
                let end = above - gap;
                above = end - length;
                above..=end
            };
            let ranges = steps.into_iter().map(range).collect();
            Ack { delay: Duration::from_millis(delay.into()), ranges }
        })
    }

    proptest! {
        #[test]
        fn every_batch_survives_a_round_trip_and_its_size_is_known_before(
            ack in prop::option::of(ack()), entries in prop::collection::vec(entry(), 0..40),
        ) {
            let batch = Batch { ack, entries };
            let bytes = batch.encode();
            let entries: usize = batch.entries.iter().map(Entry::encoded_len).sum();
            prop_assert!(bytes.len() + Batch::room_beside(batch.ack.as_ref()) <= frame::BATCH_LIMIT + entries);
            prop_assert_eq!(Batch::decode(&bytes), Ok(batch));
        }

        #[test]
        fn no_bytes_make_the_reader_panic_and_what_is_read_is_written_the_same(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            if let Ok(batch) = Batch::decode(&bytes) {
                prop_assert_eq!(batch.encode(), bytes);
            }
        }

        #[test]
        fn a_byte_changed_is_refused_or_means_another_batch(
            batch in prop::collection::vec(entry(), 1..4), at in any::<prop::sample::Index>(), flip in 1..=255u8,
        ) {
            let batch = Batch { ack: None, entries: batch };
            let mut bytes = batch.encode();
            *at.get_mut(&mut bytes) ^= flip;
            prop_assert_ne!(Batch::decode(&bytes), Ok(batch));
        }
    }

    #[test]
    fn what_could_be_said_shorter_or_promises_more_than_there_is_is_refused() {
        for (bytes, why) in [
            (&[0x82, 0xf6, 0x80][..], Ok(())),
            (&[0x82, 0xf6, 0x98, 0x00], Err(Malformed::NotDeterministic)),
            (&[0x82, 0xf6, 0x9f, 0xff], Err(Malformed::NotDeterministic)),
            (&[0x82, 0xf6, 0x80, 0x00], Err(Malformed::NotDeterministic)),
            (&[0x82, 0xf6, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Err(Malformed::Cbor)),
            (&[0x83, 0xf6, 0x80, 0x80], Err(Malformed::Cbor)),
            (&[0x82, 0x80, 0x80], Err(Malformed::OutOfBounds("ranges"))),
            (&[0x82, 0x83, 0x00, 0x01, 0x02, 0x80], Err(Malformed::OutOfBounds("range"))),
            (&[0x82, 0x85, 0x00, 0x09, 0x00, 0x01, 0x00, 0x80], Err(Malformed::OutOfBounds("range"))),
            (&[], Err(Malformed::Cbor)),
        ] {
            assert_eq!(Batch::decode(bytes).map(drop), why, "{bytes:02x?}");
        }
    }

    #[test]
    fn only_a_ping_stands_outside_of_the_order() {
        let entry = |kind, stream| Entry { stream, seq: 0, kind, id: Hex([0; 16]), body: vec![] };
        let decoded = |entry| Batch::decode(&Batch { ack: None, entries: vec![entry] }.encode());
        assert!(decoded(entry(Kind::Ping, CONTROL)).is_ok());
        for odd in [entry(Kind::Text, CONTROL), entry(Kind::Ping, TEXT), entry(Kind::Other(99), CONTROL)] {
            assert_eq!(decoded(odd), Err(Malformed::OutOfBounds("seq")));
        }
    }
}
