//! The relay as a client sees it, through a client that shares no code with ours.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nostr_relay_builder::prelude::{Event, EventBuilder, JsonUtil, Keys, Kind, Tag, Timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;

/// No step of a test takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

async fn start_with(limits: Limits) -> EmbeddedRelay {
    let address = SocketAddr::new(DEFAULT_ADDRESS.ip(), 0);
    EmbeddedRelay::start(Options { address, limits, ..Options::default() }).await.expect("a relay")
}

async fn start() -> EmbeddedRelay {
    start_with(Limits::default()).await
}

async fn start_on(folder: &std::path::Path) -> EmbeddedRelay {
    let address = SocketAddr::new(DEFAULT_ADDRESS.ip(), 0);
    let store = Store::Disk(folder.to_owned());
    EmbeddedRelay::start(Options { address, store, ..Options::default() }).await.expect("a relay")
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    subscriptions: usize,
}

impl Client {
    async fn connect(url: &str) -> Self {
        let (socket, _) = within(connect_async(url)).await.expect("connected");
        Self { socket, subscriptions: 0 }
    }

    async fn send(&mut self, message: Value) {
        self.send_text(message.to_string()).await;
    }

    async fn send_text(&mut self, text: impl Into<String>) {
        within(self.socket.send(Message::text(text.into()))).await.expect("sent");
    }

    /// The next message, or nothing when the relay has ended the connection.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    async fn expect(&mut self) -> Value {
        self.next().await.expect("a message")
    }

    /// Publishes, and returns the status and the words of the OK.
    async fn publish(&mut self, event: &Event) -> (bool, String) {
        self.send_text(format!(r#"["EVENT",{}]"#, event.as_json())).await;
        loop {
            let answer = self.expect().await;
            if answer[0] == "OK" && answer[1] == event.id.to_hex() {
                return (answer[2].as_bool().expect("a flag"), answer[3].as_str().expect("words").to_owned());
            }
        }
    }

    async fn accepts(&mut self, event: &Event) {
        assert_eq!(self.publish(event).await, (true, String::new()));
    }

    async fn refuses(&mut self, event: &Event, prefix: &str) {
        let (accepted, words) = self.publish(event).await;
        assert!(!accepted && words.starts_with(prefix), "{accepted} {words}");
    }

    /// Subscribes and returns the ids of the stored events; the subscription stays.
    async fn stored(&mut self, filter: Value) -> Vec<String> {
        self.subscriptions += 1;
        let subscription = self.subscriptions.to_string();
        self.send(json!(["REQ", subscription, filter])).await;
        let mut ids = Vec::new();
        loop {
            let message = self.expect().await;
            match message[0].as_str() {
                Some("EVENT") if message[1] != subscription => {}
                Some("EVENT") => ids.push(message[2]["id"].as_str().expect("an id").to_owned()),
                Some("EOSE") => return ids,
                _ => panic!("{message}"),
            }
        }
    }
}

fn sign(keys: &Keys, kind: u16, content: &str, tags: &[&[&str]]) -> Event {
    sign_at(keys, kind, content, tags, Timestamp::now())
}

fn sign_at(keys: &Keys, kind: u16, content: &str, tags: &[&[&str]], date: Timestamp) -> Event {
    let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).expect("a tag"));
    let builder = EventBuilder::new(Kind::from(kind), content).tags(tags).custom_created_at(date);
    builder.allow_self_tagging().sign_with_keys(keys).expect("signed")
}

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
async fn a_web_page_is_refused_with_403() {
    let relay = start().await;
    let mut request = relay.url().into_client_request().expect("a request");
    request.headers_mut().insert("Origin", "https://evil.example".parse().expect("a value"));
    let Err(SocketError::Http(response)) = within(connect_async(request)).await else {
        panic!("not refused")
    };
    assert_eq!(response.status(), 403);
    relay.stop().await;
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

/// Presence as agents publish it: replaced, listed by tag, deleted by `e` and by `a`.
async fn presence_is_replaced_and_deleted(relay: &EmbeddedRelay) {
    let keys = Keys::generate();
    let mut client = Client::connect(&relay.url()).await;
    let now = Timestamp::now().as_secs();
    let tags: &[&[&str]] = &[&["d", "agent"], &["t", "p2p-agent"]];
    let presence = |age: u64| sign_at(&keys, 30_078, &age.to_string(), tags, Timestamp::from_secs(now - age));
    let by_tag = json!({"kinds": [30_078], "#t": ["p2p-agent"]});
    let place = format!("30078:{}:agent", keys.public_key());

    for age in [9, 8] {
        client.accepts(&presence(age)).await;
        assert_eq!(client.stored(by_tag.clone()).await, [presence(age).id.to_hex()]);
    }
    client.refuses(&presence(9), "").await;

    let deletion = sign_at(&keys, 5, "", &[&["a", &place]], Timestamp::from_secs(now - 7));
    client.accepts(&deletion).await;
    assert!(client.stored(by_tag.clone()).await.is_empty());
    client.refuses(&presence(8), "").await;

    client.accepts(&presence(6)).await;
    let id = presence(6).id.to_hex();
    // The memory ignores it, LMDB refuses it.
    client.publish(&sign(&Keys::generate(), 5, "", &[&["e", &id]])).await;
    assert_eq!(client.stored(by_tag.clone()).await, std::slice::from_ref(&id));
    client.accepts(&sign_at(&keys, 5, "", &[&["e", &id]], Timestamp::from_secs(now))).await;
    assert!(client.stored(by_tag).await.is_empty());
}

#[tokio::test]
async fn presence_is_replaced_and_deleted_in_memory() {
    let relay = start().await;
    presence_is_replaced_and_deleted(&relay).await;
    relay.stop().await;
}

#[tokio::test]
async fn presence_is_replaced_and_deleted_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let relay = start_on(folder.path()).await;
    presence_is_replaced_and_deleted(&relay).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_store_on_disk_survives_a_restart_in_the_same_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let note = sign(&Keys::generate(), 1, "kept", &[]);
    let relay = start_on(folder.path()).await;
    Client::connect(&relay.url()).await.accepts(&note).await;
    relay.stop().await;
    let relay = start_on(folder.path()).await;
    assert_eq!(Client::connect(&relay.url()).await.stored(json!({"kinds": [1]})).await, [note.id.to_hex()]);
    relay.stop().await;
}

#[tokio::test]
async fn the_store_on_disk_holds_expired_events_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Keys::generate();
    let disk = disk::Disk::open(folder.path()).expect("a store");
    let kept = sign_at(&keys, 1, "kept", &[], Timestamp::from_secs(1_600_000_000));
    for event in [&kept, &sign(&keys, 1, "", &[&["expiration", "1700000000"]])] {
        disk.save_event(event).await.expect("saved");
    }
    let filter = nostr_relay_builder::prelude::Filter::new().kind(Kind::TextNote).limit(1);
    assert_eq!(disk.query(filter).await.expect("an answer").to_vec(), [kept]);
}

/// A relay in a process of its own: this test binary, running [`child_process`].
struct ChildRelay {
    process: Child,
    url: String,
}

impl ChildRelay {
    fn start(folder: Option<&std::path::Path>, descriptors: Option<u64>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "relay::tests::child_process", "--ignored", "--nocapture"]);
        command.envs(folder.map(|folder| ("RELAY_FOLDER", folder)));
        command.envs(descriptors.map(|descriptors| ("RELAY_DESCRIPTORS", descriptors.to_string())));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let url = lines.map_while(Result::ok).find_map(|line| Some(line[line.find("ws://")?..].to_owned()));
        Self { process, url: url.expect("its URL") }
    }

    /// Processor time the child has used, in ticks (10 ms).
    fn ticks(&self) -> u64 {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("its statistics");
        let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }
}

impl Drop for ChildRelay {
    fn drop(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("reaped");
    }
}

#[test]
#[ignore = "runs as a child process of other tests, until its standard input ends"]
fn child_process() {
    if let Ok(descriptors) = std::env::var("RELAY_DESCRIPTORS") {
        let most = Some(descriptors.parse().expect("a number"));
        let limit = rustix::process::Rlimit { current: most, maximum: most };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("limited");
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let relay = match std::env::var_os("RELAY_FOLDER") {
        Some(folder) => runtime.block_on(start_on(folder.as_ref())),
        None => {
            let handshake_timeout = Duration::from_secs(1);
            runtime.block_on(start_with(Limits { handshake_timeout, ..Limits::default() }))
        }
    };
    println!("{}", relay.url());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[tokio::test]
async fn a_store_on_disk_survives_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let note = sign(&Keys::generate(), 1, "kept", &[]);
    let relay = ChildRelay::start(Some(folder.path()), None);
    Client::connect(&relay.url).await.accepts(&note).await;
    drop(relay);
    let relay = ChildRelay::start(Some(folder.path()), None);
    assert_eq!(Client::connect(&relay.url).await.stored(json!({"kinds": [1]})).await, [note.id.to_hex()]);
}

#[tokio::test]
async fn running_out_of_descriptors_neither_ends_the_relay_nor_burns_a_core() {
    let relay = ChildRelay::start(None, Some(40));
    let mut client = Client::connect(&relay.url).await;
    let address = relay.url.strip_prefix("ws://").expect("a URL");
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(TcpStream::connect(address).await.expect("in the backlog"));
    }
    // The descriptors are gone until the first handshakes time out; the connection at hand lives on.
    let before = relay.ticks();
    client.accepts(&sign(&Keys::generate(), 1, "", &[])).await;
    let _ = within(silent[0].read(&mut [0])).await;
    let used = relay.ticks() - before;
    assert!(used < 25, "{used} of 100 ticks");
    drop(silent);
    assert!(Client::connect(&relay.url).await.stored(json!({"kinds": [2]})).await.is_empty());
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

#[tokio::test]
async fn a_gift_wrap_is_for_its_receiver_alone_where_the_owner_wants_it() {
    let relay = start_with(Limits { gift_wraps_to_receiver_only: true, ..Limits::default() }).await;
    let [sender, receiver, thief] = [Keys::generate(), Keys::generate(), Keys::generate()];
    let to_receiver = json!({"kinds": [1059], "#p": [receiver.public_key().to_hex()]});
    let wrap = sign(&sender, 1059, "", &[&["p", &receiver.public_key().to_hex()]]);
    Client::connect(&relay.url()).await.accepts(&wrap).await;

    for (keys, signed_for, admitted, served) in [
        (&receiver, relay.url(), true, true),
        (&receiver, "ws://relay.example".to_owned(), false, false),
        (&thief, relay.url(), true, false),
    ] {
        let mut client = Client::connect(&relay.url()).await;
        client.send(json!(["REQ", "s", {"ids": [wrap.id.to_hex()]}])).await;
        assert_eq!(client.expect().await[0], "CLOSED", "a filter without kinds");
        client.send(json!(["REQ", "s", to_receiver])).await;
        let challenge = client.expect().await;
        assert_eq!((&challenge[0], &client.expect().await[0]), (&json!("AUTH"), &json!("CLOSED")));
        let challenge = challenge[1].as_str().expect("a challenge");
        let proof = sign(keys, 22_242, "", &[&["relay", &signed_for], &["challenge", challenge]]);
        client.send_text(format!(r#"["AUTH",{}]"#, proof.as_json())).await;
        assert_eq!(client.expect().await[2], admitted);
        if served {
            assert_eq!(client.stored(to_receiver.clone()).await, [wrap.id.to_hex()]);
        } else {
            client.send(json!(["REQ", "s", to_receiver])).await;
            while client.expect().await[0] != "CLOSED" {}
        }
    }
    relay.stop().await;
}
