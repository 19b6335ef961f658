//! Homes, commands, and an engine that says what a test wants it to say.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use p2p_comm::api::{AgentSelf, Command, DaemonInfo, Error, OutboxCount, Reply, Status};
use p2p_comm::engine::{Handle, ReplyTo, Request};
use p2p_comm::home::Home;
use p2p_comm::ipc::{Hello, Server};
use p2p_comm::proto::Hex;
use tokio::sync::{mpsc, oneshot};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_p2p-comm");
/// A relay that nobody can run.
pub const NO_RELAY: &str = "ws://127.0.0.1:1";
/// Generous: the machine may be busy with other builds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A home of a test's own; its daemon, if there is one, ends with it.
pub struct TestHome {
    folder: tempfile::TempDir,
}

/// What a command left.
#[derive(Debug)]
pub struct Outcome {
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }
}

impl TestHome {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn home(&self) -> Home {
        Home::open(Some(self.path())).unwrap()
    }

    /// A command with this home, and nothing else of ours in its environment.
    pub fn process(&self, words: &[&str]) -> Process {
        let mut process = Process::new(PROGRAM);
        process
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("P2P_COMM_HOME", self.path())
            .env("P2P_NOSTR_RELAYS", NO_RELAY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        process
    }

    pub fn run(&self, words: &[&str]) -> Outcome {
        outcome(self.process(words).output().unwrap())
    }

    /// The process id of the running daemon; starts it if need be.
    pub fn daemon_pid(&self) -> i32 {
        let status = self.run(&["status", "--json"]);
        status.json()["daemon"]["pid"].as_i64().unwrap_or_else(|| panic!("{status:?}")) as i32
    }

    pub fn socket(&self) -> PathBuf {
        self.home().socket().unwrap()
    }
}

impl Drop for TestHome {
    fn drop(&mut self) {
        // Only a daemon that recorded itself in this home is ended; the lock says whether it still lives.
        let home = self.home();
        if home.lock().is_ok_and(|lock| lock.is_none()) {
            let _ = self.process(&["daemon", "stop"]).output();
        }
    }
}

pub fn outcome(output: std::process::Output) -> Outcome {
    Outcome {
        exit: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Whether the tests run as root, who may look into every process.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::yield_now();
    }
}

/// What a fake engine does with a command.
pub enum Answer {
    Now(Box<Result<Reply, Error>>),
    /// Nothing, until the one who asked gives up.
    Never,
}

impl Answer {
    pub fn refused(error: Error) -> Self {
        Self::Now(Box::new(Err(error)))
    }
}

impl<T: Into<Reply>> From<T> for Answer {
    fn from(reply: T) -> Self {
        Self::Now(Box::new(Ok(reply.into())))
    }
}

/// What a fake engine was asked, in order.
pub type Asked = Arc<Mutex<Vec<Command>>>;

/// Answers commands as `script` says, and remembers them.
pub fn fake_engine(
    script: impl Fn(&Command) -> Answer + Send + 'static,
) -> (Handle, Asked, mpsc::Receiver<Box<dyn ReplyTo>>) {
    let (requests, mut queue) = mpsc::channel::<Request>(16);
    let (unanswered, never_answered) = mpsc::channel(1_024);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some(Request { command, reply, .. }) = queue.recv().await {
            record.lock().unwrap().push(command.clone());
            match script(&command) {
                Answer::Now(answer) => reply.answer(*answer),
                Answer::Never => drop(unanswered.try_send(reply)),
            }
        }
    });
    (Handle::new(requests), asked, never_answered)
}

/// A daemon with a fake engine, in a thread of this process.
pub struct FakeDaemon {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub asked: Asked,
}

impl FakeDaemon {
    pub fn start(home: &TestHome, script: impl Fn(&Command) -> Answer + Send + 'static) -> Self {
        Self::of_version(home, p2p_comm::daemon::VERSION, script)
    }

    pub fn of_version(
        home: &TestHome,
        version: &str,
        script: impl Fn(&Command) -> Answer + Send + 'static,
    ) -> Self {
        let mut lock = home.home().lock().unwrap().unwrap();
        let listener = lock.bind().unwrap();
        let hello = Hello {
            version: version.to_owned(),
            pid: std::process::id(),
            home: lock.home().path().display().to_string(),
            agent: agent(),
        };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (handle, asked, _unanswered) = fake_engine(script);
                let server = Server::serve(listener, handle, hello).unwrap();
                tell.send(asked).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = server.stop_requested() => {}
                }
                server.close().await;
            });
            lock.unbind();
        });
        Self { stop: Some(stop), thread: Some(thread), asked: told.recv().unwrap() }
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// The agent of every fake.
pub fn agent() -> AgentSelf {
    AgentSelf {
        id: "alice".into(),
        name: "Alice".into(),
        pubkey: Hex([0xa1; 32]),
        npub: "npub1alice".into(),
        capabilities: vec!["research".into()],
        home: "/homes/alice".into(),
        fingerprint: "a1a1 a1a1 a1a1 a1a1 a1a1".into(),
    }
}

/// A status in which nothing happens.
pub fn idle() -> Status {
    Status {
        agent: agent(),
        daemon: DaemonInfo {
            version: p2p_comm::daemon::VERSION.into(),
            pid: 4_242,
            uptime_s: 61.4,
            code: None,
        },
        relays: Vec::new(),
        connected: false,
        clock_offset_s: None,
        calls: Vec::new(),
        unread: 0,
        outbox: OutboxCount { queued: 0, failed: 0 },
        owner: Vec::new(),
        door: p2p_comm::api::DoorPolicy::default(),
    }
}
