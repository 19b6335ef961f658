//! The accept loop, and the end of all connections.
//!
//! It ends when the stop signal is given or its sender dropped, and takes every connection with it: first they
//! get a moment to say goodbye, then they are aborted.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use super::connection::{House, serve};

/// Pause after `accept` failed. Out of descriptors (EMFILE) it fails at once and again: without a pause the loop
/// would burn a core, with this one it looks five times a second whether a descriptor came free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Time for all connections to end by themselves; each needs its close frame's time at most.
const LEAVE: Duration = Duration::from_secs(1);

pub(super) async fn run(listener: TcpListener, house: Arc<House>, mut stop: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    let mut half_open = VecDeque::new();
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            _ = stop.changed() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    failing = false;
                    // Without it a second small frame waits up to 40 ms for the client's delayed ACK.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "no TCP_NODELAY");
                    }
                    let evicted = enter(&mut half_open, house.limits.max_half_open);
                    connections.spawn(serve(stream, peer, Arc::clone(&house), evicted, stop.clone()));
                }
                Err(error) if concerns_one_client(&error) => tracing::debug!(%error, "a client left early"),
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "the embedded relay cannot accept connections for now");
                    }
                    tokio::select! {
                        _ = stop.changed() => break,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
            },
        }
    }
    drop(listener);
    let ended = timeout(LEAVE, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    });
    if ended.await.is_err() {
        connections.shutdown().await;
    }
    tracing::debug!("the embedded relay has stopped");
}

/// Registers one more handshake; where there are too many, the oldest is told to go.
fn enter(half_open: &mut VecDeque<oneshot::Sender<()>>, most: usize) -> oneshot::Receiver<()> {
    if half_open.len() >= most {
        half_open.retain(|handshake| !handshake.is_closed());
        if half_open.len() >= most {
            half_open.pop_front();
        }
    }
    let (evict, evicted) = oneshot::channel();
    half_open.push_back(evict);
    evicted
}

/// These say that the client's connection failed before we took it, not that we cannot take any.
fn concerns_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::warn!(%error, "a connection of the embedded relay died");
    }
}
