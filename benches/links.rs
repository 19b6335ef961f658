//! What the SDK's relay pool and our links do in the four situations that decided between them
//! (`docs/decisions/0001-relay-links.md`): a slow reader, a relay that alters events, a mute relay, and plain load.
//!
//! `cargo bench --bench links` prints one table. Each relay here is a script on a thread of its own; each client runs
//! on a thread of its own, whose CPU time is read from the kernel (Linux).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark: it talks to who runs it, and stops where it fails"
)]

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use nostr_sdk::prelude::{
    Client, Event, Filter, JsonUtil, Keys, Kind, RelayMessage, RelayPoolNotification, Timestamp, nip04,
};
use p2p_comm::transport::{Class, Identity, Inbound, Options, Outcome, Pool, Tuning, legacy};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// Events of the flood: about as many as an agent finds after a day offline in a busy room.
const EVENTS: usize = 5_000;
/// Of them, what the load sends: less than the SDK's channel holds (4,096 notifications, two an event).
const LOAD: usize = 1_500;
/// What the slow reader sleeps: a database stalled by a disk hog.
const STALL: Duration = Duration::from_secs(2);
/// The SDK's broadcast channel ends in nothing: this much silence means that nothing more comes.
const SILENCE: Duration = Duration::from_secs(1);

fn main() {
    let me = Identity::generate();
    let events = messages_to(&me);
    let row = |what: &str, sdk: String, ours: String| println!("{what:<62} {sdk:>14} {ours:>14}");
    row("", "SDK pool".into(), "our link".into());

    let sdk = on_own_thread(slow_reader_sdk(&me, &events));
    let ours = on_own_thread(slow_reader_ours(&me, &events));
    row(
        &format!("lost of {EVENTS} events while the reader slept {STALL:?}"),
        sdk.to_string(),
        ours.to_string(),
    );

    let sdk = on_own_thread(altered_sdk(&me, &events[0]));
    let ours = on_own_thread(altered_ours(&me, &events[0]));
    row("altered events under a known id handed over, of 5", sdk.to_string(), ours.to_string());

    let sdk = on_own_thread(mute_sdk(&me));
    let ours = on_own_thread(mute_ours(&me));
    row("publish to one healthy and one mute relay, ms to know", milliseconds(sdk), milliseconds(ours));

    let events = &events[..LOAD];
    let sdk = on_own_thread(load_sdk(&me, events, false));
    let vetted = on_own_thread(load_sdk(&me, events, true));
    let ours = on_own_thread(load_ours(&me, events));
    row("CPU µs an event of 1 kB, handed over as the SDK gives it", micros(sdk), "".into());
    row("CPU µs an event of 1 kB, verified (by us) and decrypted", micros(vetted), micros(ours));
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}

fn micros(of_all: Duration) -> String {
    format!("{:.0}", of_all.as_secs_f64() * 1e6 / LOAD as f64)
}

/// Runs a client on a fresh thread with a runtime of one thread, so that its CPU time is all of the client's.
fn on_own_thread<T: Send>(client: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(client)
        });
        thread.join().unwrap()
    })
}

/// CPU time of the current thread.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0))
}

fn messages_to(me: &Identity) -> Vec<Event> {
    let peer = Identity::generate();
    let now = Timestamp::now().as_secs();
    let text = "x".repeat(500);
    (0..EVENTS)
        .map(|_| legacy::seal(&peer, &me.public_key(), &text, now).unwrap())
        .map(|signed| Event::from_json(signed.json).unwrap())
        .collect()
}

// ---- relays ----

/// A relay that answers every REQ with `stored`, numbered from 0, and every EVENT with OK unless `mute`.
fn relay(stored: impl Fn(usize) -> Vec<Event> + Send + 'static, mute: bool) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let mut asked = 0;
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(socket) = accept_async(stream).await {
                    // One client at a time: it is over when it hangs up.
                    let _ = serve(socket, &stored, mute, &mut asked).await;
                }
            }
        });
    });
    url
}

async fn serve(
    mut socket: WebSocketStream<TcpStream>,
    stored: &impl Fn(usize) -> Vec<Event>,
    mute: bool,
    asked: &mut usize,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message[0] == "REQ" {
            if message[2]["kinds"] == json!([4]) && message[2].get("until").is_none() {
                for event in stored(*asked) {
                    socket.feed(Message::text(json!(["EVENT", message[1], event]).to_string())).await?;
                }
                *asked += 1;
            }
            socket.send(Message::text(json!(["EOSE", message[1]]).to_string())).await?;
        } else if message[0] == "EVENT" && !mute {
            let ok = json!(["OK", message[1]["id"], true, ""]);
            socket.send(Message::text(ok.to_string())).await?;
        }
    }
    Ok(())
}

fn flood(events: &[Event]) -> String {
    let events = events.to_vec();
    relay(move |_| events.clone(), false)
}

/// Serves the genuine event first and altered ones under its id later.
fn liar(genuine: &Event) -> String {
    let genuine = genuine.clone();
    relay(
        move |asked| {
            let mut event = genuine.clone();
            if asked > 0 {
                event.content = "altered".into();
            }
            vec![event]
        },
        false,
    )
}

// ---- the SDK's pool ----

async fn sdk(urls: &[String]) -> Client {
    let client = Client::default();
    for url in urls {
        client.add_relay(url).await.unwrap();
    }
    client.connect().await;
    client.wait_for_connection(Duration::from_secs(5)).await;
    client
}

fn to_me(me: &Identity) -> Filter {
    let me = nostr_sdk::PublicKey::from_byte_array(me.public_key().0);
    Filter::new().kind(Kind::EncryptedDirectMessage).pubkey(me)
}

async fn slow_reader_sdk(me: &Identity, events: &[Event]) -> usize {
    let client = sdk(&[flood(events)]).await;
    let mut notifications = client.notifications();
    client.subscribe(to_me(me), None).await.unwrap();
    tokio::time::sleep(STALL).await;
    let mut got = 0;
    loop {
        match timeout(SILENCE, notifications.recv()).await {
            Ok(Ok(RelayPoolNotification::Event { .. })) => got += 1,
            Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
            Ok(Err(RecvError::Closed)) | Err(_) => break,
        }
    }
    client.shutdown().await;
    events.len() - got
}

async fn altered_sdk(me: &Identity, genuine: &Event) -> usize {
    let client = sdk(&[liar(genuine)]).await;
    let mut altered = 0;
    for _ in 0..=5 {
        let fetched = client.fetch_events(to_me(me), Duration::from_secs(5)).await.unwrap();
        altered += fetched.iter().filter(|event| event.content == "altered").count();
    }
    client.shutdown().await;
    altered
}

async fn mute_sdk(me: &Identity) -> Duration {
    let client = sdk(&[relay(|_| Vec::new(), false), relay(|_| Vec::new(), true)]).await;
    let event = messages_to_self(me);
    let begun = Instant::now();
    client.send_event(&event).await.unwrap();
    let taken = begun.elapsed();
    client.shutdown().await;
    taken
}

fn messages_to_self(me: &Identity) -> Event {
    let signed = legacy::seal(me, &me.public_key(), "x", Timestamp::now().as_secs()).unwrap();
    Event::from_json(signed.json).unwrap()
}

/// With `vet`, does what has to be done before acting on an event.
async fn load_sdk(me: &Identity, events: &[Event], vet: bool) -> Duration {
    let client = sdk(&[flood(events)]).await;
    let keys = Keys::parse(me.secret_hex().expose()).unwrap();
    let mut notifications = client.notifications();
    let begun = cpu_time();
    client.subscribe(to_me(me), None).await.unwrap();
    for _ in events {
        let event = loop {
            match notifications.recv().await.unwrap() {
                RelayPoolNotification::Message { message: RelayMessage::Event { event, .. }, .. } => {
                    break event;
                }
                _ => continue,
            }
        };
        if vet {
            event.verify().unwrap();
            nip04::decrypt(keys.secret_key(), &event.pubkey, event.content.as_str()).unwrap();
        }
    }
    let taken = cpu_time() - begun;
    client.shutdown().await;
    taken
}

// ---- our links ----

fn ours(me: &Identity, relays: Vec<String>, capacity: usize) -> (Pool, mpsc::Receiver<Inbound>) {
    let (sender, inbound) = mpsc::channel(capacity);
    let options = Options {
        relays,
        inbox: Vec::new(),
        identity: me.clone(),
        cursors: Vec::new(),
        inbound: sender,
        seen: None,
        tuning: Tuning::DEFAULT,
    };
    (Pool::start(options).unwrap(), inbound)
}

async fn slow_reader_ours(me: &Identity, events: &[Event]) -> usize {
    let (pool, mut inbound) = ours(me, vec![flood(events)], 16);
    tokio::time::sleep(STALL).await;
    let mut got = std::collections::HashSet::new();
    loop {
        match inbound.recv().await {
            Some(Inbound::Direct { id, .. }) => _ = got.insert(id),
            Some(Inbound::Synced { class: Class::Direct, .. }) | None => break,
            Some(_) => {}
        }
    }
    pool.stop().await;
    events.len() - got.len()
}

async fn altered_ours(me: &Identity, genuine: &Event) -> usize {
    let (pool, mut inbound) = ours(me, vec![liar(genuine)], 64);
    let mut altered = 0;
    for round in 0..=5 {
        if round > 0 {
            pool.refresh(Class::Direct);
        }
        loop {
            match inbound.recv().await {
                Some(Inbound::Direct { payload, .. }) => altered += usize::from(payload == "altered"),
                Some(Inbound::Synced { class: Class::Direct, .. }) | None => break,
                Some(_) => {}
            }
        }
    }
    pool.stop().await;
    altered
}

async fn mute_ours(me: &Identity) -> Duration {
    let (pool, mut inbound) = ours(me, vec![relay(|_| Vec::new(), false), relay(|_| Vec::new(), true)], 64);
    let mut up = 0;
    while up < 2 {
        up += usize::from(matches!(inbound.recv().await, Some(Inbound::Up { .. })));
    }
    let signed = legacy::seal(me, &me.public_key(), "x", Timestamp::now().as_secs()).unwrap();
    let begun = Instant::now();
    pool.publish(signed);
    while !matches!(inbound.recv().await, Some(Inbound::Published(it)) if it.outcome == Outcome::Accepted) {}
    begun.elapsed()
}

async fn load_ours(me: &Identity, events: &[Event]) -> Duration {
    let begun = cpu_time();
    let (pool, mut inbound) = ours(me, vec![flood(events)], 1_024);
    let mut got = 0;
    while got < events.len() {
        got += usize::from(matches!(inbound.recv().await, Some(Inbound::Direct { .. })));
    }
    let taken = cpu_time() - begun;
    pool.stop().await;
    taken
}
