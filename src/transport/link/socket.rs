//! From an address to a WebSocket: TCP, TLS, handshake, each within its time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{self, protocol::WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::desk::Role;
use crate::transport::clock;
use crate::transport::tuning::Tuning;
use crate::transport::url::{RelayId, is_public};

/// The largest message that is read: twice the largest event of any relay that we know (nostr-rs-relay: 256 KiB).
const MAX_MESSAGE: usize = 512 * 1024;

/// Eagerly allocated for each connection; the library's 128 KiB would be most of an idle daemon's memory.
const READ_BUFFER: usize = 16 * 1024;

/// What may wait inside the library for a socket that does not take it. We hand it one event (64 KiB) and a few
/// REQs at a time.
const MAX_UNWRITTEN: usize = 1024 * 1024;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<Prompt>>;

/// Why a relay could not be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("the address has no host and port")]
    Address,
    #[error("cannot connect: {0}")]
    Tcp(#[from] io::Error),
    #[error("the name of a peer's relay leads to no public address")]
    Private,
    #[error("cannot connect within {} s", .0.as_secs_f64())]
    TcpTimeout(std::time::Duration),
    #[error("handshake failed: {0}")]
    Handshake(#[source] Box<tungstenite::Error>),
    #[error("no handshake within {} s", .0.as_secs_f64())]
    HandshakeTimeout(std::time::Duration),
}

/// A relay that was reached.
pub(super) struct Dialled {
    pub socket: Socket,
    /// The relay's clock less ours in seconds, if it told its time.
    pub clock_offset: Option<f64>,
}

pub(super) async fn dial(relay: &RelayId, role: Role, tuning: &Tuning) -> Result<Dialled, DialError> {
    let begun = Instant::now();
    let place = relay.host_and_port().ok_or(DialError::Address)?;
    let tcp = timeout(tuning.connect_within, connect(&place, role))
        .await
        .map_err(|_| DialError::TcpTimeout(tuning.connect_within))??;
    tcp.set_nodelay(true)?;
    let connected = Instant::now();

    // Asked for explicitly: with two providers compiled in, rustls panics instead of choosing. An error says that
    // this process has chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let limits = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_write_buffer_size(MAX_UNWRITTEN)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let handshake = client_async_tls_with_config(relay.as_str(), Prompt(tcp), Some(limits), None);
    let (socket, response) = timeout(tuning.handshake_within, handshake)
        .await
        .map_err(|_| DialError::HandshakeTimeout(tuning.handshake_within))?
        .map_err(|error| DialError::Handshake(Box::new(error)))?;
    // Either takes a round trip, and something else beside it: a look-up of the name, the making of TLS.
    let round_trip = connected.elapsed().min(connected - begun);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let date = response.headers().get(tungstenite::http::header::DATE);
    let clock_offset = date.and_then(|date| clock::offset(date.as_bytes(), now, round_trip));
    Ok(Dialled { socket, clock_offset })
}

/// A peer's relay is dialled at the very addresses that were checked: asked again, its name could lead elsewhere.
async fn connect((host, port): &(String, u16), role: Role) -> Result<TcpStream, DialError> {
    if !role.is_foreign() {
        return Ok(TcpStream::connect((host.as_str(), *port)).await?);
    }
    let mut addresses: Vec<_> = lookup_host((host.as_str(), *port)).await?.collect();
    addresses.retain(|address| is_public(address.ip()));
    if addresses.is_empty() {
        return Err(DialError::Private);
    }
    Ok(TcpStream::connect(addresses.as_slice()).await?)
}

/// A TCP stream that acknowledges at once.
///
/// No relay sets NODELAY: its second small frame waits for our ACK, which the kernel delays by up to 40 ms. Linux
/// lets us ask for immediate ACKs, and forgets it again, so it is asked after each read. Elsewhere there is no such
/// wish, and a burst pays the delay.
pub(super) struct Prompt(TcpStream);

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.0).poll_read(context, buffer);
        #[cfg(target_os = "linux")]
        if let Poll::Ready(Ok(())) = &polled {
            // A wish: the stream works without it.
            let _ = rustix::net::sockopt::set_tcp_quickack(&self.0, true);
        }
        polled
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_foreign_name_that_leads_home_is_not_dialled() {
        let tuning = Tuning::DEFAULT;
        for url in ["ws://localhost:1", "ws://127.0.0.1:1", "ws://[::1]:1"] {
            let relay = RelayId::parse(url).unwrap();
            let dialled = dial(&relay, Role::Sessions { foreign: true }, &tuning).await;
            assert!(matches!(dialled, Err(DialError::Private)), "{url}");
            let dialled = dial(&relay, Role::Sessions { foreign: false }, &tuning).await;
            assert!(matches!(dialled, Err(DialError::Tcp(_))), "{url}");
        }
    }
}
