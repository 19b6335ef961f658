//! L1: relays.
