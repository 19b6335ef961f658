//! The v2 dialect's pure half: frames, batches, and the delivery machine that runs on them.
//!
//! ```text
//!   relay event, kind 21059                          frame     "#p2p1." base64(version, epoch, number, ciphertext)
//!        └─ ciphertext, opened by the session          │
//!             └─ plaintext: length, batch, zeros       │       padded, so that a relay learns a bucket, not a size
//!                  └─ batch                            batch   what the peer has received, and a list of entries
//!                       └─ entry: stream, seq, type, id, body
//!                            └─ body                   body    part of a text, a file's offer, a chunk, …
//!
//!   signal     what is said about a call outside of it: invite, accept, …; JSON in a gift wrap
//!   delivery   which entries go into which frame, what to acknowledge, what is lost, what comes next
//! ```
//!
//! Everything here is bytes in, bytes out. Encryption stays outside: the session (`transport`) turns the plaintext of a
//! [`delivery::Transmit`] into a [`frame::Frame`] and back. The format itself is specified in `docs/protocol.md`;
//! `tests/vectors/frames.json` pins it.

pub mod batch;
pub mod body;
mod cbor;
pub mod delivery;
pub mod frame;
pub mod parcel;
pub mod refusal;
pub mod signal;
#[cfg(test)]
mod vectors;

/// Why bytes from a peer are not what they should be. Nothing is done with them then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin as a frame does.
    #[error("not a frame")]
    NotAFrame,
    /// A frame of another version.
    #[error("frame version {0}")]
    Version(u8),
    /// Not base64 of the standard alphabet with its padding.
    #[error("not base64")]
    Base64,
    /// Longer or shorter than anything that this dialect writes.
    #[error("wrong length")]
    Length,
    /// The padding is not zeros up to the next bucket.
    #[error("wrong padding")]
    Padding,
    /// Not CBOR, or not of this shape.
    #[error("not the CBOR that belongs here")]
    Cbor,
    /// CBOR that says it in another way than the one that is allowed.
    #[error("not in deterministic encoding")]
    NotDeterministic,
    /// A number or a length that this dialect does not allow.
    #[error("{0} out of bounds")]
    OutOfBounds(&'static str),
}
