//! A peer that holds the right keys and sends anything at all.

use proptest::prelude::*;

use super::*;
use crate::proto::v2::batch::Entry;

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..12u64, 1 => any::<u64>(), 1 => (u64::MAX - 5)..=u64::MAX]
}

fn entry() -> impl Strategy<Value = Entry> {
    let stream = prop_oneof![6 => 0..4u32, 1 => any::<u32>()];
    let kind = prop_oneof![8 => 0..12u8, 1 => any::<u8>()];
    let body = prop_oneof![
        Just(vec![]),
        prop::collection::vec(any::<u8>(), 0..40),
        // Parts of texts, and ends.
        (0..3u8, 0..4u8).prop_map(|(part, total)| vec![0x83, part, total, 0x61, b'x']),
        (0..4u8, 0..9u8).prop_map(|(stream, last)| vec![0x81, 0x82, stream, last]),
        Just(vec![7; 9_000]),
    ];
    (stream, numbers(), kind, any::<u8>(), body).prop_map(|(stream, seq, kind, id, body)| Entry {
        stream,
        seq: seq.max(1),
        kind: kind.into(),
        id: Hex([id % 3; 16]),
        body,
    })
}

fn ack() -> impl Strategy<Value = Ack> {
    (numbers(), 0..4u64, any::<u32>()).prop_map(|(last, length, delay)| Ack {
        delay: Duration::from_millis(delay.into()),
        ranges: vec![last.saturating_sub(length)..=last],
    })
}

fn batch() -> impl Strategy<Value = Batch> {
    (prop::option::of(ack()), prop::collection::vec(entry(), 0..4))
        .prop_map(|(ack, entries)| Batch { ack, entries })
}

proptest! {
    #[test]
    fn nothing_that_a_peer_sends_makes_the_machine_panic_or_hold_much(
        frames in prop::collection::vec((0..3u8, numbers(), batch(), 0..3_000u64), 1..60),
        rubbish in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut alice = Alone::new();
        let mut disk = Saved::default();
        alice.machine.open_outgoing().unwrap();
        alice.machine.open_incoming(2).unwrap();
        alice.machine.admit(2);
        for (number_of_ours, (epoch, number, batch, pause)) in (1..).zip(frames) {
            _ = alice.machine.say(id(number_of_ours), &Content::Text("to be acknowledged".into()), None);
            let plaintext = frame::pad(&batch.encode()).unwrap();
            if let Some(epoch) = alice.machine.receive_epoch(epoch) {
                alice.machine.handle_frame(epoch, number, &plaintext, alice.now);
                let handled = alice.machine.handle_frame(epoch, number ^ 1, &rubbish, alice.now);
                prop_assert_ne!(handled, Handled::Taken);
            }
            for output in alice.drain() {
                if let Output::Persist(change) = output {
                    disk.apply(change);
                }
            }
            while alice.frame().is_some() {}
            alice.pass(Duration::from_millis(pause));
            let saved = alice.machine.saved();
            let held: usize = saved.held.iter().map(|entry| entry.body.len()).sum();
            prop_assert!(held < 8 << 20);
            if !alice.machine.is_closed() {
                prop_assert_eq!(saved, disk.clone());
            }
        }
    }
}
