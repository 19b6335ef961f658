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
const PAGE: [u8; 4_096] = [7; 4_096];
/// Frames that are sent at once.
const FRAMES_AT_ONCE: usize = 20_000;

/// What the machine can do, in microseconds and per second.
pub struct Limits {
    pub frame_bytes: usize,
    pub append: Spread,
    pub in_place: Spread,
    pub forward: Spread,
    pub frames: f64,
}

/// Two files, and a way for frames: this process, a forwarder, a sink.
pub struct Machine {
    runtime: Runtime,
    appended: File,
    overwritten: File,
    source: WebSocketStream<TcpStream>,
    frame: String,
    forwarder: Child,
    sink: Child,
    frames: f64,
    samples: [Vec<u64>; 3],
}

impl Machine {
    /// Measures frames that are sent at once, and gets ready to be looked at so many times.
    pub fn start(looks: usize) -> Self {
        let mut forwarder = Child::spawn(&["forwarder"]);
        let address = forwarder.line();
        let mut sink = Child::spawn(&["sink", &address]);
        assert_eq!(sink.line(), "connected");
        let runtime = single_threaded();
        let mut source = runtime.block_on(dial(&address));
        let frame = frame();

        sink.receive(Mode::Last, FRAMES_AT_ONCE);
        let begun = nanoseconds();
        runtime.block_on(async {
            for _ in 0..FRAMES_AT_ONCE {
                source.feed(Message::text(frame.as_str())).await.unwrap();
            }
            source.flush().await.unwrap();
        });
        let frames = per_second(FRAMES_AT_ONCE, sink.time() - begun);

        sink.receive(Mode::Each, looks);
        let [appended, overwritten] = [(); 2].map(|()| tempfile::tempfile().unwrap());
        overwritten.write_all_at(&PAGE, 0).unwrap();
        Self {
            runtime,
            appended,
            overwritten,
            source,
            frame,
            forwarder,
            sink,
            frames,
            samples: Default::default(),
        }
    }

    /// Takes one sample of everything.
    pub fn look(&mut self) {
        let begun = nanoseconds();
        self.appended.write_all(&PAGE).unwrap();
        self.appended.sync_data().unwrap();
        let appended = nanoseconds();
        self.overwritten.write_all_at(&PAGE, 0).unwrap();
        self.overwritten.sync_data().unwrap();
        let overwritten = nanoseconds();
        self.runtime.block_on(self.source.send(Message::text(self.frame.as_str()))).unwrap();
        let forwarded = self.sink.time();
        let taken = [appended - begun, overwritten - appended, forwarded - overwritten];
        for (samples, sample) in self.samples.iter_mut().zip(taken) {
            samples.push(sample);
        }
    }

    /// What it has shown.
    pub fn stop(self) -> Limits {
        self.sink.stop();
        self.forwarder.stop();
        let [append, in_place, forward] = self.samples.map(Spread::of);
        Limits { frame_bytes: self.frame.len(), append, in_place, forward, frames: self.frames }
    }
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
