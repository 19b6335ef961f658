//! Gift wraps, and whom they are served to.

use super::*;

fn wrap_to(receiver: &Keys) -> Event {
    sign(&Keys::generate(), 1059, "", &[&["p", &receiver.public_key().to_hex()]])
}

fn to(receiver: &Keys) -> Value {
    json!({"kinds": [1059], "#p": [receiver.public_key().to_hex()]})
}

/// Asks for wraps, is asked who it is, and answers as `keys` for the relay that it believes to talk to. Whether it was
/// believed.
async fn authenticate(client: &mut Client, keys: &Keys, relay: &str) -> bool {
    client.send(json!(["REQ", "who", to(keys)])).await;
    let challenge = client.expect().await;
    assert_eq!((&challenge[0], &client.expect().await[0]), (&json!("AUTH"), &json!("CLOSED")));
    let challenge = challenge[1].as_str().expect("a challenge");
    let proof = sign(keys, 22_242, "", &[&["relay", relay], &["challenge", challenge]]);
    client.send_text(format!(r#"["AUTH",{}]"#, proof.as_json())).await;
    client.expect().await[2].as_bool().expect("a flag")
}

#[tokio::test]
async fn a_wrap_reaches_the_key_that_it_is_for_stored_and_live() {
    let relay = start().await;
    let receiver = Keys::generate();
    let mut sender = Client::connect(&relay.url()).await;
    let stored = wrap_to(&receiver);
    sender.accepts(&stored).await;
    let mut client = Client::connect(&relay.url()).await;
    assert!(authenticate(&mut client, &receiver, &relay.url()).await);
    assert_eq!(client.stored(to(&receiver)).await, [stored.id.to_hex()]);
    let live = wrap_to(&receiver);
    sender.accepts(&live).await;
    assert_eq!(client.expect().await[2]["id"], live.id.to_hex());
    relay.stop().await;
}

#[tokio::test]
async fn nobody_else_sees_a_wrap_stored_or_live_by_whatever_request() {
    let relay = start().await;
    let [receiver, thief] = [Keys::generate(), Keys::generate()];
    let mut sender = Client::connect(&relay.url()).await;
    let stored = wrap_to(&receiver);
    sender.accepts(&stored).await;
    let (id, author) = (stored.id.to_hex(), stored.pubkey.to_hex());
    let [theirs, own] = [&receiver, &thief].map(|keys| keys.public_key().to_hex());

    for known in [false, true] {
        let mut client = Client::connect(&relay.url()).await;
        if known {
            assert!(authenticate(&mut client, &thief, &relay.url()).await);
        }
        let filters = [
            vec![json!({})],
            vec![json!({"limit": 10})],
            vec![json!({"ids": [id]})],
            vec![json!({"authors": [author]})],
            vec![json!({"#p": [theirs]})],
            vec![json!({"since": 1})],
            vec![json!({"kinds": []})],
            vec![json!({"kinds": [], "ids": [id]})],
            vec![json!({"kinds": [1059]})],
            vec![json!({"kinds": [1059], "ids": [id]})],
            vec![json!({"kinds": [1059], "authors": [author]})],
            vec![json!({"kinds": [1, 1059], "#p": [theirs]})],
            vec![json!({"kinds": [1059], "#p": [own, theirs]})],
            vec![json!({"kinds": [1059], "#p": []})],
            vec![json!({"kinds": [1]}), json!({"kinds": [1059], "#p": [theirs]})],
            vec![to(&thief), to(&receiver)],
        ];
        for (number, filters) in filters.into_iter().enumerate() {
            let mut request = vec![json!("REQ"), json!("theft")];
            request.extend(filters.clone());
            client.send(Value::Array(request)).await;
            let end = number.to_string();
            client.send(json!(["REQ", end, {"kinds": [9]}])).await;
            loop {
                let said = client.expect().await;
                assert!(said[0] != "EVENT" || said[2]["kind"] != 1059, "{filters:?}: {said}");
                if said == json!(["EOSE", end]) {
                    break;
                }
            }
            client.send(json!(["CLOSE", end])).await;
            // What was subscribed to stays, and sees no live wrap either.
            sender.accepts(&wrap_to(&receiver)).await;
        }
        for (verb, last) in [("COUNT", None), ("NEG-OPEN", Some(json!("61")))] {
            let mut request = vec![json!(verb), json!("s"), to(&receiver)];
            request.extend(last);
            client.send(Value::Array(request)).await;
            assert!(matches!(client.expect().await[0].as_str(), Some("CLOSED" | "NOTICE")), "{verb}");
        }
        // Nothing came of all that: the next that comes is the note.
        let friend = Keys::generate();
        let notes = json!({"kinds": [1], "authors": [friend.public_key().to_hex()]});
        assert!(client.stored(notes).await.is_empty());
        sender.accepts(&wrap_to(&receiver)).await;
        sender.accepts(&sign(&friend, 1, "", &[])).await;
        let seen = client.expect().await;
        assert_eq!((&seen[0], &seen[2]["kind"]), (&json!("EVENT"), &json!(1)), "{seen}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn who_signs_for_another_relay_is_not_believed() {
    let options = Options {
        address: SocketAddr::new(DEFAULT_ADDRESS.ip(), 0),
        public_url: Some("wss://relay.example".to_owned()),
        ..Options::default()
    };
    let relay = EmbeddedRelay::start(options).await.expect("a relay");
    for (signed_for, believed) in [
        (relay.url().as_str(), true),
        ("ws://localhost:1", true),
        ("ws://[::1]:7447/", true),
        ("wss://relay.example/", true),
        ("wss://relay.example.evil.example", false),
        ("ws://127.0.0.1.evil.example", false),
        ("ws://localhost.evil.example", false),
        ("ws://10.0.0.1:7447", false),
        ("wss://relay.example:444", false),
        ("127.0.0.1", false),
        ("", false),
    ] {
        let mut client = Client::connect(&relay.url()).await;
        let outcome = authenticate(&mut client, &Keys::generate(), signed_for).await;
        assert_eq!(outcome, believed, "{signed_for}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_proof_for_another_connection_or_of_another_kind_is_not_believed() {
    let relay = start().await;
    let keys = Keys::generate();
    let (mut first, mut second) = (Client::connect(&relay.url()).await, Client::connect(&relay.url()).await);
    let mut challenges = Vec::new();
    for client in [&mut first, &mut second] {
        client.send(json!(["REQ", "who", to(&keys)])).await;
        challenges.push(client.expect().await[1].as_str().expect("a challenge").to_owned());
        assert_eq!(client.expect().await[0], "CLOSED");
    }
    let url = relay.url();
    let proof = |kind, challenge: &str| sign(&keys, kind, "", &[&["relay", &url], &["challenge", challenge]]);
    for wrong in [proof(22_242, &challenges[1]), proof(1, &challenges[0]), proof(22_242, "")] {
        first.send_text(format!(r#"["AUTH",{}]"#, wrong.as_json())).await;
        assert_eq!(first.expect().await[2], false);
    }
    first.send_text(format!(r#"["AUTH",{}]"#, proof(22_242, &challenges[0]).as_json())).await;
    assert_eq!(first.expect().await[2], true);
    relay.stop().await;
}
