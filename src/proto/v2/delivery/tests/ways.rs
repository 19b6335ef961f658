//! Pieces of files and the ways that they take.

use super::*;
use crate::proto::v2::batch::FIRST_FILE;
use crate::proto::v2::body::CHUNK_LIMIT;

/// A machine with an open stream for a file, and so many pieces waiting in it.
fn with_pieces(count: usize) -> (Alone, u32) {
    let mut alice = Alone::new();
    let stream = alice.machine.open_outgoing().unwrap();
    pieces(&mut alice, stream, count);
    (alice, stream)
}

fn pieces(alice: &mut Alone, stream: u32, count: usize) {
    for _ in 0..count {
        let piece = Content::Chunk { stream, bytes: vec![7; CHUNK_LIMIT] };
        alice.machine.say(id(1), &piece, None).unwrap();
    }
    alice.drain();
}

/// Sends what waits, by turns over these ways.
fn send_over(alice: &mut Alone, ways: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(frame) = alice.machine.poll_transmit(alice.now) {
        assert!(frame.bulk);
        alice.machine.handle_sent(frame.number, ways[numbers.len() % ways.len()]);
        numbers.push(frame.number);
    }
    numbers
}

#[test]
fn pieces_of_files_travel_alone_after_all_else_and_files_take_turns() {
    let (mut alice, first) = with_pieces(2);
    let second = alice.machine.open_outgoing().unwrap();
    pieces(&mut alice, second, 2);
    alice.text(9);
    let frames: Vec<Transmit> = std::iter::from_fn(|| alice.machine.poll_transmit(alice.now)).collect();
    let streams: Vec<(bool, Vec<u32>)> = frames
        .iter()
        .map(|frame| {
            let batch = Batch::decode(frame::unpad(&frame.plaintext).unwrap()).unwrap();
            (frame.bulk, batch.entries.iter().map(|entry| entry.stream).collect())
        })
        .collect();
    let piece = |stream| (true, vec![stream]);
    let expected = [(false, vec![1]), piece(first), piece(second), piece(first), piece(second)];
    assert_eq!(streams, expected);
    assert!(first >= FIRST_FILE);
}

#[test]
fn while_links_have_no_room_only_what_is_no_file_leaves() {
    let (mut alice, _) = with_pieces(2);
    alice.machine.hold_files(true);
    assert_eq!(alice.machine.poll_transmit(alice.now), None);
    alice.text(9);
    assert!(!alice.machine.poll_transmit(alice.now).unwrap().bulk);
    assert_eq!(alice.machine.poll_transmit(alice.now), None);
    alice.machine.hold_files(false);
    let frame = alice.machine.poll_transmit(alice.now).unwrap();
    // It could not leave after all: what is in it goes out in another frame.
    alice.machine.handle_unsent(frame.number);
    let again = alice.machine.poll_transmit(alice.now).unwrap();
    assert!(again.number > frame.number && again.bulk);
}

#[test]
fn a_slower_way_loses_nothing_until_its_frames_are_overdue_and_is_shunned_then() {
    let (mut alice, stream) = with_pieces(8);
    let numbers = send_over(&mut alice, &[0, 1]);
    alice.now = alice.now + Duration::from_millis(20);
    let quick: Vec<u64> = numbers.iter().copied().step_by(2).collect();
    alice.acknowledge(0, &quick);
    assert_eq!(alice.seqs(), Vec::<u64>::new(), "four later ones came by the other way, which says nothing");
    // Twice as slow, and never lost.
    alice.now = alice.now + Duration::from_millis(20);
    let slow: Vec<u64> = numbers.iter().copied().skip(1).step_by(2).collect();
    alice.acknowledge(1, &slow);
    assert!(alice.machine.is_through(stream));

    pieces(&mut alice, stream, 8);
    let numbers = send_over(&mut alice, &[0, 1]);
    alice.now = alice.now + Duration::from_millis(400);
    let quick: Vec<u64> = numbers.iter().copied().step_by(2).collect();
    alice.acknowledge(2, &quick);
    assert!(alice.machine.is_shunned(1, alice.now) && !alice.machine.is_shunned(0, alice.now));
    let again = send_over(&mut alice, &[0]);
    assert_eq!(again.len(), 1, "the one that three later ones have passed by");
    alice.now = alice.now + Duration::from_secs(2);
    assert!(!alice.machine.is_shunned(1, alice.now), "it gets another chance");
}

#[test]
fn of_one_way_three_later_ones_are_enough() {
    let (mut alice, _) = with_pieces(4);
    let numbers = send_over(&mut alice, &[0]);
    alice.acknowledge(0, &numbers[1..]);
    assert_eq!(alice.seqs(), [1]);
    assert!(!alice.machine.is_shunned(0, alice.now), "one that is lost is no way that fails");
}
