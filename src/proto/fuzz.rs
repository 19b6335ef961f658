//! What a peer says, once its signatures and ciphers are off (see [`crate::fuzz`]).

use super::v2::batch::{Ack, Batch, Entry, Kind};
use super::v2::body::Content;
use super::v2::delivery::{Delivery, Handled, Output, Saved};
use super::v2::frame::{self, Frame};
use super::v2::signal::Signal;
use super::{Hex, Millis, legacy, presence, safe_file_name, text as shown};
use crate::fuzz::Bytes;

/// The JSON of either dialect's calls and of presence. What is read must be read the same from what is written of it.
pub fn payload(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let which = bytes.byte();
    let json = bytes.text();
    match which % 4 {
        0 => {
            if let Ok(signal) = Signal::parse(&json) {
                assert_eq!(Signal::parse(&signal.to_json()).ok(), Some(signal));
            }
        }
        1 => {
            if let Ok(payload) = legacy::Payload::parse(&json) {
                assert_eq!(legacy::Payload::parse(&payload.to_json()).ok(), Some(payload));
            }
        }
        2 => {
            if let Ok(content) = presence::Content::parse(&json) {
                assert_eq!(presence::Content::parse(&content.to_json()).ok(), Some(content));
            }
        }
        _ => _ = serde_json::from_str::<super::Rotation>(&json),
    }
}

/// A plaintext of a frame, a batch in one, bodies of entries. The encodings are deterministic: what is read is what
/// would have been written.
pub fn batch(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    match bytes.byte() % 4 {
        0 => {
            if let Ok(batch) = frame::unpad(bytes.0) {
                assert_eq!(frame::pad(batch).as_deref(), Ok(bytes.0));
            }
        }
        1 => {
            if let Ok(batch) = Batch::decode(bytes.0) {
                assert_eq!(batch.encode(), bytes.0);
                batch.entries.iter().for_each(|entry| _ = Content::decode(std::slice::from_ref(entry)));
            }
        }
        2 => {
            let content = bytes.text();
            if let Ok(frame) = Frame::decode(&content) {
                assert_eq!(frame.encode(), content);
            }
        }
        _ => {
            let mut entries = Vec::new();
            while !bytes.is_empty() {
                let (kind, length) = (Kind::from(bytes.byte() % 14), bytes.number() as usize);
                let body = bytes.take(length).to_vec();
                entries.push(Entry { stream: 1, seq: 1, kind, id: Hex([1; 16]), body });
            }
            if let Ok(content) = Content::decode(&entries)
                && content.size().0 <= content.size().1
            {
                let kind = content.place().1;
                let again = content.encode().into_iter();
                let again = again.map(|body| Entry { stream: 1, seq: 1, kind, id: Hex([1; 16]), body });
                // A text may come in other pieces than ours.
                assert_eq!(Content::decode(&again.collect::<Vec<_>>()).as_ref(), Ok(&content));
            }
        }
    }
}

/// Steps of one that run a delivery machine, most of them a peer's doing: frames with any batch under any number, texts
/// in parts, chunks of files, acknowledgements of what was never sent, ends.
pub fn delivery(bytes: &[u8]) {
    /// More than one case needs; each step may bring a frame of the largest size.
    const STEPS: usize = 400;

    let mut bytes = Bytes(bytes);
    let mut now = Millis::from_secs(1_800_000_000);
    let (mut machine, mut saved, mut number) = (Delivery::new(now), Saved::default(), 0_u64);
    for _ in 0..STEPS {
        if bytes.is_empty() {
            break;
        }
        match bytes.byte() % 16 {
            0..=6 => {
                let batch = peer_batch(&mut bytes);
                if let Ok(plaintext) = frame::pad(&batch.encode())
                    && let Handled::Early(stream) = machine.handle_frame(0, number, &plaintext, now)
                {
                    machine.admit(stream);
                    machine.handle_frame(0, number, &plaintext, now);
                }
                number += 1;
            }
            7 => {
                let (epoch, of, length) = (bytes.byte(), bytes.number(), bytes.byte());
                if let Some(epoch) = machine.receive_epoch(epoch) {
                    machine.handle_frame(epoch, of.into(), bytes.take(length.into()), now);
                }
            }
            8 => machine.handle_persisted(machine.persist_point(), now),
            9 => {
                now = now + std::time::Duration::from_millis(u64::from(bytes.number()) * 20);
                machine.handle_timeout(now);
            }
            10 => {
                let id = Hex([bytes.byte(); 16]);
                let length = usize::from(bytes.number());
                let words = String::from_utf8_lossy(bytes.take(length)).into_owned();
                let _ =
                    machine.say(id, &Content::Text(words), Some(now + std::time::Duration::from_secs(30)));
            }
            11 => _ = machine.open_incoming(bytes.byte().into()),
            12 => machine.close_incoming(bytes.byte().into()),
            13 => {
                if let Ok(stream) = machine.open_outgoing() {
                    let chunk = Content::Chunk { stream, bytes: vec![7; 1 + usize::from(bytes.byte())] };
                    let _ = machine.say(Hex([9; 16]), &chunk, None);
                }
            }
            14 => {
                while let Some(sent) = machine.poll_transmit(now) {
                    assert!(frame::unpad(&sent.plaintext).and_then(Batch::decode).is_ok());
                }
            }
            _ => match bytes.byte() % 4 {
                0 => _ = machine.end(now),
                1 => machine.handle_link_up(now),
                2 => machine.resume(now),
                _ => machine = Delivery::restore(&saved, now),
            },
        }
        while let Some(output) = machine.poll_output() {
            if let Output::Persist(change) = output {
                saved.apply(change);
            }
        }
    }
    // A crash may come at any time: what was persisted is what a machine can go on from.
    let _ = Delivery::restore(&saved, now).poll_transmit(now);
}

fn peer_batch(bytes: &mut Bytes<'_>) -> Batch {
    let shape = bytes.byte();
    let ack = (shape & 1 != 0).then(|| {
        let (largest, below) = (bytes.byte(), bytes.byte());
        let delay = std::time::Duration::from_millis(bytes.number().into());
        Ack { delay, ranges: vec![u64::from(largest.saturating_sub(below))..=largest.into()] }
    });
    let entry = |bytes: &mut Bytes<'_>| {
        let (stream, seq, kind) = (bytes.byte() % 8, bytes.byte(), bytes.byte() % 14);
        let (id, length) = (bytes.byte(), bytes.number() % 33_000);
        let body = match shape & 2 != 0 {
            true => vec![id; length.into()],
            false => bytes.take(length.into()).to_vec(),
        };
        // As far ahead as a stream's span reaches, and beyond.
        let seq = u64::from(seq) * if shape & 4 != 0 { 97 } else { 1 };
        Entry { stream: stream.into(), seq, kind: kind.into(), id: Hex([id; 16]), body }
    };
    let entries = (0..shape >> 5).map(|_| entry(bytes)).collect();
    Batch { ack, entries }
}

/// Words and names that a peer chose, on their way to a terminal and to the disk.
pub fn text(bytes: &[u8]) {
    let words = String::from_utf8_lossy(bytes);
    for safe in [shown::quote(&words), shown::escape(&words), shown::printable(&words)] {
        assert!(!safe.chars().any(|c| c.is_control() && c != '\n'), "{safe:?}");
    }
    let quoted = shown::quote(&words);
    assert_eq!(
        (quoted.matches(shown::OPEN).count(), quoted.matches(shown::CLOSE).count()),
        (1, 1),
        "{quoted}"
    );
    for line in shown::quote_lines(&words, "> ").lines() {
        assert!(line.starts_with("> "), "{line:?}");
    }
    let name = safe_file_name(&words);
    assert!(!name.is_empty() && name.len() <= 255 && !name.starts_with('.'), "{name:?}");
    assert!(!name.contains(['/', '\\', '\0', '\n']), "{name:?}");
    assert_eq!(safe_file_name(&name), name, "a safe name stays as it is");
}
