//! Who gets in, and who is put out.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Error as SocketError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;

#[tokio::test]
async fn a_web_page_is_refused_whatever_it_asks_for() {
    let relay = start().await;
    for origin in ["https://evil.example", "null", "http://localhost", "http://127.0.0.1:7447", ""] {
        let mut request = relay.url().into_client_request().expect("a request");
        request.headers_mut().insert("Origin", origin.parse().expect("a value"));
        let Err(SocketError::Http(response)) = within(connect_async(request)).await else {
            panic!("not refused: {origin}")
        };
        assert_eq!(response.status(), 403);
        let request =
            format!("GET / HTTP/1.1\r\nHost: x\r\nAccept: application/nostr+json\r\noRIGIN:{origin}\r\n\r\n");
        let answer = exchange(&relay, &request).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && !answer.contains("limitation"), "{answer}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn an_address_that_other_machines_reach_is_refused() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7447"] {
        let address: SocketAddr = address.parse().expect("an address");
        let started = EmbeddedRelay::start(Options { address, ..Options::default() }).await;
        assert!(matches!(started, Err(Error::Exposed(refused)) if refused == address), "{address}");
    }
    let address = "[::1]:0".parse().expect("an address");
    match EmbeddedRelay::start(Options { address, ..Options::default() }).await {
        Ok(relay) => {
            assert!(relay.url().starts_with("ws://[::1]:"));
            relay.stop().await;
        }
        // A machine without IPv6.
        Err(error) => assert!(matches!(error, Error::Listen { .. }), "{error}"),
    }
}

#[tokio::test]
async fn a_public_url_that_is_none_is_an_error() {
    let public_url = Some("https://relay.example".to_owned());
    let address = SocketAddr::new(DEFAULT_ADDRESS.ip(), 0);
    let started = EmbeddedRelay::start(Options { address, public_url, ..Options::default() }).await;
    assert!(matches!(started, Err(Error::PublicUrl(_))));
}

async fn exchange(relay: &EmbeddedRelay, request: &str) -> String {
    let mut stream = TcpStream::connect(relay.address()).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.expect("an answer");
    answer
}

#[tokio::test]
async fn a_plain_get_is_answered_with_the_information_document_or_a_line() {
    let relay = start().await;
    let answer =
        exchange(&relay, "GET / HTTP/1.1\r\nHost: x\r\nAccept: application/nostr+json\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("\r\nDate: ") && head.contains("\r\nContent-Type: application/nostr+json\r\n"),
        "{head}"
    );
    let document: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["limitation"]["max_message_length"], 262_144);

    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 "),
        ("GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n\r\n", "HTTP/1.1 403 "),
        ("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 400 "),
        ("POST / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 "),
        (&format!("GET / HTTP/1.1\r\nCookie: {}", "x".repeat(20_000)), "HTTP/1.1 431 "),
    ] {
        let answer = exchange(&relay, request).await;
        assert!(answer.starts_with(status), "{answer}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_request_that_drips_is_closed_at_the_same_time_as_a_silent_one() {
    let relay =
        start_with(Limits { handshake_timeout: Duration::from_millis(300), ..Limits::default() }).await;
    let mut stream = TcpStream::connect(relay.address()).await.expect("connected");
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nHost: x\r\n".iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(drip).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_closed() {
    let relay =
        start_with(Limits { handshake_timeout: Duration::from_millis(100), ..Limits::default() }).await;
    let mut stream = TcpStream::connect(relay.address()).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nHost:").await.expect("sent");
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty());
    relay.stop().await;
}

#[tokio::test]
async fn silent_sockets_do_not_keep_others_out() {
    let relay = start_with(Limits { max_half_open: 4, ..Limits::default() }).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(relay.address()).await.expect("connected"));
    }
    let mut client = Client::connect(&relay.url()).await;
    assert!(client.stored(json!({"kinds": [1]})).await.is_empty());
    let mut byte = [0];
    assert_eq!(within(silent[0].read(&mut byte)).await.unwrap_or(0), 0, "the oldest made room");
    relay.stop().await;
}

#[tokio::test]
async fn a_connection_too_many_gets_503_until_another_leaves() {
    let relay = start_with(Limits { max_connections: 1, ..Limits::default() }).await;
    let mut first = Client::connect(&relay.url()).await;
    let Err(SocketError::Http(response)) = within(connect_async(relay.url())).await else {
        panic!("admitted")
    };
    assert_eq!(response.status(), 503);
    first.socket.close(None).await.expect("closed");
    assert!(first.next().await.is_none());
    let admitted = async { while connect_async(relay.url()).await.is_err() {} };
    within(admitted).await;
    relay.stop().await;
}

#[tokio::test]
async fn stopping_ends_every_connection_and_frees_the_port() {
    let relay = start().await;
    let (url, address) = (relay.url(), relay.address());
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(&url).await);
    }
    let silent = TcpStream::connect(address).await.expect("connected");
    timeout(Duration::from_secs(2), relay.stop()).await.expect("in bounded time");
    for client in &mut clients {
        assert!(client.next().await.is_none());
    }
    drop(silent);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn dropping_the_relay_stops_it() {
    let relay = start().await;
    let mut client = Client::connect(&relay.url()).await;
    drop(relay);
    assert!(client.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_harms_nobody() {
    let relay = start().await;
    let keys = Keys::generate();
    let (mut slow, mut quick) = (Client::connect(&relay.url()).await, Client::connect(&relay.url()).await);
    assert!(slow.stored(json!({"kinds": [1]})).await.is_empty());
    // 45 MB: more than the sockets of both sides hold.
    let body = "x".repeat(20_000);
    let notes = 2_250;
    for number in 0..notes {
        quick.accepts(&sign(&keys, 1, &format!("{number} {body}"), &[])).await;
    }
    let mut seen = 0;
    while slow.next().await.is_some() {
        seen += 1;
    }
    assert!(seen < notes, "it was told everything after all");
    relay.stop().await;
}

#[tokio::test]
async fn a_client_that_others_events_pass_by_is_not_slow() {
    let relay = start().await;
    let keys = Keys::generate();
    let (mut quiet, mut busy) = (Client::connect(&relay.url()).await, Client::connect(&relay.url()).await);
    assert!(quiet.stored(json!({"kinds": [2]})).await.is_empty());
    for number in 0..2_000 {
        busy.accepts(&sign(&keys, 1, &format!("{number}"), &[])).await;
    }
    assert!(quiet.stored(json!({"kinds": [2]})).await.is_empty(), "it is still served");
    quiet.accepts(&sign(&keys, 2, "here", &[])).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_answer_loses_its_place() {
    let limits =
        Limits { max_connections: 2, write_timeout: Duration::from_millis(100), ..Limits::default() };
    let relay = start_with(limits).await;
    let keys = Keys::generate();
    let mut writer = Client::connect(&relay.url()).await;
    // 20 MB: more than the sockets of both sides hold.
    let body = "x".repeat(40_000);
    for number in 0..500 {
        writer.accepts(&sign(&keys, 1, &format!("{number} {body}"), &[])).await;
    }
    let mut mute = Client::connect(&relay.url()).await;
    mute.send(json!(["REQ", "s", {"kinds": [1]}])).await;
    let admitted = async { while connect_async(relay.url()).await.is_err() {} };
    within(admitted).await;
    relay.stop().await;
}
