//! The listener of a door: a bounded number of connections, each of which has to say soon what it wants.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::CONNECTIONS;
use crate::api::{Error, ErrorKind};

/// Largest body of a request: the longest text that any dialect carries, which JSON may write six times as long.
pub const BODY_LIMIT: usize = 8 * 1024 * 1024;
/// How long a request's head, and then its body, may take: both are written at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after `accept` failed. Out of descriptors it fails at once and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A listener at an address; port 0 takes any free one.
///
/// # Errors
/// `invalid-value` if the port is taken, or the address not ours.
pub async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let listening = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok::<_, io::Error>((listener, address))
    };
    listening.await.map_err(|error| {
        let message = format!("nothing can be served at {address}: {error}");
        Error::new(ErrorKind::InvalidValue, message, "take another port, 0 for any free one")
    })
}

/// Serves a router. Its connections end when this future is dropped.
pub async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // Who comes when all places are taken waits in the system's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = tokio::select! {
            biased;
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "no connection could be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // Without it a second small packet waits up to 40 ms for the client's delayed ACK; it works all the same.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
}

/// The whole body of a request. `None` if it is too long, or does not come in time.
pub async fn body(body: Body) -> Option<Bytes> {
    tokio::time::timeout(REQUEST_TIMEOUT, to_bytes(body, BODY_LIMIT)).await.ok()?.ok()
}
