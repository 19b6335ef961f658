//! Events of ours, signed once and then only repeated byte for byte.

use nostr_sdk::{Event, JsonUtil};

use crate::proto::{EventId, Hex};

/// What relays take: strfry's `maxEventSize`, the smallest limit among the usual relays.
pub const MAX_EVENT: usize = 65_536;

/// What stands around an event in an `["EVENT",…]` message.
const ENVELOPE: usize = r#"["EVENT",]"#.len();

/// A signed event as it goes to a relay. The JSON is stored and published as it is: a second signature would be a
/// second event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Its id.
    pub id: EventId,
    /// Its kind (NIP-01).
    pub kind: u16,
    /// When it claims to be made, in seconds.
    pub created_at: u64,
    /// The event as JSON, without the `["EVENT",…]` around it.
    pub json: String,
}

/// Why something could not be made into an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No relay would take an event of this size.
    #[error("the event would have {size} bytes; relays take {limit}")]
    TooLarge {
        /// Bytes of its `["EVENT",…]` message.
        size: usize,
        /// The most that relays take.
        limit: usize,
    },
    /// The peer asks for more proof of work than we mine.
    #[error("{bits} bits of work are asked; at most {limit} are mined")]
    TooMuchWork {
        /// What it asks for.
        bits: u8,
        /// The most that we mine.
        limit: u8,
    },
    /// The peer's key is no point of the curve, or signing failed.
    #[error("cannot encrypt or sign: {0}")]
    Crypto(String),
}

impl Signed {
    /// The message that publishes it.
    pub(super) fn message(&self) -> String {
        format!(r#"["EVENT",{}]"#, self.json)
    }
}

impl TryFrom<Event> for Signed {
    type Error = SealError;

    fn try_from(event: Event) -> Result<Self, SealError> {
        let json = event.try_as_json().map_err(|error| SealError::Crypto(error.to_string()))?;
        let size = json.len() + ENVELOPE;
        if size > MAX_EVENT {
            return Err(SealError::TooLarge { size, limit: MAX_EVENT });
        }
        Ok(Self {
            id: Hex(event.id.to_bytes()),
            kind: event.kind.as_u16(),
            created_at: event.created_at.as_secs(),
            json,
        })
    }
}
