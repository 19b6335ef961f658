//! A relay in a process of its own, which is killed or starved.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use tokio::io::AsyncReadExt;

use super::*;

/// A relay in a process of its own: this test binary, running [`child_process`].
struct ChildRelay {
    process: Child,
    url: String,
}

impl ChildRelay {
    fn start(folder: Option<&std::path::Path>, descriptors: Option<u64>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "relay::tests::process::child_process", "--ignored", "--nocapture"]);
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
