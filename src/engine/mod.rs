//! L2, the only place where clock, randomness, tasks and state meet: receive → persist → transmit → notify.

mod handle;

pub use handle::{Handle, Request, Submitted};
