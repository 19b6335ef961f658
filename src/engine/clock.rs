//! The clock and the dice: read here, and handed down as values.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::proto::{Hex, Millis};

/// What the wall clock says.
pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(since.as_millis() as u64)
}

/// A fresh id.
pub(super) fn fresh<const N: usize>() -> Hex<N> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness once it is up");
    Hex(bytes)
}

/// A fresh room: a UUID, as deployed agents make it.
pub(super) fn fresh_room() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A number below `bound`; for jitter, so a slight bias is no harm.
pub(super) fn below(bound: u64) -> u64 {
    u64::from_be_bytes(fresh::<8>().0) % bound.max(1)
}
