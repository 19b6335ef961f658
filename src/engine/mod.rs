//! L2, the only place where clock, randomness, tasks and state meet: receive → persist → transmit → notify.
//!
//! ```text
//!   commands (Handle) ─┐                                   ┌─► replies
//!   relays (Pool) ─────┼─► one thread: a batch at a time ──┼─► events published
//!   owner's channels ──┤    begin · handle · drain · commit└─► waiters woken, owner asked
//!   clock ─────────────┘
//! ```
//!
//! The engine's thread owns all state: the database, the switchboard, the directory. It takes what waits, up to
//! [`turns::BATCH`] inputs, handles them in one transaction, commits once, and only then lets anything out. So a
//! burst shares one sync of the disk, and a slow disk stalls neither sockets nor other processes: those are tasks of
//! the runtime, on the far side of a bounded channel.
//!
//! A batch that cannot be committed is rolled back whole: its commands hear why, the switchboard is read again from
//! the database, and what relays had delivered is asked for again, since no cursor has moved.
//!
//! Rooms: `start` (opening a home), `keys` (its identity), `turns` (the loop), `core` (the state, and how one command is asked), `authority` (who may what), `effects` (what a committed batch lets out), `commands` with one file a topic (what users ask), `inbound`
//! (what relays say), `outputs` (what the machines want), `asking` (questions on their way to the owner), `presence`, `rotation` (whose key changes), `strangers` (what of theirs waits, and who claims a name), `earlier` (the key that this agent had before), `code` (the file that runs), `files`, `works` (what is done to files beside this thread), `staging` (copies of ours), `folders`, `disk`, `torn` (what a crash of the machine leaves), `views` (rows to replies), `v2` (calls of
//! that dialect: signals, sessions, mailbox).

mod asking;
mod audit;
mod authority;
mod book;
mod clock;
pub mod code;
mod commands;
mod core;
mod disk;
mod earlier;
mod effects;
mod files;
mod folders;
mod handle;
mod inbound;
pub mod keys;
mod metrics;
mod outlook;
mod outputs;
mod parcels;
mod presence;
mod rotation;
mod seen;
mod staging;
mod start;
mod strangers;
#[cfg(test)]
mod tests;
mod torn;
mod turns;
mod v2;
mod views;
mod waiting;
mod works;

pub use crate::owner::runs_in_python;
pub use handle::{Handle, ReplyTo, Request, Submitted, Unsent, stopped};
pub use start::{Engine, Options};
