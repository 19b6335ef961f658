//! What v2 adds to the flow: the mailbox, missed calls, receipts, and peers that are not what they should be.

use std::time::Duration;

use super::super::tests::{Agent, LONG_S, connected, relay, say};
use crate::api::{self, Command, ErrorKind, EventKind, MessageState, Sender};
use crate::proto::v2::signal::{self, Body, Offer, Signal};
use crate::proto::{CallState, EndReason, Hex, Protocol};
use crate::transport::v2::{Initiator, Rumor, SessionKey, Terms, WrapKind, WrapOptions, seal_wrap};
use crate::transport::{Class, Identity, Inbound, Options, Pool, Tuning};

fn mail(to: &Agent, words: &str) -> Command {
    let to = Some(to.engine.public_key().to_string());
    Command::Send { text: words.into(), call: None, to, client_id: None, wait: None, traceparent: None }
}

async fn texts(agent: &Agent) -> Vec<String> {
    let messages: api::Messages =
        agent.ask(Command::Messages { call: None, unread: false, limit: 10_000 }).await;
    messages.messages.into_iter().map(|message| message.text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_reaches_an_agent_that_was_away_in_the_order_in_which_it_was_written() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let mut bob = Agent::start("bob", &relay.url());
    let (name, key) = ("ally".into(), alice.engine.public_key().to_string());
    bob.ask::<api::Contacts>(Command::ContactEdit(api::ContactEdit::Add { name, key })).await;
    // Bob is known from now on, by his presence.
    alice.ask::<api::Message>(mail(&bob, "first")).await;
    let first = bob.event(&[EventKind::MessageReceived]).await.message.unwrap();
    assert_eq!((first.text.as_str(), first.call, first.from), ("first", None, Sender::Peer));
    assert_eq!(first.peer, alice.engine.public_key());
    bob.engine.stop().await;

    let words: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    for words in &words {
        let sent: api::Message = alice.ask(mail(&bob, words)).await;
        let relayed =
            Command::AwaitMessage { message: sent.message, state: MessageState::Relayed, timeout_s: LONG_S };
        assert_eq!(alice.ask::<api::MessageReply>(relayed).await.message.state, MessageState::Relayed);
    }
    bob.restart().await;
    for words in &words {
        assert_eq!(bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text, *words);
    }
    // Again from the start: relays hand out everything once more, and nothing is shown twice.
    bob.restart().await;
    alice.ask::<api::Message>(mail(&bob, "last")).await;
    assert_eq!(bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text, "last");
    assert_eq!(texts(&bob).await.len(), words.len() + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_left_unsaid_comes_by_mail_into_its_transcript() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let mut bob = Agent::start("bob", &relay.url());
    let (out, incoming) = connected(&alice, &bob).await;
    alice.say("live").await;
    bob.event(&[EventKind::MessageReceived]).await;
    bob.engine.stop().await;
    for words in ["left", "over"] {
        alice.say(words).await;
    }
    let file = Command::SendFile {
        name: Some("small.txt".into()),
        content: Some("aGVsbG8=".into()),
        path: None,
        mime: None,
        call: None,
        to: None,
    };
    alice.ask::<api::Message>(file).await;
    let ended: api::EndReply = alice.ask(Command::End { call: None }).await;
    assert_eq!(ended.call.end_reason, Some(EndReason::Completed));
    // It drains for ten seconds, and then goes the other way.
    for _ in 0..3 {
        alice.event(&[EventKind::MessageRelayed]).await;
    }
    bob.restart().await;
    let received = [EventKind::MessageReceived, EventKind::FileReceived];
    for words in ["left", "over", "small.txt"] {
        let message = bob.event(&received).await.message.unwrap();
        assert_eq!((message.text.as_str(), message.call), (words, Some(incoming)));
    }
    let over = bob.event(&[EventKind::CallEnded]).await.call_state.unwrap();
    assert_eq!(over.end_reason, Some(EndReason::Completed));
    let words = |said: Vec<(Sender, String)>| said.into_iter().map(|(_, words)| words).collect::<Vec<_>>();
    assert_eq!(words(alice.transcript(&out).await), words(bob.transcript(&incoming).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_before_a_stop_is_told_before_it() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    connected(&alice, &bob).await;
    let sent = alice.say("last words").await;
    bob.event(&[EventKind::MessageReceived]).await;
    bob.engine.stop().await;
    let wait = Command::AwaitMessage { message: sent.message, state: MessageState::Read, timeout_s: LONG_S };
    assert_eq!(alice.ask::<api::MessageReply>(wait).await.message.state, MessageState::Read);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_an_agent_that_is_away_is_missed_with_its_topic_and_can_be_called_back() {
    let relay = relay().await;
    let alice = Agent::with("alice", &relay.url(), |settings| settings.ring_time_s = 1);
    let mut bob = Agent::start("bob", &relay.url());
    alice.ask::<api::Message>(mail(&bob, "so that he is known")).await;
    bob.event(&[EventKind::MessageReceived]).await;
    bob.engine.stop().await;
    let ring = alice.call(&bob.engine.public_key().to_string()).await;
    assert_eq!(ring.protocol, Protocol::V2);
    let over = alice.event(&[EventKind::CallEnded]).await.call_state.unwrap();
    assert_eq!(over.end_reason, Some(EndReason::NoAnswer));

    bob.restart().await;
    let missed = bob.event(&[EventKind::CallMissed]).await.call_state.unwrap();
    assert_eq!((missed.topic.as_str(), missed.peer.id.as_str()), ("topic", "alice"));
    let inbox: api::Inbox = bob.ask(Command::Inbox {}).await;
    assert_eq!(inbox.missed.iter().map(|call| call.call).collect::<Vec<_>>(), []);
    let back = bob.call(&missed.peer.pubkey.to_string()).await;
    alice.event(&[EventKind::CallRinging]).await;
    alice.answer(true).await;
    let wait = Command::AwaitCall { call: back.call, timeout_s: LONG_S };
    assert_eq!(bob.ask::<api::CallReply>(wait).await.call.state, CallState::Connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sender_learns_what_was_delivered_and_what_was_read() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    connected(&alice, &bob).await;
    let mut last = alice.say("one").await;
    last = match alice.handle.ask(say("two")).await.unwrap() {
        api::Reply::Message(message) => message,
        _ => last,
    };
    let wait = |state, timeout_s| Command::AwaitMessage { message: last.message, state, timeout_s };
    let delivered: api::MessageReply = alice.ask(wait(MessageState::Delivered, LONG_S)).await;
    assert_eq!(delivered.message.state, MessageState::Delivered);
    let not_read: api::MessageReply = alice.ask(wait(MessageState::Read, 0.3)).await;
    assert!(not_read.timeout, "nobody has looked");
    bob.ask::<api::Inbox>(Command::Inbox {}).await;
    let not_read: api::MessageReply = alice.ask(wait(MessageState::Read, 0.3)).await;
    assert!(not_read.timeout, "looking takes nothing");
    for _ in 0..2 {
        bob.event(&[EventKind::MessageReceived]).await;
    }
    let read: api::MessageReply = alice.ask(wait(MessageState::Read, LONG_S)).await;
    assert_eq!(read.message.state, MessageState::Read);
    for _ in 0..2 {
        alice.event(&[EventKind::MessageRead]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_every_state_keeps_the_call_and_what_is_on_its_way() {
    let relay = relay().await;
    let mut alice = Agent::start("alice", &relay.url());
    let mut bob = Agent::start("bob", &relay.url());
    // While it rings, on both sides.
    let ring = alice.call("bob").await;
    bob.event(&[EventKind::CallRinging]).await;
    alice.restart().await;
    bob.restart().await;
    bob.answer(true).await;
    alice.event(&[EventKind::CallConnected]).await;
    // While messages are on their way both ways.
    for number in 0..20 {
        alice.say(&format!("a{number}")).await;
        bob.say(&format!("b{number}")).await;
        match number {
            5 => alice.restart().await,
            10 => bob.restart().await,
            15 => {
                alice.restart().await;
                bob.restart().await;
            }
            _ => {}
        }
    }
    for number in 0..20 {
        let to_bob = bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text;
        let to_alice = alice.event(&[EventKind::MessageReceived]).await.message.unwrap().text;
        assert_eq!((to_bob, to_alice), (format!("a{number}"), format!("b{number}")));
    }
    let calls: api::Calls = bob.ask(Command::Calls { limit: 10 }).await;
    assert_eq!(calls.calls.len(), 1, "nothing rang twice");
    // And while it ends.
    alice.ask::<api::EndReply>(Command::End { call: Some(ring.call) }).await;
    alice.restart().await;
    bob.event(&[EventKind::CallEnded]).await;
}

/// A stranger with its own idea of the dialect.
struct Stranger {
    identity: Identity,
    pool: Pool,
    inbound: tokio::sync::mpsc::Receiver<Inbound>,
}

impl Stranger {
    async fn start(relay: &str) -> Self {
        let identity = Identity::generate();
        let (sender, inbound) = tokio::sync::mpsc::channel(256);
        let pool = Pool::start(Options {
            relays: vec![relay.to_owned()],
            inbox: vec![relay.to_owned()],
            identity: identity.clone(),
            cursors: vec![],
            inbound: sender,
            seen: None,
            tuning: Tuning::DEFAULT,
        })
        .unwrap();
        let mut stranger = Self { identity, pool, inbound };
        stranger.until(|inbound| matches!(inbound, Inbound::Synced { class: Class::Wrap, .. })).await;
        stranger
    }

    async fn until(&mut self, wanted: impl Fn(&Inbound) -> bool) -> Inbound {
        let next = async {
            loop {
                let inbound = self.inbound.recv().await.unwrap();
                if wanted(&inbound) {
                    return inbound;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs_f64(LONG_S), next).await.unwrap()
    }

    /// An invite whose session can meet only on these relays.
    fn invite(&self, to: &Agent, call: u8, relays: &[&str], created_at: u64) -> crate::transport::Signed {
        let (callee, call) = (to.engine.public_key(), Hex([call; 16]));
        let key = SessionKey::generate();
        let mut offer = Offer {
            agent_id: "stranger".into(),
            name: "\u{1b}[31mStranger".into(),
            topic: "let us talk".into(),
            expires: created_at + 60,
            key: key.public_key(),
            noise: [0; signal::FIRST_MESSAGE],
            versions: vec![2],
            relays: relays.iter().map(ToString::to_string).collect(),
            inbox: vec![],
            traceparent: None,
        };
        let me = self.identity.public_key();
        offer.noise = Initiator::start(key, &Terms::of(&offer, &call, 0, &me, &callee)).unwrap().1;
        let signal = Signal { call, generation: 0, body: Body::Invite(offer) };
        let rumor = Rumor { kind: signal::KIND, created_at, tags: vec![], content: signal.to_json() };
        seal_wrap(&self.identity, &callee, &rumor, &WrapOptions::at(WrapKind::Stored, created_at)).unwrap()
    }
}

fn unix() -> u64 {
    crate::engine::clock::now().as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_that_leads_only_to_relays_of_this_machine_is_not_followed_and_the_caller_is_told() {
    let relay = relay().await;
    let bob = Agent::start("bob", &relay.url());
    let mut stranger = Stranger::start(&relay.url()).await;
    let private = ["wss://localhost:1", "wss://192.168.1.1"];
    // The pool publishes what it is given: this wrap stands for one from another relay.
    stranger.pool.publish(stranger.invite(&bob, 1, &private, unix()));
    let rings = bob.event(&[EventKind::CallRinging]).await.call_state.unwrap();
    let answer = Command::Answer { call: Some(rings.call), accept: true, reason: String::new() };
    bob.ask::<api::CallReply>(answer).await;
    let failed = bob.event(&[EventKind::CallEnded]).await.call_state.unwrap();
    assert_eq!(failed.end_reason, Some(EndReason::Failed));
    assert!(failed.reason.unwrap().contains("no relay"));
    stranger.until(|inbound| matches!(inbound, Inbound::Wrap { .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_rings_once_however_often_and_late_it_comes() {
    let relay = relay().await;
    let mut bob = Agent::start("bob", &relay.url());
    let stranger = Stranger::start(&relay.url()).await;
    let url = relay.url();
    for _ in 0..3 {
        stranger.pool.publish(stranger.invite(&bob, 1, &[&url], unix()));
    }
    stranger.pool.publish(stranger.invite(&bob, 2, &[&url], unix() - 400));
    let missed = bob.event(&[EventKind::CallMissed]).await.call_state.unwrap();
    assert_eq!(missed.topic, "let us talk");
    bob.event(&[EventKind::CallRinging]).await;
    bob.restart().await;
    stranger.pool.publish(stranger.invite(&bob, 3, &[&url], unix()));
    bob.event(&[EventKind::CallRinging]).await;
    let calls: api::Calls = bob.ask(Command::Calls { limit: 100 }).await;
    assert_eq!(calls.calls.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_key_neither_rings_nor_writes() {
    let relay = relay().await;
    let bob = Agent::start("bob", &relay.url());
    let alice = Agent::start("alice", &relay.url());
    let stranger = Stranger::start(&relay.url()).await;
    let key = stranger.identity.public_key().to_string();
    let block = Command::ContactEdit(api::ContactEdit::Block { key });
    bob.ask::<api::Contacts>(block).await;
    let url = relay.url();
    stranger.pool.publish(stranger.invite(&bob, 1, &[&url], unix()));
    // What comes later is told, and the blocked one was not.
    alice.ask::<api::Message>(mail(&bob, "a friend")).await;
    bob.event(&[EventKind::MessageReceived]).await;
    let calls: api::Calls = bob.ask(Command::Calls { limit: 100 }).await;
    assert_eq!(calls.calls, []);
    assert_eq!(alice.refused(mail(&alice, "to myself")).await, ErrorKind::InvalidValue);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_work_in_its_presence_gets_it_in_every_wrap() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let mut worker = Stranger::start(&relay.url()).await;
    let content = crate::proto::presence::Content {
        agent_id: "worker".into(),
        name: String::new(),
        capabilities: vec![],
        timestamp: None,
        p2p: Some(crate::proto::presence::V2 {
            v: vec![2],
            inbox: vec![relay.url()],
            pow: 10,
            rotations: Vec::new(),
        }),
        card: None,
    };
    let announcement = crate::transport::presence::Announcement {
        agent_id: "worker",
        capabilities: &[],
        content: &content.to_json(),
        expires: unix() + 300,
        unlisted: false,
        version: Some(2),
    };
    let signed = crate::transport::presence::sign(&worker.identity, &announcement, unix()).unwrap();
    worker.pool.publish(signed);
    let work_of = |inbound| match inbound {
        Inbound::Wrap { wrap, .. } => wrap.work,
        other => panic!("{other:?}"),
    };
    // The call waits until its callee is seen.
    alice.call("worker").await;
    let invite = worker.until(|inbound| matches!(inbound, Inbound::Wrap { .. })).await;
    assert!(work_of(invite) >= 10);
    let to = Some(worker.identity.public_key().to_string());
    let mail = Command::Send {
        text: "hello".into(),
        call: None,
        to,
        client_id: None,
        wait: None,
        traceparent: None,
    };
    let sent: api::Message = alice.ask(mail).await;
    let wait =
        Command::AwaitMessage { message: sent.message, state: MessageState::Relayed, timeout_s: LONG_S };
    assert_eq!(alice.ask::<api::MessageReply>(wait).await.message.state, MessageState::Relayed);
    loop {
        let wrap = worker.until(|inbound| matches!(inbound, Inbound::Wrap { .. })).await;
        let Inbound::Wrap { wrap, .. } = wrap else { panic!("only wraps were waited for") };
        assert!(wrap.work >= 10);
        let opened = crate::transport::v2::open_wrap(&worker.identity, &wrap, 10).unwrap();
        if opened.rumor.kind == crate::transport::v2::mail::TEXT {
            assert_eq!(opened.rumor.content, "hello");
            break;
        }
    }

    // Whom we know need not wait for the work: the same offer goes without it at once.
    alice.ask::<api::EndReply>(Command::End { call: None }).await;
    let key = worker.identity.public_key().to_string();
    let add = Command::ContactEdit(api::ContactEdit::Add { name: "friend".into(), key });
    alice.ask::<api::Contacts>(add).await;
    alice.call("friend").await;
    let mut offer = None;
    loop {
        let wrap = worker.until(|inbound| matches!(inbound, Inbound::Wrap { .. })).await;
        let Inbound::Wrap { wrap, .. } = wrap else { panic!("only wraps were waited for") };
        let opened = crate::transport::v2::open_wrap(&worker.identity, &wrap, 0).unwrap();
        if wrap.work < 10 {
            offer = Some(opened.id);
        } else if offer == Some(opened.id) {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_strangers_thirty_ring_thirty_two_wait_and_a_contact_is_heard_at_once() {
    let relay = relay().await;
    let bob = Agent::start("bob", &relay.url());
    let alice = Agent::start("alice", &relay.url());
    let key = alice.engine.public_key().to_string();
    let add = Command::ContactEdit(api::ContactEdit::Add { name: "alice".into(), key });
    bob.ask::<api::Contacts>(add).await;
    let url = relay.url();
    let postman = Stranger::start(&url).await;
    for number in 0..200_u8 {
        // Each with a key of its own.
        let caller = Stranger { identity: Identity::generate(), pool: empty_pool(), inbound: channel() };
        postman.pool.publish(caller.invite(&bob, number, &[&url], unix()));
    }
    for _ in 0..16 {
        bob.event(&[EventKind::CallRinging]).await;
    }
    alice.call("bob").await;
    loop {
        let rings = bob.event(&[EventKind::CallRinging]).await.call_state.unwrap();
        if rings.peer.pubkey == alice.engine.public_key() {
            break;
        }
    }
    let inbox = async || bob.ask::<api::Inbox>(Command::Inbox {}).await;
    while inbox().await.queue.len() < 32 {
        tokio::task::yield_now().await;
    }
    let inbox = inbox().await;
    assert_eq!(inbox.queue.len(), 32);
    assert!(inbox.ringing.len() <= 30 + 1);
    let waiting = inbox.queue.iter().find(|call| call.state == CallState::Ringing).unwrap();
    let answer = Command::Answer { call: Some(waiting.call), accept: true, reason: String::new() };
    assert_eq!(bob.ask::<api::CallReply>(answer).await.call.state, CallState::Connected);
}

fn empty_pool() -> Pool {
    let (inbound, _) = tokio::sync::mpsc::channel(1);
    let identity = Identity::generate();
    let (relays, inbox, cursors) = (vec![], vec![], vec![]);
    Pool::start(Options { relays, inbox, identity, cursors, inbound, seen: None, tuning: Tuning::DEFAULT })
        .unwrap()
}

fn channel() -> tokio::sync::mpsc::Receiver<Inbound> {
    tokio::sync::mpsc::channel(1).1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_the_user_trusts_is_taken_without_asking_and_strangers_are_turned_away_if_so_wanted() {
    let relay = relay().await;
    let bob = Agent::with("bob", &relay.url(), |settings| {
        settings.auto_accept = Some(crate::proto::Tier::Contact);
        settings.strangers = crate::proto::StrangerPolicy::Reject;
    });
    let alice = Agent::start("alice", &relay.url());
    alice.call("bob").await;
    let rejected = alice.event(&[EventKind::CallRejected]).await.call_state.unwrap();
    assert_eq!(rejected.end_reason, Some(EndReason::Rejected));
    let key = alice.engine.public_key().to_string();
    let add = Command::ContactEdit(api::ContactEdit::Add { name: "alice".into(), key });
    bob.ask::<api::Contacts>(add).await;
    alice.call("bob").await;
    alice.event(&[EventKind::CallConnected]).await;
    let connected = bob.event(&[]).await;
    assert_eq!(connected.kind, EventKind::CallConnected, "it is told, and it did not ring");
}
