//! What the machine needs for the same bytes: its disk, and its loopback with one process in between.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use futures_util::{SinkExt, StreamExt};
use p2p_comm::proto::Hex;
use p2p_comm::proto::legacy::{Body, Payload};
use p2p_comm::transport::{Identity, legacy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::figures::{Spread, per_second};
use crate::process::{Child, Mode, nanoseconds, receive, say, until_end_of_input};
use crate::{MESSAGES, TEXT_BYTES};

/// A page of SQLite's, and of the kernel's.
const PAGE: usize = 4_096;
/// Syncs of one measurement.
const SYNCS: usize = 300;
/// Frames of one measurement, one at a time and all at once.
const FRAMES: usize = 1_000;
const FRAMES_AT_ONCE: usize = 20_000;

/// What the machine can do, in microseconds and per second.
pub struct Limits {
    pub frame_bytes: usize,
    pub append: Spread,
    pub overwrite: Spread,
    pub forward: Spread,
    pub frames: f64,
}

impl Limits {
    /// This measurement and a later one as one.
    pub fn and(self, later: Self) -> Self {
        Self {
            frame_bytes: self.frame_bytes,
            append: self.append.and(later.append),
            overwrite: self.overwrite.and(later.overwrite),
            forward: self.forward.and(later.forward),
            frames: f64::midpoint(self.frames, later.frames),
        }
    }
}

/// The way of a frame: this process, a forwarder, a sink.
pub struct Machine {
    runtime: Runtime,
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
        Self { runtime, source, frame: frame(), forwarder, sink }
    }

    pub fn measure(&mut self) -> Limits {
        let append = sync_times(|file, page| file.write_all(page));
        let overwrite = sync_times(|file, page| file.write_all_at(page, 0));
        let (forward, frames) = (self.one_at_a_time(), self.all_at_once());
        Limits { frame_bytes: self.frame.len(), append, overwrite, forward, frames }
    }

    fn one_at_a_time(&mut self) -> Spread {
        self.sink.receive(Mode::Each, FRAMES);
        let samples = (0..FRAMES).map(|_| {
            let begun = nanoseconds();
            self.runtime.block_on(self.source.send(Message::text(self.frame.as_str()))).unwrap();
            self.sink.time() - begun
        });
        Spread::of(samples.collect())
    }

    fn all_at_once(&mut self) -> f64 {
        self.sink.receive(Mode::Last, FRAMES_AT_ONCE);
        let begun = nanoseconds();
        self.runtime.block_on(async {
            for _ in 0..FRAMES_AT_ONCE {
                self.source.feed(Message::text(self.frame.as_str())).await.unwrap();
            }
            self.source.flush().await.unwrap();
        });
        per_second(FRAMES_AT_ONCE, self.sink.time() - begun)
    }

    pub fn stop(self) {
        self.sink.stop();
        self.forwarder.stop();
    }
}

/// How long writing a page takes until it is on the disk.
fn sync_times(write: impl Fn(&mut File, &[u8]) -> std::io::Result<()>) -> Spread {
    let mut file = tempfile::tempfile().unwrap();
    let page = [7; PAGE];
    let samples = (0..SYNCS).map(|_| {
        let begun = nanoseconds();
        write(&mut file, &page).unwrap();
        file.sync_data().unwrap();
        nanoseconds() - begun
    });
    Spread::of(samples.collect())
}

/// A frame as long as the one that carries a message.
fn frame() -> String {
    let peer = Identity::generate().public_key();
    let payload = Payload {
        room: "00000000-0000-0000-0000-000000000000".into(),
        origin: "alice".into(),
        id: Some(Hex([0; 16])),
        seq: Some(MESSAGES as u64),
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
