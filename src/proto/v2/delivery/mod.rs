//! The delivery machine: what two agents say to each other arrives once, in order, and both know it, over relays that
//! drop, repeat, reorder and delay. One [`Delivery`] a call; it outlives handshakes and processes.
//!
//! ```text
//!   say ──► queued ──Persist──► waiting ──poll_transmit──► in a frame ──acknowledged──► settled ──► Event::Delivered
//!                                  ▲                           │
//!                                  └────────── lost ◄──────────┘   the entry goes out again, in another frame
//!
//!   handle_frame ──► new entries ──Persist──► held ──their turn──► surfaced
//!                         │
//!                         └─ handle_persisted ──► the frame is acknowledged, in the next frame of ours
//!
//!   open ──── end, or the peer's end ────► draining ──── all there, or 10 s ────► closed: delete the keys
//!     └────── nothing heard for 10 min ──────────────────────────────────────────► closed: lost
//! ```
//!
//! # How to run it
//!
//! After each input (`handle_*`, a command) take everything from [`Delivery::poll_output`] and put it into **one
//! transaction**. When that is committed, tell [`Delivery::handle_persisted`] the [`Delivery::persist_point`] read after
//! the last output. Then, for as long as the relays' budget has room, seal and publish what [`Delivery::poll_transmit`]
//! gives. Frames are made at that moment and not before: whatever waits goes along. If the transaction fails,
//! [`Delivery::reload`] what was persisted before. Inputs may come while a transaction is under way.
//!
//! The machine numbers frames and names their key epoch; the session (`transport`) keeps the keys. So there is no
//! secret here and nothing to mock: the tests run two machines on plaintexts. The price is that the session must ask
//! [`Delivery::receive_epoch`] before it opens a frame.
//!
//! `now` must not jump: add the monotonic time elapsed to the wall clock's time at the start. A jump of ten minutes
//! would look like a peer that was silent for as long.
//!
//! Frames of files go over one of several ways (relays), all others over two. Where the frames of one way are lost, and
//! whether it is to be trusted with more, is judged by what was acknowledged of that way; see [`paths`]. How much is
//! under way there follows from the round trip, so that no text waits behind a file; see [`window`].
//!
//! # Invariants, kept by the property tests
//!
//! * A frame number is used once in a handshake, whatever happens: it is the cipher's nonce.
//! * Nothing leaves before it is durable here, so a seq never names two messages.
//! * A frame is acknowledged when all that it brought is durable, and not before. So `Delivered` is true.
//! * What the peer committed is surfaced once, in the order of its stream; only what came as a whole is.
//! * Nothing that a peer sends makes it hold more than a few megabytes: see [`span_bytes`].

mod commands;
mod epochs;
mod flight;
mod incoming;
mod machine;
mod outgoing;
mod paths;
mod receipts;
mod saved;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

pub use machine::Delivery;
pub use saved::{Change, Queued, Saved};

use super::Malformed;
use super::batch::{CONTROL, TEXT};
use super::body::Content;
use crate::proto::MessageId;

/// Most frames under way. With the smallest bucket that is what a fast relay holds in a second or two.
pub const WINDOW_FRAMES: usize = 256;
/// Most bytes of plaintext under way.
pub const WINDOW_BYTES: usize = 4 << 20;
/// The shortest loss timer. Three relays' round trips and their commits are well below.
pub const LOSS_TIME: Duration = Duration::from_secs(1);
/// The longest loss timer: what a peer that comes back silently is waited for.
pub const LOSS_TIME_LIMIT: Duration = Duration::from_secs(30);
/// How long acknowledgements are merged when the relays' budget is low. Less than [`LOSS_TIME`] by as much again, so
/// that waiting never looks like loss.
pub const ACK_MERGE_TIME: Duration = Duration::from_millis(500);
/// How long a receipt that has nothing to go with waits for company: of those of a stream of messages few leave. It is
/// durable all the while.
pub const READ_MERGE_TIME: Duration = Duration::from_millis(20);
/// After how long a silence the peer is asked whether it is there.
pub const PING_TIME: Duration = Duration::from_secs(90);
/// After how long a silence the peer counts as away: two pings.
pub const AWAY_TIME: Duration = Duration::from_secs(180);
/// After how long a silence the call is lost.
pub const LOST_TIME: Duration = Duration::from_secs(600);
/// How long an end waits for what is still under way.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);
/// How long the keys are kept after everything has arrived: the peer may have missed the last acknowledgement, and asks
/// again after [`LOSS_TIME`].
pub const LINGER_TIME: Duration = Duration::from_secs(2);
/// Frames under one key, at most.
pub const EPOCH_FRAMES: u64 = 65_536;
/// Time under one key, at most.
pub const EPOCH_TIME: Duration = Duration::from_secs(15 * 60);
/// How long the peer's old key is kept at most. Relays (strfry) hand out an ephemeral event for 300 s.
pub const OLD_KEY_TIME: Duration = Duration::from_secs(300);
/// Most file streams open in one direction.
pub const FILE_STREAMS: usize = 8;
/// Most entries that wait here; more is refused. The mailbox is for peers that are away for long.
pub const QUEUE_ENTRIES: usize = 16_384;
/// Most bytes that wait here.
pub const QUEUE_BYTES: usize = 16 << 20;
/// How far a sender runs ahead in a stream of the first entry that is not acknowledged, and a receiver holds back.
pub const SPAN_ENTRIES: u64 = 1_024;

/// What this span may cost, see [`cost`]: one machine holds 14 MiB at most.
pub const fn span_bytes(stream: u32) -> u64 {
    match stream {
        CONTROL => 256 << 10,
        TEXT => 4 << 20,
        _ => 1 << 20,
    }
}

/// What an entry costs: its body, and what keeping it takes.
const fn cost(body: usize) -> u64 {
    body as u64 + 64
}

/// An entry of ours: stream and seq.
type Key = (u32, u64);

/// A message of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its id, chosen by the peer. The journal's second layer of dedup: the mailbox may have brought it too.
    pub id: MessageId,
    /// Its place among the entries of its stream.
    pub seq: u64,
    /// What it says.
    pub content: Content,
}

/// What the outside world has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Persist this.
    Persist(Change),
    /// Act on this, in the same transaction.
    Event(Event),
    /// Delete the peer's keys of this epoch and all before.
    ForgetKey {
        /// The epoch, from 0.
        epoch: u64,
    },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer has committed this message of ours.
    Delivered(MessageId),
    /// The peer's application has taken this message of ours, and all before it.
    Read(MessageId),
    /// The deadline of this message of ours has passed, and it is withdrawn. The peer may have got it all the same.
    Expired(MessageId),
    /// Entries of the peer that are acknowledged and not acted on, for this reason. Worth a DEBUG line, not a row.
    Ignored(MessageId, &'static str),
    /// Nothing was heard of the peer for [`AWAY_TIME`].
    Away,
    /// The peer is back.
    Back,
    /// The peer has ended the call, and all that it said has come. Comes again after a restore.
    PeerEnded,
    /// It is over: delete the keys and drop the machine. For the mailbox, or to be failed: what is not delivered.
    Closed {
        /// Nothing was heard of the peer for [`LOST_TIME`]; otherwise one side has ended the call.
        lost: bool,
        /// Messages of ours, in their order.
        undelivered: Vec<MessageId>,
    },
}

/// A frame to be sealed and published. It must not be sealed twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The key epoch, from 0. When it rises, the session's sending key is renewed.
    pub epoch: u64,
    /// The frame's number, from 0 in each handshake.
    pub number: u64,
    /// What is sealed, padded.
    pub plaintext: Vec<u8>,
    /// It carries pieces of files and nothing that anybody waits for: one way is enough, and
    /// [`Delivery::handle_sent`] is to be told which. Pieces that a way has lost which loses many go over two, as all else.
    pub bulk: bool,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It was taken.
    Taken,
    /// It changes nothing, for this reason. Worth a DEBUG line.
    Dropped(&'static str),
    /// It carries a piece of a file, and the stream was not admitted since the start or [`Delivery::reload`]. It is as good
    /// as lost, unless it is handled again after [`Delivery::admit`].
    Early(u32),
    /// The peer wrote something that is not this dialect.
    Malformed(Malformed),
}

/// Why a command is not carried out. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The call ends, or has ended.
    #[error("the call has ended")]
    Ended,
    /// The queue is full.
    #[error("too much waits to be sent")]
    Full,
    /// It is longer than the dialect allows.
    #[error("{size} bytes are too long: at most {limit}")]
    TooLarge {
        /// Bytes of it.
        size: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// A chunk without bytes.
    #[error("a chunk without bytes")]
    Empty,
    /// A message of this id is under way.
    #[error("this message is under way already")]
    Repeated,
    /// The stream is not one that is open for this.
    #[error("this stream is not open")]
    NoStream,
    /// [`FILE_STREAMS`] are open.
    #[error("too many files at once")]
    TooManyFiles,
}
