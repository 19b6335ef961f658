//! Session links that prove by themselves that their relay carries live events, and what follows from it.

use nostr_relay_builder::LocalRelay;
use nostr_relay_builder::builder::{RelayBuilder, RelayBuilderNip42};
use nostr_sdk::{Event, JsonUtil};
use serde_json::json;

use super::server::{Connection, Server};
use super::*;
use crate::api::{RelayAuth, SessionLink};
use crate::transport::v2::*;

fn pool(urls: &[&str], tuning: Tuning) -> (SessionPool, mpsc::Receiver<Inbound>) {
    let (inbound, receiver) = mpsc::channel(64);
    let relays = urls.iter().map(|url| (*url).to_owned()).collect();
    (SessionPool::start(SessionOptions { relays, inbound, tuning }).unwrap(), receiver)
}

/// What becomes of the link to a relay.
async fn until(pool: &SessionPool, url: &str, what: impl Fn(&SessionLink) -> bool) -> SessionLink {
    soon(async {
        loop {
            let status = pool.status();
            let (_, link) = status.iter().find(|(relay, _)| relay.as_str() == url).unwrap();
            if what(link) {
                return link.clone();
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

fn frame() -> Signed {
    let author = Identity::generate();
    Signed::try_from(author.sign(21_059, "#p2p1.AAAA".into(), vec![], now()).unwrap()).unwrap()
}

#[tokio::test]
async fn an_honest_relay_echoes_whether_it_wants_to_know_us_or_not() {
    let plain = LocalRelay::new(RelayBuilder::default());
    let strict = LocalRelay::new(RelayBuilder::default().nip42(RelayBuilderNip42::default()));
    for (relay, auth) in [(plain, RelayAuth::None), (strict, RelayAuth::Done)] {
        relay.run().await.unwrap();
        let url = relay.url().await.to_string();
        let (pool, mut inbound) = pool(&[&url], quick());
        let url = RelayId::parse(&url).unwrap();
        let link = until(&pool, url.as_str(), |link| link.echo_ms.is_some()).await;
        assert!(link.connected && link.auth == auth && link.error.is_none(), "{link:?}");
        assert!(link.echo_ms.unwrap() < 10_000.0);
        assert!(inbound.try_recv().is_err(), "the engine hears nothing of it");
    }
}

#[tokio::test]
async fn a_relay_that_takes_events_and_delivers_none_is_found_out_and_tried_again() {
    let server = Server::start().await;
    let ms = Duration::from_millis;
    let tuning = Tuning { echo_within: ms(50), echo_again: ms(50), ..quick() };
    let (pool, mut inbound) = pool(&[&server.url], tuning);
    let mut connection = server.accept_raw().await;
    let echo = connection.asked_for_echo().await;
    connection.ok(&Event::from_json(&echo.json).unwrap(), true, "").await;
    let link = until(&pool, &server.url, |link| link.error.is_some()).await;
    assert_eq!(link.error.as_deref(), Some("no echo of a live event"));
    assert!(link.connected && link.echo_ms.is_none());

    // The next one comes back; or the one after it, if this machine is slow.
    let subscription = connection.echo.0.clone();
    let relay = async {
        loop {
            let again = Signed::try_from(connection.published().await.0).unwrap();
            assert_ne!(again.id, echo.id, "relays pass over an event that they have seen");
            connection.event("guess", &again).await;
            connection.event(&subscription, &again).await;
        }
    };
    let link = tokio::select! {
        link = until(&pool, &server.url, |link| link.echo_ms.is_some()) => link,
        () = relay => unreachable!("it is endless"),
    };
    assert_eq!(link.error, None);
    assert!(inbound.try_recv().is_err());
}

#[tokio::test]
async fn what_a_relay_stored_of_an_echo_proves_nothing() {
    let server = Server::start().await;
    let (pool, mut inbound) = pool(&[&server.url], quick());
    let mut connection = server.accept_raw().await;
    let echo = connection.asked_for_echo().await;
    let key = SessionKey::generate();
    pool.listen(&key.public_key(), std::slice::from_ref(&server.url)).unwrap();
    let (id, _) = connection.request().await;
    // As an answer to the new REQ, before its end: it was stored.
    connection.event(&id, &echo).await;
    connection.end_of_stored(&id).await;
    let (second, _) = connection.published().await;
    assert!(pool.status()[0].1.echo_ms.is_none());
    connection.event(&id, &Signed::try_from(second).unwrap()).await;
    until(&pool, &server.url, |link| link.echo_ms.is_some()).await;
    assert!(matches!(soon(inbound.recv()).await, Some(Inbound::Synced { class: Class::Session, .. })));
    assert!(inbound.try_recv().is_err());
}

#[tokio::test]
async fn an_echo_that_needs_authentication_is_sent_again_after_it() {
    let server = Server::start().await;
    let (pool, _inbound) = pool(&[&server.url], quick());
    let mut connection = server.accept_raw().await;
    let echo = connection.asked_for_echo().await;
    let refused = Event::from_json(&echo.json).unwrap();
    connection.send(json!(["AUTH", "challenge"])).await;
    connection.ok(&refused, false, "auth-required: who are you?").await;
    let auth = connection.authentication().await;
    assert_ne!(auth.pubkey, refused.pubkey, "who is known to the relay proves nothing");
    connection.ok(&auth, true, "").await;
    let (again, _) = connection.published().await;
    assert_ne!(again.id, refused.id);
    let subscription = connection.echo.0.clone();
    connection.event(&subscription, &Signed::try_from(again).unwrap()).await;
    let link = until(&pool, &server.url, |link| link.echo_ms.is_some()).await;
    assert_eq!(link.auth, RelayAuth::Done);
}

#[tokio::test]
async fn a_relay_that_refuses_the_echo_says_why() {
    let server = Server::start().await;
    let (pool, _inbound) = pool(&[&server.url], quick());
    let mut connection = server.accept_raw().await;
    let echo = connection.asked_for_echo().await;
    let words = "blocked: kind 21059 is not allowed here";
    connection.ok(&Event::from_json(&echo.json).unwrap(), false, words).await;
    let link = until(&pool, &server.url, |link| link.error.is_some()).await;
    assert_eq!((link.error.as_deref(), link.echo_ms), (Some(words), None));
}

#[tokio::test]
async fn each_connection_is_proven_anew_under_a_key_of_its_own_and_hears_its_keys_again() {
    let server = Server::start().await;
    let (pool, mut inbound) = pool(&[&server.url], quick());
    let key = SessionKey::generate();
    let mut echoes = Vec::new();
    let mut connection = server.accept_sessions().await;
    until(&pool, &server.url, |link| link.echo_ms.is_some()).await;
    echoes.push(connection.echo.1.clone());
    pool.listen(&key.public_key(), std::slice::from_ref(&server.url)).unwrap();
    let (id, _) = connection.request().await;
    connection.end_of_stored(&id).await;
    let synced = async |inbound: &mut mpsc::Receiver<Inbound>| {
        assert!(matches!(soon(inbound.recv()).await, Some(Inbound::Synced { class: Class::Session, .. })));
    };
    synced(&mut inbound).await;
    assert_eq!(pool.hearing(&key.public_key()), 1);

    drop(connection);
    until(&pool, &server.url, |link| link.echo_ms.is_none()).await;
    let mut connection = server.accept_raw().await;
    let (id, filter) = connection.request().await;
    let keys: Vec<_> = filter["#p"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    assert!(keys.len() == 2 && keys.contains(&key.public_key().to_string().as_str()), "{keys:?}");
    assert!(!keys.contains(&echoes[0].as_str()));
    assert_eq!(pool.hearing(&key.public_key()), 0);
    connection.end_of_stored(&id).await;
    synced(&mut inbound).await;
    assert_eq!(pool.hearing(&key.public_key()), 1);
    let (echo, _) = connection.published().await;
    pool.forget(&key.public_key());
    let (again, filter) = connection.request().await;
    assert_eq!(filter["#p"], json!([echo.pubkey]));
    connection.end_of_stored(&again).await;
    let (echo, _) = connection.published().await;
    connection.event(&again, &Signed::try_from(echo).unwrap()).await;
    until(&pool, &server.url, |link| link.echo_ms.is_some()).await;
    assert!(inbound.try_recv().is_err(), "the echo's key alone is nobody's");
}

#[tokio::test]
async fn relays_are_ranked_by_what_they_have_proven_and_frames_follow() {
    let servers =
        [Server::start().await, Server::start().await, Server::start().await, Server::start().await];
    let [dead, mute, fresh, proven] = &servers;
    let urls: Vec<_> = servers.iter().map(|server| server.url.as_str()).collect();
    let (pool, _inbound) = pool(&urls, quick());
    let relays: Vec<_> = urls.iter().map(|url| RelayId::parse(url).unwrap()).collect();
    assert!(!pool.is_up(&relays));
    assert_eq!(pool.ranked(), relays, "nothing is known: the user's order");

    let mut connections: Vec<Connection> = Vec::new();
    for server in [mute, fresh] {
        let mut connection = server.accept_raw().await;
        let echo = connection.asked_for_echo().await;
        if std::ptr::eq(server, mute) {
            let event = Event::from_json(&echo.json).unwrap();
            connection.ok(&event, false, "blocked: no").await;
            until(&pool, &server.url, |link| link.error.is_some()).await;
        }
        connections.push(connection);
    }
    connections.push(proven.accept_sessions().await);
    until(&pool, &proven.url, |link| link.echo_ms.is_some()).await;
    let expected = [proven, fresh, mute, dead].map(|server| RelayId::parse(&server.url).unwrap());
    assert_eq!(pool.ranked(), expected);
    assert!(pool.is_up(&relays) && !pool.is_up(&relays[..1]));

    for _ in 0..4 {
        let frame = frame();
        assert_eq!(pool.send(frame.clone(), &relays), 2);
        for connection in &mut connections[1..] {
            assert_eq!(connection.published().await.1, frame.json);
        }
    }
    assert_eq!(pool.send(frame(), &relays[..2]), 1, "better a doubtful one than none");
}
