//! `list`, and the memory of a daemon, against the number of agents that are online. They are keys that announced
//! themselves within the last two minutes, as those of agents do.

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use p2p_comm::api::{Command, Status};
use p2p_comm::ipc::{Hello, Server};
use p2p_comm::proto::presence::{Content, V2};
use p2p_comm::transport::{Identity, presence};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::agent::Agent;
use crate::process::{Child, say, until_end_of_input};
use crate::{Arguments, head, ms, quantile, resident, rounded, row, runtime};

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// Lists of a warm daemon.
const LISTS: usize = 20;
/// Agents announce themselves about every so many seconds.
const PERIOD: u64 = 110;
/// Announcements on their way to the relay.
const WINDOW: usize = 200;

pub fn measure(url: &str, arguments: &Arguments) -> Value {
    let empty = Daemon::start(url);
    empty.list();
    let bare = resident(empty.pid);
    empty.stop();
    head("list, agents online", &["first ms", "p50 ms", "p99 ms", "KiB line", "bytes an agent"]);
    let (mut there, mut rows) = (0, Vec::new());
    for size in SIZES.into_iter().filter(|size| *size <= arguments.most) {
        let mut crowd = Child::spawn(&["crowd", url, &there.to_string(), &size.to_string()]);
        assert_eq!(crowd.line(), "there");
        crowd.stop();
        there = size;
        let daemon = Daemon::start(url);
        let begun = Instant::now();
        let line = daemon.list();
        let first = ms(begun);
        let (found, bytes) = (count(&line), line.len());
        let memory = resident(daemon.pid).saturating_sub(bare);
        let mut samples: Vec<f64> = (0..LISTS)
            .map(|_| {
                let begun = Instant::now();
                daemon.list();
                ms(begun)
            })
            .collect();
        daemon.stop();
        assert_eq!(found, size, "the list is not complete");
        let (p50, p99) = (quantile(&mut samples, 0.5), quantile(&mut samples, 0.99));
        let each = memory / size as u64;
        row(
            &size.to_string(),
            &[
                format!("{first:.1}"),
                format!("{p50:.2}"),
                format!("{p99:.2}"),
                format!("{}", bytes / 1_024),
                each.to_string(),
            ],
        );
        rows.push(json!({
            "agents": size, "found": found, "first_ms": rounded(first), "p50_ms": rounded(p50),
            "p99_ms": rounded(p99), "line_bytes": bytes, "memory_bytes": memory,
        }));
    }
    rows.into()
}

/// A daemon, as far as `list` goes: an engine behind its socket, in a process of its own.
struct Daemon {
    child: Child,
    pid: u32,
    stream: BufReader<UnixStream>,
}

impl Daemon {
    fn start(url: &str) -> Self {
        let mut child = Child::spawn(&["daemon", url]);
        let (pid, socket) = (child.line().parse().unwrap(), child.line());
        Self { child, pid, stream: BufReader::new(UnixStream::connect(socket).unwrap()) }
    }

    /// Asks for the list, and reads the reply to its last byte.
    fn list(&self) -> Vec<u8> {
        let mut stream = self.stream.get_ref();
        stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"list\",\"params\":{}}\n").unwrap();
        let mut line = Vec::new();
        BufReader::with_capacity(1 << 20, stream).read_until(b'\n', &mut line).unwrap();
        line
    }

    fn stop(self) {
        self.child.stop();
    }
}

/// How many agents are in a reply. Counted, and not parsed: what a client makes of it is not the daemon's time.
fn count(line: &[u8]) -> usize {
    let key = b"\"npub\":";
    line.windows(key.len()).filter(|window| window == key).count()
}

/// The daemon's process.
pub fn serve_daemon(url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let _guard = runtime.enter();
    let agent = Agent::start(folder.path(), "looker", url);
    let status: Status = runtime.block_on(agent.ask(Command::Status {}));
    let socket = folder.path().join("s");
    let hello = Hello {
        version: String::new(),
        pid: std::process::id(),
        home: folder.path().display().to_string(),
        agent: status.agent,
    };
    let server = Server::serve(UnixListener::bind(&socket).unwrap(), agent.handle.clone(), hello).unwrap();
    say(&std::process::id().to_string());
    say(&socket.display().to_string());
    until_end_of_input();
    runtime.block_on(async {
        server.close().await;
        agent.engine.stop().await;
    });
}

/// The crowd's process: announces these agents, and says when the relay has them. With `keep`, they go on announcing
/// themselves, as evenly as their number allows.
pub fn publish(url: &str, agents: Range<usize>, keep: bool) {
    let identities: Vec<_> = agents.clone().map(|_| Identity::generate()).collect();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let begun = now();
    let events: Vec<String> = agents
        .clone()
        .zip(&identities)
        .map(|(number, identity)| announcement(identity, number, begun - number as u64 % PERIOD))
        .collect();
    runtime().block_on(async {
        let (mut socket, _) = connect_async(url).await.unwrap();
        let (mut answered, mut events) = (0, events.into_iter());
        let count = events.len();
        for event in events.by_ref().take(WINDOW) {
            socket.send(Message::text(event)).await.unwrap();
        }
        while answered < count {
            let message = socket.next().await.unwrap().unwrap();
            if !is_ok(&message) {
                continue;
            }
            answered += 1;
            if let Some(event) = events.next() {
                socket.send(Message::text(event)).await.unwrap();
            }
        }
        say("there");
        if keep {
            let (ended, mut end) = tokio::sync::oneshot::channel();
            std::thread::spawn(|| {
                until_end_of_input();
                let _ = ended.send(());
            });
            let (mut sink, stream) = socket.split();
            tokio::spawn(stream.for_each(|_| async {}));
            let mut due = tokio::time::interval(Duration::from_secs(PERIOD) / count as u32);
            for (number, identity) in agents.clone().zip(&identities).cycle() {
                tokio::select! {
                    _ = due.tick() => {}
                    _ = &mut end => return,
                }
                if sink.send(Message::text(announcement(identity, number, now()))).await.is_err() {
                    return;
                }
            }
        }
        // Of a crowd that does not go on, this is all.
        until_end_of_input();
    });
}

fn is_ok(message: &Message) -> bool {
    let text = message.to_text().unwrap();
    let is_ok = text.starts_with(r#"["OK""#);
    assert!(!is_ok || text.contains("true"), "the relay refuses an announcement: {text}");
    is_ok
}

/// What a daemon receives that nobody asks anything, in bytes a minute: while it listens to a crowd, and when it does so
/// no more. Takes four minutes.
pub fn idle(url: &str, arguments: &Arguments) -> Value {
    let size = arguments.most.min(10_000);
    let mut crowd = Child::spawn(&["crowd", url, "0", &size.to_string(), "keep"]);
    assert_eq!(crowd.line(), "there");
    let daemon = Daemon::start(url);
    let found = count(&daemon.list());
    let minute = || {
        let (before, begun) = (received(daemon.pid), Instant::now());
        std::thread::sleep(Duration::from_secs(60));
        ((received(daemon.pid) - before) as f64 * 60.0 / begun.elapsed().as_secs_f64()).round()
    };
    let listening = minute();
    std::thread::sleep(Duration::from_secs(80));
    let resting = minute();
    let begun = Instant::now();
    let line = daemon.list();
    let look = ms(begun);
    let found_again = count(&line);
    head(&format!("idle, {found} agents online"), &["listening", "resting", "look ms", "found"]);
    let figures = [listening, resting, look.round(), found_again as f64];
    row("bytes a minute received", &figures.map(|figure| figure.to_string()));
    daemon.stop();
    crowd.stop();
    json!({
        "agents": size, "listening_bytes_per_minute": listening, "resting_bytes_per_minute": resting,
        "look_after_rest_ms": look.round(), "found_after_rest": found_again,
    })
}

/// Bytes that a process has received by TCP, by what the kernel tells of its sockets.
fn received(pid: u32) -> u64 {
    let output = std::process::Command::new("ss").args(["-tinpH"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let is_its = |line: &str| line.contains(&format!("pid={pid},"));
    let sockets = lines.windows(2).filter(|pair| is_its(pair[0])).map(|pair| pair[1]);
    let bytes = sockets
        .filter_map(|line| line.split("bytes_received:").nth(1)?.split(' ').next()?.parse::<u64>().ok());
    bytes.sum()
}

fn announcement(identity: &Identity, number: usize, created_at: u64) -> String {
    let capabilities = [format!("skill-{}", number % 20), "chat".to_owned()];
    let content = Content {
        agent_id: format!("agent-{number:06}"),
        name: format!("Agent number {number}"),
        capabilities: capabilities.to_vec(),
        timestamp: Some(created_at * 1_000),
        p2p: Some(V2 {
            v: vec![2],
            inbox: vec![
                "wss://auth.nostr1.com".into(),
                "wss://relay.ditto.pub".into(),
                "wss://nos.lol".into(),
            ],
            pow: 0,
            rotations: Vec::new(),
        }),
        card: None,
    };
    let announcement = presence::Announcement {
        agent_id: &content.agent_id,
        capabilities: &capabilities,
        content: &content.to_json(),
        expires: created_at + 300,
        unlisted: false,
        version: Some(2),
    };
    format!(r#"["EVENT",{}]"#, presence::sign(identity, &announcement, created_at).unwrap().json)
}
