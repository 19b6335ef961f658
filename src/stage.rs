//! The stages that a message passes, for whoever measures them: `make bench`, table "where the time goes".
//!
//! A mark is an event of `tracing` at TRACE without fields, under a target of its own: its name is the stage, and the one
//! who listens takes the time. While nobody listens, a mark is one load and one branch.

/// Under what name marks are told.
pub const TARGET: &str = "p2p_comm::stage";

/// A message is here: `stage!("sealed")`.
macro_rules! stage {
    ($name:literal) => {
        tracing::trace!(name: $name, target: crate::stage::TARGET, "")
    };
}
