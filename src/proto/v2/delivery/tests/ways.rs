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

#[test]
fn a_way_that_delays_is_given_less_and_one_that_loses_the_order_is_not() {
    for in_order in [true, false] {
        let (mut alice, stream) = with_pieces(16);
        let numbers = send_over(&mut alice, &[0]);
        let wait = |alice: &mut Alone, ms| alice.now = alice.now + Duration::from_millis(ms);
        wait(&mut alice, 20);
        alice.acknowledge(0, &numbers[..1]);
        wait(&mut alice, 400);
        let next = if in_order { [1, 2, 3] } else { [3, 1, 2] };
        for (ack, place) in (1..).zip(next) {
            alice.acknowledge(ack, &numbers[place..=place]);
        }
        // Twelve pieces are under way: more than a way takes that has a queue.
        assert_eq!(alice.machine.has_room_on(0), !in_order, "in order: {in_order}");
        assert!(!alice.machine.is_through(stream));
    }
}

#[test]
fn a_frame_that_is_lost_now_and_then_changes_no_window_and_one_of_three_does() {
    for (every, is_lossy) in [(20, false), (3, true)] {
        let (mut alice, stream) = with_pieces(0);
        for number in 1..60 {
            pieces(&mut alice, stream, 1);
            let mut numbers = Vec::new();
            while let Some(frame) = alice.machine.poll_transmit(alice.now) {
                // What a lossy way has lost goes over two.
                if frame.bulk {
                    alice.machine.handle_sent(frame.number, 0);
                }
                numbers.push(frame.number);
            }
            alice.now = alice.now + Duration::from_millis(20);
            if number % every > 0 {
                alice.acknowledge(number, &numbers);
            }
        }
        assert_eq!(alice.machine.loses_many(0), is_lossy, "one of {every} is lost");
    }
}

/// How often somebody says something, if it has arrived by then.
const TEXTS_EVERY: Duration = Duration::from_millis(200);

/// Sends a file over an uplink of so many bytes a second, a text now and then. Returns by how much the slowest text was
/// later than on an idle uplink, and which part of the uplink the file has used.
fn file_and_texts(rate: u64, delay: u64, pieces: u64, ways: u8) -> (Duration, f64) {
    let mut world = World::new(rate, Weather { delay, ..FINE });
    world.ways = ways;
    world.uplink = Some((rate, world.now));
    let mut stream = 0;
    world.input(0, |machine, _| stream = machine.open_outgoing().unwrap());
    world.input(1, |machine, _| machine.open_incoming(stream).unwrap());
    world.input(1, |machine, _| machine.admit(stream));
    let (begun, step) = (world.now, Duration::from_millis(2));
    let (mut said, mut looked, mut there, mut texts) = (0, 0, 0, 0u64);
    let (mut slowest, mut text): (Duration, Option<Millis>) = (Duration::ZERO, None);
    while there < pieces {
        while said < pieces && world.sides[0].machine.chunk_room(stream) > 0 {
            world.say(0, 1, Content::Chunk { stream, bytes: vec![7; CHUNK_LIMIT] }, None);
            said += 1;
        }
        if text.is_none() && world.now.since(begun) >= TEXTS_EVERY * texts as u32 {
            texts += 1;
            text = Some(world.now);
            world.text(0, 1_000 + u128::from(texts), "?");
        }
        world.run(step);
        for (_, content) in &world.sides[1].surfaced[looked..] {
            match (is_chunk(content), text) {
                (false, Some(at)) => (slowest, text) = (slowest.max(world.now.since(at)), None),
                _ => there += 1,
            }
        }
        looked = world.sides[1].surfaced.len();
    }
    assert!(texts > 3, "{texts}");
    let bytes = pieces * (CHUNK_LIMIT as u64) * 4 / 3;
    let used = bytes as f64 / (rate as f64 * world.now.since(begun).as_secs_f64());
    (slowest.saturating_sub(Duration::from_millis(delay)), used)
}

#[test]
fn a_text_waits_for_a_fraction_of_a_second_behind_a_file_and_the_file_still_fills_the_uplink() {
    // A mobile uplink, a line at home, and a fast one.
    for (rate, delay, pieces) in [(125_000, 60, 32), (1_250_000, 40, 128), (12_500_000, 20, 512)] {
        // How long a frame takes there.
        let frame = Duration::from_secs_f64(45_000.0 / rate as f64);
        for ways in [1, 3] {
            let (slowest, used) = file_and_texts(rate, delay, pieces, ways);
            println!(
                "{rate} B/s, {ways} relays: a text was late by {slowest:?}; the file had {used:.2} of the line"
            );
            // Two frames a relay, the one that has begun, and a queue that is seen before it is there twice.
            let bound = (2 * u32::from(ways) + 1) * frame + Duration::from_millis(250);
            assert!(slowest <= bound, "{rate}: {slowest:?}");
            assert!(used > 0.7, "{rate}: {used}");
        }
    }
}

#[test]
fn files_arrive_over_ways_that_each_lose_two_thirds_and_delay_at_random() {
    // Five files of 1 MiB. The weather is what was measured through relays that do everything wrong now and then.
    const PIECES: u64 = 5 * (1_u64 << 20).div_ceil(CHUNK_LIMIT as u64);
    for seed in 0..8 {
        let mut world = World::new(seed, Weather { dropped: 65, repeated: 0, delay: 4_000, commit: 10 });
        world.twice = true;
        let streams: Vec<u32> =
            (0..5).map(|_| world.input(0, |machine, _| machine.open_outgoing().unwrap())).collect();
        streams
            .iter()
            .for_each(|stream| world.input(1, |machine, _| machine.open_incoming(*stream).unwrap()));
        let mut left = streams.iter().map(|stream| (*stream, PIECES / 5)).collect::<Vec<_>>();
        while (world.sides[1].surfaced.len() as u64) < PIECES {
            for (stream, left) in &mut left {
                while *left > 0 && world.sides[0].machine.chunk_room(*stream) > 0 {
                    world.say(0, 1, Content::Chunk { stream: *stream, bytes: vec![7; CHUNK_LIMIT] }, None);
                    *left -= 1;
                }
            }
            world.run(Duration::from_millis(100));
            assert!(world.now.since(START) < Duration::from_secs(240), "seed {seed}");
        }
        println!("seed {seed}: {:?}", world.now.since(START));
    }
}

/// Pieces of a file that were handed over, durable or about to be.
fn handed_over(world: &World) -> u64 {
    let side = &world.sides[0];
    let pending = side.transactions.iter().filter(|transaction| transaction.accepted.is_some()).count();
    (side.accepted.len() + pending) as u64
}

#[test]
fn a_kill_of_either_side_makes_at_most_a_megabyte_of_a_file_go_out_again() {
    const PIECES: u64 = 100;
    for seed in 0..12 {
        let mut world = World::new(seed, FINE);
        world.uplink = Some((10_000_000, world.now));
        world.keep_log = true;
        let mut stream = 0;
        world.input(0, |machine, _| stream = machine.open_outgoing().unwrap());
        world.input(1, |machine, _| machine.open_incoming(stream).unwrap());
        let mut killed = false;
        let there = |world: &World| world.sides[1].surfaced.len() as u64;
        while there(&world) < PIECES {
            while handed_over(&world) < PIECES && world.sides[0].machine.chunk_room(stream) > 0 {
                world.say(0, 1, Content::Chunk { stream, bytes: vec![7; CHUNK_LIMIT] }, None);
            }
            world.run(Duration::from_millis(1 + seed % 7));
            if !killed && there(&world) > PIECES / 4 + seed {
                killed = true;
                world.kill((seed % 2) as usize);
                // Nothing is sealed before the new handshake, however long it takes.
                world.handshakes.iter_mut().for_each(|(at, ..)| *at = START);
                world.run(Duration::ZERO);
            }
        }
        let sent = world
            .frames_of(0)
            .iter()
            .flat_map(|batch| &batch.entries)
            .filter(|it| it.stream == stream)
            .count();
        let again = (sent as u64 - PIECES) * CHUNK_LIMIT as u64;
        assert!(killed && again <= span_bytes(stream), "seed {seed}: {again} bytes went out again");
    }
}
