//! Against relays that lie, fall silent, or hang up.

use nostr_sdk::JsonUtil;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::Server;
use super::*;
use crate::api::RelayAuth;

fn peer_message(peer: &Identity, to: &Agent, text: &str, created_at: u64) -> Signed {
    legacy::seal(peer, &to.key(), text, created_at).unwrap()
}

#[tokio::test]
async fn what_was_not_answered_when_the_connection_was_cut_goes_out_again_byte_for_byte() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let messages: Vec<_> = (0..3).map(|n| agent.message_to(agent.key(), &n.to_string(), now())).collect();
    for message in &messages {
        agent.pool.publish(message.clone());
    }
    let mut connection = server.accept().await;
    let (event, json) = connection.published().await;
    assert_eq!(json, messages[0].json);
    connection.ok(&event, true, "").await;
    assert_eq!(connection.published().await.1, messages[1].json);
    drop(connection);

    let mut connection = server.accept().await;
    for message in &messages[1..] {
        let (event, json) = connection.published().await;
        assert_eq!(json, message.json);
        connection.ok(&event, true, "").await;
    }
    for message in &messages {
        assert_eq!(agent.until_published().await, (message.id, Outcome::Accepted));
    }
}

#[tokio::test]
async fn what_came_in_before_a_cut_is_handed_over_and_the_cursor_stays() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let peer = Identity::generate();
    let mut connection = server.accept().await;
    let since = connection.filter["since"].clone();
    let direct = connection.direct.clone();
    connection.event(&direct, &peer_message(&peer, &agent, "stored", now() - 10)).await;
    drop(connection);
    agent.until_up().await;
    let Inbound::Direct { payload, .. } = agent.next().await else { panic!("Synced or Down came first") };
    assert_eq!(payload, "stored");
    agent.until_down().await;
    let again = server.accept().await.filter["since"].clone();
    assert!(again.as_u64() >= since.as_u64() && again.as_u64() <= since.as_u64().map(|since| since + 20));
}

#[tokio::test]
async fn the_next_connection_begins_at_the_cursor_less_the_look_back() {
    let server = Server::start().await;
    let journalled = now() - 1_000_000;
    let cursors = vec![(format!("{}/", server.url), Class::Direct, journalled)];
    let agent = Agent::with(&server.url, quick(), 1_024, cursors);
    let connection = server.accept().await;
    assert_eq!(connection.filter["since"], journalled - 86_400);
    assert_eq!(connection.filter["#p"], json!([agent.key().to_string()]));
    agent.pool.set_cursor(agent.pool.relays().next().unwrap(), Class::Direct, journalled + 5);
    drop(connection);
    assert_eq!(server.accept().await.filter["since"], journalled + 5 - 86_400);
}

#[tokio::test]
async fn a_mute_relay_is_dialled_again_and_after_three_tries_the_next_event_has_its_turn() {
    let server = Server::start().await;
    let tuning = Tuning { ok_within: Duration::from_millis(50), ..quick() };
    let mut agent = Agent::start(&server.url, tuning);
    let (first, second) =
        (agent.message_to(agent.key(), "1", now()), agent.message_to(agent.key(), "2", now()));
    agent.pool.publish(first.clone());
    agent.pool.publish(second.clone());
    for _ in 0..3 {
        let mut connection = server.accept().await;
        assert_eq!(connection.published().await.1, first.json);
        connection.hung_up().await;
    }
    assert_eq!(agent.until_published().await, (first.id, Outcome::Unanswered));
    let mut connection = server.accept().await;
    let (event, json) = connection.published().await;
    assert_eq!(json, second.json);
    connection.ok(&event, true, "").await;
    assert_eq!(agent.until_published().await, (second.id, Outcome::Accepted));
}

#[tokio::test]
async fn altered_events_are_not_let_in_and_the_tenth_ends_the_connection() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let peer = Identity::generate();
    let mut connection = server.accept().await;
    connection.nothing_stored().await;
    let direct = connection.direct.clone();
    let genuine = peer_message(&peer, &agent, "genuine", now());
    connection.event(&direct, &genuine).await;
    assert_eq!(agent.until_message().await, "genuine");
    let other = nostr_sdk::Event::from_json(peer_message(&peer, &agent, "other", now()).json).unwrap();
    let mut altered = nostr_sdk::Event::from_json(&genuine.json).unwrap();
    altered.content = other.content;
    for _ in 0..10 {
        connection.send(json!(["EVENT", direct, altered])).await;
    }
    let error = agent.until(|inbound| match inbound {
        Inbound::Direct { payload, .. } => panic!("{payload}"),
        Inbound::Down { error, .. } => Some(error),
        _ => None,
    });
    assert!(error.await.contains("alters"));
    assert_eq!(agent.counters().altered, 10);
}

#[tokio::test]
async fn what_comes_for_no_subscription_or_was_not_asked_for_is_dropped() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let (peer, other) = (Identity::generate(), Identity::generate());
    let mut connection = server.accept().await;
    connection.nothing_stored().await;
    let (direct, presence) = (connection.direct.clone(), connection.presence.clone());
    let message = peer_message(&peer, &agent, "x", now());
    connection.event("guess", &message).await;
    connection.event(&presence, &message).await;
    let to_other = legacy::seal(&peer, &other.public_key(), "not for us", now()).unwrap();
    connection.event(&direct, &to_other).await;
    connection.event(&direct, &peer_message(&peer, &agent, "from the future", now() + 2_000)).await;
    for junk in ["", "{", "[]", "nonsense", r#"["EVENT"]"#, r#"["OK",1,2,3]"#, r#"["WHAT",{"x":[1]}]"#] {
        connection.send_text(junk.into()).await;
    }
    connection.event(&direct, &peer_message(&peer, &agent, "last", now())).await;
    assert_eq!(agent.until_message().await, "last");
    let counters = agent.counters();
    assert_eq!((counters.unknown_subscription, counters.not_asked_for), (1, 2));
    assert_eq!((counters.from_the_future, counters.unparsable), (1, 6));
}

#[tokio::test]
async fn a_closed_subscription_is_opened_again() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let mut connection = server.accept().await;
    let (presence, direct) = (connection.presence.clone(), connection.direct.clone());
    connection.end_of_stored(&presence).await;
    connection.send(json!(["CLOSED", direct, "error: shutting down idle subscriptions"])).await;
    let (again, filter) = connection.request().await;
    assert_ne!(again, direct);
    assert_eq!(filter, connection.filter);
    connection.end_of_stored(&again).await;
    agent.until_synced(Class::Direct).await;
    let peer = Identity::generate();
    connection.event(&again, &peer_message(&peer, &agent, "hello", now())).await;
    assert_eq!(agent.until_message().await, "hello");
}

#[tokio::test]
async fn what_a_relay_withheld_before_it_knew_us_is_fetched_after() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let peer = Identity::generate();
    let mut connection = server.accept().await;
    connection.send(json!(["AUTH", "challenge"])).await;
    // Starved in silence, as strfry does; this must not move the cursor.
    let auth = connection.authentication().await;
    connection.nothing_stored().await;
    agent.until_synced(Class::Presence).await;
    assert!(!agent.pool.synced(Class::Direct));
    assert_eq!(auth.kind.as_u16(), 22_242);
    auth.verify().unwrap();
    let tags: Vec<_> = auth.tags.iter().map(|tag| tag.as_slice().to_vec()).collect();
    assert_eq!(tags, [["relay", &server.url], ["challenge", "challenge"]]);
    connection.ok(&auth, true, "").await;
    let (direct, filter) = connection.request().await;
    assert_eq!(filter, connection.filter);
    let (_wraps, filter) = connection.request().await;
    assert_eq!(filter["kinds"], json!([1_059]));
    let message = peer_message(&peer, &agent, "private", now() - 100);
    connection.event(&direct, &message).await;
    connection.end_of_stored(&direct).await;
    let (page, filter) = connection.request().await;
    assert_eq!(filter["until"], message.created_at);
    connection.end_of_stored(&page).await;
    let Inbound::Direct { payload, .. } = agent.next().await else { panic!() };
    assert_eq!(payload, "private");
    agent.until_synced(Class::Direct).await;
    assert_eq!(agent.pool.status()[0].auth, RelayAuth::Done);
}

#[tokio::test]
async fn an_event_that_needs_authentication_is_sent_again_after_it() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let message = agent.message_to(agent.key(), "x", now());
    agent.pool.publish(message.clone());
    let mut connection = server.accept().await;
    let (event, _) = connection.published().await;
    connection.ok(&event, false, "auth-required: who are you?").await;
    connection.send(json!(["AUTH", "c"])).await;
    let auth = connection.authentication().await;
    connection.ok(&auth, true, "").await;
    let (event, json) = connection.published().await;
    assert_eq!(json, message.json);
    connection.ok(&event, true, "").await;
    assert_eq!(agent.until_published().await, (message.id, Outcome::Accepted));
}

#[tokio::test]
async fn a_relay_that_asks_in_a_circle_gets_three_answers() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let message = agent.message_to(agent.key(), "x", now());
    agent.pool.publish(message.clone());
    let mut connection = server.accept().await;
    for round in 0..3 {
        let (event, _) = connection.published().await;
        connection.send(json!(["AUTH", format!("challenge {round}")])).await;
        connection.ok(&event, false, "auth-required: again").await;
        let auth = connection.authentication().await;
        connection.ok(&auth, true, "").await;
    }
    let (event, _) = connection.published().await;
    connection.send(json!(["AUTH", "one too many"])).await;
    connection.ok(&event, false, "auth-required: again").await;
    let reason = "auth-required: again".to_owned();
    assert_eq!(agent.until_published().await, (message.id, Outcome::Refused { reason }));
    assert_eq!(agent.counters().challenges_ignored, 1);
}

#[tokio::test]
async fn a_refused_authentication_is_told() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let message = agent.message_to(agent.key(), "x", now());
    agent.pool.publish(message.clone());
    let mut connection = server.accept().await;
    let (event, _) = connection.published().await;
    connection.send(json!(["AUTH", "c"])).await;
    connection.ok(&event, false, "auth-required: members only").await;
    let auth = connection.authentication().await;
    connection.ok(&auth, false, "restricted: not a member").await;
    let reason = "restricted: not a member".to_owned();
    assert_eq!(agent.until_published().await, (message.id, Outcome::Refused { reason }));
    assert_eq!(agent.pool.status()[0].auth, RelayAuth::Failed);
}

#[tokio::test]
async fn a_relay_that_asks_for_patience_gets_the_same_bytes_later() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let message = agent.message_to(agent.key(), "x", now());
    agent.pool.publish(message.clone());
    let mut connection = server.accept().await;
    for _ in 0..5 {
        let (event, json) = connection.published().await;
        assert_eq!(json, message.json);
        connection.ok(&event, false, "rate-limited: slow down").await;
    }
    let (event, _) = connection.published().await;
    connection.ok(&event, true, "").await;
    assert_eq!(agent.until_published().await, (message.id, Outcome::Accepted));
}

#[tokio::test]
async fn each_verdict_of_a_relay_has_its_consequence() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let mut connection = server.accept().await;
    let refused = |reason: &str| Outcome::Refused { reason: reason.to_owned() };
    let verdicts = [
        (true, "", Outcome::Accepted),
        (true, "duplicate: have it", Outcome::Accepted),
        (false, "duplicate: have it", Outcome::Accepted),
        (false, "blocked: you", refused("blocked: you")),
        (false, "pow: 20 bits needed", refused("pow: 20 bits needed")),
        (false, "invalid: created_at", refused("invalid: created_at")),
        (false, "", refused("")),
    ];
    for (accepted, words, outcome) in verdicts {
        let message = agent.message_to(agent.key(), words, now());
        agent.pool.publish(message.clone());
        let (event, _) = connection.published().await;
        connection.ok(&event, accepted, words).await;
        assert_eq!(agent.until_published().await, (message.id, outcome));
    }
    let message = agent.message_to(agent.key(), "error", now());
    agent.pool.publish(message.clone());
    for _ in 0..4 {
        let (event, _) = connection.published().await;
        connection.ok(&event, false, "error: database is locked").await;
    }
    assert_eq!(agent.until_published().await, (message.id, refused("error: database is locked")));
    connection.send(json!(["OK", "00".repeat(32), true, ""])).await;
    let message = agent.message_to(agent.key(), "last", now());
    agent.pool.publish(message);
    let (event, _) = connection.published().await;
    connection.ok(&event, true, "").await;
    agent.until_published().await;
    assert_eq!(agent.counters().stray_ok, 1);
    let status = &agent.pool.status()[0];
    assert_eq!((status.accepted, status.refused), (4, 5));
    assert_eq!(status.refusal.as_deref(), Some("error: database is locked"));
    let clock = agent.pool.clock();
    assert!(clock.rejected && !clock.agreed && clock.offset_s.is_none(), "{clock:?}");
    drop(connection);
    server.accept().await.nothing_stored().await;
    agent.until_up().await;
    assert!(!agent.pool.clock().rejected, "a new connection begins anew");
}

#[tokio::test]
async fn the_date_of_the_handshake_tells_how_far_the_clock_is_off() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let ahead = time::OffsetDateTime::now_utc() + Duration::from_secs(120);
    let date = ahead.format(&time::format_description::well_known::Rfc2822).unwrap().replace("+0000", "GMT");
    let _connection = server.accept_dated(&date).await;
    agent.until_up().await;
    let clock = agent.pool.clock();
    let offset = clock.offset_s.unwrap();
    assert!(clock.agreed && (118.0..=122.0).contains(&offset), "{clock:?}");
    drop(_connection);
    server.accept_dated("Sun, 32 Nov 1994 08:49:37 GMT").await;
    agent.until_up().await;
    assert_eq!(agent.pool.clock().offset_s, None, "of this connection, which does not tell");
}

#[tokio::test]
async fn stored_messages_without_an_end_are_handed_over_all_the_same() {
    let server = Server::start().await;
    // Longer than a busy machine stops between two of the three.
    let tuning = Tuning { page_quiet: Duration::from_secs(1), ..quick() };
    let mut agent = Agent::start(&server.url, tuning);
    let peer = Identity::generate();
    let mut connection = server.accept().await;
    let direct = connection.direct.clone();
    for age in [1, 2, 3] {
        connection.event(&direct, &peer_message(&peer, &agent, &age.to_string(), now() - age)).await;
    }
    for age in ["3", "2", "1"] {
        assert_eq!(agent.until_message().await, age, "oldest first");
    }
    connection.event(&direct, &peer_message(&peer, &agent, "live", now())).await;
    assert_eq!(agent.until_message().await, "live");
    assert!(!agent.pool.synced(Class::Direct));
    assert!(agent.pool.status()[0].error.as_ref().unwrap().contains("no end of stored events"));
}

#[tokio::test]
async fn live_messages_that_come_between_pages_are_kept_and_come_last() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let peer = Identity::generate();
    let mut connection = server.accept().await;
    let direct = connection.direct.clone();
    let base = now() - 100;
    let message = |text: &str, age: u64| peer_message(&peer, &agent, text, base - age);
    let (c, b, a) = (message("c", 10), message("b", 20), message("a", 30));
    let live = message("live", 0);
    connection.event(&direct, &c).await;
    connection.event(&direct, &b).await;
    connection.end_of_stored(&direct).await;
    let (page, filter) = connection.request().await;
    assert_eq!(filter["until"], base - 20);
    connection.event(&direct, &live).await;
    connection.event(&page, &b).await;
    connection.event(&page, &a).await;
    connection.end_of_stored(&page).await;
    let (page, filter) = connection.request().await;
    assert_eq!(filter["until"], base - 30);
    connection.event(&page, &a).await;
    connection.end_of_stored(&page).await;
    let all = agent.sync().await;
    let mut texts = payloads(&all);
    // The same event may come twice; the engine knows it by its id.
    texts.dedup();
    assert_eq!(texts, ["a", "b", "c", "live"]);
}

#[tokio::test]
async fn a_half_open_connection_is_noticed() {
    let server = Server::start().await;
    let tuning =
        Tuning { ping_every: Duration::from_millis(20), pong_within: Duration::from_millis(50), ..quick() };
    let mut agent = Agent::start(&server.url, tuning);
    // Open, and never read again: not even a ping is answered.
    let _connection = server.accept().await;
    assert!(agent.until_down().await.contains("no sign of life"));
}

#[tokio::test]
async fn a_relay_that_answers_pings_stays_and_its_round_trip_is_known() {
    let server = Server::start().await;
    let tuning =
        Tuning { ping_every: Duration::from_millis(5), cursor_every: Duration::from_millis(1), ..quick() };
    let mut agent = Agent::start(&server.url, tuning);
    let mut connection = server.accept().await;
    connection.nothing_stored().await;
    let first = agent.until_synced(Class::Direct).await;
    // Reading is what answers pings.
    let reader = tokio::spawn(async move { connection.hung_up().await });
    let moved = agent.until_synced(Class::Direct).await;
    assert!(moved >= first, "the cursor moves on with the life of the connection");
    assert!(agent.pool.status()[0].rtt_ms.is_some());
    agent.pool.stop().await;
    reader.await.unwrap();
}

#[tokio::test]
async fn a_stop_lets_what_waits_leave() {
    let server = Server::start().await;
    let agent = Agent::start(&server.url, quick());
    let mut connection = server.accept().await;
    let messages: Vec<_> = (0..3).map(|n| agent.message_to(agent.key(), &n.to_string(), now())).collect();
    for message in &messages {
        agent.pool.publish(message.clone());
    }
    let relay = tokio::spawn(async move {
        for message in messages {
            let (event, json) = connection.published().await;
            assert_eq!(json, message.json);
            connection.ok(&event, true, "").await;
        }
        connection.hung_up().await;
    });
    soon(agent.pool.stop()).await;
    soon(relay).await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_mute_relay_nor_for_a_reader() {
    let server = Server::start().await;
    let tuning = Tuning { drain: Duration::from_millis(50), ..quick() };
    let agent = Agent::with(&server.url, tuning, 1, Vec::new());
    let peer = Identity::generate();
    let mut connection = server.accept().await;
    connection.nothing_stored().await;
    let direct = connection.direct.clone();
    for n in 0..5 {
        connection.event(&direct, &peer_message(&peer, &agent, &n.to_string(), now())).await;
    }
    agent.pool.publish(agent.message_to(agent.key(), "x", now()));
    connection.published().await;
    let begun = tokio::time::Instant::now();
    soon(agent.pool.stop()).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_redial_goes_over_a_new_connection_at_once() {
    let server = Server::start().await;
    let tuning = Tuning { backoff_first: Duration::from_secs(60), ..quick() };
    let mut agent = Agent::start(&server.url, tuning);
    let mut first = server.accept().await;
    agent.until_up().await;
    agent.pool.redial();
    let mut second = server.accept().await;
    first.hung_up().await;
    agent.until_down().await;
    agent.until_up().await;
    second.nothing_stored().await;
    agent.until_synced(Class::Direct).await;
}

#[tokio::test]
async fn a_handshake_that_fails_or_hangs_is_an_error_and_is_tried_again() {
    let server = Server::start().await;
    let tuning = Tuning { handshake_within: Duration::from_millis(100), ..quick() };
    let mut agent = Agent::start(&server.url, tuning.clone());
    let silent = server.accept_tcp().await;
    assert!(agent.until_down().await.contains("no handshake"));
    drop(silent);
    let mut refusing = server.accept_tcp().await;
    let mut request = [0; 64];
    refusing.read_exact(&mut request).await.unwrap();
    refusing.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    drop(refusing);
    server.accept().await.nothing_stored().await;
    agent.until_up().await;

    let mut encrypted = Agent::start(&server.url.replace("ws://", "wss://"), tuning);
    let mut plain = server.accept_tcp().await;
    plain.read_exact(&mut request[..1]).await.unwrap();
    plain.write_all(b"this is not TLS").await.unwrap();
    assert!(encrypted.until_down().await.contains("handshake failed"));
}

#[tokio::test]
async fn a_frame_above_the_limit_ends_the_connection() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let mut connection = server.accept().await;
    connection.send(json!(["NOTICE", "x".repeat(100_000)])).await;
    connection.send_text(format!(r#"["NOTICE","{}"]"#, "x".repeat(600_000))).await;
    assert!(agent.until_down().await.contains("too long"));
    assert_eq!(agent.counters().notices, 1);
}

#[tokio::test]
async fn a_relay_that_only_keeps_our_wraps_is_asked_for_them_and_told_nothing_but_the_list() {
    let (meeting, inbox) = (Server::start().await, Server::start().await);
    let identity = Identity::generate();
    let (sender, inbound) = mpsc::channel(64);
    let pool = Pool::start(Options {
        relays: vec![meeting.url.clone()],
        inbox: vec![inbox.url.clone()],
        identity: identity.clone(),
        cursors: Vec::new(),
        inbound: sender,
        seen: None,
        tuning: quick(),
    });
    let mut agent = Agent { identity, pool: pool.unwrap(), inbound };
    let names = |relays: Vec<&RelayId>| relays.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(agent.pool.relays().collect()), [meeting.url.as_str()]);
    assert_eq!(names(agent.pool.inbox_relays().collect()), [inbox.url.as_str()]);
    assert_eq!(agent.pool.status().len(), 2);

    let (mut there, mut here) = (meeting.accept_raw().await, inbox.accept_raw().await);
    let mut asked = [there.request().await.1["kinds"].clone(), there.request().await.1["kinds"].clone()];
    asked.sort_by_key(ToString::to_string);
    assert_eq!(asked, [json!([4]), json!([5, 30_078])]);
    let (id, filter) = here.request().await;
    assert_eq!(filter["kinds"], json!([1_059]));
    here.end_of_stored(&id).await;
    agent.until_synced(Class::Wrap).await;

    let message = agent.message_to(agent.key(), "x", now());
    let list = crate::transport::v2::inbox::sign(&agent.identity, &[], now()).unwrap();
    agent.pool.publish(message.clone());
    agent.pool.publish(list.clone());
    let (event, json) = here.published().await;
    assert_eq!(json, list.json, "the first that it hears of");
    here.ok(&event, true, "").await;
    for expected in [&message, &list] {
        let (event, json) = there.published().await;
        assert_eq!(json, expected.json);
        there.ok(&event, true, "").await;
    }
    let mut published = Vec::new();
    for _ in 0..3 {
        published.push(agent.until_published().await.0);
    }
    assert_eq!(published.iter().filter(|id| **id == message.id).count(), 1);

    // Nobody waits for a relay that does not have what is asked for.
    let token = agent.pool.refresh(Class::Wrap);
    let (id, filter) = here.request().await;
    assert_eq!(filter["kinds"], json!([1_059]));
    here.end_of_stored(&id).await;
    let refreshed = agent.until(|inbound| match inbound {
        Inbound::Refreshed { token, answered, asked } => Some((token, answered, asked)),
        _ => None,
    });
    assert_eq!(refreshed.await, (token, 1, 1));
}

#[tokio::test]
async fn announcements_are_asked_for_only_while_somebody_looks_also_after_a_cut() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server.url, quick());
    let mut connection = server.accept().await;
    connection.nothing_stored().await;
    agent.until_synced(Class::Presence).await;
    agent.pool.look(false);
    let closed = loop {
        let message = connection.next().await;
        if message[0] == "CLOSE" && message[1] == connection.presence.as_str() {
            break message;
        }
    };
    assert_eq!(closed[1], connection.presence.as_str());
    // A question that nobody asks is no walk.
    agent.pool.refresh(Class::Presence);
    let refreshed = agent.until(|inbound| match inbound {
        Inbound::Refreshed { answered, asked, .. } => Some((answered, asked)),
        _ => None,
    });
    assert_eq!(refreshed.await, (0, 1));
    drop(connection);

    // The next connection begins without.
    let mut connection = server.accept_raw().await;
    let mut kinds =
        vec![connection.request().await.1["kinds"].clone(), connection.request().await.1["kinds"].clone()];
    kinds.sort_by_key(ToString::to_string);
    assert_eq!(kinds, [json!([1_059]), json!([4])]);
    agent.pool.look(true);
    let token = agent.pool.refresh(Class::Presence);
    let (id, filter) = connection.request().await;
    assert_eq!(filter["kinds"], json!([5, 30_078]));
    connection.end_of_stored(&id).await;
    let refreshed = agent.until(|inbound| match inbound {
        Inbound::Refreshed { token, answered, .. } => Some((token, answered)),
        _ => None,
    });
    assert_eq!(refreshed.await, (token, 1), "one walk answers both");
}
