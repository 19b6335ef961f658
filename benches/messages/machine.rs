//! What the machine needs for the same bytes: its disk, and its loopback with one process in between.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::thread::sleep;

use futures_util::{SinkExt, StreamExt};
use p2p_comm::proto::Hex;
use p2p_comm::proto::legacy::{Body, Payload};
use p2p_comm::transport::{Identity, legacy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::process::{Child, Mode, nanoseconds, receive, say, until_end_of_input};
use crate::{PAUSE, TEXT_BYTES, per_second};

/// A page of SQLite's, and of the kernel's.
const PAGE: [u8; 4_096] = [7; 4_096];

/// Two files, and a way for frames: this process, a forwarder, a sink.
pub struct Machine {
    runtime: Runtime,
    appended: File,
    overwritten: File,
    source: WebSocketStream<TcpStream>,
    frame: String,
    forwarder: Child,
    sink: Child,
}

impl Machine {
    pub fn start() -> Self {
        let mut forwarder = Child::spawn(&["forwarder"]);
        let address = forwarder.line();
        let mut sink = Child::spawn(&["sink", &address]);
        assert_eq!(sink.line(), "connected");
        let runtime = single_threaded();
        let source = runtime.block_on(dial(&address));
        let [appended, overwritten] = [(); 2].map(|()| tempfile::tempfile().unwrap());
        overwritten.write_all_at(&PAGE, 0).unwrap();
        Self { runtime, appended, overwritten, source, frame: frame(), forwarder, sink }
    }

    /// Frames one at a time: nanoseconds until each came.
    pub fn alone(&mut self, count: usize) -> Vec<u64> {
        self.sink.receive(Mode::Each, count);
        let mut samples = Vec::with_capacity(count);
        for _ in 0..count {
            let begun = nanoseconds();
            self.runtime.block_on(self.source.send(Message::text(self.frame.as_str()))).unwrap();
            samples.push(self.sink.time() - begun);
            sleep(PAUSE);
        }
        samples
    }

    /// Frames all at once, a second.
    pub fn burst(&mut self, count: usize) -> f64 {
        self.sink.receive(Mode::Last, count);
        let begun = nanoseconds();
        self.runtime.block_on(async {
            for _ in 0..count {
                self.source.feed(Message::text(self.frame.as_str())).await.unwrap();
            }
            self.source.flush().await.unwrap();
        });
        per_second(count, self.sink.time() - begun)
    }

    /// `fdatasync` of a page appended, and of one in place: nanoseconds of each.
    pub fn disk(&mut self, count: usize) -> [Vec<u64>; 2] {
        let mut samples = [Vec::with_capacity(count), Vec::with_capacity(count)];
        for _ in 0..count {
            let begun = nanoseconds();
            self.appended.write_all(&PAGE).unwrap();
            self.appended.sync_data().unwrap();
            let appended = nanoseconds();
            self.overwritten.write_all_at(&PAGE, 0).unwrap();
            self.overwritten.sync_data().unwrap();
            samples[0].push(appended - begun);
            samples[1].push(nanoseconds() - appended);
            sleep(PAUSE);
        }
        samples
    }

    pub fn stop(self) {
        self.sink.stop();
        self.forwarder.stop();
    }
}

/// A frame as long as the one that carries a message.
fn frame() -> String {
    let peer = Identity::generate().public_key();
    let payload = Payload {
        room: "00000000-0000-0000-0000-000000000000".into(),
        origin: "alice".into(),
        id: Some(Hex([0; 16])),
        seq: Some(1_000),
        body: Body::Message { sender: "alice".into(), content: "x".repeat(TEXT_BYTES) },
    };
    let signed = legacy::seal(&Identity::generate(), &peer, &payload.to_json(), 1_790_000_000).unwrap();
    format!(r#"["EVENT",{}]"#, signed.json)
}

fn single_threaded() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn dial(address: &str) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    client_async(format!("ws://{address}"), stream).await.unwrap().0
}

/// Passes on to its first client whatever its second one sends.
pub fn serve_forwarder() {
    let runtime = single_threaded();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    say(&listener.local_addr().unwrap().to_string());
    runtime.spawn(async move {
        let sink = accept(&listener).await;
        let source = accept(&listener).await;
        // Its end is the other's end: the parent is done.
        let _ = source.forward(sink).await;
    });
    runtime.block_on(async { tokio::task::spawn_blocking(until_end_of_input).await }).unwrap();
}

async fn accept(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    accept_async(stream).await.unwrap()
}

/// Takes frames, and tells when they come.
pub fn serve_sink(address: &str) {
    let runtime = single_threaded();
    let mut socket = runtime.block_on(dial(address));
    say("connected");
    receive(&runtime, async || drop(socket.next().await.unwrap().unwrap()));
}
