//! What needs the whole crate, a process or a socket: the command line, the daemon, the socket, the layers.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod cli;
mod daemon;
mod doctor;
mod ipc;
mod keys;
mod layering;
mod mutants;
mod sample;
mod secrets;
mod supply;
mod support;
