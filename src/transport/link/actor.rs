//! The task of one relay: dials, moves frames between the socket and the conversation, hands over, dials again.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use nostr_sdk::secp256k1::rand;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tracing::{debug, info};

use super::conversation::Conversation;
use super::desk::Link;
use super::lookup::Asker;
use super::socket::{Dialled, Socket, dial};
use super::subscription::Waiter;
use super::{Delivery, Leave, Now};
use crate::api::RelayAuth;
use crate::proto::PublicKey;
use crate::transport::class::Class;
use crate::transport::inbound::Inbound;
use crate::transport::question::Told;
use crate::transport::tuning::Tuning;

/// A deadline found so much too late was not the relay's fault: this process did not run.
const LATE: Duration = Duration::from_secs(1);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(200);

/// Messages that wait for one socket. They are taken from the desk as the socket takes them, so that a frame that
/// waits too long is still not sent.
const MAX_UNSENT: usize = 32;

/// What the pool tells every link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::transport) struct Control {
    /// Send what waits, then end.
    pub stopping: bool,
    /// Changes when every socket is suspect.
    pub redial: u64,
}

/// What the pool asks of one link.
#[derive(Debug)]
pub(in crate::transport) enum Command {
    Refresh { class: Class, waiter: Waiter },
    LookUp { key: PublicKey, asker: Asker },
}

/// One relay's task.
pub(in crate::transport) struct Actor {
    pub link: Arc<Link>,
    pub control: watch::Receiver<Control>,
    pub commands: mpsc::Receiver<Command>,
    pub inbound: mpsc::Sender<Inbound>,
}

impl Actor {
    /// Lives until the pool stops, or nobody takes what comes in.
    pub(in crate::transport) async fn run(mut self) {
        let link = self.link.clone();
        let mut backoff = Backoff::new(&link.tuning);
        let mut told_down = false;
        while !self.is_over() {
            let redial = self.control.borrow_and_update().redial;
            let dialled = tokio::select! {
                biased;
                () = interrupted(&mut self.control, redial) => continue,
                dialled = dial(&link.relay, link.role, &link.tuning) => dialled,
            };
            let error = match dialled {
                Ok(Dialled { socket, clock_offset }) => {
                    link.desk().begin(clock_offset);
                    if link.role.is_identity() {
                        self.hand_over(Delivery::Inbound(Inbound::Up { relay: link.relay.clone() })).await;
                    }
                    told_down = false;
                    match self.converse(socket, redial, &mut backoff).await {
                        Leave::Stopped => break,
                        Leave::Redial => {
                            self.tell_down(&mut told_down, Leave::Redial.to_string()).await;
                            continue;
                        }
                        leave => leave.to_string(),
                    }
                }
                Err(error) => {
                    debug!(relay = %link.relay, %error, "not reached");
                    error.to_string()
                }
            };
            link.failed(error.as_str());
            self.tell_down(&mut told_down, error).await;
            let wait = backoff.next();
            tokio::select! {
                biased;
                () = interrupted(&mut self.control, redial) => backoff = Backoff::new(&link.tuning),
                () = link.nudged.notified() => {}
                () = sleep(wait) => {}
            }
        }
        debug!(relay = %link.relay, "link ended");
    }

    fn is_over(&self) -> bool {
        self.control.borrow().stopping || self.control.has_changed().is_err() || self.inbound.is_closed()
    }

    async fn tell_down(&mut self, told: &mut bool, error: String) {
        if !std::mem::replace(told, true) {
            info!(relay = %self.link.relay, error, "relay is down");
            if self.link.role.is_identity() {
                let down = Inbound::Down { relay: self.link.relay.clone(), error };
                self.hand_over(Delivery::Inbound(down)).await;
            }
        }
    }

    /// Hands something over, waiting as long as it takes unless the pool stops.
    async fn hand_over(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Inbound(inbound) => {
                tokio::select! {
                    biased;
                    // An error means that the engine is gone, which the loops notice by themselves.
                    _ = self.inbound.send(inbound) => {}
                    () = stopped(&mut self.control) => {}
                }
            }
            Delivery::Answered(waiter, told) => answer(&waiter, told),
        }
    }

    async fn converse(&mut self, socket: Socket, redial: u64, backoff: &mut Backoff) -> Leave {
        let link = self.link.clone();
        let begun = Instant::now();
        {
            let mut desk = link.desk();
            desk.status.connected = true;
            desk.status.error = None;
            desk.status.auth = RelayAuth::None;
        }
        info!(relay = %link.relay, "relay is up");
        let mut talk = Conversation::new(&link, link.now());
        let (sink, mut stream) = socket.split();
        let mut wire = Wire { sink, unsent: VecDeque::new(), unflushed: false, leave_by: None };
        let leave = self.talk(&mut talk, &mut wire, &mut stream, redial).await;
        talk.end(&leave);
        {
            let mut desk = link.desk();
            desk.status.connected = false;
            desk.status.auth = RelayAuth::None;
        }
        debug!(relay = %link.relay, %leave, "conversation over");

        let well = talk.is_proven() || begun.elapsed() >= link.tuning.steady_after;
        if well && !leave.is_misbehaviour() {
            backoff.reset();
        }
        // The relay may be deaf by now: a goodbye is a courtesy. But who hangs up with answers unread, resets the
        // connection, and a relay that cannot write any more may not read any more either.
        let goodbye = async {
            let _ = wire.sink.close().await;
            while matches!(leave, Leave::Stopped) && matches!(stream.next().await, Some(Ok(_))) {}
        };
        let _ = timeout(GOODBYE, goodbye).await;
        while let Some(delivery) = talk.next_delivery() {
            self.hand_over(delivery).await;
        }
        leave
    }

    /// Moves frames until the connection is over.
    async fn talk(
        &mut self,
        talk: &mut Conversation<'_>,
        wire: &mut Wire,
        stream: &mut SplitStream<Socket>,
        redial: u64,
    ) -> Leave {
        let link = self.link.clone();
        let tuning = &link.tuning;
        let mut drain_by: Option<Instant> = None;
        let mut blocked_since: Option<Instant> = None;
        loop {
            let now = link.now();
            let control = *self.control.borrow();
            if control.stopping {
                drain_by.get_or_insert(now.instant + tuning.drain);
            } else if control.redial != redial {
                return Leave::Redial;
            }
            self.hand_over_now(talk, drain_by.is_some());
            let blocked = talk.has_deliveries();
            match (blocked, blocked_since) {
                (true, None) => blocked_since = Some(now.instant),
                (false, Some(since)) => {
                    blocked_since = None;
                    wire.extend(now.instant - since);
                    talk.resumed(now.instant - since, now);
                }
                _ => {}
            }
            wire.collect(talk, now, tuning);
            if drain_by.is_some_and(|by| by <= now.instant || talk.is_idle() && !wire.unflushed) {
                return Leave::Stopped;
            }
            // While we do not read, no deadline of the relay's counts.
            let due = (!blocked).then(|| wire.leave_by.into_iter().fold(talk.deadline(now), Instant::min));
            let wake = [due, drain_by].into_iter().flatten().min();

            tokio::select! {
                biased;
                // A stop that is already under way has nothing more to hear.
                changed = self.control.changed(), if drain_by.is_none() => if changed.is_err() {
                    return Leave::Stopped;
                },
                permit = self.inbound.reserve(), if blocked => match (permit, talk.next_delivery()) {
                    (Ok(permit), Some(Delivery::Inbound(inbound))) => permit.send(inbound),
                    (Ok(_), Some(Delivery::Answered(waiter, told))) => answer(&waiter, told),
                    (Ok(_), None) => {}
                    (Err(_), _) => return Leave::Stopped,
                },
                () = link.queued.notified() => talk.wake(link.now()),
                Some(command) = self.commands.recv() => match command {
                    Command::Refresh { class, waiter } => talk.refresh(class, waiter, link.now()),
                    Command::LookUp { key, asker } => talk.look_up(key, asker, link.now()),
                },
                written = wire.write(), if wire.unflushed => match written {
                    Ok(()) => {
                        stage!("written");
                        wire.written();
                    }
                    Err(error) => return lost(&error),
                },
                () = sleep_until_maybe(wake) => {
                    let now = link.now();
                    if let Some(late) = due.map(|due| now.instant.saturating_duration_since(due))
                        && late > LATE
                    {
                        talk.extend(late);
                        wire.extend(late);
                    }
                    if wire.is_stuck(now.instant) {
                        return Leave::Stuck;
                    }
                    if !blocked && let Err(leave) = talk.tick(now) {
                        return leave;
                    }
                }
                message = stream.next(), if !blocked => {
                    if let Err(leave) = read(talk, message, link.now()) {
                        return leave;
                    }
                }
            }
        }
    }

    /// Hands over what goes without waiting. While stopping nobody may be there to take it: what came in is
    /// fetched again after the next start, only what became of our own events is worth a try.
    fn hand_over_now(&self, talk: &mut Conversation<'_>, stopping: bool) {
        while talk.has_deliveries() {
            match self.inbound.try_reserve() {
                Ok(permit) => match talk.next_delivery() {
                    Some(Delivery::Inbound(inbound)) => permit.send(inbound),
                    Some(Delivery::Answered(waiter, told)) => answer(&waiter, told),
                    None => {}
                },
                Err(_) if stopping => while talk.next_delivery().is_some() {},
                Err(_) => return,
            }
        }
    }
}

fn answer(waiter: &Waiter, told: Told) {
    // Its channel has room for every link and page; if it is gone, so is the question.
    let _ = waiter.try_send(told);
}

fn lost(error: &tungstenite::Error) -> Leave {
    Leave::Lost(error.to_string())
}

fn read(
    talk: &mut Conversation<'_>,
    message: Option<Result<Message, tungstenite::Error>>,
    now: Now,
) -> Result<(), Leave> {
    let message = message.ok_or(Leave::Closed)?.map_err(|error| lost(&error))?;
    talk.alive();
    match message {
        Message::Text(text) => {
            stage!("read");
            talk.receive(text.as_str(), now)
        }
        Message::Pong(_) => {
            talk.pong(now);
            Ok(())
        }
        Message::Close(_) => Err(Leave::Closed),
        // Pings are answered by the library; binary frames are no part of NIP-01.
        Message::Ping(_) | Message::Binary(_) | Message::Frame(_) => Ok(()),
    }
}

/// Until the pool stops or wants every socket dialled anew.
async fn interrupted(control: &mut watch::Receiver<Control>, redial: u64) {
    // An error means that the pool is gone: the same as a stop.
    let _ = control.wait_for(|control| control.stopping || control.redial != redial).await;
}

/// Until the pool stops.
async fn stopped(control: &mut watch::Receiver<Control>) {
    let _ = control.wait_for(|control| control.stopping).await;
}

async fn sleep_until_maybe(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => pending().await,
    }
}

/// The socket's outgoing half, and what is on its way to it.
struct Wire {
    sink: SplitSink<Socket, Message>,
    unsent: VecDeque<Message>,
    unflushed: bool,
    leave_by: Option<Instant>,
}

impl Wire {
    /// Takes over what the conversation wants written, as far as there is room.
    fn collect(&mut self, talk: &mut Conversation<'_>, now: Now, tuning: &Tuning) {
        while self.unsent.len() < MAX_UNSENT
            && let Some(frame) = talk.next_frame(now)
        {
            self.unsent.push_back(Message::text(frame));
        }
        if talk.take_ping() {
            self.unsent.push_back(Message::Ping(Bytes::new()));
        }
        if !self.unsent.is_empty() && !self.unflushed {
            self.unflushed = true;
            self.leave_by = Some(now.instant + tuning.write_within);
        }
    }

    /// Writes everything. May be dropped at any await and called again: a message leaves the queue only when the
    /// library has it.
    async fn write(&mut self) -> Result<(), tungstenite::Error> {
        while !self.unsent.is_empty() {
            poll_fn(|context| self.sink.poll_ready_unpin(context)).await?;
            if let Some(message) = self.unsent.pop_front() {
                self.sink.start_send_unpin(message)?;
            }
        }
        self.sink.flush().await
    }

    fn written(&mut self) {
        self.unflushed = false;
        self.leave_by = None;
    }

    fn is_stuck(&self, now: Instant) -> bool {
        self.leave_by.is_some_and(|by| by <= now)
    }

    fn extend(&mut self, by: Duration) {
        self.leave_by = self.leave_by.map(|leave_by| leave_by + by);
    }
}

/// The wait before the next try: doubling, jittered, so that the clients of a relay that restarts do not come all
/// at once.
struct Backoff {
    wait: Duration,
    first: Duration,
    most: Duration,
}

impl Backoff {
    fn new(tuning: &Tuning) -> Self {
        Self { wait: tuning.backoff_first, first: tuning.backoff_first, most: tuning.backoff_most }
    }

    fn reset(&mut self) {
        self.wait = self.first;
    }

    /// Between half the wait and all of it.
    fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(self.most);
        wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }
}
