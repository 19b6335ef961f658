//! `tests/vectors/frames.json`, which an independent encoder made: what it says is what this code reads and writes.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::batch::{Ack, Batch, CONTROL, Entry, FIRST_FILE, Kind, TEXT};
use super::body::{self, Content, FileOffer};
use super::frame::{self, Frame};
use crate::proto::Hex;

#[derive(Deserialize)]
struct Vectors {
    padding: Vec<(usize, usize)>,
    plaintexts: Vec<Plaintext>,
    invalid_plaintexts: Vec<Invalid>,
    batches: Vec<BatchVector>,
    invalid_batches: Vec<Invalid>,
    bodies: Vec<BodyVector>,
    long_texts: Vec<LongText>,
    frames: Vec<FrameVector>,
    invalid_frames: Vec<InvalidFrame>,
}

#[derive(Deserialize)]
struct Plaintext {
    batch: String,
    plaintext: String,
}

#[derive(Deserialize)]
struct Invalid {
    why: String,
    hex: String,
}

#[derive(Deserialize)]
struct InvalidFrame {
    why: String,
    content: String,
}

#[derive(Deserialize)]
struct BatchVector {
    name: String,
    hex: String,
    ack: Option<AckVector>,
    entries: Vec<EntryVector>,
}

#[derive(Deserialize)]
struct AckVector {
    delay: u64,
    ranges: Vec<(u64, u64)>,
}

#[derive(Deserialize)]
struct EntryVector {
    stream: u32,
    seq: u64,
    r#type: Value,
    id: String,
    body: String,
}

#[derive(Deserialize)]
struct BodyVector {
    r#type: Value,
    stream: u32,
    says: Value,
    bodies: Vec<String>,
}

#[derive(Deserialize)]
struct LongText {
    unit: String,
    times: usize,
    /// Bytes of words in each part, and what stands before them.
    parts: Vec<(usize, String)>,
}

#[derive(Deserialize)]
struct FrameVector {
    epoch: u8,
    number: u64,
    ciphertext: String,
    content: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../tests/vectors/frames.json")).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn id(hex: &str) -> Hex<16> {
    hex.parse().unwrap()
}

/// The types as the specification names them; one that it does not know is given by its number.
fn kind(named: &Value) -> Kind {
    match named.as_str() {
        Some("text") => Kind::Text,
        Some("file-offer") => Kind::FileOffer,
        Some("file-accept") => Kind::FileAccept,
        Some("file-done") => Kind::FileDone,
        Some("file-cancel") => Kind::FileCancel,
        Some("chunk") => Kind::Chunk,
        Some("escalation") => Kind::Escalation,
        Some("escalation-answer") => Kind::EscalationAnswer,
        Some("read") => Kind::Read,
        Some("ping") => Kind::Ping,
        Some("end") => Kind::End,
        Some("trace") => Kind::Trace,
        _ => Kind::Other(named.as_u64().unwrap().try_into().unwrap()),
    }
}

#[test]
fn plaintexts_are_padded_as_the_vectors_say() {
    for (length, padded) in vectors().padding {
        assert_eq!(frame::pad(&vec![1; length]).unwrap().len(), padded, "{length}");
    }
    for vector in vectors().plaintexts {
        let (batch, plaintext) = (bytes(&vector.batch), bytes(&vector.plaintext));
        assert_eq!(frame::pad(&batch).unwrap(), plaintext);
        assert_eq!(frame::unpad(&plaintext), Ok(batch.as_slice()));
    }
    for vector in vectors().invalid_plaintexts {
        assert!(frame::unpad(&bytes(&vector.hex)).is_err(), "{}", vector.why);
    }
}

#[test]
fn batches_are_written_and_read_as_the_vectors_say() {
    for vector in vectors().batches {
        let ack = vector.ack.map(|ack| Ack {
            delay: Duration::from_millis(ack.delay),
            ranges: ack.ranges.into_iter().map(|(last, first)| first..=last).collect(),
        });
        let entry = |entry: EntryVector| Entry {
            stream: entry.stream,
            seq: entry.seq,
            kind: kind(&entry.r#type),
            id: id(&entry.id),
            body: bytes(&entry.body),
        };
        let batch = Batch { ack, entries: vector.entries.into_iter().map(entry).collect() };
        assert_eq!(batch.encode(), bytes(&vector.hex), "{}", vector.name);
        assert_eq!(Batch::decode(&bytes(&vector.hex)), Ok(batch), "{}", vector.name);
    }
    for vector in vectors().invalid_batches {
        assert!(Batch::decode(&bytes(&vector.hex)).is_err(), "{}", vector.why);
    }
}

#[test]
fn bodies_are_written_and_read_as_the_vectors_say() {
    for vector in vectors().bodies {
        let (kind, says) = (kind(&vector.r#type), vector.says);
        let bodies: Vec<_> = vector.bodies.iter().map(|body| bytes(body)).collect();
        let text = |member: &str| says[member].as_str().unwrap().to_owned();
        let content = match kind {
            Kind::Text => Content::Text(text("text")),
            Kind::Escalation => Content::Escalation(text("text")),
            Kind::EscalationAnswer => Content::EscalationAnswer(text("text")),
            Kind::FileOffer => Content::FileOffer(FileOffer {
                stream: says["stream"].as_u64().unwrap().try_into().unwrap(),
                name: text("name"),
                size: says["size"].as_u64().unwrap(),
                mime: text("mime"),
                sha256: text("sha256").parse().unwrap(),
            }),
            Kind::FileAccept => Content::FileAccept,
            Kind::FileDone => Content::FileDone,
            Kind::FileCancel => Content::FileCancel(text("reason")),
            Kind::Chunk => Content::Chunk { stream: vector.stream, bytes: bytes(&text("bytes")) },
            Kind::Trace => Content::Trace {
                message: id(&text("message")),
                traceparent: text("traceparent").parse().unwrap(),
            },
            Kind::End => {
                let finals: Vec<(u32, u64)> = serde_json::from_value(says["finals"].clone()).unwrap();
                assert_eq!([body::write_finals(&finals)], bodies.as_slice());
                assert_eq!(body::read_finals(&bodies[0]), Ok(finals));
                continue;
            }
            Kind::Read | Kind::Ping | Kind::Other(_) => panic!("a body that says nothing"),
        };
        assert_eq!(content.place(), (vector.stream, kind));
        assert!([CONTROL, TEXT, FIRST_FILE].contains(&vector.stream));
        assert_eq!(content.encode(), bodies);
        assert_eq!(Content::decode(&body::entries(Hex([1; 16]), &content, 1)), Ok(content));
    }
}

#[test]
fn long_texts_are_cut_as_the_vectors_say() {
    for vector in vectors().long_texts {
        let words = vector.unit.repeat(vector.times);
        let mut rest = words.as_bytes();
        let mut expected = Vec::new();
        for (length, head) in vector.parts {
            let (part, after) = rest.split_at(length);
            expected.push([bytes(&head).as_slice(), part].concat());
            rest = after;
        }
        assert!(rest.is_empty() && Content::Text(words).encode() == expected);
    }
}

#[test]
fn frames_are_written_and_read_as_the_vectors_say() {
    for vector in vectors().frames {
        let ciphertext = bytes(&vector.ciphertext);
        let frame = Frame { epoch: vector.epoch, number: vector.number, ciphertext };
        assert_eq!(frame.encode(), vector.content);
        assert_eq!(Frame::decode(&vector.content), Ok(frame));
    }
    for vector in vectors().invalid_frames {
        assert!(Frame::decode(&vector.content).is_err(), "{}", vector.why);
    }
}
