//! L1, HTTP for the doors that speak it: a listener of bounded appetite, the guards in front of every page, and secrets.
//!
//! ```text
//!  connection ─▶ serve: a place, a head in time ─▶ guard: Host, Origin, Sec-Fetch-Site ─▶ the door's router
//!                                                  ▲ and on the way back: headers that forbid what no page here needs
//! ```
//!
//! # Invariants
//!
//! * A web page of somebody else reaches nothing. Its requests carry an `Origin` or a `Sec-Fetch-Site` that is not
//!   ours; a name that was made to point here (DNS rebinding) is not ours, either.
//! * Whatever clients do, a door holds at most [`CONNECTIONS`] of them, and a body of [`BODY_LIMIT`] bytes for each.
//! * Secrets are compared in constant time, and appear in no log.

mod guard;
mod secret;
mod serve;

pub use self::guard::{Names, guard};
pub use self::secret::Secret;
pub use self::serve::{BODY_LIMIT, body, listen, serve};

/// Connections that a door holds at once: one browser opens six, and a program a handful.
pub const CONNECTIONS: usize = 64;
