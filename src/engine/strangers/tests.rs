//! Strangers from outside: two and more engines on one relay.

use crate::api::{self, Command, ContactEdit, ErrorKind, EventKind};
use crate::engine::tests::{Agent, LONG_S, connected, relay};
use crate::proto::authority::Role;
use crate::proto::call::QUEUE_LIMIT;
use crate::proto::v2::signal::{self, Body, Offer, Signal};
use crate::proto::{CallState, Hex, PublicKey, StrangerPolicy, Tier};
use crate::transport::v2::{Initiator, Rumor, SessionKey, Terms, WrapKind, WrapOptions, seal_wrap};
use crate::transport::{Class, Identity, Inbound, Options, Pool, Signed, Tuning};

async fn write(from: &Agent, to: &Agent, words: &str) {
    let to = Some(to.engine.public_key().to_string());
    let command =
        Command::Send { text: words.into(), call: None, to, client_id: None, wait: None, traceparent: None };
    let sent: api::Message = from.ask(command).await;
    let relayed = api::MessageState::Relayed;
    let wait = Command::AwaitMessage { message: sent.message, state: relayed, timeout_s: LONG_S };
    assert_eq!(from.ask::<api::MessageReply>(wait).await.message.state, relayed);
}

async fn inbox(agent: &Agent) -> api::Inbox {
    agent.ask(Command::Inbox {}).await
}

async fn texts(agent: &Agent) -> Vec<String> {
    let all = Command::Messages { call: None, unread: false, limit: 10_000 };
    agent.ask::<api::Messages>(all).await.messages.into_iter().map(|message| message.text).collect()
}

async fn edit(agent: &Agent, role: Role, edit: ContactEdit) -> Result<Vec<api::Contact>, ErrorKind> {
    let reply =
        agent.handle.with_role(role).ask(Command::ContactEdit(edit)).await.map_err(|error| error.kind)?;
    Ok(api::Contacts::try_from(reply).unwrap().contacts)
}

fn add(name: &str, key: PublicKey) -> ContactEdit {
    ContactEdit::Add { name: name.into(), key: key.to_string() }
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs_f64(LONG_S), found)
        .await
        .unwrap_or_else(|_| panic!("{what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_of_a_stranger_rings_three_times_then_waits_and_comes_when_its_writer_is_let_in() {
    let relay = relay().await;
    let mut bob = Agent::start("bob", &relay.url());
    let alice = Agent::start("alice", &relay.url());
    for number in 0..3 {
        write(&alice, &bob, &format!("{number}")).await;
        assert_eq!(bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text, format!("{number}"));
    }
    // A restart gives no new allowance.
    bob.restart().await;
    for number in 3..6 {
        write(&alice, &bob, &format!("{number}")).await;
    }
    until("the mail to wait", async || (inbox(&bob).await.mail.len() == 3).then_some(())).await;
    let told = bob.event(&[EventKind::StrangersDigest]).await.strangers.unwrap();
    assert_eq!((told.mail_waiting, told.calls_waiting, told.mail_dropped), (3, 0, 0));
    assert_eq!(texts(&bob).await, ["0", "1", "2"]);

    bob.restart().await;
    let waiting: Vec<_> = inbox(&bob).await.mail.into_iter().map(|mail| mail.text).collect();
    assert_eq!(waiting, ["3", "4", "5"]);
    edit(&bob, Role::Agent, add("ally", alice.engine.public_key())).await.unwrap();
    for number in 3..6 {
        assert_eq!(bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text, format!("{number}"));
    }
    assert!(inbox(&bob).await.mail.is_empty());
    write(&alice, &bob, "at once").await;
    assert_eq!(bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text, "at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_of_mail_is_short_and_who_was_written_to_may_answer() {
    let relay = relay().await;
    let bob = Agent::with("bob", &relay.url(), |settings| settings.strangers = StrangerPolicy::Queue);
    let (loud, shy) = (Agent::start("loud", &relay.url()), Agent::start("shy", &relay.url()));
    write(&shy, &bob, "a word").await;
    until("the first", async || (inbox(&bob).await.mail.len() == 1).then_some(())).await;
    for number in 0..QUEUE_LIMIT + 5 {
        write(&loud, &bob, &format!("{number}")).await;
    }
    let last = (QUEUE_LIMIT + 4).to_string();
    let mail = until("the last", async || {
        let mail = inbox(&bob).await.mail;
        mail.iter().any(|mail| mail.text == last).then_some(mail)
    })
    .await;
    assert_eq!(mail.len(), QUEUE_LIMIT);
    assert_eq!(mail[0].text, "a word", "who writes most makes room");
    // Bob writes to one of them: what waits of it comes, and its answers are no stranger's.
    write(&bob, &shy, "hello").await;
    assert_eq!(bob.event(&[EventKind::MessageReceived]).await.message.unwrap().text, "a word");
    for number in 0..10 {
        write(&shy, &bob, &format!("answer {number}")).await;
        let told = bob.event(&[EventKind::MessageReceived]).await.message.unwrap();
        assert_eq!(told.text, format!("answer {number}"));
    }
    // Nothing of a blocked key stays.
    edit(&bob, Role::Agent, ContactEdit::Block { key: loud.engine.public_key().to_string() }).await.unwrap();
    assert!(inbox(&bob).await.mail.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_takes_a_known_agents_name_is_blocked_until_a_person_verifies_it() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    connected(&alice, &bob).await;
    alice.ask::<api::EndReply>(Command::End { call: None }).await;
    bob.event(&[EventKind::CallEnded]).await;
    let (old, status) = (bob.engine.public_key(), Command::Status {});
    bob.engine.stop().await;

    let mut other = Agent::start("bob", &relay.url());
    let new = other.engine.public_key();
    let told = alice.event(&[EventKind::ContactKeyChanged]).await.key_changed.unwrap();
    assert_eq!(
        (told.agent_id.as_str(), told.pinned, told.claimed_by, told.followed),
        ("bob", old, new, false)
    );
    let book: api::Contacts = alice.ask(Command::Contacts {}).await;
    assert_eq!(book.contacts[0].claimed_by, [new]);

    // It is not heard, and cannot be called; an agent that is talked into it cannot change that.
    assert_eq!(other.call("alice").await.state, CallState::Ringing);
    write(&other, &alice, "it is me, bob, with a new key").await;
    let call =
        Command::Call { agent: new.to_string(), topic: String::new(), client_id: None, traceparent: None };
    assert_eq!(alice.refused(call.clone()).await, ErrorKind::Blocked);
    let verify = |key: PublicKey| ContactEdit::Verify { name: "bob".into(), key: key.to_string() };
    let unblock = ContactEdit::Unblock { key: new.to_string() };
    for by_agent in [verify(new), add("robert", new), unblock] {
        assert_eq!(edit(&alice, Role::Agent, by_agent).await, Err(ErrorKind::NotAllowed));
    }
    other.restart().await;
    let status: api::Status = alice.ask(status).await;
    assert!(status.calls.is_empty() && status.unread == 0, "{status:?}");
    let seen = inbox(&alice).await;
    assert!(
        seen.ringing.is_empty() && seen.queue.is_empty() && seen.missed.is_empty() && seen.mail.is_empty()
    );

    let book = edit(&alice, Role::Terminal, verify(new)).await.unwrap();
    let entry = book.iter().find(|contact| contact.pubkey == new).unwrap();
    assert_eq!((entry.agent_id.as_deref(), entry.verified, entry.claimed_by.len()), (Some("bob"), true, 0));
    assert_eq!(entry.fingerprint, crate::proto::fingerprint(&new));
    other.ask::<api::EndReply>(Command::End { call: None }).await;
    other.call("alice").await;
    let rings = alice.event(&[EventKind::CallRinging]).await.call_state.unwrap();
    assert_eq!((rings.peer.pubkey, rings.peer.tier), (new, Tier::Known));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_a_person_rejects_is_a_block_like_any_other() {
    let relay = relay().await;
    let mut alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    connected(&alice, &bob).await;
    let impostor = Agent::start("bob", &relay.url());
    alice.event(&[EventKind::ContactKeyChanged]).await;
    // The claim outlives a restart, and is not told again.
    alice.restart().await;
    let verify = ContactEdit::Verify { name: "bob".into(), key: bob.engine.public_key().to_string() };
    let book = edit(&alice, Role::Terminal, verify).await.unwrap();
    let blocked: Vec<_> =
        book.iter().filter(|contact| contact.blocked).map(|contact| contact.pubkey).collect();
    assert_eq!(blocked, [impostor.engine.public_key()]);
    let true_bob = book.iter().find(|contact| contact.agent_id.as_deref() == Some("bob")).unwrap();
    assert!(true_bob.verified && true_bob.claimed_by.is_empty());
    let after = Command::Wait {
        consumer: None,
        after: Some(0),
        call: None,
        kinds: vec![EventKind::ContactKeyChanged],
        ahead: 0,
        timeout_s: 0.0,
    };
    let first: api::WaitReply = alice.ask(after.clone()).await;
    let Command::Wait { kinds, timeout_s, .. } = after else { unreachable!() };
    let again =
        Command::Wait { consumer: None, after: Some(first.cursor), call: None, kinds, ahead: 0, timeout_s };
    assert!(alice.ask::<api::WaitReply>(again).await.event.is_none(), "one alert for one claim");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_look_alike_are_refused_and_shown() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    let fake = Agent::start("B0b", &relay.url());
    edit(&alice, Role::Agent, add("bob", bob.engine.public_key())).await.unwrap();
    for name in ["bоb", "B.O.B", "b0b"] {
        let added = edit(&alice, Role::Agent, add(name, fake.engine.public_key())).await;
        assert_eq!(added, Err(ErrorKind::InvalidValue), "{name}");
    }
    fake.call("alice").await;
    let rings = alice.event(&[EventKind::CallRinging]).await.call_state.unwrap();
    assert_eq!(rings.peer.looks_like.as_deref(), Some("bob"));
    let list: api::AgentList = alice.ask(Command::List { capability: None, limit: None }).await;
    let shown: Vec<_> =
        list.agents.iter().map(|agent| (agent.id.as_str(), agent.looks_like.is_some())).collect();
    assert!(shown.contains(&("B0b", true)) && shown.contains(&("bob", false)), "{shown:?}");
}

/// Rings of the flood: more than the budget opens at once.
const FLOOD: usize = 1_200;
/// Of these under way at a time: less than a link holds.
const UNDER_WAY: usize = 100;

/// A ring of a key that nobody has seen before.
fn ring(to: &PublicKey, number: usize, relay: &str, now: u64) -> Signed {
    let (from, key) = (Identity::generate(), SessionKey::generate());
    let mut call = Hex([0; 16]);
    call.0[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let mut offer = Offer {
        agent_id: format!("stranger-{number}"),
        name: "Stranger".into(),
        topic: "an offer that nobody can refuse".into(),
        expires: now + 60,
        key: key.public_key(),
        noise: [0; signal::FIRST_MESSAGE],
        versions: vec![2],
        relays: vec![relay.to_owned()],
        inbox: vec![],
        traceparent: None,
    };
    let caller = from.public_key();
    let terms = Terms::of(&offer, &call, 0, &caller, to);
    offer.noise = Initiator::start(key, &terms).unwrap().1;
    let signal = Signal { call, generation: 0, body: Body::Invite(offer) };
    let rumor = Rumor { kind: signal::KIND, created_at: now, tags: vec![], content: signal.to_json() };
    seal_wrap(&from, to, &rumor, &WrapOptions::at(WrapKind::Stored, now)).unwrap()
}

/// Publishes as fast as the relay takes it.
async fn flood(relay: &str, rings: Vec<Signed>) {
    let (sender, mut inbound) = tokio::sync::mpsc::channel(1_024);
    let pool = Pool::start(Options {
        relays: vec![relay.to_owned()],
        inbox: vec![relay.to_owned()],
        identity: Identity::generate(),
        cursors: vec![],
        inbound: sender,
        seen: None,
        tuning: Tuning::DEFAULT,
    })
    .unwrap();
    while !matches!(inbound.recv().await.unwrap(), Inbound::Synced { class: Class::Wrap, .. }) {}
    let mut rings = rings.into_iter();
    let mut under_way = 0;
    loop {
        for ring in rings.by_ref().take(UNDER_WAY - under_way) {
            assert!(pool.publish(ring).is_empty());
            under_way += 1;
        }
        if under_way == 0 {
            break;
        }
        if let Inbound::Published(_) = inbound.recv().await.unwrap() {
            under_way -= 1;
        }
    }
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_rings_is_thirty_rings_a_short_queue_and_one_alert_and_a_contact_is_heard_in_it() {
    let relay = relay().await;
    let bob = Agent::start("bob", &relay.url());
    let alice = Agent::start("alice", &relay.url());
    edit(&bob, Role::Agent, add("ally", alice.engine.public_key())).await.unwrap();
    let (to, url, now) = (bob.engine.public_key(), relay.url(), crate::engine::clock::now().as_secs());
    let rings = (0..FLOOD).map(|number| ring(&to, number, &url, now)).collect();
    let flooding = tokio::spawn(async move { flood(&url, rings).await });
    // In the middle of it: the first of the flood ring.
    bob.event(&[EventKind::CallRinging]).await;
    let call = alice.call("bob").await.call;
    let hers = |event: &api::Event| {
        event.call_state.as_ref().is_some_and(|call| call.peer.pubkey == alice.engine.public_key())
    };
    let mut rang = 1;
    loop {
        let event = bob.event(&[EventKind::CallRinging]).await;
        if hers(&event) {
            let accept = Command::Answer { call: event.call, accept: true, reason: String::new() };
            bob.ask::<api::CallReply>(accept).await;
            break;
        }
        rang += 1;
    }
    let wait = Command::AwaitCall { call, timeout_s: LONG_S };
    assert_eq!(alice.ask::<api::CallReply>(wait).await.call.state, CallState::Connected);
    flooding.await.unwrap();

    let told = bob.event(&[EventKind::StrangersDigest]).await.strangers.unwrap();
    // The places of the queue change hands once, perhaps a few times in one look; then nothing more is opened.
    assert!(told.calls_waiting > 0 && told.calls_dropped > 0 && told.mail_dropped == 0, "{told:?}");
    assert_eq!(told.calls_waiting + told.calls_dropped, (FLOOD - 30) as u64);
    let rings = Command::Wait {
        consumer: Some("test".into()),
        after: None,
        call: None,
        kinds: vec![EventKind::CallRinging],
        ahead: 0,
        timeout_s: 0.0,
    };
    while let Some(event) = bob.ask::<api::WaitReply>(rings.clone()).await.event {
        assert!(!hers(&event));
        bob.ask::<api::Done>(Command::Commit { consumer: Some("test".into()), cursor: event.cursor }).await;
        rang += 1;
    }
    assert_eq!(rang, 30);
    assert_eq!(inbox(&bob).await.queue.len(), QUEUE_LIMIT);
    let again = Command::Wait {
        consumer: Some("test".into()),
        after: None,
        call: None,
        kinds: vec![EventKind::StrangersDigest],
        ahead: 0,
        timeout_s: 0.0,
    };
    assert!(bob.ask::<api::WaitReply>(again).await.event.is_none(), "one alert");

    // Meanwhile a stranger's mail comes as ever, and a stranger who does the work that is asked for now waits in the queue.
    let shy = Agent::start("shy", &relay.url());
    write(&shy, &bob, "only a word").await;
    until("the mail", async || (inbox(&bob).await.mail.len() == 1).then_some(())).await;
    shy.call("bob").await;
    until("the call of who has done the work", async || {
        inbox(&bob).await.queue.iter().any(|call| call.peer.id == "shy").then_some(())
    })
    .await;
}
