//! The bodies of entries, by type.
//!
//! ```text
//! text, escalation, escalation-answer   [part, total, words]      parts from 0, each whole UTF-8
//! file-offer                            [stream, name, size, MIME type, SHA-256]
//! file-cancel                           reason
//! chunk                                 the bytes themselves
//! end                                   [* [stream, last seq]]
//! trace                                 [message, traceparent]
//! file-accept, file-done, read, ping    nothing: the id says it all
//! ```

use minicbor::Decoder;
use serde::{Deserialize, Serialize};

use super::batch::{BODY_LIMIT, CONTROL, Entry, FIRST_FILE, Kind, TEXT};
use super::{Malformed, cbor};
use crate::proto::text::beginning;
use crate::proto::{Hex, MessageId, TRACE_LENGTH, TraceParent};

/// Most bytes of a text: 1 MiB. Longer ones are files.
pub const TEXT_LIMIT: usize = 1 << 20;
/// Most bytes of a chunk.
pub const CHUNK_LIMIT: usize = BODY_LIMIT;
/// Most bytes of a file's name, as the sender says it. File systems take 255.
pub const NAME_LIMIT: usize = 1_024;
/// Most bytes of a MIME type or of the reason of a cancel: labels.
pub const LABEL_LIMIT: usize = 512;
/// Most bytes of words in a part: the rest is its head.
const PART_LIMIT: usize = BODY_LIMIT - 8;
/// Most parts of a text. A part is at most three bytes short of its limit, where a character would be cut.
pub const PARTS_LIMIT: u64 = TEXT_LIMIT.div_ceil(PART_LIMIT - 3) as u64;
/// Most streams that an end names: control, text, and files that still run.
const FINALS_LIMIT: u64 = 64;

/// A file, as its sender describes it. Nothing of it is true before its hash is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOffer {
    /// The stream on which its chunks come.
    pub stream: u32,
    /// Its name, as the sender says: see [`crate::proto::safe_file_name`].
    pub name: String,
    /// Its size, bytes.
    pub size: u64,
    /// Its MIME type, as the sender says.
    pub mime: String,
    /// Its SHA-256.
    pub sha256: Hex<32>,
}

/// What one side says to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Words.
    Text(String),
    /// The sender asks its owner.
    Escalation(String),
    /// The sender's owner has decided.
    EscalationAnswer(String),
    /// A file, for the peer to accept. The message's id is the file's id from now on.
    FileOffer(FileOffer),
    /// The file may come.
    FileAccept,
    /// The file is there as a whole, and its hash is right.
    FileDone,
    /// The file does not come, or is not wanted.
    FileCancel(String),
    /// The trace that a message of this stream is part of: said before it.
    Trace {
        /// The message.
        message: MessageId,
        /// The trace.
        traceparent: TraceParent,
    },
    /// The next bytes of the file on this stream.
    Chunk {
        /// The stream that the offer named.
        stream: u32,
        /// At most [`CHUNK_LIMIT`] of them.
        bytes: Vec<u8>,
    },
}

/// The id of the answer to an escalation, or the escalation that an answer names: every bit of the one is turned in the
/// other. So an answer names its question, and there is one answer to a question at most.
pub fn answer_to(message: &MessageId) -> MessageId {
    Hex(message.0.map(|byte| !byte))
}

impl Content {
    /// The stream that it goes on, and what it is there.
    pub fn place(&self) -> (u32, Kind) {
        match self {
            Self::Text(_) => (TEXT, Kind::Text),
            Self::Escalation(_) => (TEXT, Kind::Escalation),
            Self::EscalationAnswer(_) => (TEXT, Kind::EscalationAnswer),
            Self::FileOffer(_) => (TEXT, Kind::FileOffer),
            Self::FileAccept => (CONTROL, Kind::FileAccept),
            Self::FileDone => (CONTROL, Kind::FileDone),
            Self::FileCancel(_) => (CONTROL, Kind::FileCancel),
            Self::Trace { .. } => (TEXT, Kind::Trace),
            Self::Chunk { stream, .. } => (*stream, Kind::Chunk),
        }
    }

    /// Bytes of what has a limit, and the limit.
    pub fn size(&self) -> (usize, usize) {
        match self {
            Self::Text(words) | Self::Escalation(words) | Self::EscalationAnswer(words) => {
                (words.len(), TEXT_LIMIT)
            }
            Self::FileOffer(offer) if offer.mime.len() > LABEL_LIMIT => (offer.mime.len(), LABEL_LIMIT),
            Self::FileOffer(offer) => (offer.name.len(), NAME_LIMIT),
            Self::FileAccept | Self::FileDone => (0, 0),
            Self::FileCancel(reason) => (reason.len(), LABEL_LIMIT),
            Self::Trace { traceparent, .. } => (traceparent.as_str().len(), TRACE_LENGTH),
            Self::Chunk { bytes, .. } => (bytes.len(), CHUNK_LIMIT),
        }
    }

    /// The bodies of the entries that carry it, in order. Its size is within its limit.
    pub fn encode(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Text(words) | Self::Escalation(words) | Self::EscalationAnswer(words) => split(words),
            Self::FileOffer(offer) => vec![offer.encode()],
            Self::FileAccept | Self::FileDone => vec![Vec::new()],
            Self::FileCancel(reason) => vec![cancel(reason)],
            Self::Trace { message, traceparent } => vec![trace(message, traceparent)],
            Self::Chunk { bytes, .. } => vec![bytes.clone()],
        }
    }

    /// What the entries of one message say.
    ///
    /// # Errors
    /// [`Malformed`] if it is nothing of this dialect.
    pub fn decode(entries: &[Entry]) -> Result<Self, Malformed> {
        let [first, ..] = entries else { return Err(Malformed::Cbor) };
        let body = first.body.as_slice();
        let words = || join(entries.iter().map(|entry| entry.body.as_slice()));
        let content = match first.kind {
            Kind::Text => Self::Text(words()?),
            Kind::Escalation => Self::Escalation(words()?),
            Kind::EscalationAnswer => Self::EscalationAnswer(words()?),
            Kind::FileOffer => Self::FileOffer(FileOffer::decode(body)?),
            Kind::FileAccept if body.is_empty() => Self::FileAccept,
            Kind::FileDone if body.is_empty() => Self::FileDone,
            Kind::FileCancel => {
                let reason = |decoder: &mut Decoder<'_>| label(decoder, LABEL_LIMIT);
                Self::FileCancel(cbor::read(body, reason, |reason| cancel(reason))?)
            }
            Kind::Trace => read_trace(body)?,
            Kind::Chunk if !body.is_empty() => Self::Chunk { stream: first.stream, bytes: body.to_vec() },
            _ => return Err(Malformed::Cbor),
        };
        let on_its_stream = match content.place() {
            (stream, Kind::Chunk) => stream >= FIRST_FILE,
            (stream, _) => stream == first.stream,
        };
        if on_its_stream { Ok(content) } else { Err(Malformed::OutOfBounds("stream")) }
    }
}

impl FileOffer {
    fn encode(&self) -> Vec<u8> {
        cbor::write(|writer| {
            writer.array(5)?.u32(self.stream)?.str(&self.name)?.u64(self.size)?.str(&self.mime)?;
            writer.bytes(&self.sha256.0)?.ok()
        })
    }

    fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let parse = |decoder: &mut Decoder<'_>| {
            cbor::array_of(decoder, 5)?;
            let stream = decoder.u32()?;
            if stream < FIRST_FILE {
                return Err(Malformed::OutOfBounds("stream"));
            }
            let (name, size) = (label(decoder, NAME_LIMIT)?, decoder.u64()?);
            let mime = label(decoder, LABEL_LIMIT)?;
            let sha256 = decoder.bytes()?.try_into().map_err(|_| Malformed::OutOfBounds("hash"))?;
            Ok(Self { stream, name, size, mime, sha256: Hex(sha256) })
        };
        cbor::read(body, parse, Self::encode)
    }
}

fn label(decoder: &mut Decoder<'_>, limit: usize) -> Result<String, Malformed> {
    let text = decoder.str()?;
    if text.len() > limit { Err(Malformed::OutOfBounds("label")) } else { Ok(text.to_owned()) }
}

fn trace(message: &MessageId, traceparent: &TraceParent) -> Vec<u8> {
    cbor::write(|writer| writer.array(2)?.bytes(&message.0)?.str(traceparent.as_str())?.ok())
}

fn read_trace(body: &[u8]) -> Result<Content, Malformed> {
    let parse = |decoder: &mut Decoder<'_>| {
        cbor::array_of(decoder, 2)?;
        let message = decoder.bytes()?.try_into().map_err(|_| Malformed::OutOfBounds("id"))?;
        let traceparent = decoder.str()?.parse().map_err(|_| Malformed::OutOfBounds("traceparent"))?;
        Ok((Hex(message), traceparent))
    };
    let (message, traceparent) = cbor::read(body, parse, |(message, of)| trace(message, of))?;
    Ok(Content::Trace { message, traceparent })
}

fn cancel(reason: &str) -> Vec<u8> {
    cbor::write(|writer| writer.str(reason)?.ok())
}

/// Splits words into the bodies of entries. Empty words are one part.
fn split(words: &str) -> Vec<Vec<u8>> {
    let (mut parts, mut rest) = (Vec::new(), words);
    while rest.len() > PART_LIMIT {
        let part = beginning(rest, PART_LIMIT);
        parts.push(part);
        rest = &rest[part.len()..];
    }
    parts.push(rest);
    let total = parts.len() as u64;
    (0..).zip(parts).map(|(part, words)| write_part(part, total, words)).collect()
}

fn write_part(part: u64, total: u64, words: &str) -> Vec<u8> {
    cbor::write(|writer| writer.array(3)?.u64(part)?.u64(total)?.str(words)?.ok())
}

/// Which part of how many a body is; the words are not looked at.
pub(super) fn part_of(body: &[u8]) -> Result<(u64, u64), Malformed> {
    let mut decoder = Decoder::new(body);
    cbor::array_of(&mut decoder, 3)?;
    let (part, total) = (decoder.u64()?, decoder.u64()?);
    if part < total && total <= PARTS_LIMIT { Ok((part, total)) } else { Err(Malformed::OutOfBounds("part")) }
}

/// Joins the bodies that [`split`] made: all of them, in order.
fn join<'b>(bodies: impl ExactSizeIterator<Item = &'b [u8]>) -> Result<String, Malformed> {
    let (count, mut joined) = (bodies.len() as u64, String::new());
    for (expected, body) in (0..).zip(bodies) {
        if part_of(body)? != (expected, count) {
            return Err(Malformed::OutOfBounds("part"));
        }
        let words = |decoder: &mut Decoder<'b>| {
            cbor::array_of(decoder, 3)?;
            let _numbers = (decoder.u64()?, decoder.u64()?);
            Ok(decoder.str()?)
        };
        let words = cbor::read(body, words, |words| write_part(expected, count, words))?;
        if joined.len() + words.len() > TEXT_LIMIT {
            return Err(Malformed::OutOfBounds("text"));
        }
        joined.push_str(words);
    }
    Ok(joined)
}

/// The body of an end: the last seq of each stream.
pub(super) fn write_finals(finals: &[(u32, u64)]) -> Vec<u8> {
    cbor::write(|writer| {
        writer.array(finals.len() as u64)?;
        finals.iter().try_for_each(|(stream, last)| writer.array(2)?.u32(*stream)?.u64(*last)?.ok())
    })
}

/// Reads the body of an end.
pub(super) fn read_finals(body: &[u8]) -> Result<Vec<(u32, u64)>, Malformed> {
    let parse = |decoder: &mut Decoder<'_>| {
        let streams = cbor::array(decoder)?;
        if streams > FINALS_LIMIT {
            return Err(Malformed::OutOfBounds("streams"));
        }
        let mut finals = Vec::new();
        for _ in 0..streams {
            cbor::array_of(decoder, 2)?;
            finals.push((decoder.u32()?, decoder.u64()?));
        }
        Ok(finals)
    };
    cbor::read(body, parse, |finals| write_finals(finals))
}

/// Whether messages of this kind are split into parts.
pub(super) const fn has_parts(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Escalation | Kind::EscalationAnswer)
}

/// Whether the sender hears of its delivery.
pub(super) const fn is_message(kind: Kind) -> bool {
    has_parts(kind) || matches!(kind, Kind::FileOffer)
}

/// The entries that carry `content`, from `seq`.
#[cfg(test)]
pub(super) fn entries(id: MessageId, content: &Content, seq: u64) -> Vec<Entry> {
    let (stream, kind) = content.place();
    let entry = |(seq, body)| Entry { stream, seq, kind, id, body };
    (seq..).zip(content.encode()).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn survives(content: &Content) {
        let entries = entries(Hex([7; 16]), content, 5);
        assert!(entries.iter().all(|entry| entry.body.len() <= BODY_LIMIT));
        assert_eq!(Content::decode(&entries).as_ref(), Ok(content));
    }

    #[test]
    fn everything_that_can_be_said_survives_a_round_trip() {
        let sha256 = Hex([9; 32]);
        let offer = FileOffer { stream: 2, name: "ä.txt".into(), size: 1 << 40, mime: "a/b".into(), sha256 };
        for content in [
            Content::Text(String::new()),
            Content::Escalation("may I?".into()),
            Content::EscalationAnswer("yes".into()),
            Content::FileOffer(offer),
            Content::FileAccept,
            Content::FileDone,
            Content::FileCancel("too large".into()),
            Content::Trace {
                message: Hex([3; 16]),
                traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap(),
            },
            Content::Chunk { stream: 9, bytes: vec![0; CHUNK_LIMIT] },
        ] {
            survives(&content);
        }
    }

    #[test]
    fn a_text_of_one_mebibyte_is_split_between_characters_whatever_their_width() {
        for character in ["x", "é", "€", "🦀"] {
            for shift in 0..4 {
                let mut words = "y".repeat(shift);
                words += &character.repeat((TEXT_LIMIT - shift) / character.len());
                let content = Content::Text(words);
                assert!(content.encode().len() as u64 <= PARTS_LIMIT);
                survives(&content);
            }
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let whole = entries(Hex([7; 16]), &Content::Text("x".repeat(100_000)), 1);
        let [first, second, ..] = whole.as_slice() else { panic!("a long text has parts") };
        for odd in [
            vec![first.clone()],
            vec![second.clone(), first.clone()],
            whole[1..].to_vec(),
            [whole.clone(), vec![first.clone()]].concat(),
            vec![Entry { body: write_part(0, 1, "x"), stream: CONTROL, ..first.clone() }],
            vec![Entry { body: vec![], ..first.clone() }],
            vec![Entry { kind: Kind::Chunk, ..first.clone() }],
            vec![Entry { kind: Kind::Other(77), ..first.clone() }],
            vec![],
        ] {
            assert!(Content::decode(&odd).is_err());
        }
        assert!(part_of(&write_part(0, PARTS_LIMIT + 1, "")).is_err());
        assert!(part_of(&write_part(1, 1, "")).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(kind in 0..12u8, body in prop::collection::vec(any::<u8>(), 0..60)) {
            _ = part_of(&body);
            _ = read_finals(&body);
            let entry = Entry { stream: TEXT, seq: 1, kind: kind.into(), id: Hex([0; 16]), body };
            _ = Content::decode(&[entry]);
        }

        #[test]
        fn the_last_numbers_survive_a_round_trip(finals in prop::collection::vec(any::<(u32, u64)>(), 0..64)) {
            prop_assert_eq!(read_finals(&write_finals(&finals)), Ok(finals));
        }
    }
}
