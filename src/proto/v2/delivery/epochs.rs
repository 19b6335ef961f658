//! Key epochs: when ours begins, and when the peer's last one is over. The keys themselves are the session's.
//!
//! A sender begins an epoch only after the peer has acknowledged a frame of the one before (RFC 9001, 6.1). So a
//! receiver is at most one behind, and eight bits on the wire are enough for any number of epochs.

use super::{EPOCH_FRAMES, EPOCH_TIME, OLD_KEY_TIME};
use crate::proto::Millis;

/// Both directions' epochs in one handshake.
#[derive(Debug, Clone)]
pub(super) struct Epochs {
    sending: u64,
    /// When, and with which number, it began.
    since: Millis,
    first: u64,
    /// The peer has acknowledged a frame of it.
    confirmed: bool,
    receiving: u64,
    /// The lowest number seen in it, and when the key of the epoch before is forgotten at the latest.
    before: Option<(u64, Millis)>,
}

impl Epochs {
    pub(super) fn new(now: Millis) -> Self {
        Self { sending: 0, since: now, first: 0, confirmed: false, receiving: 0, before: None }
    }

    /// The epoch of the frame that leaves now with this number.
    pub(super) fn for_sending(&mut self, number: u64, now: Millis) -> u64 {
        if self.confirmed && (number - self.first >= EPOCH_FRAMES || now.since(self.since) >= EPOCH_TIME) {
            self.sending += 1;
            (self.since, self.first, self.confirmed) = (now, number, false);
        }
        self.sending
    }

    /// The peer has a frame of this epoch.
    pub(super) fn confirm(&mut self, epoch: u64) {
        self.confirmed |= epoch == self.sending;
    }

    /// The epoch that a frame's eight bits mean: the current one of the peer, the next, or the one before for as long
    /// as its key is kept.
    pub(super) fn of(&self, bits: u8) -> Option<u64> {
        let oldest = self.receiving - u64::from(self.before.is_some());
        (oldest..=self.receiving + 1).find(|epoch| *epoch as u8 == bits)
    }

    /// A frame of the peer was opened with the key of this epoch.
    pub(super) fn opened(&mut self, epoch: u64, number: u64, now: Millis) {
        if epoch > self.receiving {
            (self.receiving, self.before) = (epoch, Some((number, now + OLD_KEY_TIME)));
        } else if epoch == self.receiving
            && let Some((first, _)) = &mut self.before
        {
            *first = number.min(*first);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Millis> {
        self.before.map(|(_, until)| until)
    }

    /// The epoch whose key, and all before, can be forgotten now: nothing more comes under it that is not known.
    pub(super) fn retire(&mut self, has_all_below: impl Fn(u64) -> bool, now: Millis) -> Option<u64> {
        let (first, until) = self.before?;
        if !has_all_below(first) && now < until {
            return None;
        }
        self.before = None;
        Some(self.receiving - 1)
    }
}
