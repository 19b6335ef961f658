//! The HTTP side of the listener: one request, one answer, before any WebSocket.
//!
//! ```text
//! GET, Origin: …            403   a web page in somebody's browser: it has no business here
//! GET, Upgrade: websocket   101   or 503 when the relay is full
//! GET, Accept: …nostr+json  200   the relay information document (NIP-11)
//! GET                       200   one line for a person who looks
//! anything else             4xx
//! ```
//!
//! The server of tokio-tungstenite can refuse an upgrade, but not answer a plain GET; so the request is read here
//! with its parser, and its WebSocket begins after the 101.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use nostr_relay_builder::prelude::{JsonUtil, Limitation, RelayInformationDocument};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response};
use tokio_tungstenite::tungstenite::http::header::{
    ACCEPT, HeaderMap, ORIGIN, SEC_WEBSOCKET_ACCEPT, UPGRADE,
};

use super::limits::Limits;

/// Bytes of a request's head: the usual default of HTTP servers.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// What we read of a refused request before the socket closes: closing with unread bytes would reset the
/// connection, and the client might never see the answer.
const MAX_DRAINED_BYTES: u64 = 64 * 1024;

/// The media type of NIP-11.
const DOCUMENT_TYPE: &str = "application/nostr+json";

/// How a request ended.
#[derive(Debug)]
pub(super) enum Outcome<P> {
    /// The socket is a WebSocket now; these bytes of it are already read, and this is its permit.
    WebSocket(Vec<u8>, P),
    /// The client has its answer, and the socket is done.
    Answered,
}

/// Reads one request from `stream` and answers it. A WebSocket needs a permit from `admit`.
pub(super) async fn receive<S, P>(
    stream: &mut S,
    document: &str,
    admit: impl FnOnce() -> Option<P>,
) -> io::Result<Outcome<P>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let refusal = match read_request(stream).await? {
        Err(refusal) => refusal,
        Ok((request, _)) if request.headers().contains_key(ORIGIN) => {
            Answer::text("403 Forbidden", "web pages may not use this relay")
        }
        Ok((request, rest)) => match (create_response(&request), request.headers()) {
            (Ok(response), _) => match admit() {
                Some(permit) => {
                    let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
                    let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
                    stream.write_all(switching_protocols(accept).as_bytes()).await?;
                    return Ok(Outcome::WebSocket(rest, permit));
                }
                None => Answer::text("503 Service Unavailable", "too many connections"),
            },
            (Err(error), headers) if headers.contains_key(UPGRADE) => {
                Answer::text("400 Bad Request", error.to_string())
            }
            (Err(_), headers) if wants_document(headers) => Answer::document(document),
            (Err(_), _) => Answer::text("200 OK", "a Nostr relay of p2p-comm: connect with a Nostr client"),
        },
    };
    refusal.send(stream).await?;
    Ok(Outcome::Answered)
}

/// The request and what was read beyond it, or the answer to one that cannot be understood.
async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> io::Result<Result<(Request, Vec<u8>), Answer>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        match Request::try_parse(&head) {
            Ok(Some((size, request))) => return Ok(Ok((request, head.split_off(size)))),
            Ok(None) if head.len() >= MAX_HEAD_BYTES => {
                return Ok(Err(Answer::text("431 Request Header Fields Too Large", "too long")));
            }
            Ok(None) => {}
            Err(error) => return Ok(Err(Answer::text("400 Bad Request", error.to_string()))),
        }
        let room = (MAX_HEAD_BYTES - head.len()) as u64;
        if (&mut *stream).take(room).read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn wants_document(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .any(|value| value.to_str().is_ok_and(|value| value.contains(DOCUMENT_TYPE)))
}

fn switching_protocols(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nDate: {}\r\n\r\n",
        http_date(SystemTime::now())
    )
}

/// An answer that ends the exchange.
struct Answer {
    status: &'static str,
    media_type: &'static str,
    body: String,
}

impl Answer {
    fn text(status: &'static str, line: impl Into<String>) -> Self {
        Self { status, media_type: "text/plain; charset=utf-8", body: line.into() + "\n" }
    }

    fn document(document: &str) -> Self {
        Self { status: "200 OK", media_type: DOCUMENT_TYPE, body: document.to_owned() }
    }

    async fn send<S: AsyncRead + AsyncWrite + Unpin>(self, stream: &mut S) -> io::Result<()> {
        let Self { status, media_type, body } = self;
        let answer = format!(
            "HTTP/1.1 {status}\r\nDate: {}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            http_date(SystemTime::now()),
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MAX_DRAINED_BYTES), &mut tokio::io::sink()).await?;
        Ok(())
    }
}

/// The relay information document (NIP-11).
pub(super) fn information_document(limits: &Limits) -> String {
    let number = |value: usize| i32::try_from(value).ok();
    let mut document = RelayInformationDocument::new();
    document.name = Some("p2p-comm".to_owned());
    document.description = Some("The embedded relay of p2p-comm: agents that call each other".to_owned());
    document.software = Some(env!("CARGO_PKG_NAME").to_owned());
    document.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    document.supported_nips = Some(vec![1, 9, 11, 40, 42, 70]);
    document.limitation = Some(Limitation {
        max_message_length: number(limits.max_message_bytes),
        max_subscriptions: number(limits.max_subscriptions),
        max_filters: number(limits.max_filters),
        max_limit: number(limits.max_filter_limit),
        max_subid_length: number(limits.max_subscription_id),
        max_event_tags: number(limits.max_event_tags),
        max_content_length: number(limits.max_content_bytes),
        auth_required: Some(false),
        payment_required: Some(false),
        ..Limitation::default()
    });
    document.as_json()
}

/// A time as HTTP writes it (RFC 9110, 5.6.7), by Howard Hinnant's `civil_from_days`.
fn http_date(time: SystemTime) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];

    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is the last; 719,468 days lie between 0000-03-01 and 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        WEEKDAYS[(days % 7) as usize],
        MONTHS[month as usize],
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_date_is_written_as_rfc_9110_writes_it() {
        let written = |seconds| http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(written(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(written(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(written(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(written(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
        assert_eq!(written(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
    }
}
