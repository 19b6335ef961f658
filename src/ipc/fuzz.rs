//! What a client, or a daemon that is none of ours, writes into the socket (see [`crate::fuzz`]).

use super::lines::Lines;
use super::wire;

/// The longest line that is read here: small, so that the limit is met.
const LIMIT: usize = 4_096;

/// Lines, requests and replies.
pub fn line(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let mut lines = Lines::new(bytes, LIMIT);
        while let Ok(Some(line)) = lines.next().await {
            assert!(line.len() <= LIMIT && !line.contains(&b'\n'));
            match wire::read(&line) {
                // A refusal is one line of JSON, whatever it quotes.
                Err(bad) => assert!(serde_json::from_slice::<serde_json::Value>(&bad.line()).is_ok()),
                Ok(request) => drop(request),
            }
            let _ = wire::read_reply(&line);
        }
    });
}
