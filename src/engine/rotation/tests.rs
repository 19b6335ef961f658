//! Keys that change, before the eyes of a peer that knows the old one.

use std::fs;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::super::keys;
use super::super::tests::{Agent, LONG_S, connected, open, relay};
use crate::api::{self, Command, ContactEdit, EventKind, KeyChanged};
use crate::home::Home;
use crate::proto::{CallState, Hex, MessageState, PublicKey, Rotation, Sender, Tier};
use crate::transport::{Identity, rotation};

const CHANGED: &[EventKind] = &[EventKind::ContactKeyChanged];

/// Gives an agent a new key while its engine is away.
async fn rotate(agent: &mut Agent) {
    agent.engine.stop().await;
    rotate_stopped(agent);
}

fn rotate_stopped(agent: &mut Agent) {
    let lock = Home::open(Some(agent.folder.path())).unwrap().lock().unwrap().unwrap();
    keys::rotate(&lock).unwrap();
    agent.engine = open(agent.folder.path(), &agent.settings);
    agent.handle = agent.engine.handle();
}

fn mail(to: &PublicKey, words: &str) -> Command {
    Command::Send {
        text: words.into(),
        call: None,
        to: Some(to.to_string()),
        client_id: None,
        wait: None,
        traceparent: None,
    }
}

/// Sends mail; returns to whom it went once a relay has it.
async fn mailed(from: &Agent, to: &PublicKey, words: &str) -> PublicKey {
    let sent: api::Message = from.ask(mail(to, words)).await;
    let relayed =
        Command::AwaitMessage { message: sent.message, state: MessageState::Relayed, timeout_s: LONG_S };
    let reply: api::MessageReply = from.ask(relayed).await;
    assert!(!reply.timeout);
    sent.peer
}

async fn received(agent: &Agent) -> (Sender, String) {
    let message = agent.event(&[EventKind::MessageReceived]).await.message.unwrap();
    (message.from, message.text)
}

async fn edit(agent: &Agent, edit: ContactEdit) {
    agent.ask::<api::Contacts>(Command::ContactEdit(edit)).await;
}

async fn add(agent: &Agent, name: &str, key: &PublicKey) {
    edit(agent, ContactEdit::Add { name: name.into(), key: key.to_string() }).await;
}

async fn key_changed(agent: &Agent) -> KeyChanged {
    agent.event(CHANGED).await.key_changed.unwrap()
}

/// The contact with this key: its name, its agent id, whether it is blocked.
async fn contact(agent: &Agent, key: &PublicKey) -> Option<(String, String, Tier, bool)> {
    let contacts: api::Contacts = agent.ask(Command::Contacts {}).await;
    let found = contacts.contacts.into_iter().find(|contact| contact.pubkey == *key)?;
    Some((found.name, found.agent_id.unwrap_or_default(), found.tier, found.blocked))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contact_that_rotates_its_key_keeps_its_name_its_pin_and_its_trust() {
    let relay = relay().await;
    let mut alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    connected(&alice, &bob).await;
    alice.ask::<api::EndReply>(Command::End { call: None }).await;
    bob.event(&[EventKind::CallEnded]).await;
    let first = alice.engine.public_key();
    add(&bob, "ally", &first).await;
    for _ in 0..2 {
        let old = alice.engine.public_key();
        rotate(&mut alice).await;
        let new = alice.engine.public_key();
        let told = KeyChanged { agent_id: "alice".into(), pinned: old, claimed_by: new, followed: true };
        assert_eq!(key_changed(&bob).await, told);
        let known = Some(("ally".to_owned(), "alice".to_owned(), Tier::Contact, false));
        assert_eq!(contact(&bob, &new).await, known);
        assert_eq!(contact(&bob, &old).await.map_or(Tier::Stranger, |(_, _, tier, _)| tier), Tier::Stranger);
    }
    // Both ways, under the key that it has now.
    let ring = bob.call("ally").await;
    assert_eq!(ring.peer.pubkey, alice.engine.public_key());
    alice.event(&[EventKind::CallRinging]).await;
    assert_eq!(alice.answer(true).await.state, CallState::Connected);
    bob.event(&[EventKind::CallConnected]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_slept_through_several_rotations_follows_them_all_and_a_blocked_key_stays_blocked() {
    let relay = relay().await;
    let mut alice = Agent::start("alice", &relay.url());
    let mut spam = Agent::start("spam", &relay.url());
    let mut bob = Agent::start("bob", &relay.url());
    let (old, old_spam) = (alice.engine.public_key(), spam.engine.public_key());
    add(&bob, "ally", &old).await;
    edit(&bob, ContactEdit::Block { key: old_spam.to_string() }).await;
    bob.engine.stop().await;
    for _ in 0..3 {
        rotate(&mut alice).await;
    }
    rotate(&mut spam).await;
    bob.restart().await;
    let changed = key_changed(&bob).await;
    assert_eq!((changed.pinned, changed.claimed_by), (old, alice.engine.public_key()));
    // The other one has no name that anybody could be told.
    while contact(&bob, &spam.engine.public_key()).await.is_none_or(|(.., blocked)| !blocked) {
        bob.ask::<api::AgentList>(Command::List { capability: None, limit: None }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_the_old_key_did_not_sign_moves_nothing() {
    let relay = relay().await;
    let alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    connected(&alice, &bob).await;
    let old = alice.engine.public_key();
    add(&bob, "ally", &old).await;
    // A thief of the name, with a statement of its own making beside its key.
    let mut thief = Agent::start("thief", &relay.url());
    thief.engine.stop().await;
    let file = Home::open(Some(thief.folder.path())).unwrap().identity();
    let mut identity: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let new = thief.engine.public_key();
    let forged = Rotation { old, new, at: 1_790_000_000, sig: Hex([7; 64]), proof: Hex([7; 64]) };
    identity["rotations"] = serde_json::to_value([forged]).unwrap();
    fs::write(&file, identity.to_string()).unwrap();
    thief.settings.agent_id = Some("alice".into());
    let config = Home::open(Some(thief.folder.path())).unwrap().config();
    fs::remove_file(config).unwrap();
    thief.restart().await;
    let told = KeyChanged { agent_id: "alice".into(), pinned: old, claimed_by: new, followed: false };
    assert_eq!(key_changed(&bob).await, told);
    let known = Some(("ally".to_owned(), "alice".to_owned(), Tier::Contact, false));
    assert_eq!(contact(&bob, &old).await, known);
    assert_eq!(contact(&bob, &new).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_only_the_old_key_finds_the_statement_at_a_relay() {
    let relay = relay().await;
    let mut alice = Agent::start("alice", &relay.url());
    let old = alice.engine.public_key();
    rotate(&mut alice).await;
    assert_eq!(statement_of(&relay.url(), &old).await, alice.engine.public_key());
}

/// Waits until a relay has a statement of this key; returns the key that it names. Live or stored: the relay may be
/// asked before it is told.
async fn statement_of(url: &str, key: &PublicKey) -> PublicKey {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let filter = serde_json::json!({"kinds": [15_920], "authors": [key]});
    let ask = serde_json::json!(["REQ", "rotation", filter]).to_string();
    socket.send(Message::text(ask)).await.unwrap();
    let named = tokio::time::timeout(Duration::from_secs_f64(LONG_S), async {
        loop {
            let text = socket.next().await.unwrap().unwrap().into_text().unwrap();
            let message: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if message[0] == "EVENT" {
                let tags = message[2]["tags"].as_array().unwrap();
                assert_eq!((tags.len(), &tags[0][0]), (1, &"p".into()), "{message}");
                return tags[0][1].as_str().unwrap().parse().unwrap();
            }
        }
    });
    named.await.unwrap()
}

/// Puts a statement on a relay.
async fn put(url: &str, rotation: &Rotation) {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let signed = rotation::publish(rotation).unwrap();
    socket.send(Message::text(format!("[\"EVENT\",{}]", signed.json))).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(answer.contains("true"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_and_a_ring_on_their_way_to_the_old_key_arrive_and_the_call_outlives_a_restart() {
    let relay = relay().await;
    let mut alice = Agent::start("alice", &relay.url());
    let bob = Agent::start("bob", &relay.url());
    connected(&alice, &bob).await;
    alice.ask::<api::EndReply>(Command::End { call: None }).await;
    bob.event(&[EventKind::CallEnded]).await;
    let old = alice.engine.public_key();
    alice.engine.stop().await;
    for words in ["one", "two"] {
        assert_eq!(mailed(&bob, &old, words).await, old);
    }
    let ring = bob.call(&old.to_string()).await;
    rotate_stopped(&mut alice);
    assert_ne!(alice.engine.public_key(), old);
    for words in ["one", "two"] {
        assert_eq!(received(&alice).await, (Sender::Peer, words.to_owned()));
    }
    alice.event(&[EventKind::CallRinging]).await;
    assert_eq!(alice.answer(true).await.state, CallState::Connected);
    let took = bob.event(&[EventKind::CallConnected]).await.call.unwrap();
    assert_eq!(took, ring.call);
    bob.say("how are you?").await;
    assert_eq!(received(&alice).await.1, "how are you?");
    alice.restart().await;
    alice.say("as before").await;
    assert_eq!(received(&bob).await.1, "as before");
    alice.ask::<api::EndReply>(Command::End { call: None }).await;
    assert_eq!(bob.event(&[EventKind::CallEnded]).await.call.unwrap(), ring.call);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_calls_an_old_key_after_several_rotations_reaches_the_new_one_though_its_owner_is_away() {
    let relay = relay().await;
    let mut alice = Agent::start("alice", &relay.url());
    let mut bob = Agent::start("bob", &relay.url());
    let old = alice.engine.public_key();
    add(&bob, "ally", &old).await;
    bob.engine.stop().await;
    for _ in 0..2 {
        let before = alice.engine.public_key();
        rotate(&mut alice).await;
        assert_eq!(statement_of(&relay.url(), &before).await, alice.engine.public_key());
    }
    let new = alice.engine.public_key();
    alice.engine.stop().await;
    bob.restart().await;
    // Nothing announces the new key now: the relays are asked.
    assert_eq!(mailed(&bob, &old, "found you").await, new);
    // What the agent is called there depends on whether bob had seen it announced before he was stopped.
    let told = key_changed(&bob).await;
    assert_eq!((told.pinned, told.claimed_by, told.followed), (old, new, true));
    assert_eq!(contact(&bob, &new).await.map(|(name, ..)| name).as_deref(), Some("ally"));
    let ring = bob.call("ally").await;
    assert_eq!(ring.peer.pubkey, new);
    alice.restart().await;
    assert_eq!(received(&alice).await.1, "found you");
    alice.event(&[EventKind::CallRinging]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_contradict_each_other_or_lead_in_a_circle_are_not_followed() {
    let (one, other) = (relay().await, relay().await);
    let bob = Agent::with("bob", &one.url(), |settings| settings.relays.push(other.url()));
    let [a, b, c, d] = [(); 4].map(|()| Identity::generate());
    let at = 1_790_000_000;
    put(&one.url(), &rotation::sign(&a, &b, at).unwrap()).await;
    put(&other.url(), &rotation::sign(&b, &a, at).unwrap()).await;
    put(&one.url(), &rotation::sign(&c, &a, at).unwrap()).await;
    put(&other.url(), &rotation::sign(&c, &d, at).unwrap()).await;
    for identity in [a, c] {
        let key = identity.public_key();
        add(&bob, "ally", &key).await;
        // Nobody is there; what counts is that nothing has moved.
        assert_eq!(bob.refused(mail(&key, "hello?")).await, api::ErrorKind::UnknownAgent);
        assert_eq!(contact(&bob, &key).await.map(|(name, ..)| name).as_deref(), Some("ally"));
        edit(&bob, ContactEdit::Remove { name: "ally".into() }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_withholds_a_statement_hides_it_only_if_all_do() {
    let (honest, silent) = (relay().await, relay().await);
    let mut alice = Agent::start("alice", &honest.url());
    let bob = Agent::with("bob", &silent.url(), |settings| settings.relays.push(honest.url()));
    let old = alice.engine.public_key();
    rotate(&mut alice).await;
    statement_of(&honest.url(), &old).await;
    let new = alice.engine.public_key();
    alice.engine.stop().await;
    // Neither key is online: what is asked is where the new one reads.
    assert_eq!(mailed(&bob, &old, "hello").await, new);
}
