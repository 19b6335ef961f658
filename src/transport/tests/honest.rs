//! Against `nostr-relay-builder`, over loopback.

use nostr_relay_builder::LocalRelay;
use nostr_relay_builder::builder::{RateLimit, RelayBuilder, RelayBuilderNip42};

use super::*;
use crate::api::RelayAuth;

async fn relay(configure: impl FnOnce(RelayBuilder) -> RelayBuilder) -> (LocalRelay, String) {
    let builder =
        RelayBuilder::default().rate_limit(RateLimit { max_reqs: 500, notes_per_minute: 1_000_000 });
    let relay = LocalRelay::new(configure(builder));
    relay.run().await.unwrap();
    let url = relay.url().await.to_string();
    (relay, url)
}

/// Publishes everything and waits until the relay has it.
async fn publish_all(agent: &mut Agent, events: Vec<Signed>) {
    let count = events.len();
    for event in events {
        assert_eq!(agent.pool.publish(event), []);
    }
    for _ in 0..count {
        assert_eq!(agent.until_published().await.1, Outcome::Accepted);
    }
}

#[tokio::test]
async fn a_message_goes_from_one_agent_to_the_other() {
    let (_relay, url) = relay(|builder| builder).await;
    let (mut alice, mut bob) = (Agent::start(&url, quick()), Agent::start(&url, quick()));
    bob.until_synced(Class::Direct).await;
    let message = alice.message_to(bob.key(), "hello", now());
    alice.pool.publish(message.clone());
    assert_eq!(alice.until_published().await, (message.id, Outcome::Accepted));
    let received = bob.until(|inbound| match inbound {
        Inbound::Direct { id, from, payload, .. } => Some((id, from, payload)),
        _ => None,
    });
    assert_eq!(received.await, (message.id, alice.key(), "hello".to_owned()));
    let status = &alice.pool.status()[0];
    assert!(status.connected && status.rtt_ms.is_some() && status.error.is_none(), "{status:?}");
    assert!(bob.pool.synced(Class::Direct));
}

#[tokio::test]
async fn an_agent_is_seen_to_come_and_go() {
    let (_relay, url) = relay(|builder| builder).await;
    let (mut alice, mut bob) = (Agent::start(&url, quick()), Agent::start(&url, quick()));
    bob.until_synced(Class::Presence).await;
    let announcement = presence::Announcement {
        agent_id: "alice",
        capabilities: &[],
        content: r#"{"agentId":"alice"}"#,
        expires: now() + 300,
        unlisted: false,
        version: None,
    };
    let announced = presence::sign(&alice.identity, &announcement, now()).unwrap();
    let id = announced.id;
    publish_all(&mut alice, vec![announced]).await;
    let seen = bob.until(|inbound| match inbound {
        Inbound::Presence { id, agent_id, from, .. } => Some((id, agent_id, from)),
        _ => None,
    });
    assert_eq!(seen.await, (id, "alice".to_owned(), alice.key()));

    let token = bob.pool.refresh(Class::Presence);
    let mut again = false;
    let refreshed = bob.until(|inbound| match inbound {
        Inbound::Presence { .. } => {
            again = true;
            None
        }
        Inbound::Refreshed { token, answered, asked } => Some((token, answered, asked)),
        _ => None,
    });
    assert_eq!(refreshed.await, (token, 1, 1));
    assert!(again, "what the relay has comes before the refresh ends");

    let retraction = presence::retract(&alice.identity, id, "alice", false, now() + 1).unwrap();
    publish_all(&mut alice, vec![retraction]).await;
    let gone = bob.until(|inbound| match inbound {
        Inbound::Retracted { from, agent_id, .. } => Some((from, agent_id)),
        _ => None,
    });
    assert_eq!(gone.await, (alice.key(), "alice".to_owned()));
}

#[tokio::test]
async fn what_waited_comes_oldest_first_however_small_the_pages() {
    let (_relay, url) = relay(|builder| builder.max_filter_limit(3)).await;
    let mut alice = Agent::start(&url, quick());
    let bob = Identity::generate();
    let start = now() - 1_000;
    // Two to a second: pages of three end inside seconds.
    let messages: Vec<_> = (0..20)
        .map(|n| legacy::seal(&alice.identity, &bob.public_key(), &n.to_string(), start + n / 2).unwrap())
        .collect();
    publish_all(&mut alice, messages).await;

    let (sender, inbound) = mpsc::channel(1_024);
    let options = Options {
        relays: vec![url.clone()],
        inbox: vec![url],
        identity: bob.clone(),
        cursors: Vec::new(),
        inbound: sender,
        seen: None,
        tuning: quick(),
    };
    let mut bob = Agent { identity: bob, pool: Pool::start(options).unwrap(), inbound };
    let all = bob.sync().await;
    let seconds: Vec<u64> = all
        .iter()
        .filter_map(|inbound| match inbound {
            Inbound::Direct { created_at, .. } => Some(*created_at),
            _ => None,
        })
        .collect();
    assert!(seconds.is_sorted(), "{seconds:?}");
    let mut texts: Vec<u32> = payloads(&all).iter().map(|text| text.parse().unwrap()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts, (0..20).collect::<Vec<_>>());
    assert_eq!(gaps(&all), [] as [u64; 0]);
}

#[tokio::test]
async fn a_second_with_more_messages_than_a_page_is_reported() {
    let (_relay, url) = relay(|builder| builder.max_filter_limit(3)).await;
    let mut alice = Agent::start(&url, quick());
    let bob = Agent::start(&url, quick());
    let (crowded, before) = (now() - 100, now() - 200);
    let mut messages = vec![alice.message_to(bob.key(), "before", before)];
    messages.extend((0..6).map(|n| alice.message_to(bob.key(), &n.to_string(), crowded)));
    publish_all(&mut alice, messages).await;
    let identity = bob.identity.clone();
    bob.pool.stop().await;

    let (sender, inbound) = mpsc::channel(1_024);
    let options = Options {
        relays: vec![url.clone()],
        inbox: vec![url],
        identity: identity.clone(),
        cursors: Vec::new(),
        inbound: sender,
        seen: None,
        tuning: quick(),
    };
    let mut bob = Agent { identity, pool: Pool::start(options).unwrap(), inbound };
    let all = bob.sync().await;
    assert_eq!(gaps(&all), [crowded]);
    assert!(payloads(&all).contains(&"before"), "the walk goes on behind the gap");
}

#[tokio::test]
async fn a_relay_that_asks_who_we_are_is_told() {
    let (_relay, url) = relay(|builder| builder.nip42(RelayBuilderNip42::default())).await;
    let (mut alice, mut bob) = (Agent::start(&url, quick()), Agent::start(&url, quick()));
    bob.until_synced(Class::Direct).await;
    let message = alice.message_to(bob.key(), "hello", now());
    publish_all(&mut alice, vec![message]).await;
    assert_eq!(bob.until_message().await, "hello");
    assert_eq!(alice.pool.status()[0].auth, RelayAuth::Done);
}

/// The relay's own buffer holds 1,024 live events: it loses what a client that does not read cannot take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_sleeps_through_a_flood_misses_nothing() {
    const FLOOD: u64 = 4_000;
    let (_relay, url) = relay(|builder| builder).await;
    let tuning = Tuning { stall: Duration::from_millis(10), ..quick() };
    let mut alice = Agent::start(&url, quick());
    let mut bob = Agent::with(&url, tuning, 4, Vec::new());
    bob.until_synced(Class::Direct).await;
    let start = now() - FLOOD;
    let filler = "x".repeat(1_000);
    let messages =
        (0..FLOOD).map(|n| alice.message_to(bob.key(), &format!("{n} {filler}"), start + n)).collect();
    // Nobody takes what bob's link has, and so it stops reading.
    publish_all(&mut alice, messages).await;
    let mut missing: std::collections::HashSet<u64> = (0..FLOOD).collect();
    while !missing.is_empty() {
        let text = bob.until_message().await;
        missing.remove(&text.split(' ').next().unwrap().parse().unwrap());
    }
}

#[tokio::test]
async fn two_links_deliver_and_one_dead_relay_is_no_hindrance() {
    let (_relay, url) = relay(|builder| builder).await;
    let identity = Identity::generate();
    let (sender, inbound) = mpsc::channel(1_024);
    let options = Options {
        // Nobody listens on port 1.
        relays: vec!["ws://127.0.0.1:1".into(), url.clone(), format!("{url}/")],
        inbox: vec![],
        identity: identity.clone(),
        cursors: Vec::new(),
        inbound: sender,
        seen: None,
        tuning: quick(),
    };
    let mut alice = Agent { identity, pool: Pool::start(options).unwrap(), inbound };
    let mut bob = Agent::start(&url, quick());
    bob.until_synced(Class::Direct).await;
    alice.pool.publish(alice.message_to(bob.key(), "hello", now()));
    assert_eq!(alice.until_published().await.1, Outcome::Accepted);
    assert_eq!(bob.until_message().await, "hello");
    let status = alice.pool.status();
    assert_eq!(status.len(), 2, "the same relay twice is one");
    assert!(!status[0].connected && status[0].error.is_some());
    let token = alice.pool.refresh(Class::Presence);
    let refreshed = alice.until(|inbound| match inbound {
        Inbound::Refreshed { token, answered, asked } => Some((token, answered, asked)),
        _ => None,
    });
    assert_eq!(refreshed.await, (token, 1, 1), "who is not connected is not waited for");
}
