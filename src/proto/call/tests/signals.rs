//! Two switchboards that speak v2 over relays that drop, repeat, reorder and delay; with crashes at any moment.
//!
//! Keys are played by numbers: an offer has one of its own, and a session is the offer that both sides took. So
//! *connected* means here what it means outside: both hold the same handshake.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::{ALICE, BOB, EVE, START};
use crate::proto::call::{
    Call, Handled, Limits, Line, Myself, Output, Place, Signalled, Standing, Switchboard,
};
use crate::proto::v2::signal::{Answer, Body, Offer, SharedCallId, Signal};
use crate::proto::{
    CallId, CallState, Direction, EndReason, EventId, EventKind, Hex, Millis, Protocol, PublicKey, Tier,
};

/// One agent as the engine would run it.
struct Side {
    me: Myself,
    board: Switchboard,
    /// The database.
    calls: BTreeMap<CallId, (Call, Line, BTreeSet<String>)>,
    seen: BTreeSet<(SharedCallId, &'static str, u32)>,
    events: Vec<(CallId, EventKind)>,
    /// In memory only: offers of ours, and whose session is up.
    offers: BTreeMap<CallId, (EventId, Signal)>,
    answers: BTreeMap<CallId, Signal>,
    sessions: BTreeMap<CallId, EventId>,
    next: u8,
}

/// On its way: when it arrives, to whom, in which rumor, what.
type Packet = (Millis, usize, EventId, Signal, Millis);

struct World {
    sides: [Side; 2],
    network: Vec<Packet>,
    now: Millis,
    dice: u64,
    dropped: u64,
    repeated: u64,
    delay: u64,
    rumors: u64,
}

fn id<const N: usize>(number: u64) -> Hex<N> {
    let mut id = Hex([0xee; N]);
    id.0[..8].copy_from_slice(&number.to_be_bytes());
    id
}

fn offer(topic: &str, expires: Millis) -> Offer {
    Offer {
        agent_id: "agent".into(),
        name: "Agent".into(),
        topic: topic.into(),
        expires: expires.as_secs(),
        key: Hex([3; 32]),
        noise: [0; 32],
        versions: vec![2],
        relays: vec!["wss://r.example".into()],
        inbox: vec![],
        traceparent: None,
    }
}

fn answer(invite: EventId, replaces: Option<SharedCallId>) -> Answer {
    Answer {
        agent_id: "agent".into(),
        name: "Agent".into(),
        key: Hex([4; 32]),
        noise: [0; 48],
        relays: vec!["wss://r.example".into()],
        invite,
        hash: Hex([0; 32]),
        replaces,
        inbox: vec![],
    }
}

impl Side {
    fn new(key: PublicKey) -> Self {
        let me = Myself { key, agent_id: "agent".into(), name: "Agent".into() };
        Self {
            board: Switchboard::new(me.clone(), Limits::default()),
            me,
            calls: BTreeMap::new(),
            seen: BTreeSet::new(),
            events: vec![],
            offers: BTreeMap::new(),
            answers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next: 0,
        }
    }

    fn peer(&self) -> PublicKey {
        if self.me.key == ALICE { BOB } else { ALICE }
    }

    fn only(&self) -> &Call {
        assert_eq!(self.calls.len(), 1, "{:?}", self.calls.keys());
        &self.calls.values().next().unwrap().0
    }

    fn state(&self) -> CallState {
        self.only().state()
    }

    fn times(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|(_, told)| *told == kind).count()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            sides: [Side::new(ALICE), Side::new(BOB)],
            network: vec![],
            now: START,
            dice: seed,
            dropped: 0,
            repeated: 0,
            delay: 20,
            rumors: 0,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % bound.max(1)
    }

    fn rumor(&mut self) -> EventId {
        self.rumors += 1;
        id(self.rumors)
    }

    fn send(&mut self, from: usize, rumor: EventId, signal: Signal, made: Millis) {
        let copies = match self.below(100) {
            roll if roll < self.dropped => 0,
            roll if roll < self.dropped + self.repeated => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let at = self.now + Duration::from_millis(1 + self.below(self.delay));
            self.network.push((at, 1 - from, rumor, signal.clone(), made));
        }
    }

    /// Does what the engine does with outputs.
    fn drain(&mut self, side: usize) {
        while let Some(output) = self.sides[side].board.poll_output() {
            let now = self.now;
            let own = &mut self.sides[side];
            match output {
                Output::Save(id) | Output::Number(id) => {
                    let call = own.board.call(&id).expect("what is saved is there").clone();
                    let line = own.board.line(&id).expect("all calls here are v2's").clone();
                    let line = Line::new(line.generation, line.offer, line.ours);
                    let names = own.calls.remove(&id).map(|(_, _, names)| names).unwrap_or_default();
                    own.calls.insert(id, (call, line, names));
                }
                Output::Alias { call, room } => _ = own.calls.get_mut(&call).unwrap().2.insert(room),
                Output::Event { call, kind, .. } => {
                    assert!(own.calls.contains_key(&call), "told before it was saved");
                    own.events.push((call, kind));
                    if own.calls[&call].0.ended.is_some() {
                        own.offers.remove(&call);
                        own.sessions.remove(&call);
                    }
                }
                Output::Signal { call, signal } => {
                    assert!(own.calls.contains_key(&call), "signalled before it was saved");
                    self.signal(side, call, signal);
                }
                other => panic!("{other:?} is not of v2"),
            }
            assert_eq!(self.now, now);
        }
    }

    fn signal(&mut self, side: usize, id: CallId, signal: Signalled) {
        let rumor = self.rumor();
        let (now, own) = (self.now, &mut self.sides[side]);
        let call = own.board.call(&id).unwrap().clone();
        let line = own.board.line(&id).unwrap().clone();
        let say = |body| Signal { call: call.shared().unwrap(), generation: line.generation, body };
        let (rumor, signal) = match signal {
            Signalled::Offer => {
                let offer = offer(&call.topic, call.ring_until);
                let rings = call.state() == CallState::Ringing;
                let signal = say(if rings { Body::Invite(offer) } else { Body::Resume(offer) });
                own.offers.insert(id, (rumor, signal.clone()));
                (rumor, signal)
            }
            Signalled::OfferAgain => match own.offers.get(&id) {
                Some(offer) => offer.clone(),
                None => return,
            },
            Signalled::Accept { replaces } => {
                let Standing { rumor: invite, .. } = line.offer.unwrap();
                own.offers.remove(&id);
                own.sessions.insert(id, invite);
                let signal = say(Body::Accept(answer(invite, replaces)));
                own.answers.insert(id, signal.clone());
                (rumor, signal)
            }
            Signalled::AcceptAgain => match own.answers.get(&id) {
                Some(signal) => (rumor, signal.clone()),
                None => return,
            },
            Signalled::Reject { reason } => (rumor, say(Body::Reject { reason })),
            Signalled::Busy => (rumor, say(Body::Busy)),
            Signalled::Cancel { reason } => (rumor, say(Body::Cancel { reason })),
            Signalled::End { reason } => (rumor, say(Body::End { reason })),
            Signalled::Disown { shared } => {
                let body = Body::End { reason: String::new() };
                (rumor, Signal { call: shared, generation: 0, body })
            }
        };
        self.send(side, rumor, signal, now);
    }

    fn receive(&mut self, side: usize, rumor: EventId, signal: Signal, made: Millis) {
        let now = self.now;
        let own = &mut self.sides[side];
        let from = own.peer();
        own.next += 1;
        let fresh = Hex([own.next; 8]);
        if let Body::Accept(answer) = &signal.body
            && let Some(call) = own.board.expects(&from, &signal)
            && own.offers.get(&call).is_some_and(|(offered, _)| *offered == answer.invite)
        {
            own.offers.remove(&call);
            own.sessions.insert(call, answer.invite);
            own.seen.insert((signal.call, signal.body.name(), signal.generation));
            own.board.handle_accept(&call, answer, now);
        } else if own.seen.insert((signal.call, signal.body.name(), signal.generation)) {
            own.board.handle_signal((&from, Tier::Contact), signal, rumor, made.as_secs(), fresh, now);
        } else {
            own.board.handle_repeated(&from, &signal);
        }
        self.drain(side);
    }

    /// Frames flow between sessions that are the same handshake, and are lost like signals.
    fn talk(&mut self) {
        for side in 0..2 {
            let heard: Vec<CallId> = self.sides[side]
                .sessions
                .iter()
                .filter(|(_, session)| self.sides[1 - side].sessions.values().any(|other| other == *session))
                .map(|(call, _)| *call)
                .collect();
            for call in heard {
                if self.below(100) >= self.dropped {
                    self.sides[side].board.handle_heard(&call);
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(250);
            let (due, later) = self.network.drain(..).partition(|packet| packet.0 <= self.now);
            self.network = later;
            let due: Vec<Packet> = due;
            for (_, to, rumor, signal, made) in due {
                self.receive(to, rumor, signal, made);
            }
            for side in 0..2 {
                self.sides[side].board.handle_timeout(self.now);
                self.drain(side);
            }
            self.talk();
        }
    }

    fn call(&mut self, side: usize, number: u64) -> CallId {
        let place = Place {
            id: id(number),
            room: id::<16>(number).to_string(),
            protocol: Protocol::V2,
            peer: self.sides[side].peer(),
            agent_id: "agent".into(),
            agent_name: String::new(),
            topic: format!("topic {number}"),
        };
        let call = self.sides[side].board.place(place, self.now).unwrap();
        self.drain(side);
        call
    }

    fn accept(&mut self, side: usize) {
        let ringing = self.sides[side]
            .board
            .live()
            .find(|call| (call.direction, call.state()) == (Direction::In, CallState::Ringing))
            .map(|call| call.id);
        if let Some(id) = ringing {
            self.sides[side].board.accept(&id, self.now).unwrap();
            self.drain(side);
        }
    }

    fn hang_up(&mut self, side: usize, id: &CallId) {
        _ = self.sides[side].board.hang_up(id, self.now);
        self.drain(side);
    }

    /// A crash: what was persisted is left, keys are not.
    fn restart(&mut self, side: usize) {
        let own = &mut self.sides[side];
        own.board = Switchboard::new(own.me.clone(), Limits::default());
        own.offers.clear();
        own.answers.clear();
        own.sessions.clear();
        for (call, line, names) in own.calls.values() {
            own.board.restore(call.clone(), []);
            own.board.restore_line(&call.id, line.clone(), names.clone());
        }
        let live: Vec<CallId> = own.board.live().map(|call| call.id).collect();
        for id in live {
            self.sides[side].board.renew(&id, self.now);
        }
        self.drain(side);
    }

    /// Both sides hold the same calls, and the same handshake in each that is up.
    fn agree(&self) -> Result<(), String> {
        let up = |side: usize| -> BTreeMap<SharedCallId, Option<EventId>> {
            let own = &self.sides[side];
            own.board
                .live()
                .filter(|call| call.state() == CallState::Connected)
                .map(|call| (call.shared().unwrap(), own.sessions.get(&call.id).copied()))
                .collect()
        };
        let (one, other) = (up(0), up(1));
        if one != other || one.values().any(Option::is_none) {
            return Err(format!("{one:?} against {other:?}"));
        }
        Ok(())
    }
}

const SHORT: Duration = Duration::from_secs(3);

#[test]
fn a_call_rings_once_and_connects_with_one_handshake() {
    let mut world = World::new(1);
    world.call(0, 1);
    world.run(Duration::from_secs(20));
    assert_eq!(
        world.sides[1].times(EventKind::CallRinging),
        1,
        "invites that are sent again do not ring again"
    );
    world.accept(1);
    world.run(SHORT);
    assert_eq!(
        (world.sides[0].state(), world.sides[1].state()),
        (CallState::Connected, CallState::Connected)
    );
    assert_eq!(world.sides[0].times(EventKind::CallConnected), 1);
    world.agree().unwrap();
}

#[test]
fn an_acceptance_that_no_relay_carries_is_repeated_until_a_frame_comes() {
    let mut world = World::new(1);
    world.call(0, 1);
    world.run(SHORT);
    world.dropped = 100;
    world.accept(1);
    world.run(SHORT);
    world.dropped = 0;
    world.run(Duration::from_secs(10));
    world.agree().unwrap();
    let after = world.rumors;
    world.run(Duration::from_secs(60));
    assert_eq!(world.rumors, after, "and then nothing is repeated any more");
}

#[test]
fn a_rejection_a_cancellation_and_silence_are_what_they_are() {
    for (what, mine, theirs) in [
        ("reject", EndReason::Rejected, EndReason::Rejected),
        ("cancel", EndReason::Cancelled, EndReason::Cancelled),
        ("silence", EndReason::NoAnswer, EndReason::NoAnswer),
    ] {
        let mut world = World::new(1);
        let call = world.call(0, 1);
        world.run(SHORT);
        match what {
            "reject" => {
                let incoming = world.sides[1].only().id;
                world.sides[1].board.reject(&incoming, "not now", START).unwrap();
                world.drain(1);
            }
            "cancel" => world.hang_up(0, &call),
            _ => {}
        }
        world.run(Duration::from_secs(70));
        let end = |side: &Side| side.only().ended.clone().unwrap().reason;
        assert_eq!((end(&world.sides[0]), end(&world.sides[1])), (mine, theirs), "{what}");
        let missed = usize::from(what != "reject");
        assert_eq!(world.sides[1].times(EventKind::CallMissed), missed, "{what}");
    }
}

#[test]
fn a_rejection_that_was_lost_comes_again_with_the_next_invite() {
    let mut world = World::new(1);
    world.call(0, 1);
    world.run(SHORT);
    let incoming = world.sides[1].only().id;
    world.dropped = 100;
    world.sides[1].board.reject(&incoming, "not now", START).unwrap();
    world.drain(1);
    world.dropped = 0;
    world.run(Duration::from_secs(10));
    assert_eq!(world.sides[0].only().ended.clone().unwrap().reason, EndReason::Rejected);
}

#[test]
fn a_call_to_an_agent_that_comes_back_late_is_missed_with_its_topic_and_does_not_ring() {
    let mut world = World::new(1);
    world.call(0, 1);
    let waiting = std::mem::take(&mut world.network);
    world.dropped = 100;
    world.run(Duration::from_secs(400));
    for (_, to, rumor, signal, made) in waiting {
        world.receive(to, rumor, signal, made);
    }
    let missed = world.sides[1].only();
    assert_eq!(missed.topic, "topic 1");
    assert_eq!(world.sides[1].times(EventKind::CallMissed), 1);
    assert_eq!(world.sides[1].times(EventKind::CallRinging), 0);
}

#[test]
fn of_two_rings_at_once_that_of_the_lower_key_survives_as_one_call() {
    let mut world = World::new(1);
    let (mine, theirs) = (world.call(0, 1), world.call(1, 2));
    world.run(SHORT);
    for (side, call) in [(0, mine), (1, theirs)] {
        let own = &world.sides[side];
        assert_eq!((own.only().id, own.only().state()), (call, CallState::Connected));
        assert_eq!(own.only().shared(), Some(id(1)), "alice has the lower key");
        assert_eq!(own.times(EventKind::CallRinging), 0, "having called is consent");
    }
    world.agree().unwrap();
    // A further call to a connected peer is no glare.
    world.call(1, 3);
    world.run(SHORT);
    assert_eq!(world.sides[0].times(EventKind::CallRinging), 1);
}

#[test]
fn to_call_who_rings_here_is_to_answer() {
    let mut world = World::new(1);
    world.call(0, 1);
    world.run(SHORT);
    let incoming = world.sides[1].only().id;
    assert_eq!(world.call(1, 2), incoming);
    world.run(SHORT);
    assert_eq!(
        (world.sides[0].state(), world.sides[1].state()),
        (CallState::Connected, CallState::Connected)
    );
    world.agree().unwrap();
}

#[test]
fn several_calls_with_the_same_peer_are_several() {
    let mut world = World::new(1);
    world.call(0, 1);
    world.call(0, 2);
    world.run(SHORT);
    world.accept(1);
    world.accept(1);
    world.run(SHORT);
    assert_eq!(world.sides[0].board.live().filter(|call| call.state() == CallState::Connected).count(), 2);
    world.agree().unwrap();
    world.hang_up(0, &id(1));
    assert_eq!(world.sides[0].board.live().count(), 1);
}

#[test]
fn a_caller_that_loses_its_keys_while_it_rings_rings_no_second_time() {
    let mut world = World::new(1);
    world.call(0, 1);
    world.run(SHORT);
    world.restart(0);
    world.run(SHORT);
    world.accept(1);
    world.run(SHORT);
    assert_eq!(world.sides[1].times(EventKind::CallRinging), 1);
    world.agree().unwrap();
}

#[test]
fn a_callee_that_crashes_before_its_acceptance_left_goes_on_with_a_resumption() {
    let mut world = World::new(1);
    world.call(0, 1);
    world.run(SHORT);
    world.dropped = 100;
    world.accept(1);
    world.restart(1);
    world.dropped = 0;
    world.run(Duration::from_secs(10));
    assert_eq!(world.sides[0].times(EventKind::CallConnected), 1);
    world.agree().unwrap();
}

#[test]
fn both_sides_lose_their_keys_at_once_and_find_each_other_again() {
    let mut world = World::new(1);
    world.call(0, 1);
    world.run(SHORT);
    world.accept(1);
    world.run(SHORT);
    world.restart(0);
    world.restart(1);
    world.run(SHORT);
    world.agree().unwrap();
    assert_eq!(world.sides[0].times(EventKind::CallConnected), 1, "nobody is told a second time");
    assert_eq!(world.sides[1].times(EventKind::CallConnected), 1);
}

#[test]
fn who_wants_to_go_on_with_a_call_that_is_over_is_told() {
    let mut world = World::new(1);
    world.call(0, 1);
    world.run(SHORT);
    world.accept(1);
    world.run(SHORT);
    let incoming = world.sides[1].only().id;
    world.sides[1].board.handle_session_end(&incoming, true, world.now);
    world.drain(1);
    world.restart(0);
    world.run(SHORT);
    assert_eq!(world.sides[0].state(), CallState::Ended);
}

#[test]
fn a_late_acceptance_ends_the_call_that_its_sender_believes_in() {
    let mut world = World::new(1);
    let call = world.call(0, 1);
    world.run(SHORT);
    world.accept(1);
    let (accept, cancel) = (std::mem::take(&mut world.network), &call);
    world.hang_up(0, cancel);
    world.network.clear();
    for (_, to, rumor, signal, made) in accept {
        world.receive(to, rumor, signal, made);
    }
    world.run(SHORT);
    assert_eq!((world.sides[0].state(), world.sides[1].state()), (CallState::Ended, CallState::Ended));
}

#[test]
fn only_the_right_key_with_the_right_handshake_moves_a_call() {
    let mut world = World::new(1);
    world.call(0, 1);
    let own = &mut world.sides[0];
    let say = |body, generation| Signal { call: id(1), generation, body };
    let no = || Body::Reject { reason: String::new() };
    let board = &mut own.board;
    let mut dropped = |from: &PublicKey, signal: Signal| {
        let accepts = matches!(signal.body, Body::Accept(_));
        assert!(!accepts || board.expects(from, &signal).is_none(), "{signal:?}");
        let handled =
            board.handle_signal((from, Tier::Contact), signal, id(9), START.as_secs(), Hex([9; 8]), START);
        assert!(matches!(handled, Handled::Dropped(_)), "{handled:?}");
    };
    dropped(&EVE, say(no(), 0));
    dropped(&EVE, say(Body::Busy, 0));
    dropped(&EVE, say(Body::End { reason: String::new() }, 0));
    dropped(&EVE, say(Body::Accept(answer(id(1), None)), 0));
    dropped(&BOB, say(no(), 1));
    dropped(&BOB, say(Body::Cancel { reason: String::new() }, 0));
    dropped(&BOB, say(Body::Accept(answer(id(1), None)), 1));
    dropped(&BOB, say(Body::Resume(offer("", START)), 0));
    assert_eq!(own.board.live().count(), 1);
    assert!(own.board.expects(&BOB, &say(Body::Accept(answer(id(1), None)), 0)).is_some());
}

#[test]
fn an_invite_that_expires_in_years_does_not_ring_for_years() {
    let mut world = World::new(1);
    let far = START + Duration::from_secs(1 << 30);
    let signal = Signal { call: id(1), generation: 0, body: Body::Invite(offer("", far)) };
    world.receive(1, id(1), signal, START);
    world.run(Duration::from_secs(301));
    assert_eq!(world.sides[1].only().ended.clone().unwrap().reason, EndReason::NoAnswer);
}

#[test]
fn a_stranger_beyond_the_limit_waits_in_the_queue_can_be_answered_there_and_wakes_nobody() {
    let mut world = World::new(1);
    let from = world.sides[1].peer();
    for number in 1..=5 {
        let far = START + Duration::from_secs(60);
        let signal = Signal { call: id(number), generation: 0, body: Body::Invite(offer("hello", far)) };
        let own = &mut world.sides[1];
        own.board.handle_signal(
            (&from, Tier::Stranger),
            signal,
            id(number),
            START.as_secs(),
            id(number),
            START,
        );
        world.drain(1);
    }
    let own = &world.sides[1];
    assert_eq!(own.times(EventKind::CallRinging), 3);
    assert_eq!(own.board.live().filter(|call| call.queued).count(), 2);
    world.sides[1].board.accept(&id(5), START).unwrap();
    world.drain(1);
    assert_eq!(world.sides[1].board.call(&id(5)).unwrap().state(), CallState::Connected);
    // Nobody hears of the other one, whose caller gives up.
    world.run(Duration::from_secs(100));
    assert_eq!(world.sides[1].times(EventKind::CallMissed), 3);
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Call(usize),
    Accept(usize),
    HangUp(usize),
    Restart(usize),
    Pass(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => (0..2usize).prop_map(Deed::Call),
        4 => (0..2usize).prop_map(Deed::Accept),
        1 => (0..2usize).prop_map(Deed::HangUp),
        2 => (0..2usize).prop_map(Deed::Restart),
        4 => (100..8_000u64).prop_map(Deed::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever happens, once relays carry again both sides hold the same calls under the same handshakes; nobody is
    /// told twice of the same.
    #[test]
    fn both_sides_come_to_the_same_end(
        seed in any::<u64>(), dropped in 0..40u64, repeated in 0..30u64, delay in 1..4_000u64,
        deeds in prop::collection::vec(deed(), 1..25),
    ) {
        let mut world = World::new(seed);
        (world.dropped, world.repeated, world.delay) = (dropped, repeated, delay);
        let mut calls = 0;
        for deed in deeds {
            match deed {
                Deed::Call(side) if calls < 6 => {
                    calls += 1;
                    world.call(side, calls);
                }
                Deed::Call(_) => {}
                Deed::Accept(side) => world.accept(side),
                Deed::HangUp(side) => {
                    // A connected call's end is the session's to say, which is not here.
                    let ringing = world.sides[side].board.live()
                        .find(|call| call.state() == CallState::Ringing).map(|call| call.id);
                    if let Some(id) = ringing {
                        world.hang_up(side, &id);
                    }
                }
                Deed::Restart(side) => world.restart(side),
                Deed::Pass(time) => world.run(Duration::from_millis(time)),
            }
        }
        (world.dropped, world.repeated, world.delay) = (0, 0, 20);
        // As the delivery machine does when a peer is silent for three minutes.
        world.run(Duration::from_secs(120));
        for side in 0..2 {
            let silent: Vec<CallId> = world.sides[side].board.live().filter(|call| {
                let session = world.sides[side].sessions.get(&call.id);
                let there = session.is_some_and(|it| world.sides[1 - side].sessions.values().any(|other| other == it));
                call.state() == CallState::Connected && !there
            }).map(|call| call.id).collect();
            for id in silent {
                world.sides[side].board.renew(&id, world.now);
            }
            world.drain(side);
        }
        world.run(Duration::from_secs(400));
        prop_assert_eq!(world.agree(), Ok(()));
        for side in &world.sides {
            for kind in [EventKind::CallRinging, EventKind::CallConnected, EventKind::CallEnded, EventKind::CallMissed] {
                let told: Vec<CallId> =
                    side.events.iter().filter(|(_, told)| *told == kind).map(|(call, _)| *call).collect();
                let once: BTreeSet<CallId> = told.iter().copied().collect();
                prop_assert_eq!(told.len(), once.len(), "{:?} told twice", kind);
            }
        }
    }
}
