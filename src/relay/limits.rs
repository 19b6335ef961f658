//! What the relay grants to one client and to all of them together.
//!
//! The defaults suit a relay on loopback whose clients are agents of one machine.

use std::time::Duration;

/// Time for a client to finish its HTTP request. A browser or an agent on a slow line needs one round trip;
/// without a limit, 500 half-open handshakes were seen to stay for good.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Open WebSockets at a time. An agent needs two, so this is room for 500 agents.
pub const MAX_CONNECTIONS: usize = 1_024;

/// Handshakes under way at a time. When one more arrives, the oldest makes room, so that a client that opens
/// sockets and stays silent cannot keep others out.
pub const MAX_HALF_OPEN: usize = 128;

/// Bytes of one message: a content of 64 KiB with its escapes, and tags. nostr-rs-relay takes as much.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// Bytes of an event's content: what most public relays take, and the most a NIP-44 plaintext can be.
pub const MAX_CONTENT_BYTES: usize = 64 * 1024;

/// Tags of an event: the figure of strfry.
pub const MAX_EVENT_TAGS: usize = 2_000;

/// How far ahead of our clock an event may be dated: the figure of strfry.
pub const MAX_FUTURE: Duration = Duration::from_secs(900);

/// Subscriptions of a connection: an agent has one per kind of traffic, fewer than 10.
pub const MAX_SUBSCRIPTIONS: usize = 64;

/// Characters of a subscription id (NIP-01).
pub const MAX_SUBSCRIPTION_ID: usize = 64;

/// Filters in one REQ: the figure of nostream.
pub const MAX_FILTERS: usize = 10;

/// Ids, authors, kinds and tag values in one REQ. With [`MAX_SUBSCRIPTIONS`] it bounds what a connection can
/// make us remember, and compare with each live event.
pub const MAX_FILTER_VALUES: usize = 2_000;

/// Events in an answer to one filter: both the default and the most (the figure of strfry).
pub const MAX_FILTER_LIMIT: usize = 500;

/// Events of one connection in a second, on average: checking so many signatures takes a quarter of a core, and the
/// fastest call needs some hundred frames a second. Who is faster is not refused but read no faster, so nothing is lost.
/// (The limiter of nostr-relay-builder refuses, and refills by whole seconds between two events only: it would take from a
/// client that never pauses. It is out of the way.)
pub const EVENTS_PER_SECOND: u32 = 5_000;

/// Events of one connection that are read at once after a pause: what waited during an absence.
pub const EVENTS_AT_ONCE: u32 = 10_000;

/// Time for a client to take one frame off our hands. Within it, what waits for that client is bounded; after
/// it the connection is cut.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The limits of an [`EmbeddedRelay`](super::EmbeddedRelay).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time for the HTTP request, and for reading our answer to one that is no WebSocket.
    pub handshake_timeout: Duration,
    /// Open WebSockets; one more gets the answer 503.
    pub max_connections: usize,
    /// Handshakes under way; one more ends the oldest.
    pub max_half_open: usize,
    /// Bytes of a message from a client; a longer one ends the connection.
    pub max_message_bytes: usize,
    /// Bytes of an event's content.
    pub max_content_bytes: usize,
    /// Tags of an event.
    pub max_event_tags: usize,
    /// How far in the future `created_at` may be.
    pub max_future: Duration,
    /// Subscriptions of one connection.
    pub max_subscriptions: usize,
    /// Characters of a subscription id.
    pub max_subscription_id: usize,
    /// Filters in one REQ.
    pub max_filters: usize,
    /// Ids, authors, kinds and tag values in one REQ, over all its filters.
    pub max_filter_values: usize,
    /// Events in the stored answer to one filter, also where the filter has no limit.
    pub max_filter_limit: usize,
    /// Events of a connection in a second, on average: above zero.
    pub events_per_second: u32,
    /// Events of a connection that are read at once after a pause.
    pub events_at_once: u32,
    /// Time for a client to take one frame.
    pub write_timeout: Duration,
    /// Gift wraps (kind 1059) only for the key they are addressed to, proven by NIP-42, in a request that names their
    /// kind. What a wrap says is encrypted; that somebody gets one, and when, is what this keeps from others.
    pub gift_wraps_to_receiver_only: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: HANDSHAKE_TIMEOUT,
            max_connections: MAX_CONNECTIONS,
            max_half_open: MAX_HALF_OPEN,
            max_message_bytes: MAX_MESSAGE_BYTES,
            max_content_bytes: MAX_CONTENT_BYTES,
            max_event_tags: MAX_EVENT_TAGS,
            max_future: MAX_FUTURE,
            max_subscriptions: MAX_SUBSCRIPTIONS,
            max_subscription_id: MAX_SUBSCRIPTION_ID,
            max_filters: MAX_FILTERS,
            max_filter_values: MAX_FILTER_VALUES,
            max_filter_limit: MAX_FILTER_LIMIT,
            events_per_second: EVENTS_PER_SECOND,
            events_at_once: EVENTS_AT_ONCE,
            write_timeout: WRITE_TIMEOUT,
            gift_wraps_to_receiver_only: true,
        }
    }
}
