//! Two machines, two disks that commit late or not at all, and a network that does what relays do, in virtual time.
//!
//! `rules` holds one rule each, `ways` those about the ways of files; `lossy` runs whole conversations against a model.

mod hostile;
mod lossy;
mod rules;
mod ways;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::*;
use crate::proto::v2::batch::{Ack, Batch};
use crate::proto::v2::frame;
use crate::proto::{Hex, Millis};

const START: Millis = Millis::from_secs(1_800_000_000);

/// What the network and the disks do.
#[derive(Debug, Clone, Copy)]
struct Weather {
    /// Of a hundred frames.
    dropped: u64,
    repeated: u64,
    /// Milliseconds. Frames that are delayed differently overtake each other.
    delay: u64,
    /// Milliseconds from an input to the end of its transaction.
    commit: u64,
}

const FINE: Weather = Weather { dropped: 0, repeated: 0, delay: 20, commit: 2 };

/// Numbers that follow from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A transaction that is not committed yet.
struct Transaction {
    at: Millis,
    point: u64,
    outputs: Vec<Output>,
    /// What the user is told to be accepted when it is committed.
    accepted: Option<Accepted>,
}

enum Accepted {
    Said(MessageId, Content),
    Read(MessageId),
}

/// One agent as the engine would run it: the machine, and what survives it.
struct Side {
    machine: Delivery,
    generation: u64,
    transactions: VecDeque<Transaction>,
    /// Numbers used in this generation.
    numbers: BTreeSet<u64>,
    // Durable:
    disk: Saved,
    accepted: Vec<(MessageId, Content)>,
    read: Option<MessageId>,
    surfaced: Vec<(MessageId, Content)>,
    delivered: BTreeSet<MessageId>,
    expired: BTreeSet<MessageId>,
    /// Everything else, in the order of its commit.
    events: Vec<Event>,
    forgotten: Vec<u64>,
}

struct UnderWay {
    to: usize,
    generation: u64,
    frame: Transmit,
}

struct World {
    now: Millis,
    weather: Weather,
    dice: Dice,
    sides: [Side; 2],
    network: BTreeMap<(Millis, u64), UnderWay>,
    /// Relays that carry pieces of files.
    ways: u8,
    /// What is no piece of a file goes over two relays, each with its own weather.
    twice: bool,
    /// Bytes a second that leave side 0, one frame after the other, and when the last of them will have left. Then frames
    /// arrive in the order in which they left, as they do over one relay.
    uplink: Option<(u64, Millis)>,
    /// When a side learns that a new handshake was made, and which.
    handshakes: Vec<(Millis, usize, u64)>,
    sent: u64,
    /// Every frame that has left, for the rules to look at.
    log: Vec<(usize, Transmit)>,
    keep_log: bool,
}

impl Side {
    fn new() -> Self {
        Self {
            machine: Delivery::new(START),
            generation: 0,
            transactions: VecDeque::new(),
            numbers: BTreeSet::new(),
            disk: Saved::default(),
            accepted: vec![],
            read: None,
            surfaced: vec![],
            delivered: BTreeSet::new(),
            expired: BTreeSet::new(),
            events: vec![],
            forgotten: vec![],
        }
    }

    /// Whether a message of the peer is durable here: shown, or held as a whole.
    fn has(&self, id: &MessageId) -> bool {
        self.surfaced.iter().any(|(surfaced, _)| surfaced == id)
            || self.disk.held.iter().any(|entry| entry.id == *id)
    }

    fn texts(&self) -> Vec<String> {
        let words = |(_, content): &(MessageId, Content)| match content {
            Content::Text(words) => words.clone(),
            other => format!("{other:?}"),
        };
        self.surfaced.iter().map(words).collect()
    }
}

fn is_chunk(content: &Content) -> bool {
    matches!(content, Content::Chunk { .. })
}

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        Self {
            now: START,
            weather,
            dice: Dice(seed),
            sides: [Side::new(), Side::new()],
            network: BTreeMap::new(),
            ways: 3,
            twice: false,
            uplink: None,
            handshakes: vec![],
            sent: 0,
            log: vec![],
            keep_log: false,
        }
    }

    /// An input of a side: what comes out becomes a transaction, and what may leave leaves.
    fn input<T>(&mut self, side: usize, input: impl FnOnce(&mut Delivery, Millis) -> T) -> T {
        self.input_accepting(side, None, input)
    }

    fn input_accepting<T>(
        &mut self,
        side: usize,
        accepted: Option<Accepted>,
        input: impl FnOnce(&mut Delivery, Millis) -> T,
    ) -> T {
        let now = self.now;
        let machine = &mut self.sides[side].machine;
        let result = input(machine, now);
        let outputs: Vec<Output> = std::iter::from_fn(|| machine.poll_output()).collect();
        let point = machine.persist_point();
        if !outputs.is_empty() {
            let before = self.sides[side].transactions.back().map_or(now, |transaction| transaction.at);
            let at = before.max(now + Duration::from_millis(self.dice.below(self.weather.commit + 1)));
            self.sides[side].transactions.push_back(Transaction { at, point, outputs, accepted });
        }
        self.transmit(side);
        result
    }

    fn transmit(&mut self, side: usize) {
        loop {
            let machine = &mut self.sides[side].machine;
            // As the pool chooses: one that is shunned takes nothing while there is a good one.
            let is_shunned = |way| machine.is_shunned(way, self.now);
            let is_one_good = (0..self.ways).any(|way| !is_shunned(way) && !machine.loses_many(way));
            let open =
                (0..self.ways).find(|way| machine.has_room_on(*way) && !(is_shunned(*way) && is_one_good));
            machine.hold_files(open.is_none());
            let Some(frame) = machine.poll_transmit(self.now) else { break };
            if frame.bulk {
                machine.handle_sent(frame.number, open.unwrap_or_default());
            }
            assert!(self.sides[side].numbers.insert(frame.number), "a frame number was used twice");
            if self.keep_log {
                self.log.push((side, frame.clone()));
            }
            let mut copies = 0;
            for _ in 0..if self.twice && !frame.bulk { 2 } else { 1 } {
                copies += match self.dice.below(100) {
                    roll if roll < self.weather.dropped => 0,
                    roll if roll < self.weather.dropped + self.weather.repeated => 2,
                    _ => 1,
                };
            }
            let mut left = self.now;
            if let Some((rate, free_at)) = &mut self.uplink
                && side == 0
            {
                // As base64 in an event.
                let bytes = frame.plaintext.len() as u64 * 4 / 3 + 300;
                *free_at = (*free_at).max(left) + Duration::from_millis((bytes * 1_000).div_ceil(*rate));
                left = *free_at;
            }
            for _ in 0..copies {
                let delay = match self.uplink {
                    Some(_) => self.weather.delay,
                    None => self.dice.below(self.weather.delay + 1),
                };
                let at = left + Duration::from_millis(1 + delay);
                let generation = self.sides[side].generation;
                self.sent += 1;
                self.network
                    .insert((at, self.sent), UnderWay { to: 1 - side, generation, frame: frame.clone() });
            }
        }
    }

    fn commit(&mut self, side: usize) {
        let Some(Transaction { point, outputs, accepted, .. }) = self.sides[side].transactions.pop_front()
        else {
            return;
        };
        let [one, other] = &mut self.sides;
        let (own, peer) = if side == 0 { (one, other) } else { (other, one) };
        match accepted {
            Some(Accepted::Said(id, content)) => own.accepted.push((id, content)),
            Some(Accepted::Read(id)) => own.read = Some(id),
            None => {}
        }
        for output in outputs {
            match output {
                Output::Persist(change) => {
                    if let Change::Surface { said: Some(said), .. } = &change {
                        own.surfaced.push((said.id, said.content.clone()));
                    }
                    own.disk.apply(change);
                }
                Output::Event(Event::Delivered(id)) => {
                    assert!(peer.has(&id), "delivered, and the peer does not have it");
                    assert!(own.delivered.insert(id), "delivered twice");
                }
                Output::Event(Event::Expired(id)) => assert!(own.expired.insert(id), "expired twice"),
                Output::Event(event) => own.events.push(event),
                Output::ForgetKey { epoch } => own.forgotten.push(epoch),
            }
        }
        self.input(side, |machine, now| machine.handle_persisted(point, now));
        let side = &self.sides[side];
        if side.transactions.is_empty() && !side.machine.is_closed() {
            assert_eq!(side.machine.saved(), side.disk, "the changes lead to the state");
        }
    }

    /// Lets virtual time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let network = self.network.first_key_value().map(|(key, _)| key.0);
            let commit = |side: usize| self.sides[side].transactions.front().map(|first| first.at);
            let timer = |side: usize| self.sides[side].machine.poll_timeout().map(|(at, _)| at);
            let handshake = self.handshakes.iter().map(|(at, ..)| *at).min();
            let next =
                [network, commit(0), commit(1), timer(0), timer(1), handshake].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if handshake == Some(next) {
                self.handshake();
            } else if let Some(side) = (0..2).find(|side| commit(*side) == Some(next)) {
                self.commit(side);
            } else if network == Some(next) {
                let Some((_, UnderWay { to, generation, frame })) = self.network.pop_first() else { break };
                if self.sides[to].generation == generation {
                    // In bad weather, what a file is written to cannot be opened now and then.
                    let has_place = self.weather.dropped == 0 || self.dice.below(4) > 0;
                    self.input(to, |machine, now| {
                        assert_eq!(machine.receive_epoch(frame.epoch as u8), Some(frame.epoch));
                        let handle = |machine: &mut Delivery| {
                            machine.handle_frame(frame.epoch, frame.number, &frame.plaintext, now)
                        };
                        let mut handled = handle(machine);
                        if let Handled::Early(stream) = handled
                            && has_place
                        {
                            machine.admit(stream);
                            handled = handle(machine);
                        }
                        assert!(!matches!(handled, Handled::Malformed(_)), "{handled:?}");
                    });
                }
            } else {
                for side in 0..2 {
                    if timer(side) == Some(next) {
                        let now = self.now;
                        self.input(side, |machine, now| machine.handle_timeout(now));
                        let again = self.sides[side].machine.poll_timeout();
                        assert!(
                            again.is_none_or(|(at, _)| at > now),
                            "a timer that fires for ever: {again:?}"
                        );
                        break;
                    }
                }
            }
        }
        self.now = end;
    }

    fn handshake(&mut self) {
        let (now, mut due) = (self.now, vec![]);
        self.handshakes.retain(|(at, side, generation)| {
            if *at <= now {
                due.push((*side, *generation));
            }
            *at > now
        });
        for (side, generation) in due {
            if self.sides[side].generation < generation {
                self.sides[side].generation = generation;
                self.sides[side].numbers.clear();
                self.input(side, |machine, now| machine.resume(now));
            }
        }
    }

    /// A crash: only what was committed is left. The peer hears of the new handshake after a while.
    fn kill(&mut self, side: usize) {
        let generation = 1 + self.sides[0].generation.max(self.sides[1].generation);
        let killed = &mut self.sides[side];
        killed.transactions.clear();
        killed.numbers.clear();
        killed.generation = generation;
        killed.machine = Delivery::restore(&killed.disk, self.now);
        let at = self.now + Duration::from_millis(self.dice.below(3_000));
        self.handshakes.push((at, 1 - side, generation));
        self.input(side, |_, _| ());
    }

    /// A transaction fails, and with it all that were to follow.
    fn fail_commit(&mut self, side: usize) {
        let failed = &mut self.sides[side];
        failed.transactions.clear();
        failed.machine.reload(&failed.disk, self.now);
        self.input(side, |_, _| ());
    }

    fn say(&mut self, side: usize, id: u128, content: Content, deadline: Option<Millis>) {
        let id = Hex(id.to_be_bytes());
        let accepted = Some(Accepted::Said(id, content.clone()));
        // What is refused leaves no transaction, and so is not accepted.
        _ = self.input_accepting(side, accepted, |machine, _| machine.say(id, &content, deadline));
    }

    fn read(&mut self, side: usize, id: MessageId) {
        self.input_accepting(side, Some(Accepted::Read(id)), |machine, now| machine.read(id, now).unwrap());
    }

    fn text(&mut self, side: usize, id: u128, words: &str) {
        self.say(side, id, Content::Text(words.into()), None);
    }

    /// What each frame of a side carried: acknowledged ranges, and seqs by stream.
    fn frames_of(&mut self, side: usize) -> Vec<Batch> {
        let log = std::mem::take(&mut self.log);
        let decoded = |(_, frame): (usize, Transmit)| {
            frame::unpad(&frame.plaintext).and_then(Batch::decode).expect("our own frames are well-formed")
        };
        log.into_iter().filter(|(of, _)| *of == side).map(decoded).collect()
    }
}

fn id(number: u128) -> MessageId {
    Hex(number.to_be_bytes())
}

/// A machine that is told everything durable at once, for tests that make the peer's frames themselves.
struct Alone {
    machine: Delivery,
    now: Millis,
}

impl Alone {
    fn new() -> Self {
        Self { machine: Delivery::new(START), now: START }
    }

    fn drain(&mut self) -> Vec<Output> {
        let outputs = std::iter::from_fn(|| self.machine.poll_output()).collect();
        self.machine.handle_persisted(self.machine.persist_point(), self.now);
        outputs
    }

    fn text(&mut self, number: u128) {
        self.machine.say(id(number), &Content::Text(number.to_string()), None).unwrap();
        self.drain();
    }

    /// The next frame, decoded.
    fn frame(&mut self) -> Option<(u64, Batch)> {
        let frame = self.machine.poll_transmit(self.now)?;
        Some((frame.number, Batch::decode(frame::unpad(&frame.plaintext).unwrap()).unwrap()))
    }

    /// Seqs that go out now.
    fn seqs(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.frame())
            .flat_map(|(_, batch)| batch.entries)
            .map(|entry| entry.seq)
            .collect()
    }

    fn receive(&mut self, number: u64, batch: Batch) -> Handled {
        let plaintext = frame::pad(&batch.encode()).unwrap();
        self.machine.handle_frame(0, number, &plaintext, self.now)
    }

    fn acknowledge(&mut self, number: u64, acknowledged: &[u64]) {
        let mut ranges: Vec<std::ops::RangeInclusive<u64>> = vec![];
        for number in acknowledged.iter().rev().copied() {
            match ranges.last_mut() {
                Some(last) if *last.start() == number + 1 => *last = number..=*last.end(),
                _ => ranges.push(number..=number),
            }
        }
        let ack = Some(Ack { delay: Duration::ZERO, ranges });
        assert_eq!(self.receive(number, Batch { ack, entries: vec![] }), Handled::Taken);
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.machine.poll_timeout()
            && at <= end
        {
            self.now = at;
            self.machine.handle_timeout(at);
        }
        self.now = end;
    }
}
