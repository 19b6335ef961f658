//! A WebSocket server that does nothing by itself: the test is the relay.

use futures_util::{SinkExt, StreamExt};
use nostr_sdk::{Event, JsonUtil};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::soon;
use crate::transport::Signed;

pub(super) struct Server {
    listener: TcpListener,
    pub url: String,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    /// The next connection of an identity, its REQs read but not answered.
    pub(super) async fn accept(&self) -> Connection {
        let mut connection = self.accept_raw().await;
        connection.requests().await;
        connection
    }

    /// The next connection of sessions: its event to itself is echoed.
    pub(super) async fn accept_sessions(&self) -> Connection {
        let mut connection = self.accept_raw().await;
        let echo = connection.asked_for_echo().await;
        let subscription = connection.echo.0.clone();
        connection.event(&subscription, &echo).await;
        connection
    }

    /// The next connection, whosoever; nothing is read.
    pub(super) async fn accept_raw(&self) -> Connection {
        self.accept_with(|response| response).await
    }

    /// The next connection of an identity, with a `Date` header; nothing is read.
    pub(super) async fn accept_dated(&self, date: &str) -> Connection {
        self.accept_with(|mut response| {
            response.headers_mut().insert("date", date.parse().unwrap());
            response
        })
        .await
    }

    async fn accept_with(&self, answer: impl Fn(Response) -> Response + Unpin) -> Connection {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        #[expect(clippy::result_large_err, reason = "the library's signature")]
        let callback = |_: &Request, response| Ok(answer(response));
        let socket = soon(accept_hdr_async(stream, callback)).await.unwrap();
        Connection {
            socket,
            presence: String::new(),
            direct: String::new(),
            wrap: String::new(),
            filter: Value::Null,
            echo: Default::default(),
        }
    }

    /// The next connection as bare TCP.
    pub(super) async fn accept_tcp(&self) -> TcpStream {
        soon(self.listener.accept()).await.unwrap().0
    }
}

pub(super) struct Connection {
    socket: WebSocketStream<TcpStream>,
    /// The open subscriptions.
    pub presence: String,
    pub direct: String,
    pub wrap: String,
    /// The filter of the direct one.
    pub filter: Value,
    /// The first subscription for session keys, and the key to which it sends an event to itself.
    pub echo: (String, String),
}

impl Connection {
    /// Reads a REQ of each class.
    pub(super) async fn requests(&mut self) {
        for _ in 0..3 {
            let (id, filter) = self.request().await;
            if filter["kinds"] == json!([4]) {
                (self.direct, self.filter) = (id, filter);
            } else if filter["kinds"] == json!([1_059]) {
                self.wrap = id;
            } else {
                assert_eq!(filter["kinds"], json!([5, 30_078]));
                self.presence = id;
            }
        }
    }

    /// The next REQ: its id and filter. CLOSEs are passed over.
    pub(super) async fn request(&mut self) -> (String, Value) {
        loop {
            let message = self.next().await;
            if message[0] == "CLOSE" {
                continue;
            }
            assert_eq!(message[0], "REQ", "{message}");
            return (message[1].as_str().unwrap().to_owned(), message[2].clone());
        }
    }

    /// Reads the REQ that a connection of sessions begins with, says that nothing is stored for it, and reads the
    /// event that it then sends to itself.
    pub(super) async fn asked_for_echo(&mut self) -> Signed {
        let (id, filter) = self.request().await;
        assert_eq!(filter["kinds"], json!([21_059]));
        self.end_of_stored(&id).await;
        let (event, _) = self.published().await;
        self.echo = (id, event.pubkey.to_hex());
        assert!(filter["#p"].as_array().unwrap().contains(&json!(self.echo.1)), "{filter}");
        Signed::try_from(event).unwrap()
    }

    /// Answers every REQ: nothing stored.
    pub(super) async fn nothing_stored(&mut self) {
        for id in [self.presence.clone(), self.direct.clone(), self.wrap.clone()] {
            self.end_of_stored(&id).await;
        }
    }

    /// The next EVENT: its exact text.
    pub(super) async fn published(&mut self) -> (Event, String) {
        loop {
            let text = self.next_text().await;
            let message: Value = serde_json::from_str(&text).unwrap();
            if message[0] != "EVENT" {
                continue;
            }
            let json = text.strip_prefix(r#"["EVENT","#).unwrap().strip_suffix(']').unwrap();
            return (Event::from_json(json).unwrap(), json.to_owned());
        }
    }

    /// The next AUTH.
    pub(super) async fn authentication(&mut self) -> Event {
        loop {
            let message = self.next().await;
            if message[0] == "AUTH" {
                return Event::from_json(message[1].to_string()).unwrap();
            }
        }
    }

    pub(super) async fn next(&mut self) -> Value {
        serde_json::from_str(&self.next_text().await).unwrap()
    }

    async fn next_text(&mut self) -> String {
        loop {
            match soon(self.socket.next()).await.expect("the client hung up").expect("the client broke off") {
                Message::Text(text) => return text.to_string(),
                Message::Close(_) => panic!("the client said goodbye"),
                _ => {}
            }
        }
    }

    /// Reads until the client has hung up.
    pub(super) async fn hung_up(&mut self) {
        while let Some(Ok(_)) = soon(self.socket.next()).await {}
    }

    pub(super) async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    pub(super) async fn send_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(super) async fn event(&mut self, subscription: &str, event: &Signed) {
        self.send_text(format!(r#"["EVENT","{subscription}",{}]"#, event.json)).await;
    }

    pub(super) async fn end_of_stored(&mut self, subscription: &str) {
        self.send(json!(["EOSE", subscription])).await;
    }

    pub(super) async fn ok(&mut self, event: &Event, accepted: bool, message: &str) {
        self.send(json!(["OK", event.id.to_hex(), accepted, message])).await;
    }
}
