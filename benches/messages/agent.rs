//! An engine in a home of its own.

use std::cell::Cell;

use p2p_comm::api::{self, CallState, Command, Error, EventKind, MessageState, Reply, WaitReply};
use p2p_comm::engine::{Engine, Handle, Options};
use p2p_comm::home::{Home, Settings};
use p2p_comm::proto::{Durability, MessageId};

use crate::process::{receive, say};
use crate::{TEXT_BYTES, runtime};

/// A deadline, not a pace.
const LONG_S: f64 = 60.0;

pub struct Agent {
    engine: Engine,
    handle: Handle,
    last_sent: Cell<Option<MessageId>>,
    /// Where this agent's `wait` goes on.
    cursor: Cell<u64>,
    _folder: tempfile::TempDir,
}

impl Agent {
    pub fn start(id: &str, relay: &str, durability: Durability) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        let settings = Settings {
            agent_id: Some(id.into()),
            relays: vec![relay.into()],
            durability,
            ..Settings::default()
        };
        let engine = Engine::start(Options { home, settings }).unwrap();
        let handle = engine.handle();
        Self { engine, handle, last_sent: Cell::new(None), cursor: Cell::new(0), _folder: folder }
    }

    async fn ask<T: TryFrom<Reply, Error = Error>>(&self, command: Command) -> T {
        self.handle.ask(command).await.unwrap().try_into().unwrap()
    }

    /// Calls an agent, and returns when it has answered.
    pub async fn call(&self, key: &str) {
        let command = Command::Call {
            agent: key.into(),
            topic: "benchmark".into(),
            client_id: None,
            traceparent: None,
        };
        let call: api::CallReply = self.ask(command).await;
        let wait = Command::AwaitCall { call: call.call.call, timeout_s: LONG_S };
        let call: api::CallReply = self.ask(wait).await;
        assert_eq!(call.call.state, CallState::Connected);
    }

    /// Says something. On return it is committed.
    pub async fn say(&self) {
        let message: api::Message = self.ask(send()).await;
        self.last_sent.set(Some(message.message));
    }

    /// Says so many things without waiting for one before the next. On return all are committed.
    pub async fn say_all(&self, count: usize) {
        let mut submitted = Vec::with_capacity(count);
        for _ in 0..count {
            submitted.push(self.handle.submit(send()).await.unwrap());
        }
        for sent in submitted {
            let message: api::Message = sent.reply().await.unwrap().try_into().unwrap();
            self.last_sent.set(Some(message.message));
        }
    }

    /// Returns when the peer has acknowledged the last message.
    pub async fn delivered(&self) {
        let Some(message) = self.last_sent.get() else { return };
        let wait = Command::AwaitMessage { message, state: MessageState::Delivered, timeout_s: LONG_S };
        let reply: api::MessageReply = self.ask(wait).await;
        assert!(!reply.timeout, "the peer acknowledges nothing");
    }

    /// Waits for the next event of a kind.
    async fn event(&self, kind: EventKind) {
        let wait = Command::Wait {
            consumer: None,
            after: Some(self.cursor.get()),
            call: None,
            kinds: vec![kind],
            ahead: 0,
            timeout_s: LONG_S,
        };
        let reply: WaitReply = self.ask(wait).await;
        assert!(!reply.timeout, "no {kind:?} came");
        self.cursor.set(reply.cursor);
    }

    pub async fn stop(&self) {
        self.engine.stop().await;
    }
}

fn send() -> Command {
    Command::Send {
        text: "x".repeat(TEXT_BYTES),
        call: None,
        to: None,
        client_id: None,
        wait: None,
        traceparent: None,
    }
}

/// The other agent's process: tells its key, answers one call, and then when messages come.
pub fn serve_peer(relay: &str, durability: Durability) {
    let runtime = runtime();
    let bob = runtime.block_on(async { Agent::start("bob", relay, durability) });
    say(&bob.engine.public_key().to_string());
    runtime.block_on(async {
        bob.event(EventKind::CallRinging).await;
        let answer = Command::Answer { call: None, accept: true, reason: String::new() };
        bob.ask::<api::CallReply>(answer).await;
    });
    say("connected");
    receive(&runtime, async || bob.event(EventKind::MessageReceived).await);
    runtime.block_on(bob.stop());
}
