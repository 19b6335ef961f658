//! `relay`: a relay of one's own, in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::session::Session;
use super::{DONE, Verdict};
use crate::api::{Error, ErrorKind};
use crate::relay::{DEFAULT_ADDRESS, EmbeddedRelay, Options, Store};

/// A relay of your own, on this machine, until SIGTERM
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm relay --port 7447 --store ./relay
         P2P_NOSTR_RELAYS=ws://127.0.0.1:7447 p2p-comm status

It prints its URL, and listens on the loopback address only: a web page gets nothing from it, and gift wraps go only to
whom they are for. Other machines reach it through a proxy of yours (--public-url wss://...). It makes no identity.")]
pub(super) struct Relay {
    /// The port; 0 takes any free one
    #[arg(long, default_value_t = DEFAULT_ADDRESS.port())]
    port: u16,
    /// Keep events in memory (the default)
    #[arg(long, conflicts_with = "store")]
    memory: bool,
    /// Keep events in this folder
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// What clients call this relay behind a proxy, which has to add TLS: they prove who they are for this address
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

impl Relay {
    /// Blocks; brings a runtime of its own, with a thread for each core: signatures are checked on all of them.
    pub(super) fn run(self, session: &Session) -> Verdict {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::internal)?;
        runtime.block_on(self.serve(session))
    }

    async fn serve(self, session: &Session) -> Verdict {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::internal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::internal)?;
        let options = Options {
            address: SocketAddr::new(DEFAULT_ADDRESS.ip(), self.port),
            store: self.store.map_or(Store::Memory, Store::Disk),
            public_url: self.public_url,
            ..Options::default()
        };
        let relay = EmbeddedRelay::start(options).await.map_err(|error| not_started(&error))?;
        let url = relay.url();
        session.printer.data(&json!({"url": url}), || url.clone())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        relay.stop().await;
        Ok(DONE)
    }
}

fn not_started(error: &crate::relay::Error) -> Error {
    let source = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
    Error::new(
        ErrorKind::InvalidValue,
        format!("the relay did not start: {error}{source}"),
        "take another port, 0 for any free one, or another folder",
    )
}
