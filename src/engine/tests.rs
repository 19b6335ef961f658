//! Two engines and an embedded relay: the flow, restarts, and what must not happen.

use std::path::Path;
use std::time::Duration;

use super::{Engine, Handle, Options};
use crate::api::{
    self, Command, Error, ErrorKind, EventKind, MessageKind, MessageState, Reply, Sender, TicketState,
    WaitReply,
};
use crate::home::{Home, Settings};
use crate::proto::authority::Role;
use crate::proto::{CallId, CallState, EndReason};
use crate::relay::{self, EmbeddedRelay};
use crate::transport::{self, Inbound, Pool};

/// Longer than anything here takes on a busy machine: a deadline, not a pace.
pub(super) const LONG_S: f64 = 60.0;

pub(super) async fn relay() -> EmbeddedRelay {
    let address = ([127, 0, 0, 1], 0).into();
    EmbeddedRelay::start(relay::Options { address, ..relay::Options::default() }).await.unwrap()
}

pub(super) struct Agent {
    pub(super) folder: tempfile::TempDir,
    pub(super) settings: Settings,
    pub(super) engine: Engine,
    pub(super) handle: Handle,
}

impl Agent {
    pub(super) fn start(id: &str, relay: &str) -> Self {
        Self::with(id, relay, |_| {})
    }

    pub(super) fn with(id: &str, relay: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings =
            Settings { agent_id: Some(id.into()), relays: vec![relay.into()], ..Settings::default() };
        change(&mut settings);
        let engine = open(folder.path(), &settings);
        Self { handle: engine.handle(), engine, folder, settings }
    }

    /// An orderly stop and a new start in the same home.
    pub(super) async fn restart(&mut self) {
        self.engine.stop().await;
        self.engine = open(self.folder.path(), &self.settings);
        self.handle = self.engine.handle();
    }

    pub(super) async fn ask<T: TryFrom<Reply, Error = Error>>(&self, command: Command) -> T {
        self.handle.ask(command).await.unwrap().try_into().unwrap()
    }

    pub(super) async fn refused(&self, command: Command) -> ErrorKind {
        self.handle.ask(command).await.unwrap_err().kind
    }

    /// Waits for the next event of these kinds, and takes it.
    pub(super) async fn event(&self, kinds: &[EventKind]) -> api::Event {
        let wait = Command::Wait {
            consumer: Some("test".into()),
            after: None,
            call: None,
            kinds: kinds.to_vec(),
            ahead: 0,
            timeout_s: LONG_S,
        };
        let reply: WaitReply = self.ask(wait).await;
        let event = reply.event.unwrap_or_else(|| panic!("none of {kinds:?} came"));
        self.ask::<api::Done>(Command::Commit { consumer: Some("test".into()), cursor: event.cursor }).await;
        event
    }

    pub(super) async fn call(&self, agent: &str) -> api::Call {
        let command =
            Command::Call { agent: agent.into(), topic: "topic".into(), client_id: None, traceparent: None };
        self.ask::<api::CallReply>(command).await.call
    }

    pub(super) async fn answer(&self, accept: bool) -> api::Call {
        let command = Command::Answer { call: None, accept, reason: "not now".into() };
        self.ask::<api::CallReply>(command).await.call
    }

    pub(super) async fn say(&self, words: &str) -> api::Message {
        self.ask(say(words)).await
    }

    pub(super) async fn transcript(&self, call: &CallId) -> Vec<(Sender, String)> {
        let transcript: api::Transcript = self.ask(Command::Transcript { call: Some(*call) }).await;
        transcript.messages.into_iter().map(|message| (message.from, message.text)).collect()
    }
}

pub(super) fn open(folder: &Path, settings: &Settings) -> Engine {
    let home = Home::open(Some(folder)).unwrap();
    Engine::start(Options { home, settings: settings.clone() }).unwrap()
}

pub(super) fn say(words: &str) -> Command {
    Command::Send { text: words.into(), call: None, to: None, client_id: None, wait: None, traceparent: None }
}

/// Alice has called Bob, and Bob has taken it.
pub(super) async fn connected(alice: &Agent, bob: &Agent) -> (CallId, CallId) {
    let out = alice.call(bob.engine.agent_id()).await.call;
    bob.event(&[EventKind::CallRinging]).await;
    let incoming = bob.answer(true).await.call;
    alice.event(&[EventKind::CallConnected]).await;
    (out, incoming)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_find_call_and_answer_each_other() {
    let relay = relay().await;
    let alice =
        Agent::with("alice", &relay.url(), |settings| settings.capabilities = vec!["research".into()]);
    let bob = Agent::start("bob", &relay.url());
    // The call waits for the first look at who is online, so it is placed at once.
    let ring = alice.call("bob").await;
    assert_eq!((ring.state, ring.peer.id.as_str()), (CallState::Ringing, "bob"));
    let rings = bob.event(&[EventKind::CallRinging]).await.call_state.unwrap();
    assert_eq!((rings.topic.as_str(), rings.peer.id.as_str()), ("topic", "alice"));
    let inbox: api::Inbox = bob.ask(Command::Inbox {}).await;
    assert_eq!(inbox.ringing.len(), 1);
    let taken = bob.answer(true).await;
    assert_eq!(taken.state, CallState::Connected);
    let wait = Command::AwaitCall { call: ring.call, timeout_s: LONG_S };
    assert_eq!(alice.ask::<api::CallReply>(wait).await.call.state, CallState::Connected);

    let list: api::AgentList =
        bob.ask(Command::List { capability: Some("research".into()), limit: None }).await;
    assert_eq!(list.agents.iter().map(|agent| agent.id.as_str()).collect::<Vec<_>>(), ["alice"]);
    assert!(list.agents[0].pinned, "a call that connects pins the agent id");

    for words in ["one", "two", "three ✓"] {
        let sent = alice.say(words).await;
        assert_eq!(sent.state, MessageState::Queued);
        let wait =
            Command::AwaitMessage { message: sent.message, state: MessageState::Relayed, timeout_s: LONG_S };
        assert!(alice.ask::<api::MessageReply>(wait).await.message.state >= MessageState::Relayed);
    }
    bob.say("hello").await;
    for words in ["one", "two", "three ✓"] {
        let message = bob.event(&[EventKind::MessageReceived]).await.message.unwrap();
        assert_eq!((message.from, message.text.as_str()), (Sender::Peer, words));
    }
    alice.event(&[EventKind::MessageReceived]).await;

    let file = Command::SendFile {
        name: Some("../report.json".into()),
        content: Some("eyJkYXRhIjogdHJ1ZX0=".into()),
        path: None,
        mime: None,
        call: None,
        to: None,
    };
    alice.ask::<api::Message>(file).await;
    let received = bob.event(&[EventKind::FileReceived]).await.message.unwrap().file.unwrap();
    assert_eq!((received.name.as_str(), received.mime.as_str()), ("report.json", "application/json"));
    assert_eq!(std::fs::read_to_string(received.path.unwrap()).unwrap(), r#"{"data": true}"#);

    let question =
        Command::Escalate { question: "may I?".into(), options: vec![], call: None, expires_s: None };
    assert_eq!(bob.ask::<api::TicketReply>(question).await.ticket.state, TicketState::NoOwner);
    let told = alice.event(&[EventKind::EscalationReceived]).await.message.unwrap();
    assert_eq!((told.kind, told.text.as_str()), (MessageKind::Escalation, "may I?"));

    let end: api::EndReply = alice.ask(Command::End { call: None }).await;
    assert_eq!((end.call.end_reason, end.already), (Some(EndReason::Completed), false));
    assert_eq!(
        bob.event(&[EventKind::CallEnded]).await.call_state.unwrap().end_reason,
        Some(EndReason::Completed)
    );
    assert!(alice.ask::<api::EndReply>(Command::End { call: None }).await.already);
    let words = |said: Vec<(Sender, String)>| {
        said.into_iter().map(|(_, words)| words).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(words(alice.transcript(&ring.call).await), words(bob.transcript(&taken.call).await));
    assert_eq!(alice.refused(say("late")).await, ErrorKind::NoActiveCall);

    alice.engine.stop().await;
    bob.engine.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_and_what_was_said_in_it_outlive_restarts_of_both_sides() {
    let relay = relay().await;
    let mut alice = Agent::start("alice", &relay.url());
    let mut bob = Agent::start("bob", &relay.url());
    let (out, incoming) = connected(&alice, &bob).await;

    bob.engine.stop().await;
    alice.say("while you were away").await;
    bob.restart().await;
    assert_eq!(bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text, "while you were away");
    alice.restart().await;
    bob.say("welcome back").await;
    assert_eq!(alice.event(&[EventKind::MessageReceived]).await.message.unwrap().text, "welcome back");
    alice.say("thanks").await;
    assert_eq!(bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text, "thanks");
    let said = [(Sender::Me, "while you were away"), (Sender::Peer, "welcome back"), (Sender::Me, "thanks")];
    assert_eq!(alice.transcript(&out).await, said.map(|(from, words)| (from, words.to_owned())));
    assert_eq!(bob.transcript(&incoming).await.len(), 3);
    let status: api::Status = bob.ask(Command::Status {}).await;
    assert_eq!((status.calls.len(), status.agent.id.as_str(), status.outbox.queued), (1, "bob", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_arrives_once_and_in_order() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    connected(&alice, &bob).await;
    let mut submitted = Vec::new();
    for index in 0..300 {
        submitted.push(alice.handle.submit(say(&index.to_string())).await.unwrap());
    }
    for sent in submitted {
        sent.reply().await.unwrap();
    }
    for index in 0..300 {
        let message = bob.event(&[EventKind::MessageReceived]).await.message.unwrap();
        assert_eq!(message.text, index.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_a_cancellation_and_a_missed_call_are_what_they_are() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    alice.call("bob").await;
    bob.event(&[EventKind::CallRinging]).await;
    bob.answer(false).await;
    let rejected = alice.event(&[EventKind::CallRejected]).await.call_state.unwrap();
    assert_eq!(
        (rejected.end_reason, rejected.reason.as_deref()),
        (Some(EndReason::Rejected), Some("not now"))
    );

    let again = alice.call("bob").await;
    bob.event(&[EventKind::CallRinging]).await;
    alice.ask::<api::EndReply>(Command::End { call: Some(again.call) }).await;
    let missed = bob.event(&[EventKind::CallMissed]).await.call_state.unwrap();
    assert_eq!(missed.end_reason, Some(EndReason::Cancelled));
    let answer = Command::Answer { call: Some(missed.call), accept: true, reason: String::new() };
    assert_eq!(bob.refused(answer).await, ErrorKind::CallEnded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_cannot_be_carried_out_say_why() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    let call = |agent: &str| Command::Call {
        agent: agent.into(),
        topic: String::new(),
        client_id: None,
        traceparent: None,
    };
    assert_eq!(alice.refused(call("nobody")).await, ErrorKind::UnknownAgent);
    assert_eq!(alice.refused(call("npub1nonsense")).await, ErrorKind::InvalidValue);
    assert_eq!(alice.refused(call(&alice.engine.public_key().to_string())).await, ErrorKind::InvalidValue);
    assert_eq!(alice.refused(say("hello")).await, ErrorKind::NoActiveCall);
    assert_eq!(alice.refused(Command::End { call: None }).await, ErrorKind::NoActiveCall);
    let answer = Command::Answer { call: None, accept: true, reason: String::new() };
    assert_eq!(alice.refused(answer).await, ErrorKind::NoRingingCall);
    assert_eq!(alice.refused(Command::Transcript { call: None }).await, ErrorKind::UnknownCall);

    let (out, _) = connected(&alice, &bob).await;
    assert_eq!(alice.refused(say(&"x".repeat((1 << 20) + 1))).await, ErrorKind::TooLarge);
    let mail = |to: &str, wait: Option<MessageState>| Command::Send {
        text: "x".into(),
        call: None,
        to: Some(to.into()),
        client_id: None,
        wait,
        traceparent: None,
    };
    let nobody = transport::Identity::generate().public_key().to_string();
    assert_eq!(alice.refused(mail(&nobody, Some(MessageState::Delivered))).await, ErrorKind::InvalidValue);
    assert_eq!(alice.refused(mail(&nobody, None)).await, ErrorKind::UnknownAgent);
    assert_eq!(alice.refused(call(&nobody)).await, ErrorKind::UnknownAgent);
    let file = |content: &str| Command::SendFile {
        name: Some("a".into()),
        content: Some(content.into()),
        path: None,
        mime: None,
        call: None,
        to: None,
    };
    assert_eq!(alice.refused(file("no base64!")).await, ErrorKind::InvalidBase64);
    let key = std::fs::read_to_string(alice.folder.path().join("p2p-identity.json")).unwrap();
    assert_eq!(alice.refused(say(&key)).await, ErrorKind::NotSendable);
    assert!(alice.transcript(&out).await.is_empty(), "what is refused leaves no trace");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_relay_messages_are_queued_and_leave_when_it_is_back() {
    let relay = relay().await;
    let (url, address) = (relay.url(), relay.address());
    let alice = Agent::start("alice", &url);
    let bob = Agent::start("bob", &url);
    connected(&alice, &bob).await;
    relay.stop().await;
    alice.event(&[EventKind::RelayDown]).await;
    let sent = alice.say("into the void").await;
    assert_eq!(sent.state, MessageState::Queued);
    let status: api::Status = alice.ask(Command::Status {}).await;
    assert_eq!((status.connected, status.outbox.queued), (false, 1));
    let back = EmbeddedRelay::start(relay::Options { address, ..relay::Options::default() }).await.unwrap();
    assert_eq!(bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text, "into the void");
    drop(back);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_named_by_its_caller_is_placed_once() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let _bob = Agent::start("bob", &relay.url());
    let named = || Command::Call {
        agent: "bob".into(),
        topic: String::new(),
        client_id: Some("key-1".into()),
        traceparent: None,
    };
    let first: api::CallReply = alice.ask(named()).await;
    let second: api::CallReply = alice.ask(named()).await;
    assert_eq!((first.already, second.already, first.call.call), (false, true, second.call.call));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_times_out_with_a_cursor_and_a_filter_loses_nothing_of_the_rest() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let wait =
        Command::Wait { consumer: None, after: Some(0), call: None, kinds: vec![], ahead: 0, timeout_s: 0.0 };
    let reply: WaitReply = alice.ask(wait).await;
    assert!(reply.timeout && reply.event.is_none());
    let relay_up = alice.event(&[EventKind::RelayUp]).await;
    assert_eq!(relay_up.relay.unwrap().url.trim_end_matches('/'), relay.url());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owners_program_decides_and_its_decision_stands_in_the_transcript() {
    let relay = relay().await;
    let program = tempfile::tempdir().unwrap();
    let path = program.path().join("owner");
    std::fs::write(&path, "#!/bin/sh\ncat > /dev/null\necho '{\"answer\": \"YES\"}'\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let way = format!("exec:{}", path.display());
    let alice = Agent::with("alice", &relay.url(), |settings| settings.owner = vec![way.clone()]);
    let bob = Agent::start("bob", &relay.url());
    let (out, _) = connected(&alice, &bob).await;
    let question = Command::Escalate {
        question: "may I?".into(),
        options: vec!["yes".into(), "no".into()],
        call: None,
        expires_s: None,
    };
    let asked: api::TicketReply = alice.ask(question).await;
    assert_eq!(asked.ticket.state, TicketState::Waiting);
    let wait = Command::AwaitTicket { ticket: asked.ticket.ticket, timeout_s: LONG_S };
    let answered: api::TicketReply = alice.ask(wait).await;
    assert_eq!(
        (answered.ticket.state, answered.ticket.answer.as_deref()),
        (TicketState::Answered, Some("yes"))
    );
    assert!(answered.ticket.channels[0].ok);
    assert_eq!(alice.transcript(&out).await.last().unwrap(), &(Sender::Owner, "yes".to_owned()));
    let late = Command::OwnerReply { ticket: asked.ticket.ticket, answer: "no".into() };
    let late = alice.handle.with_role(Role::Terminal).ask(late).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::QuestionClosed, "a decision counts once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_disagrees_with_itself_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(Some(folder.path())).unwrap();
    let text = format!(r#"{{"privateKeyHex":"{}","publicKey":"{}"}}"#, "11".repeat(32), "22".repeat(32));
    std::fs::write(home.identity(), &text).unwrap();
    std::fs::set_permissions(home.identity(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let refused = Engine::start(Options { home: home.clone(), settings: Settings::default() }).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::IdentityDamaged);
    assert!(refused.message.contains("p2p-identity.json"));
    assert_eq!(std::fs::read_to_string(home.identity()).unwrap(), text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_time_of_one_second_is_over_after_it() {
    let relay = relay().await;
    let alice = Agent::with("alice", &relay.url(), |settings| settings.ring_time_s = 1);
    let bob = Agent::start("bob", &relay.url());
    let ring = alice.call("bob").await;
    let wait = Command::AwaitCall { call: ring.call, timeout_s: LONG_S };
    let over: api::CallReply =
        tokio::time::timeout(Duration::from_secs_f64(LONG_S), alice.ask(wait)).await.unwrap();
    assert_eq!(over.call.end_reason, Some(EndReason::NoAnswer));
    let missed = bob.event(&[EventKind::CallMissed]).await.call_state.unwrap();
    assert_eq!(missed.end_reason, Some(EndReason::NoAnswer));
}

/// What a power cut leaves: the files as they are at this moment, while the engine runs.
fn image(of: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                std::fs::create_dir(&target).unwrap();
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), &target).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(of, folder.path());
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_between_commit_and_publish_everything_leaves_under_new_keys_and_arrives_once() {
    let relay = relay().await;
    let (url, address) = (relay.url(), relay.address());
    let mut alice = Agent::start("alice", &url);
    let bob = Agent::start("bob", &url);
    let (out, incoming) = connected(&alice, &bob).await;
    relay.stop().await;
    alice.event(&[EventKind::RelayDown]).await;
    for words in ["one", "two", "three"] {
        alice.say(words).await;
    }
    let crashed = image(alice.folder.path());
    alice.engine.stop().await;

    let back = EmbeddedRelay::start(relay::Options { address, ..relay::Options::default() }).await.unwrap();
    alice.folder = crashed;
    alice.engine = open(alice.folder.path(), &alice.settings);
    alice.handle = alice.engine.handle();
    alice.say("four").await;
    for words in ["one", "two", "three", "four"] {
        assert_eq!(bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text, words);
    }
    assert_eq!(bob.transcript(&incoming).await.len(), 4);
    assert_eq!(alice.transcript(&out).await.len(), 4);
    drop(back);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_rises_strictly_over_restarts_and_is_taken_back_at_a_stop() {
    let relay = relay().await;
    let (inbound, mut seen) = tokio::sync::mpsc::channel(64);
    let _spy = Pool::start(transport::Options {
        relays: vec![relay.url()],
        inbox: vec![],
        identity: transport::Identity::generate(),
        cursors: vec![],
        inbound,
        seen: None,
        tuning: transport::Tuning::DEFAULT,
    })
    .unwrap();
    let mut next = async || loop {
        let event =
            tokio::time::timeout(Duration::from_secs_f64(LONG_S), seen.recv()).await.unwrap().unwrap();
        match event {
            Inbound::Presence { created_at, .. } => break (created_at, true),
            Inbound::Retracted { created_at, .. } => break (created_at, false),
            _ => {}
        }
    };
    let alice = Agent::start("alice", &relay.url());
    let mut engine = alice.engine;
    let mut times = vec![next().await];
    for _ in 0..3 {
        engine.stop().await;
        times.push(next().await);
        engine = open(alice.folder.path(), &alice.settings);
        times.push(next().await);
    }
    engine.stop().await;
    times.push(next().await);
    assert!(times.windows(2).all(|pair| pair[0].0 < pair[1].0), "{times:?}");
    assert_eq!(times.iter().map(|(_, there)| *there).collect::<Vec<_>>(), [true, false].repeat(4));
}

#[test]
fn agents_announce_themselves_every_110_seconds_give_or_take_10() {
    for _ in 0..1_000 {
        let pause = super::presence::pause().as_secs_f64();
        assert!((100.0..=120.0).contains(&pause), "{pause}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_has_every_event_and_the_words_only_if_asked_for() {
    let relay = relay().await;
    for (mode, with_words) in [("meta", false), ("full", true)] {
        let log = tempfile::tempdir().unwrap();
        let path = log.path().join("audit.jsonl");
        let alice = Agent::with("alice", &relay.url(), |settings| {
            settings.audit_mode = Some(mode.into());
            settings.audit_log = Some(path.clone());
        });
        let bob = Agent::start(&format!("bob-{mode}"), &relay.url());
        connected(&bob, &alice).await;
        bob.say("a secret plan").await;
        alice.event(&[EventKind::MessageReceived]).await;
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kinds: Vec<_> = lines.iter().filter_map(|line| line["kind"].as_str()).collect();
        assert_eq!(kinds, ["relay.up", "call.ringing", "call.connected", "message.received"]);
        assert_eq!(text.contains("a secret plan"), with_words);
        bob.engine.stop().await;
        alice.engine.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_ahead_sees_in_order_what_is_there_and_takes_nothing() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    connected(&alice, &bob).await;
    for words in ["one", "two", "three"] {
        alice.say(words).await;
    }
    let kinds = vec![EventKind::MessageReceived];
    let wait = |after, ahead| Command::Wait {
        consumer: Some("reader".into()),
        after: Some(after),
        call: None,
        kinds: kinds.clone(),
        ahead,
        timeout_s: LONG_S,
    };
    let texts = |reply: &WaitReply| {
        let events = reply.event.iter().chain(&reply.ahead);
        events.map(|event| event.message.as_ref().unwrap().text.clone()).collect::<Vec<_>>()
    };
    // All three are there once the third is.
    let mut after = 0;
    for _ in 0..3 {
        after = bob.ask::<WaitReply>(wait(after, 0)).await.cursor;
    }
    let reply: WaitReply = bob.ask(wait(0, 1)).await;
    assert_eq!(texts(&reply), ["one", "two"]);
    let reply: WaitReply = bob.ask(wait(0, usize::MAX)).await;
    assert_eq!(texts(&reply), ["one", "two", "three"]);
    let second = reply.ahead[0].cursor;
    bob.ask::<api::Done>(Command::Commit { consumer: Some("reader".into()), cursor: second }).await;
    let reply: WaitReply = bob.ask(wait(0, 256)).await;
    assert_eq!(texts(&reply), ["one", "three"]);
}
