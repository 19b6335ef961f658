//! An engine in a home of its own.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use p2p_comm::api::{
    CallReply, CallState, Command, ContactEdit, Contacts, Error, EventKind, Message, Reply, WaitReply,
};
use p2p_comm::engine::{Engine, Handle, Options};
use p2p_comm::home::{Home, Settings};
use p2p_comm::proto::{CallId, Tier};

/// A deadline, not a pace.
pub const LONG_S: f64 = 120.0;
/// What an agent says: two sentences.
const TEXT_BYTES: usize = 200;

pub struct Agent {
    pub engine: Engine,
    pub handle: Handle,
    /// Where this agent's own `wait` goes on.
    cursor: AtomicU64,
}

impl Agent {
    /// Opens a home. Whoever is among its contacts is answered at once.
    pub fn start(folder: &Path, id: &str, relay: &str) -> Self {
        let home = Home::open(Some(folder)).unwrap();
        let settings = Settings {
            agent_id: Some(id.into()),
            relays: vec![relay.into()],
            auto_accept: Some(Tier::Contact),
            max_calls: 4_096,
            ..Settings::default()
        };
        let engine = Engine::start(Options { home, settings }).unwrap();
        Self { handle: engine.handle(), engine, cursor: AtomicU64::new(0) }
    }

    pub fn key(&self) -> String {
        self.engine.public_key().to_string()
    }

    pub async fn ask<T: TryFrom<Reply, Error = Error>>(&self, command: Command) -> T {
        self.handle.ask(command).await.unwrap().try_into().unwrap()
    }

    pub async fn knows(&self, name: &str, key: &str) {
        let edit = ContactEdit::Add { name: name.into(), key: key.into() };
        self.ask::<Contacts>(Command::ContactEdit(edit)).await;
    }

    /// Calls an agent, and returns when it has answered.
    pub async fn call(&self, key: &str) -> CallId {
        let command = Command::Call {
            agent: key.into(),
            topic: "benchmark".into(),
            client_id: None,
            traceparent: None,
        };
        let call = self.ask::<CallReply>(command).await.call.call;
        let call: CallReply = self.ask(Command::AwaitCall { call, timeout_s: LONG_S }).await;
        assert_eq!(call.call.state, CallState::Connected);
        call.call.call
    }

    /// Says something. On return it is committed.
    pub async fn say(&self, call: CallId) {
        let command = Command::Send {
            text: "x".repeat(TEXT_BYTES),
            call: Some(call),
            to: None,
            client_id: None,
            wait: None,
            traceparent: None,
        };
        self.ask::<Message>(command).await;
    }

    /// From now on, `event` tells what is new.
    pub async fn skip(&self) {
        // Of a kind that does not come: the cursor of a timeout is the newest there is.
        let reply = self.wait(vec![EventKind::Gap], 0.0, self.place()).await;
        self.cursor.store(reply.cursor, Ordering::Relaxed);
    }

    /// Up to where events were told.
    pub fn place(&self) -> u64 {
        self.cursor.load(Ordering::Relaxed)
    }

    async fn wait(&self, kinds: Vec<EventKind>, timeout_s: f64, after: u64) -> WaitReply {
        self.ask(Command::Wait { consumer: None, after: Some(after), call: None, kinds, ahead: 0, timeout_s })
            .await
    }

    /// Waits for the next event of a kind.
    pub async fn event(&self, kind: EventKind) {
        let reply = self.wait(vec![kind], LONG_S, self.place()).await;
        assert!(!reply.timeout, "no {kind:?} came");
        self.cursor.store(reply.cursor, Ordering::Relaxed);
    }
}
