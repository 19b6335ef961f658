//! The embedded relay: nostr-relay-builder's protocol behind our own door.
//!
//! # Life of a connection
//!
//! ```text
//!  accept ──▶ http ──▶ connection ──▶ screen ──▶ nostr-relay-builder ──▶ memory | disk
//!    │ TCP_NODELAY        │ sizes, pace, stalls     │ signatures, NIP-42, subscriptions
//!    │ EMFILE             │ goodbye                 │
//!    └ half-open cap      └ what the builder lacks  └ live events to every session
//! ```
//!
//! * `accept` takes sockets until the relay stops, and ends every connection when it does;
//! * `http` refuses web pages (`Origin`), answers NIP-11, upgrades the rest;
//! * `connection` carries frames between client and builder under our limits, at our pace;
//! * `screen` judges each message and refuses in NIP-01's words;
//! * `memory` and `disk` keep events: replaceable and addressable ones, deletions (NIP-09), expirations (NIP-40).
//!
//! # Invariants
//!
//! * No message of a stranger ends more than the stranger's own connection.
//! * It listens on the loopback interface only, and a web page that a browser of this machine shows gets nothing from it.
//! * A gift wrap goes to the key it is addressed to, once that is proven (NIP-42): live or stored, by whatever filter.
//! * Everything a client can make us hold is bounded by [`Limits`] or a constant beside its use.
//! * After [`EmbeddedRelay::stop`] no task, socket or port of the relay is left; dropping the relay comes to the
//!   same a little later.

mod accept;
mod connection;
mod disk;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod http;
pub mod limits;
mod memory;
mod screen;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nostr_relay_builder::builder::{PolicyResult, RateLimit, WritePolicy};
use nostr_relay_builder::prelude::{BoxedFuture, DatabaseError, Event, NostrDatabase, RelayUrl};
use nostr_relay_builder::{LocalRelay, RelayBuilder};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use self::connection::House;
pub use self::limits::Limits;
use self::screen::Screen;

/// Where the relay listens unless told otherwise. 7447 is the port of several Nostr relays' examples.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7447);

/// How to run a relay.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen, on the loopback interface; port 0 takes any free port. Other machines come through a proxy that
    /// speaks TLS.
    pub address: SocketAddr,
    /// What clients call this relay where that is no loopback address, as behind a TLS proxy. NIP-42 authentication is
    /// signed for this URL, and refused when signed for another.
    pub public_url: Option<String>,
    /// Where events are kept.
    pub store: Store,
    /// What clients may do.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self { address: DEFAULT_ADDRESS, public_url: None, store: Store::Memory, limits: Limits::default() }
    }
}

/// Where a relay keeps its events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Store {
    /// In memory, until the relay stops.
    #[default]
    Memory,
    /// In this folder, which is made if it is missing. An accepted event survives a crash.
    Disk(PathBuf),
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can be reached by other machines, and this relay has no TLS.
    #[error("{0} is not a loopback address: this relay serves its own machine only")]
    Exposed(SocketAddr),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The public URL is no address of a relay.
    #[error("{0} is no address of a relay")]
    PublicUrl(String),
    /// The folder or the files in it cannot be used.
    #[error("cannot open the relay's store in {}", folder.display())]
    Store {
        /// The folder asked for.
        folder: PathBuf,
        /// What the store said.
        source: DatabaseError,
    },
}

/// A running relay. [`stop`](Self::stop) it, or drop it.
#[derive(Debug)]
pub struct EmbeddedRelay {
    address: SocketAddr,
    /// The accept loop and all connections end when this is sent to, or dropped.
    stop: watch::Sender<()>,
    accept_loop: JoinHandle<()>,
}

impl EmbeddedRelay {
    /// Opens the store, binds the address, and serves from then on. Must be called within a tokio runtime.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let Options { address, public_url, store, limits } = options;
        if !address.ip().is_loopback() {
            return Err(Error::Exposed(address));
        }
        let public =
            public_url.map(|url| RelayUrl::parse(&url).map_err(|_| Error::PublicUrl(url))).transpose()?;
        let store: Arc<dyn NostrDatabase> = match store {
            Store::Memory => Arc::new(memory::Memory::new()),
            Store::Disk(folder) => match disk::Disk::open(&folder) {
                Ok(disk) => Arc::new(disk),
                Err(source) => return Err(Error::Store { folder, source }),
            },
        };
        let listen_error = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let accepted = Arc::new(AtomicU64::new(0));
        let house = Arc::new(House {
            relay: LocalRelay::new(builder(&limits, store, Arc::clone(&accepted))),
            screen: Screen::new(limits.clone(), public),
            document: http::information_document(&limits),
            places: Arc::new(Semaphore::new(limits.max_connections)),
            answers: Arc::new(Semaphore::new(connection::ANSWERS_AT_ONCE)),
            accepted,
            limits,
        });
        let (stop, stopping) = watch::channel(());
        let accept_loop = tokio::spawn(accept::run(listener, house, stopping));
        tracing::info!(%address, "the embedded relay listens");
        Ok(Self { address, stop, accept_loop })
    }

    /// The URL for clients on this machine.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The address the relay listens on, with the port it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and every connection; takes two seconds at most.
    pub async fn stop(self) {
        // Without receivers the loop has ended already.
        let _ = self.stop.send(());
        if let Err(error) = self.accept_loop.await {
            tracing::warn!(%error, "the embedded relay's accept loop died");
        }
    }
}

fn builder(limits: &Limits, store: Arc<dyn NostrDatabase>, accepted: Arc<AtomicU64>) -> RelayBuilder {
    RelayBuilder::default()
        .database(store)
        .rate_limit(RateLimit {
            max_reqs: limits.max_subscriptions,
            // `connection` keeps the pace.
            notes_per_minute: u32::MAX,
        })
        .max_subid_length(limits.max_subscription_id)
        .max_filter_limit(limits.max_filter_limit)
        .default_filter_limit(limits.max_filter_limit)
        .auth_dm(limits.gift_wraps_to_receiver_only)
        .write_policy(Counter(accepted))
}

/// Counts the events about to be passed on; the builder asks it last before it stores and broadcasts one.
#[derive(Debug)]
struct Counter(Arc<AtomicU64>);

impl WritePolicy for Counter {
    fn admit_event<'a>(&'a self, _: &'a Event, _: &'a SocketAddr) -> BoxedFuture<'a, PolicyResult> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(PolicyResult::Accept))
    }
}
