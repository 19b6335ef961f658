//! Stands in for the rooms `daemon` and `ipc` until they are merged.

pub(super) mod daemon {
    use super::super::backend::ConnectOptions;
    use super::ipc;
    use crate::api::{Error, ErrorKind};
    use crate::engine::Handle;

    pub(in super::super) struct Hosted(Handle);

    impl Hosted {
        pub(in super::super) fn handle(&self) -> &Handle {
            &self.0
        }
        pub(in super::super) async fn stop(self) {}
    }

    pub(in super::super) async fn host(_options: ConnectOptions) -> Result<Hosted, Error> {
        Err(Error::new(ErrorKind::DaemonUnreachable, "no engine in this build", ""))
    }

    pub(in super::super) async fn connect(options: &ConnectOptions) -> Result<Option<ipc::Client>, Error> {
        let Some(home) = &options.home else { return Ok(None) };
        let _ = (&options.id, &options.name, &options.capabilities, &options.relays, &options.owner);
        match tokio::net::UnixStream::connect(home.join("p2p-comm/daemon.sock")).await {
            Ok(stream) => Ok(Some(ipc::Client::new(stream))),
            Err(_) => Ok(None),
        }
    }
}

pub(super) mod ipc {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixStream;
    use tokio::net::unix::OwnedWriteHalf;
    use tokio::sync::oneshot;

    use crate::api::{Command, Error, ErrorKind, Reply};

    type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, Error>>>>>;

    pub(in super::super) struct Client {
        next: AtomicU64,
        waiting: Waiting,
        write: tokio::sync::Mutex<OwnedWriteHalf>,
    }

    impl Client {
        pub(in super::super) fn new(stream: UnixStream) -> Self {
            let (read, write) = stream.into_split();
            let waiting = Waiting::default();
            let answered = waiting.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let Ok(mut answer) = serde_json::from_str::<Value>(&line) else { break };
                    let id = answer["id"].as_u64().unwrap_or_default();
                    let outcome = match answer["error"]["data"].take() {
                        Value::Null => Ok(answer["result"].take()),
                        data => Err(serde_json::from_value(data).unwrap_or_else(Error::internal)),
                    };
                    let asker = answered.lock().ok().and_then(|mut waiting| waiting.remove(&id));
                    if let Some(asker) = asker {
                        let _ = asker.send(outcome);
                    }
                }
                if let Ok(mut waiting) = answered.lock() {
                    waiting.clear();
                }
            });
            Self { next: AtomicU64::new(1), waiting, write: tokio::sync::Mutex::new(write) }
        }

        pub(in super::super) async fn ask(&self, command: Command) -> Result<Reply, Error> {
            let gone = || Error::new(ErrorKind::DaemonUnreachable, "the daemon is gone", "run it again");
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let (sender, answer) = oneshot::channel();
            self.waiting.lock().map_err(Error::internal)?.insert(id, sender);
            let mut line = serde_json::to_value(&command).map_err(Error::internal)?;
            line["jsonrpc"] = json!("2.0");
            line["id"] = json!(id);
            let line = format!("{line}\n");
            self.write.lock().await.write_all(line.as_bytes()).await.map_err(|_| gone())?;
            let json = answer.await.map_err(|_| gone())??;
            Reply::decode(&command, json)
        }
    }
}

pub(super) mod relay {
    use std::net::SocketAddr;
    use std::path::PathBuf;

    use crate::api::Error;

    pub(in super::super) struct Options {
        pub(in super::super) address: SocketAddr,
        pub(in super::super) store: Store,
        pub(in super::super) limits: (),
    }
    impl Default for Options {
        fn default() -> Self {
            Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), store: Store::Memory, limits: () }
        }
    }
    pub(in super::super) enum Store {
        Memory,
        Disk(PathBuf),
    }
    pub(in super::super) struct EmbeddedRelay(SocketAddr);
    impl EmbeddedRelay {
        pub(in super::super) async fn start(options: Options) -> Result<Self, Error> {
            if let Store::Disk(path) = options.store {
                return Err(Error::internal(path.display()));
            }
            let () = options.limits;
            Ok(Self(options.address))
        }
        pub(in super::super) fn url(&self) -> String {
            format!("ws://{}", self.0)
        }
        pub(in super::super) async fn stop(self) {}
    }
}
