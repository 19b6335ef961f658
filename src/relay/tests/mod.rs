//! The relay as a client sees it, through a client that shares no code with ours.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nostr_relay_builder::prelude::{Event, EventBuilder, JsonUtil, Keys, Kind, Tag, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

mod door;
mod messages;
mod process;
mod stores;
mod wraps;

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
