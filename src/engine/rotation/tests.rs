//! Keys that change, before the eyes of a peer that knows the old one.

use std::fs;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::super::keys;
use super::super::tests::{Agent, LONG_S, connected, open, relay};
use crate::api::{self, Command, ContactEdit, EventKind, KeyChanged};
use crate::home::Home;
use crate::proto::{CallState, Hex, PublicKey, Rotation, Tier};

const CHANGED: &[EventKind] = &[EventKind::ContactKeyChanged];

/// Gives an agent a new key while its engine is away.
async fn rotate(agent: &mut Agent) {
    agent.engine.stop().await;
    let lock = Home::open(Some(agent.folder.path())).unwrap().lock().unwrap().unwrap();
    keys::rotate(&lock).unwrap();
    agent.engine = open(agent.folder.path(), &agent.settings);
    agent.handle = agent.engine.handle();
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
    let (mut socket, _) = tokio_tungstenite::connect_async(relay.url()).await.unwrap();
    let filter = serde_json::json!({"kinds": [15_920], "authors": [old]});
    let ask = serde_json::json!(["REQ", "rotation", filter]).to_string();
    socket.send(Message::text(ask)).await.unwrap();
    // Live or stored: the relay may be asked before it is told.
    let event = tokio::time::timeout(Duration::from_secs_f64(LONG_S), async {
        loop {
            let text = socket.next().await.unwrap().unwrap().into_text().unwrap();
            let message: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if message[0] == "EVENT" {
                return message[2].clone();
            }
        }
    });
    let event = event.await.unwrap();
    assert_eq!(event["tags"], serde_json::json!([["p", alice.engine.public_key()]]));
}
