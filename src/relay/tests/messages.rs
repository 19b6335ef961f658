//! Events and requests: what is taken, and what is said about the rest.

use super::*;

#[tokio::test]
async fn a_stored_event_comes_back_and_a_live_one_reaches_another_connection() {
    let relay = start().await;
    let keys = Keys::generate();
    let (mut alice, mut bob) = (Client::connect(&relay.url()).await, Client::connect(&relay.url()).await);

    let note = sign(&keys, 1, "hello", &[&["t", "p2p"]]);
    alice.accepts(&note).await;
    assert_eq!(alice.publish(&note).await, (true, "duplicate: already have this event".to_owned()));
    assert_eq!(bob.stored(json!({"kinds": [1, 21059], "#t": ["p2p"]})).await, [note.id.to_hex()]);

    for kind in [1, 21059] {
        let live = sign(&keys, kind, "live", &[&["t", "p2p"]]);
        alice.accepts(&live).await;
        let message = bob.expect().await;
        assert_eq!((&message[0], &message[1]), (&json!("EVENT"), &json!("1")));
        assert_eq!(message[2], serde_json::from_str::<Value>(&live.as_json()).expect("JSON"));
    }
    assert!(alice.stored(json!({"kinds": [21059]})).await.is_empty(), "an ephemeral event is not stored");
    relay.stop().await;
}

#[tokio::test]
async fn what_a_client_publishes_right_before_it_leaves_is_carried_out() {
    let relay = start().await;
    let keys = Keys::generate();
    let mut bob = Client::connect(&relay.url()).await;
    assert!(bob.stored(json!({"kinds": [21059]})).await.is_empty());
    for round in 0..20 {
        let mut alice = Client::connect(&relay.url()).await;
        let words: Vec<Event> =
            (0..5).map(|number| sign(&keys, 21059, &format!("{round} {number}"), &[])).collect();
        for event in &words {
            let message = Message::text(format!(r#"["EVENT",{}]"#, event.as_json()));
            within(alice.socket.feed(message)).await.expect("sent");
        }
        within(alice.socket.close(None)).await.expect("closed");
        for event in &words {
            assert_eq!(bob.expect().await[2]["id"], event.id.to_hex());
        }
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_flood_of_2000_notes_is_accepted_and_delivered() {
    let relay = start().await;
    let keys = Keys::generate();
    let (alice, mut bob) = (Client::connect(&relay.url()).await, Client::connect(&relay.url()).await);
    assert!(bob.stored(json!({"kinds": [1]})).await.is_empty());

    let notes: Vec<Event> = (0..2_000).map(|number| sign(&keys, 1, &number.to_string(), &[])).collect();
    let (mut sink, mut stream) = alice.socket.split();
    let publish = async {
        for note in &notes {
            sink.feed(Message::text(format!(r#"["EVENT",{}]"#, note.as_json()))).await.expect("sent");
        }
        sink.flush().await.expect("sent");
    };
    let confirm = async {
        for note in &notes {
            let answer = stream.next().await.expect("an answer").expect("a frame").into_text().expect("text");
            assert_eq!(answer.as_str(), format!(r#"["OK","{}",true,""]"#, note.id));
        }
    };
    let deliver = async {
        for note in &notes {
            assert_eq!(bob.expect().await[2]["id"], note.id.to_hex());
        }
    };
    within(async { tokio::join!(publish, confirm, deliver) }).await;
    relay.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_an_event_is_said_and_the_connection_lives_on() {
    let relay = start().await;
    let keys = Keys::generate();
    let mut client = Client::connect(&relay.url()).await;
    let now = Timestamp::now();

    client.refuses(&sign(&keys, 1, &"x".repeat(64 * 1024 + 1), &[]), "invalid: content").await;
    client.accepts(&sign(&keys, 1, &"x".repeat(64 * 1024), &[])).await;
    client.refuses(&sign_at(&keys, 1, "", &[], now + Duration::from_secs(960)), "invalid: created_at").await;
    client.accepts(&sign_at(&keys, 1, "", &[], now + Duration::from_secs(840))).await;
    client
        .refuses(&sign(&keys, 1, "", &[&["expiration", "1700000000"]]), "invalid: the event has expired")
        .await;
    client.refuses(&sign(&keys, 30_078, "", &[]), "invalid: an addressable").await;
    client.refuses(&sign(&keys, 1, "", &[&["x"][..]; 2_001]), "invalid: more than").await;

    let mut forged = sign(&keys, 1, "true", &[]);
    forged.content = "forged".to_owned();
    client.refuses(&forged, "invalid: ").await;
    relay.stop().await;
}

#[tokio::test]
async fn garbage_is_answered_and_kills_nothing() {
    let relay = start().await;
    let mut client = Client::connect(&relay.url()).await;
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let deep_tag = format!(r#"["EVENT",{{"tags":{deep}}}]"#);
    let deep_object = format!(r#"["REQ","s",{}1{}]"#, r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    for garbage in [
        "",
        "garbage",
        "{}",
        "[]",
        "[1]",
        r#"["EVENT"]"#,
        r#"["REQ","s"]"#,
        r#"["NEG-OPEN","s",{},"zz"]"#,
        &deep,
        &deep_tag,
        &deep_object,
    ] {
        client.send_text(garbage).await;
        assert_eq!(client.expect().await[0], "NOTICE", "{garbage:.40}");
    }
    client.socket.send(Message::binary(vec![0, 255])).await.expect("sent");
    assert_eq!(client.expect().await[0], "NOTICE");
    client.send(json!(["COUNT", "s", {}])).await;
    assert_eq!(client.expect().await[0], "CLOSED");

    for filters in [
        vec![json!({"search": "x"})],
        vec![json!({"kinds": [1]}); 11],
        vec![json!({"#t": (0..2_001).map(|tag| tag.to_string()).collect::<Vec<_>>()})],
    ] {
        let mut message = vec![json!("REQ"), json!("s")];
        message.extend(filters);
        client.send(Value::Array(message)).await;
        let answer = client.expect().await;
        assert_eq!((&answer[0], &answer[1]), (&json!("CLOSED"), &json!("s")));
    }
    client.send(json!(["REQ", "s".repeat(65), {"kinds": [1]}])).await;
    assert_eq!(client.expect().await[0], "CLOSED");

    assert!(client.stored(json!({"kinds": [1]})).await.is_empty());
    client.send_text("x".repeat(limits::MAX_MESSAGE_BYTES + 1)).await;
    assert!(client.next().await.is_none(), "a message beyond all bounds ends the connection");
    assert!(Client::connect(&relay.url()).await.stored(json!({"kinds": [1]})).await.is_empty());
    relay.stop().await;
}

#[tokio::test]
async fn an_answer_holds_500_events_and_the_rest_is_a_page_away() {
    let relay = start().await;
    let keys = Keys::generate();
    let mut client = Client::connect(&relay.url()).await;
    let now = Timestamp::now().as_secs();
    for number in 0..502 {
        client.accepts(&sign_at(&keys, 1, "", &[], Timestamp::from_secs(now - number))).await;
    }
    for filter in [json!({"kinds": [1]}), json!({"kinds": [1], "limit": 9_999})] {
        assert_eq!(client.stored(filter).await.len(), 500);
    }
    assert_eq!(client.stored(json!({"kinds": [1], "until": now - 500})).await.len(), 2);
    relay.stop().await;
}

#[tokio::test]
async fn a_connection_has_64_subscriptions_and_may_replace_them() {
    let relay = start().await;
    let mut client = Client::connect(&relay.url()).await;
    for _ in 0..limits::MAX_SUBSCRIPTIONS {
        assert!(client.stored(json!({"kinds": [1]})).await.is_empty());
    }
    client.send(json!(["REQ", "one too many", {"kinds": [1]}])).await;
    let answer = client.expect().await;
    assert_eq!((&answer[0], &answer[1]), (&json!("CLOSED"), &json!("one too many")));
    client.send(json!(["REQ", "1", {"kinds": [2]}])).await;
    assert_eq!(client.expect().await, json!(["EOSE", "1"]));
    client.send(json!(["CLOSE", "2"])).await;
    client.send(json!(["REQ", "another", {"kinds": [1]}])).await;
    assert_eq!(client.expect().await, json!(["EOSE", "another"]));
    relay.stop().await;
}

#[tokio::test]
async fn who_publishes_too_fast_waits_and_loses_nothing() {
    let limits = Limits { events_per_second: 50, events_at_once: 5, ..Limits::default() };
    let relay = start_with(limits).await;
    let keys = Keys::generate();
    let (mut fast, mut other) = (Client::connect(&relay.url()).await, Client::connect(&relay.url()).await);
    let notes: Vec<Event> = (0..25).map(|number| sign(&keys, 1, &number.to_string(), &[])).collect();
    let began = std::time::Instant::now();
    for note in &notes {
        fast.send_text(format!(r#"["EVENT",{}]"#, note.as_json())).await;
    }
    // Somebody else's events wait for nobody.
    other.accepts(&sign(&keys, 1, "other", &[])).await;
    for note in &notes {
        assert_eq!(fast.expect().await, json!(["OK", note.id.to_hex(), true, ""]));
    }
    assert!(began.elapsed() >= Duration::from_millis(380), "{:?}", began.elapsed());
    relay.stop().await;
}
