//! One rule each.

use super::*;
use crate::proto::v2::batch::{Ack, Entry, Kind};

/// No seqs.
const NOTHING: [u64; 0] = [];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn fine() -> World {
    let mut world = World::new(7, Weather { dropped: 0, repeated: 0, delay: 0, commit: 0 });
    world.keep_log = true;
    world
}

fn peer_text(seq: u64) -> Entry {
    let body = Content::Text(seq.to_string()).encode().remove(0);
    Entry { stream: TEXT, seq, kind: Kind::Text, id: id(seq.into()), body }
}

fn carrying(entries: &[Entry]) -> Batch {
    Batch { ack: None, entries: entries.to_vec() }
}

#[test]
fn what_waits_goes_out_in_one_frame_and_is_acknowledged_in_one() {
    let mut world = fine();
    for number in 1..=50 {
        world.sides[0].machine.say(id(number), &Content::Text(number.to_string()), None).unwrap();
    }
    world.input(0, |_, _| ());
    world.run(seconds(1));
    assert_eq!(world.sides[0].delivered.len(), 50);
    assert_eq!(world.sides[1].texts(), (1..=50).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(world.log.len(), 2);
}

#[test]
fn nothing_leaves_before_it_is_durable() {
    let mut alice = Alone::new();
    alice.machine.say(id(1), &Content::Text("x".into()), None).unwrap();
    assert_eq!(alice.frame(), None);
    alice.drain();
    assert_eq!(alice.seqs(), [1]);
}

#[test]
fn a_frame_is_acknowledged_when_its_entries_are_durable_and_its_repetition_likewise() {
    let mut bob = Alone::new();
    bob.receive(0, carrying(&[peer_text(1)]));
    let point = bob.machine.persist_point();
    assert_eq!(
        bob.receive(0, carrying(&[peer_text(1)])),
        Handled::Dropped("it waits for its commit already")
    );
    assert_eq!(bob.receive(1, carrying(&[peer_text(1)])), Handled::Taken, "sent again under another number");
    assert_eq!(bob.frame(), None);
    bob.machine.handle_persisted(point, bob.now);
    let (_, batch) = bob.frame().unwrap();
    assert_eq!(batch.ack.unwrap().ranges, [0..=1]);
    assert_eq!(bob.frame(), None, "once");
    bob.receive(1, carrying(&[peer_text(1)]));
    assert_eq!(bob.frame().unwrap().1.ack.unwrap().ranges, [0..=1], "again at once");
}

#[test]
fn a_frame_that_comes_late_is_acknowledged_although_later_ones_were_reported_long_ago() {
    let mut bob = Alone::new();
    bob.receive(0, carrying(&[peer_text(1)]));
    bob.receive(2, carrying(&[peer_text(3)]));
    bob.drain();
    let (reporting, batch) = bob.frame().unwrap();
    assert_eq!(batch.ack.unwrap().ranges, [2..=2, 0..=0]);
    bob.acknowledge(5, &[reporting]);
    bob.receive(1, carrying(&[peer_text(2)]));
    bob.drain();
    assert_eq!(bob.frame().unwrap().1.ack.unwrap().ranges, [5..=5, 0..=2]);
    bob.text(1);
    assert_eq!(
        bob.frame().unwrap().1.ack.unwrap().ranges,
        [5..=5, 0..=2],
        "until the peer has seen it reported"
    );
}

#[test]
fn acknowledgements_are_merged_while_the_budget_is_low() {
    let mut bob = Alone::new();
    bob.machine.handle_budget(true, bob.now);
    for number in 0..3 {
        bob.receive(number, carrying(&[peer_text(number + 1)]));
        bob.drain();
        assert_eq!(bob.frame(), None);
    }
    bob.pass(ACK_MERGE_TIME);
    let ack = bob.frame().unwrap().1.ack.unwrap();
    assert_eq!((ack.ranges, ack.delay), (vec![0..=2], ACK_MERGE_TIME));
    assert_eq!(bob.frame(), None);
}

#[test]
fn a_frame_is_lost_when_three_later_ones_are_acknowledged_and_not_before() {
    let mut alice = Alone::new();
    for number in 1..=5 {
        alice.text(number);
        assert_eq!(alice.seqs(), [number as u64]);
    }
    alice.acknowledge(0, &[1, 2]);
    assert_eq!(alice.seqs(), NOTHING);
    alice.acknowledge(1, &[3]);
    let (number, batch) = alice.frame().unwrap();
    assert_eq!((number, batch.entries[0].seq), (5, 1), "the same entry in a frame with a new number");
}

#[test]
fn a_late_acknowledgement_of_a_frame_that_was_given_up_counts() {
    let mut alice = Alone::new();
    alice.text(1);
    assert_eq!(alice.seqs(), [1]);
    alice.pass(LOSS_TIME);
    alice.acknowledge(0, &[0]);
    assert_eq!(alice.seqs(), NOTHING, "not sent again");
    assert!(alice.machine.is_settled());
}

#[test]
fn the_loss_timer_doubles_up_to_its_limit_and_a_sign_of_life_begins_anew() {
    let mut alice = Alone::new();
    alice.text(1);
    assert_eq!(alice.seqs(), [1]);
    for pause in [1, 2, 4, 8, 16, 30] {
        alice.pass(seconds(pause) - Duration::from_millis(1));
        assert_eq!(alice.seqs(), NOTHING, "{pause}");
        alice.pass(Duration::from_millis(1));
        assert_eq!(alice.seqs(), [1], "{pause}");
    }
    alice.pass(seconds(2));
    alice.receive(0, carrying(&[peer_text(1)]));
    assert_eq!(alice.seqs(), [1], "at once");
    alice.pass(LOSS_TIME);
    assert_eq!(alice.seqs(), [1], "with a timer as short as in the beginning");
}

#[test]
fn a_relay_that_is_back_is_tried_at_once() {
    let mut alice = Alone::new();
    alice.text(1);
    assert_eq!(alice.seqs(), [1]);
    alice.pass(seconds(20));
    assert!(!alice.seqs().is_empty());
    alice.pass(seconds(3));
    alice.machine.handle_link_up(alice.now);
    assert_eq!(alice.seqs(), [1]);
}

#[test]
fn a_peer_that_is_gone_costs_few_frames_however_much_waits() {
    let mut alice = Alone::new();
    for number in 1..=600 {
        alice.text(number);
        alice.frame();
    }
    let mut frames = 0;
    for _ in 0..100 {
        alice.pass(seconds(1));
        while alice.frame().is_some() {
            frames += 1;
        }
    }
    assert!(frames <= 16, "{frames} frames in 100 seconds");
}

#[test]
fn the_timer_follows_the_round_trip_without_the_time_that_an_acknowledgement_waited() {
    let mut alice = Alone::new();
    for number in 0..60 {
        alice.text(number + 1);
        assert_eq!(alice.seqs().len(), 1);
        alice.now = alice.now + Duration::from_millis(2_400);
        let ack =
            Some(Ack { delay: Duration::from_millis(400), ranges: vec![number as u64..=number as u64] });
        alice.receive(number as u64, Batch { ack, entries: vec![] });
    }
    assert_eq!(alice.machine.round_trip(), Some(seconds(2)));
    alice.text(100);
    assert_eq!(alice.seqs().len(), 1);
    assert_eq!(alice.machine.poll_timeout(), Some((alice.now + seconds(4), "loss")));
}

#[test]
fn the_window_holds_256_frames_and_4_mebibytes() {
    let mut alice = Alone::new();
    let mut frames = 0;
    for number in 1..=300 {
        alice.text(number);
        frames += usize::from(alice.frame().is_some());
    }
    assert_eq!(frames, WINDOW_FRAMES);
    alice.acknowledge(0, &[0]);
    assert!(alice.frame().is_some() && alice.frame().is_none(), "one out, one in");

    let mut alice = Alone::new();
    for number in 1..=8 {
        alice.machine.say(id(number), &Content::Text("x".repeat(1 << 20)), None).unwrap();
    }
    alice.drain();
    let sent: usize = std::iter::from_fn(|| alice.machine.poll_transmit(alice.now))
        .map(|frame| frame.plaintext.len())
        .sum();
    assert!((3 << 20..=WINDOW_BYTES).contains(&sent), "{sent}");
}

#[test]
fn a_sender_does_not_run_further_ahead_than_the_receiver_holds_back() {
    let mut alice = Alone::new();
    let mut acknowledged = 0;
    alice.text(1);
    alice.frame();
    for number in 2..=2 * u128::from(SPAN_ENTRIES) {
        alice.text(number);
        while let Some((frame, batch)) = alice.frame() {
            assert!(batch.entries.iter().all(|entry| entry.seq <= SPAN_ENTRIES));
            // Only the first frame stays unacknowledged; what takes its place is lost as well.
            if batch.entries.iter().any(|entry| entry.seq > 1) {
                alice.acknowledge(acknowledged, &[frame]);
                acknowledged += 1;
            }
        }
    }
    assert!(acknowledged >= SPAN_ENTRIES - 1);
}

#[test]
fn what_comes_before_its_turn_is_stored_held_and_surfaced_in_order() {
    let mut bob = Alone::new();
    bob.receive(0, carrying(&[peer_text(3)]));
    assert_eq!(bob.drain(), [Output::Persist(Change::Hold(peer_text(3)))]);
    bob.receive(1, carrying(&[peer_text(1), peer_text(2)]));
    let surfaced = |seq: u64| {
        let said = Said { id: id(seq.into()), seq, content: Content::Text(seq.to_string()) };
        Output::Persist(Change::Surface { stream: TEXT, through: seq, kept: true, said: Some(said) })
    };
    assert_eq!(bob.drain(), [surfaced(1), surfaced(2), surfaced(3)]);
}

#[test]
fn a_peer_that_skips_entries_is_not_held_without_bound_and_what_is_in_turn_is_still_taken() {
    let mut bob = Alone::new();
    let large = |seq| {
        let body = Content::Text("x".repeat(30_000)).encode().remove(0);
        Entry { body, ..peer_text(seq) }
    };
    let mut held = 0;
    for seq in 2..1_000 {
        match bob.receive(seq, carrying(&[large(seq)])) {
            Handled::Taken => held += 30_000,
            other => assert_eq!(other, Handled::Dropped("more is ahead of its turn than is held back")),
        }
        bob.drain();
    }
    assert!((4 << 20..6 << 20).contains(&held), "{held}");
    let far = carrying(&[peer_text(1 << 60)]);
    assert!(matches!(bob.receive(1_001, far), Handled::Dropped(_)));
    assert_eq!(bob.receive(1_002, carrying(&[peer_text(1)])), Handled::Taken);
    assert!(bob.drain().len() > 100);
    assert!(bob.machine.saved().held.is_empty());
}

#[test]
fn a_text_of_one_mebibyte_arrives_as_one_message_and_more_is_refused() {
    let mut world = fine();
    world.weather = Weather { dropped: 20, repeated: 10, ..FINE };
    let words = "é".repeat(1 << 19);
    world.text(0, 1, &words);
    world.text(0, 2, "after");
    world.run(seconds(60));
    assert_eq!(world.sides[1].texts(), [words.as_str(), "after"]);
    let longer = Content::Text(words + "!");
    let refused = world.sides[0].machine.say(id(3), &longer, None);
    assert_eq!(refused, Err(Refused::TooLarge { size: (1 << 20) + 1, limit: 1 << 20 }));
}

#[test]
fn a_message_is_withdrawn_at_its_deadline_and_those_behind_it_are_not_held_up() {
    let mut world = fine();
    world.weather.dropped = 100;
    world.say(0, 1, Content::Text("x".repeat(100_000)), Some(world.now + seconds(5)));
    world.text(0, 2, "after");
    world.run(seconds(6));
    assert_eq!(world.sides[0].expired, BTreeSet::from([id(1)]));
    world.weather.dropped = 0;
    world.run(seconds(30));
    assert_eq!(world.sides[1].texts(), ["after"]);
    assert_eq!(world.sides[0].delivered, BTreeSet::from([id(2)]));
}

#[test]
fn a_text_of_which_the_rest_was_withdrawn_is_not_shown() {
    let mut bob = Alone::new();
    let parts = crate::proto::v2::body::entries(id(1), &Content::Text("x".repeat(90_000)), 1);
    bob.receive(0, carrying(&parts[..1]));
    bob.drain();
    let filler = |seq| Entry { seq, kind: Kind::Ping, body: vec![], ..parts[0].clone() };
    bob.receive(1, carrying(&[filler(2), filler(3), peer_text(4)]));
    let outputs = bob.drain();
    let said: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Persist(Change::Surface { said, .. }) => said.as_ref().map(|said| said.id),
            _ => None,
        })
        .collect();
    assert_eq!(said, [id(4)]);
    assert!(outputs.contains(&Output::Event(Event::Ignored(id(1), "not whole, or not of this dialect"))));
}

#[test]
fn a_receipt_takes_the_place_of_one_that_has_not_left() {
    let mut world = fine();
    for number in 1..=3 {
        world.text(0, number, "x");
    }
    world.run(seconds(1));
    for number in 1..=3 {
        world.sides[1].machine.read(id(number), world.now).unwrap();
    }
    world.input(1, |_, _| ());
    world.run(seconds(1));
    assert_eq!(world.sides[0].events, [Event::Read(id(3))]);
}

#[test]
fn a_receipt_that_has_left_is_not_changed_because_the_peer_may_have_it() {
    let mut bob = Alone::new();
    bob.machine.read(id(1), bob.now).unwrap();
    bob.drain();
    bob.pass(READ_MERGE_TIME);
    assert_eq!(bob.seqs(), [1]);
    bob.pass(LOSS_TIME);
    bob.machine.read(id(2), bob.now).unwrap();
    bob.drain();
    bob.pass(READ_MERGE_TIME);
    assert_eq!(bob.seqs(), [1, 2]);
}

#[test]
fn a_receipt_waits_a_moment_for_others_and_goes_with_whatever_leaves() {
    let mut bob = Alone::new();
    let moment = READ_MERGE_TIME / 2;
    bob.machine.read(id(1), bob.now).unwrap();
    assert_eq!(bob.drain().len(), 1, "it is durable at once");
    bob.pass(moment);
    assert_eq!(bob.seqs(), [0; 0]);
    bob.machine.read(id(2), bob.now).unwrap();
    bob.drain();
    bob.pass(READ_MERGE_TIME - moment);
    let leaves = |bob: &mut Alone| bob.frame().map(|(_, batch)| batch.entries);
    let receipts = leaves(&mut bob).unwrap();
    assert_eq!(
        receipts.iter().map(|entry| entry.id).collect::<Vec<_>>(),
        [id(2)],
        "the first one's time counts"
    );
    bob.machine.read(id(3), bob.now).unwrap();
    bob.text(4);
    assert_eq!(leaves(&mut bob).unwrap().len(), 2, "nothing that is said waits, and the receipt goes along");
}

#[test]
fn silence_is_asked_about_then_away_then_lost() {
    let mut world = fine();
    world.text(0, 1, "hello");
    world.run(seconds(80));
    world.log.clear();
    world.run(seconds(20));
    let frames = world.frames_of(0);
    assert!(frames.iter().flat_map(|batch| &batch.entries).all(|entry| entry.kind == Kind::Ping));
    assert!((1..=2).contains(&frames.len()), "asked, and perhaps answered");
    world.run(seconds(3_600));
    assert!(world.sides.iter().all(|side| !side.events.contains(&Event::Away)), "pings keep both sides here");

    world.weather.dropped = 100;
    world.text(0, 2, "into the void");
    world.run(AWAY_TIME);
    assert_eq!(world.sides[0].events, [Event::Away]);
    world.weather.dropped = 0;
    world.run(seconds(31));
    assert_eq!(world.sides[0].events, [Event::Away, Event::Back]);

    world.weather.dropped = 100;
    world.text(0, 3, "into the void");
    world.run(LOST_TIME + PING_TIME);
    assert_eq!(world.sides[0].events.last(), Some(&Event::Closed { lost: true, undelivered: vec![id(3)] }));
    assert_eq!(world.sides[0].machine.poll_timeout(), None);
}

#[test]
fn an_end_drains_what_was_said_before_and_refuses_what_comes_after() {
    let mut world = fine();
    world.text(0, 1, "last words");
    world.input(0, |machine, now| assert!(machine.end(now)));
    world.input(0, |machine, now| assert!(!machine.end(now)));
    let late = world.sides[0].machine.say(id(2), &Content::Text("too late".into()), None);
    assert_eq!(late, Err(Refused::Ended));
    world.run(LINGER_TIME + seconds(1));
    for side in &world.sides {
        assert_eq!(side.events, [Event::PeerEnded, Event::Closed { lost: false, undelivered: vec![] }]);
    }
    assert_eq!(world.sides[1].texts(), ["last words"]);
}

#[test]
fn an_end_that_nobody_hears_takes_ten_seconds_and_says_what_is_undelivered() {
    let mut world = fine();
    world.weather.dropped = 100;
    world.text(0, 1, "one");
    world.text(0, 2, "two");
    world.input(0, |machine, now| machine.end(now));
    world.run(DRAIN_TIME - Duration::from_millis(1));
    assert!(!world.sides[0].machine.is_closed());
    world.run(Duration::from_millis(2));
    let undelivered = vec![id(1), id(2)];
    assert_eq!(world.sides[0].events, [Event::Closed { lost: false, undelivered }]);
}

#[test]
fn a_file_moves_within_its_span_and_ends_with_the_call() {
    let mut world = fine();
    let stream = world.input(0, |machine, _| machine.open_outgoing().unwrap());
    let offer = crate::proto::v2::body::FileOffer {
        stream,
        name: "a".into(),
        size: 1,
        mime: "a/b".into(),
        sha256: Hex([1; 32]),
    };
    world.say(0, 1, Content::FileOffer(offer), None);
    world.run(seconds(1));
    world.input(1, |machine, _| machine.open_incoming(stream).unwrap());
    world.say(1, 1, Content::FileAccept, None);
    world.run(seconds(1));
    let chunk = Content::Chunk { stream, bytes: vec![7; crate::proto::v2::body::CHUNK_LIMIT] };
    let room = world.sides[0].machine.chunk_room(stream);
    assert_eq!(room, 32);
    for _ in 0..room {
        world.say(0, 1, chunk.clone(), None);
    }
    world.run(seconds(1));
    assert_eq!(world.sides[1].surfaced.len(), 1 + room);
    assert_eq!(world.sides[0].machine.chunk_room(stream), room);

    world.weather.dropped = 100;
    for _ in 0..room {
        world.say(0, 1, chunk.clone(), None);
    }
    assert_eq!(world.sides[0].machine.say(id(1), &chunk, None), Err(Refused::Full));
    world.input(0, |machine, now| machine.end(now));
    world.weather.dropped = 0;
    world.run(seconds(5));
    for side in &world.sides {
        assert_eq!(side.events, [Event::PeerEnded, Event::Closed { lost: false, undelivered: vec![] }]);
    }
    assert_eq!(world.sides[0].machine.say(id(1), &chunk, None), Err(Refused::Ended));
}

#[test]
fn chunks_on_a_stream_that_is_not_open_are_acknowledged_and_dropped() {
    let mut bob = Alone::new();
    let chunk = Entry { stream: 5, seq: 1, kind: Kind::Chunk, id: id(9), body: vec![1] };
    assert_eq!(bob.receive(0, carrying(&[chunk])), Handled::Taken);
    assert_eq!(bob.drain(), [Output::Event(Event::Ignored(id(9), "its stream is not open"))]);
    assert!(bob.frame().unwrap().1.ack.is_some());
}

#[test]
fn chunks_that_have_no_place_yet_are_as_good_as_lost() {
    let mut bob = Alone::new();
    bob.machine.open_incoming(5).unwrap();
    bob.drain();
    let chunk = carrying(&[Entry { stream: 5, seq: 1, kind: Kind::Chunk, id: id(9), body: vec![1] }]);
    assert_eq!(bob.receive(0, chunk.clone()), Handled::Early(5));
    assert_eq!((bob.drain(), bob.frame()), (vec![], None), "nothing is acknowledged");
    bob.machine.admit(5);
    assert_eq!(
        bob.receive(0, chunk.clone()),
        Handled::Taken,
        "the same frame, not a number that was seen before"
    );
    let saved = bob.machine.saved();
    bob.machine.reload(&saved, bob.now);
    let next = carrying(&[Entry { stream: 5, seq: 2, kind: Kind::Chunk, id: id(9), body: vec![2] }]);
    assert_eq!(bob.receive(1, next), Handled::Early(5), "what was open is not open after a batch was lost");
}

#[test]
fn a_type_of_a_later_version_is_acknowledged_and_does_not_stop_the_stream() {
    let mut bob = Alone::new();
    let unknown = Entry { kind: Kind::Other(200), ..peer_text(1) };
    bob.receive(0, carrying(&[unknown, peer_text(2)]));
    assert_eq!(bob.drain().len(), 3);
    assert!(bob.frame().unwrap().1.ack.is_some());
}

#[test]
fn a_key_epoch_ends_by_time_and_the_old_key_when_nothing_more_can_come_under_it() {
    let mut world = fine();
    world.text(0, 1, "x");
    world.run(EPOCH_TIME);
    world.text(0, 2, "x");
    world.run(seconds(5));
    let last = world.log.iter().rfind(|(side, _)| *side == 0).unwrap();
    assert_eq!(last.1.epoch, 1);
    assert_eq!(world.sides[1].forgotten, [0]);
    assert_eq!(world.sides[1].machine.receive_epoch(0), None);
    assert_eq!(world.sides[1].machine.receive_epoch(2), Some(2));
    assert_eq!(world.sides[1].machine.receive_epoch(3), None);
}

#[test]
fn a_key_epoch_ends_by_number_only_after_the_peer_has_seen_it_and_eight_bits_are_enough() {
    let mut epochs = super::super::epochs::Epochs::new(START);
    assert_eq!(epochs.for_sending(EPOCH_FRAMES, START), 0, "nothing of it was acknowledged");
    let mut peer = super::super::epochs::Epochs::new(START);
    for epoch in 0..600 {
        epochs.confirm(epoch);
        let number = EPOCH_FRAMES * (epoch + 1);
        assert_eq!(epochs.for_sending(number - 1, START), epoch);
        assert_eq!(epochs.for_sending(number, START), epoch + 1);
        assert_eq!(peer.of((epoch + 1) as u8), Some(epoch + 1));
        peer.opened(epoch + 1, number, START);
        assert_eq!(peer.of(epoch as u8), Some(epoch), "kept for what is still under way");
        assert_eq!(peer.retire(|_| false, START + OLD_KEY_TIME - seconds(1)), None);
        assert_eq!(peer.retire(|_| false, START + OLD_KEY_TIME), Some(epoch));
        assert_eq!(peer.of(epoch as u8), None);
    }
}

#[test]
fn after_a_crash_what_is_not_acknowledged_goes_out_again_from_number_0_with_the_same_seqs() {
    let mut world = fine();
    world.text(0, 1, "one");
    world.run(seconds(1));
    world.weather.dropped = 100;
    for number in 2..=4 {
        world.text(0, number, "more");
        world.run(Duration::from_millis(10));
    }
    world.weather.dropped = 0;
    world.log.clear();
    world.kill(0);
    assert_eq!(world.log[0].1.number, 0);
    let frames = world.frames_of(0);
    let seqs: Vec<_> = frames[0].entries.iter().map(|entry| (entry.seq, entry.id)).collect();
    assert_eq!(seqs, [(2, id(2)), (3, id(3)), (4, id(4))]);
    world.run(seconds(10));
    assert_eq!(world.sides[1].texts(), ["one", "more", "more", "more"]);
    assert_eq!(world.sides[0].delivered.len(), 4);
}

#[test]
fn what_is_saved_survives_json() {
    let mut world = fine();
    world.weather.dropped = 100;
    world.text(0, 1, "x");
    world.input(0, |machine, now| machine.end(now));
    world.run(seconds(1));
    let saved = &world.sides[0].disk;
    let json = serde_json::to_string(saved).unwrap();
    assert_eq!(serde_json::from_str::<Saved>(&json).unwrap(), *saved);
}

#[test]
fn commands_that_do_not_fit_the_state_are_refused_and_change_nothing() {
    let mut alice = Alone::new();
    alice.text(1);
    let saved = alice.machine.saved();
    let chunk = |bytes| Content::Chunk { stream: 2, bytes };
    assert_eq!(alice.machine.say(id(1), &Content::Text("again".into()), None), Err(Refused::Repeated));
    assert_eq!(alice.machine.say(id(2), &chunk(vec![1]), None), Err(Refused::NoStream));
    assert_eq!(alice.machine.open_incoming(TEXT), Err(Refused::NoStream));
    assert_eq!(alice.machine.saved(), saved);
    let open: Vec<_> = (0..=FILE_STREAMS).map(|_| alice.machine.open_outgoing()).collect();
    assert_eq!(open.last(), Some(&Err(Refused::TooManyFiles)));
    assert_eq!(alice.machine.say(id(2), &chunk(vec![]), None), Err(Refused::Empty));
    alice.machine.close_outgoing(2);
    assert_eq!(alice.machine.open_outgoing(), Ok(2 + FILE_STREAMS as u32), "a stream is not used twice");
}

#[test]
fn a_queue_that_is_full_refuses_and_takes_again_when_it_has_moved() {
    let mut alice = Alone::new();
    let large = Content::Text("x".repeat(1 << 20));
    let taken = (1..).take_while(|number| alice.machine.say(id(*number), &large, None).is_ok()).count();
    assert_eq!(taken, 15, "16 MiB with their heads");
    assert_eq!(alice.machine.say(id(100), &large, None), Err(Refused::Full));
    alice.drain();
    let frames: Vec<u64> = std::iter::from_fn(|| alice.frame()).map(|(number, _)| number).collect();
    alice.acknowledge(0, &frames);
    assert!(alice.machine.say(id(100), &large, None).is_ok());
}
