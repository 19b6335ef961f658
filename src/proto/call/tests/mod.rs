//! The machine against its table, and two switchboards on a relay that reorders, repeats and outlives crashes; in
//! `signals` the same for v2.

mod signals;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::proto::legacy::Body;
use crate::proto::{CallState, Direction, EndReason, Hex, Tier};

const START: Millis = Millis::from_secs(1_800_000_000);
const ALICE: PublicKey = Hex([1; 32]);
const BOB: PublicKey = Hex([2; 32]);
const EVE: PublicKey = Hex([3; 32]);
const CALL: CallId = Hex([9; 8]);
const ROOM: &str = "room";

/// One agent as the engine would run it: a switchboard, and a database that survives the switchboard.
struct Side {
    me: Myself,
    board: Switchboard,
    calls: BTreeMap<CallId, Call>,
    held: BTreeMap<MessageId, (CallId, Option<u64>, Content)>,
    seen: BTreeSet<MessageId>,
    surfaced: Vec<Content>,
    events: Vec<EventKind>,
    sent: VecDeque<(PublicKey, Payload)>,
    next: u64,
}

impl Side {
    fn new(key: PublicKey, agent_id: &str) -> Self {
        let me = Myself { key, agent_id: agent_id.into(), name: agent_id.to_uppercase() };
        Self {
            board: Switchboard::new(me.clone(), Limits::default()),
            me,
            calls: BTreeMap::new(),
            held: BTreeMap::new(),
            seen: BTreeSet::new(),
            surfaced: vec![],
            events: vec![],
            sent: VecDeque::new(),
            next: 0,
        }
    }

    fn fresh<const N: usize>(&mut self) -> Hex<N> {
        self.next += 1;
        let mut id = Hex([self.me.key.0[0]; N]);
        id.0[N - 8..].copy_from_slice(&self.next.to_be_bytes());
        id
    }

    /// Does what the engine does with outputs, and checks that persisting comes first.
    fn drain(&mut self) {
        while let Some(output) = self.board.poll_output() {
            match output {
                Output::Save(id) | Output::Number(id) => {
                    let call = self.board.call(&id).expect("a call that is saved is there").clone();
                    self.calls.insert(id, call);
                }
                Output::Store { call, entry, surfaced } => {
                    // The database knows each message by its id.
                    if !self.seen.insert(entry.id) {
                        continue;
                    }
                    if surfaced {
                        self.surfaced.push(entry.content);
                    } else {
                        self.held.insert(entry.id, (call, entry.seq, entry.content));
                    }
                }
                Output::Surface { message, .. } => {
                    let (_, _, content) = self.held.remove(&message).expect("what is surfaced was held");
                    self.surfaced.push(content);
                }
                Output::Discard { message, .. } => {
                    self.held.remove(&message).expect("what is discarded was held");
                }
                Output::Transmit { call, to, payload } => {
                    assert!(self.calls.contains_key(&call), "transmitted before it was saved");
                    self.sent.push_back((to, payload));
                }
                Output::Signal { .. } | Output::Alias { .. } => panic!("nothing here speaks v2"),
                Output::Event { call, kind, .. } => {
                    assert!(self.calls.contains_key(&call), "told before it was saved");
                    self.events.push(kind);
                }
            }
        }
        self.board.evict_idle();
    }

    /// A crash: only what was persisted is left.
    fn restart(&mut self) {
        self.board = Switchboard::new(self.me.clone(), Limits::default());
        for call in self.calls.values().filter(|call| call.ended.is_none()) {
            self.board.restore(call.clone(), held_in(&self.held, call.id));
        }
    }

    fn receive(&mut self, from: &PublicKey, payload: Payload, now: Millis) -> Handled {
        let (message, fresh) = (self.fresh(), self.fresh());
        if !self.board.knows(from, &payload.room)
            && let Some(call) =
                self.calls.values().find(|call| call.peer == *from && call.room == payload.room)
        {
            self.board.restore(call.clone(), held_in(&self.held, call.id));
        }
        let handled = self.board.handle((from, Tier::Contact), payload, message, fresh, now, now);
        self.drain();
        handled
    }

    fn only_call(&self) -> &Call {
        assert_eq!(self.calls.len(), 1);
        self.calls.values().next().unwrap()
    }
}

fn held_in(
    held: &BTreeMap<MessageId, (CallId, Option<u64>, Content)>,
    call: CallId,
) -> Vec<(MessageId, Option<u64>)> {
    held.iter().filter(|(_, (of, _, _))| *of == call).map(|(id, (_, seq, _))| (*id, *seq)).collect()
}

fn payload(body: Body) -> Payload {
    Payload { room: ROOM.into(), origin: "bob".into(), id: None, seq: None, body }
}

fn request() -> Body {
    Body::CallRequest { agent_id: "bob".into(), agent_name: "Bob".into(), topic: "topic".into() }
}

fn accepted() -> Body {
    Body::CallAccepted { agent_id: "bob".into(), agent_name: "Bob".into(), replaces: None }
}

fn rejected(busy: bool) -> Body {
    Body::CallRejected { agent_id: "bob".into(), agent_name: "Bob".into(), reason: "no".into(), busy }
}

fn text(words: &str) -> Body {
    Body::Message { sender: "Bob".into(), content: words.into() }
}

fn end() -> Body {
    Body::EndCall { reason: "ended_by_peer".into() }
}

/// Alice with one call with Bob, brought to a state by the ordinary way.
fn alice_in(state: &str) -> Side {
    let mut alice = Side::new(ALICE, "alice");
    if state.ends_with("in") || state.contains("in,") {
        alice.receive(&BOB, payload(request()), START);
    } else {
        let place = Place {
            protocol: crate::proto::Protocol::Legacy,
            id: CALL,
            room: ROOM.into(),
            peer: BOB,
            agent_id: "bob".into(),
            agent_name: String::new(),
            topic: String::new(),
        };
        alice.board.place(place, START).unwrap();
        alice.drain();
    }
    let id = alice.only_call().id;
    match state {
        "ringing out" | "ringing in" => {}
        "connected out" => _ = alice.receive(&BOB, payload(accepted()), START),
        "connected in" => _ = alice.board.accept(&id, START).unwrap(),
        "ended out, unanswered" | "ended in, unanswered" => alice.board.handle_timeout(START + RING_TIME * 2),
        "ended out, answered" => {
            alice.receive(&BOB, payload(accepted()), START);
            alice.board.hang_up(&id, START).unwrap();
        }
        other => panic!("no such state: {other}"),
    }
    alice.drain();
    alice.sent.clear();
    alice.events.clear();
    alice
}

const STATES: [&str; 7] = [
    "ringing out",
    "ringing in",
    "connected out",
    "connected in",
    "ended out, unanswered",
    "ended in, unanswered",
    "ended out, answered",
];

#[test]
fn every_payload_in_every_state_does_what_the_table_says() {
    use CallState::{Connected, Ended, Ringing};
    // For each payload: the state that follows each of STATES, and what the peer is told.
    let table: [(Body, [CallState; 7], [&str; 7]); 6] = [
        (request(), [Ringing, Ringing, Connected, Connected, Ended, Ended, Ended], [""; 7]),
        (
            accepted(),
            [Connected, Ringing, Connected, Connected, Ended, Ended, Ended],
            ["", "", "", "", "end_call", "", ""],
        ),
        (rejected(false), [Ended, Ringing, Connected, Connected, Ended, Ended, Ended], [""; 7]),
        (rejected(true), [Ended, Ringing, Connected, Connected, Ended, Ended, Ended], [""; 7]),
        (text("hi"), [Ringing, Ringing, Connected, Connected, Ended, Ended, Ended], [""; 7]),
        (end(), [Ended; 7], [""; 7]),
    ];
    for (body, states, told) in table {
        for ((state, expected), told) in STATES.iter().zip(states).zip(told) {
            let mut alice = alice_in(state);
            alice.receive(&BOB, payload(body.clone()), START + RING_TIME);
            assert_eq!(alice.only_call().state(), expected, "{body:?} in {state}");
            let sent: Vec<_> = alice.sent.iter().map(|(_, payload)| kind(&payload.body)).collect();
            assert_eq!(sent, told.split_whitespace().collect::<Vec<_>>(), "{body:?} in {state}");
        }
    }
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::CallRequest { .. } => "call_request",
        Body::CallAccepted { .. } => "call_accepted",
        Body::CallRejected { .. } => "call_rejected",
        Body::Message { .. } => "room_message",
        Body::File { .. } => "room_file",
        Body::Escalate { .. } => "escalate",
        Body::EndCall { .. } => "end_call",
    }
}

#[test]
fn nothing_that_another_key_or_another_room_says_moves_a_call() {
    for state in STATES {
        for body in [accepted(), rejected(false), text("hi"), end()] {
            let mut alice = alice_in(state);
            let before = alice.only_call().clone();
            let other_room = Payload { room: "another".into(), ..payload(body.clone()) };
            for handled in
                [alice.receive(&EVE, payload(body.clone()), START), alice.receive(&BOB, other_room, START)]
            {
                assert!(matches!(handled, Handled::Dropped(_)), "{body:?} in {state}");
            }
            assert_eq!(alice.only_call(), &before, "{body:?} in {state}");
            assert!(alice.sent.is_empty() && alice.events.is_empty() && alice.surfaced.is_empty());
        }
    }
}

#[test]
fn each_end_is_told_as_what_it_is() {
    for (state, body, event, reason) in [
        ("ringing out", rejected(false), EventKind::CallRejected, EndReason::Rejected),
        ("ringing out", rejected(true), EventKind::CallRejected, EndReason::Busy),
        ("ringing in", end(), EventKind::CallMissed, EndReason::Cancelled),
        ("connected in", end(), EventKind::CallEnded, EndReason::Completed),
        ("connected out", end(), EventKind::CallEnded, EndReason::Completed),
    ] {
        let mut alice = alice_in(state);
        alice.receive(&BOB, payload(body), START);
        assert_eq!(alice.events, [event], "{state}");
        assert_eq!(alice.only_call().ended.as_ref().unwrap().reason, reason, "{state}");
    }
}

#[test]
fn a_ring_that_nobody_answers_is_over_on_both_sides() {
    let mut caller = alice_in("ringing out");
    assert_eq!(caller.board.poll_timeout(), Some((START + RING_TIME, "ring")));
    caller.board.handle_timeout(START + RING_TIME);
    caller.drain();
    assert_eq!(caller.events, [EventKind::CallEnded]);
    assert_eq!(caller.sent.iter().map(|(_, payload)| kind(&payload.body)).collect::<Vec<_>>(), ["end_call"]);

    let mut callee = alice_in("ringing in");
    assert_eq!(callee.board.poll_timeout(), Some((START + RING_TIME + RING_GRACE, "ring")));
    callee.board.handle_timeout(START + RING_TIME + RING_GRACE);
    callee.drain();
    assert_eq!(callee.events, [EventKind::CallMissed]);
    assert!(callee.sent.is_empty());
}

#[test]
fn a_ring_that_comes_too_late_is_a_missed_call_with_its_topic() {
    let mut alice = Side::new(ALICE, "alice");
    let (message, fresh) = (alice.fresh(), alice.fresh());
    let handled = alice.board.handle(
        (&BOB, Tier::Contact),
        payload(request()),
        message,
        fresh,
        START,
        START + RING_TIME * 10,
    );
    alice.drain();
    assert_eq!(handled, Handled::Taken);
    assert_eq!(alice.events, [EventKind::CallMissed]);
    assert_eq!(alice.only_call().topic, "topic");
}

#[test]
fn a_ring_that_was_taken_back_before_it_came_does_not_ring() {
    let mut alice = Side::new(ALICE, "alice");
    alice.receive(&BOB, payload(end()), START);
    alice.receive(&BOB, payload(request()), START);
    assert_eq!(alice.events, [EventKind::CallMissed]);
}

#[test]
fn an_end_that_overtakes_the_acceptance_loses_nothing_that_was_said() {
    let mut alice = alice_in("ringing out");
    let numbered =
        |seq: u64, body| Payload { id: Some(Hex([seq as u8; 16])), seq: Some(seq), ..payload(body) };
    alice.receive(&BOB, numbered(2, end()), START);
    alice.receive(&BOB, numbered(2, text("second")), START);
    alice.receive(&BOB, numbered(1, text("first")), START);
    assert_eq!(alice.surfaced, [Content::Text("first".into()), Content::Text("second".into())]);
    assert_eq!(alice.only_call().ended.as_ref().unwrap().reason, EndReason::Completed);
}

#[test]
fn an_agent_whose_lines_are_all_taken_says_that_it_is_busy() {
    let mut alice = Side::new(ALICE, "alice");
    alice.board = Switchboard::new(alice.me.clone(), Limits { max_calls: 1, ..Limits::default() });
    alice.receive(&BOB, payload(request()), START);
    // Who only rings makes nobody busy.
    alice.receive(&EVE, payload(request()), START);
    let first = alice.board.live().find(|call| call.peer == BOB).unwrap().id;
    alice.board.accept(&first, START).unwrap();
    alice.drain();
    alice.sent.clear();
    alice.receive(&EVE, Payload { room: "second".into(), ..payload(request()) }, START);
    assert_eq!(alice.events.first(), Some(&EventKind::CallRinging));
    assert_eq!(alice.events.last(), Some(&EventKind::CallMissed));
    let (to, answer) = alice.sent.pop_front().unwrap();
    assert_eq!(to, EVE);
    assert!(matches!(answer.body, Body::CallRejected { busy: true, .. }));
}

#[test]
fn a_second_ring_of_the_same_key_takes_the_place_of_the_first() {
    let mut alice = alice_in("ringing in");
    alice.receive(&BOB, Payload { room: "second".into(), ..payload(request()) }, START);
    assert_eq!(alice.events, [EventKind::CallMissed, EventKind::CallRinging]);
    assert_eq!(alice.board.live().count(), 1);
}

#[test]
fn a_legacy_peer_is_called_once_at_a_time() {
    let mut alice = alice_in("connected in");
    let up = alice.only_call().id;
    let again = Place {
        protocol: crate::proto::Protocol::Legacy,
        id: CALL,
        room: "other".into(),
        peer: BOB,
        agent_id: String::new(),
        agent_name: String::new(),
        topic: String::new(),
    };
    assert_eq!(alice.board.place(again, START), Err(Refused::PeerBusy(up)));
}

#[test]
fn commands_repeated_are_known_and_commands_out_of_place_are_refused() {
    let mut alice = alice_in("ringing in");
    let id = alice.only_call().id;
    assert_eq!(alice.board.say(&id, Hex([1; 16]), Content::Text("x".into())), Err(Refused::Ringing));
    assert_eq!(alice.board.accept(&id, START), Ok(true));
    assert_eq!(alice.board.accept(&id, START), Ok(false));
    assert_eq!(alice.board.reject(&id, "", START), Err(Refused::NotRinging));
    assert_eq!(alice.board.hang_up(&id, START), Ok(true));
    assert_eq!(alice.board.hang_up(&id, START), Ok(false));
    assert!(matches!(alice.board.accept(&id, START), Err(Refused::Ended(_))));
    assert!(matches!(alice.board.say(&id, Hex([1; 16]), Content::Text("x".into())), Err(Refused::Ended(_))));

    let mut bob = alice_in("ringing in");
    let id = bob.only_call().id;
    assert_eq!(bob.board.reject(&id, "busy right now", START), Ok(true));
    assert_eq!(bob.board.reject(&id, "busy right now", START), Ok(false));
}

#[test]
fn what_does_not_fit_an_event_is_refused_and_changes_nothing() {
    let mut alice = alice_in("connected in");
    let id = alice.only_call().id;
    // A control character takes six bytes of JSON: it is the encoded size that counts.
    for words in ["x".repeat(60_000), "\u{1}".repeat(9_000)] {
        let refused = alice.board.say(&id, Hex([1; 16]), Content::Text(words));
        assert!(matches!(refused, Err(Refused::TooLarge { .. })));
    }
    assert_eq!(alice.board.say(&id, Hex([1; 16]), Content::Text("x".repeat(40_000))), Ok(1));
}

#[test]
fn a_gap_is_waited_for_and_then_shown_as_one() {
    let mut alice = alice_in("connected in");
    for seq in [2, 3, 5] {
        let numbered =
            Payload { id: Some(Hex([seq as u8; 16])), seq: Some(seq), ..payload(text(&seq.to_string())) };
        alice.receive(&BOB, numbered, START);
    }
    assert!(alice.surfaced.is_empty());
    assert_eq!(alice.board.poll_timeout(), Some((START + REORDER_TIME, "reorder")));
    alice.board.handle_timeout(START + REORDER_TIME);
    alice.drain();
    assert_eq!(alice.surfaced, [Content::Text("2".into()), Content::Text("3".into())]);
    assert_eq!(alice.events, [EventKind::Gap]);
    alice.board.handle_timeout(START + REORDER_TIME * 2);
    alice.drain();
    assert_eq!(alice.surfaced.len(), 3);
    assert!(alice.board.poll_timeout().is_none());
    let late = Payload { id: Some(Hex([1; 16])), seq: Some(1), ..payload(text("1")) };
    alice.receive(&BOB, late, START);
    assert_eq!(alice.surfaced.len(), 4, "late is out of order, but not lost");
}

#[test]
fn a_peer_that_skips_numbers_holds_no_more_than_the_limit() {
    let mut alice = alice_in("connected in");
    for seq in 1..=2 * HELD_LIMIT as u64 {
        let id = Some(Hex((u128::from(seq)).to_be_bytes()));
        alice.receive(&BOB, Payload { id, seq: Some(seq * 2), ..payload(text("x")) }, START);
        assert!(alice.held.len() <= HELD_LIMIT);
    }
}

#[test]
fn when_both_ring_at_once_one_call_is_left_and_both_are_in_it() {
    let mut alice = Side::new(ALICE, "alice");
    let mut bob = Side::new(BOB, "bob");
    for (side, peer, room) in [(&mut alice, BOB, "a"), (&mut bob, ALICE, "b")] {
        let place = Place {
            protocol: crate::proto::Protocol::Legacy,
            id: side.fresh(),
            room: room.into(),
            peer,
            agent_id: String::new(),
            agent_name: String::new(),
            topic: String::new(),
        };
        side.board.place(place, START).unwrap();
        side.drain();
    }
    let (_, from_alice) = alice.sent.pop_front().unwrap();
    let (_, from_bob) = bob.sent.pop_front().unwrap();
    bob.receive(&ALICE, from_alice, START);
    let (_, acceptance) = bob.sent.pop_front().unwrap();
    alice.receive(&BOB, acceptance, START);
    alice.receive(&BOB, from_bob, START);
    for side in [&alice, &bob] {
        let call = side.only_call();
        assert_eq!((call.state(), call.room.as_str()), (CallState::Connected, "a"));
        assert_eq!(call.direction, Direction::Out, "each keeps its own call");
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Deliver the event at this place of what is under way, and keep it for another time.
    Deliver {
        to_bob: bool,
        at: usize,
        again: bool,
    },
    Say {
        bob: bool,
    },
    Restart {
        bob: bool,
    },
    HangUp {
        bob: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (any::<bool>(), 0..64usize, any::<bool>())
            .prop_map(|(to_bob, at, again)| Step::Deliver { to_bob, at, again }),
        4 => any::<bool>().prop_map(|bob| Step::Say { bob }),
        1 => any::<bool>().prop_map(|bob| Step::Restart { bob }),
        1 => any::<bool>().prop_map(|bob| Step::HangUp { bob }),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn what_was_accepted_is_surfaced_once_and_in_order_on_any_relay(steps in steps()) {
        let mut sides = [Side::new(ALICE, "alice"), Side::new(BOB, "bob")];
        let place = Place {
            protocol: crate::proto::Protocol::Legacy,
            id: CALL,
            room: ROOM.into(),
            peer: BOB,
            agent_id: "bob".into(),
            agent_name: String::new(),
            topic: String::new(),
        };
        sides[0].board.place(place, START).unwrap();
        sides[0].drain();
        // What is under way to each side. A relay may hand out anything at any time, and again.
        let mut under_way: [Vec<Payload>; 2] = Default::default();
        let mut accepted_words: [Vec<Content>; 2] = Default::default();
        let mut ended: [Option<Ended>; 2] = Default::default();
        let deliver = |sides: &mut [Side; 2], to: usize, payload: Payload| {
            let from = [BOB, ALICE][to];
            sides[to].receive(&from, payload, START);
            let rings = |call: &&Call| (call.state(), call.direction) == (CallState::Ringing, Direction::In);
            let ringing = sides[to].board.live().find(rings).map(|call| call.id);
            if let Some(id) = ringing {
                sides[to].board.accept(&id, START).unwrap();
                sides[to].drain();
            }
        };
        for step in steps {
            match step {
                Step::Deliver { to_bob, at, again } => {
                    let to = usize::from(to_bob);
                    if under_way[to].is_empty() {
                        continue;
                    }
                    let at = at % under_way[to].len();
                    let payload =
                        if again { under_way[to][at].clone() } else { under_way[to].swap_remove(at) };
                    deliver(&mut sides, to, payload);
                }
                Step::Say { bob } => {
                    let side = &mut sides[usize::from(bob)];
                    let Some(call) = side.board.live().next().map(|call| call.id) else { continue };
                    let id = side.fresh();
                    let content = Content::Text(id.to_string());
                    if side.board.say(&call, id, content.clone()).is_ok() {
                        accepted_words[usize::from(bob)].push(content);
                    }
                    side.drain();
                }
                Step::Restart { bob } => sides[usize::from(bob)].restart(),
                Step::HangUp { bob } => {
                    let side = &mut sides[usize::from(bob)];
                    let up = |call: &&Call| call.state() == CallState::Connected;
                    let connected = side.board.live().find(up).map(|call| call.id);
                    if let Some(id) = connected {
                        side.board.hang_up(&id, START).unwrap();
                        side.drain();
                    }
                }
            }
            for (index, side) in sides.iter_mut().enumerate() {
                let sent: Vec<Payload> = side.sent.drain(..).map(|(_, payload)| payload).collect();
                under_way[1 - index].extend(sent);
                if let Some(end) = side.calls.values().next().and_then(|call| call.ended.clone()) {
                    let first = ended[index].get_or_insert(end.clone());
                    prop_assert_eq!(first, &end, "an ended call stays ended");
                }
            }
        }
        // In the end everything arrives: an outbox is republished until a relay takes it.
        while under_way.iter().any(|queue| !queue.is_empty()) {
            for to in [1, 0] {
                for payload in std::mem::take(&mut under_way[to]) {
                    deliver(&mut sides, to, payload);
                }
                for (index, side) in sides.iter_mut().enumerate() {
                    under_way[1 - index].extend(side.sent.drain(..).map(|(_, payload)| payload));
                }
            }
        }
        prop_assert_eq!(&sides[1].surfaced, &accepted_words[0]);
        prop_assert_eq!(&sides[0].surfaced, &accepted_words[1]);
        for side in &sides {
            prop_assert!(side.held.is_empty());
        }
    }
}
