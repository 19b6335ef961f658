//! What a client of the embedded relay sends: a request's head, then messages (see [`crate::fuzz`]).

use futures_util::FutureExt;
use nostr_relay_builder::prelude::Timestamp;

use super::http;
use super::limits::Limits;
use super::screen::Screen;
use crate::fuzz::Bytes;

/// One request or one message.
pub fn client(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    if bytes.byte() % 4 == 0 {
        // A whole request is answered without waiting; one that is not whole ends with its bytes.
        let mut stream = tokio::io::join(bytes.0, Vec::new());
        let _ = http::receive(&mut stream, "{}", || Some(())).now_or_never().expect("nothing to wait for");
        return;
    }
    let screen = Screen::new(Limits::default(), None);
    let text = bytes.text();
    if text.len() <= Limits::default().max_message_bytes {
        screen.judge(&text, Timestamp::from_secs(1_800_000_000));
    }
}
