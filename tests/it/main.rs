//! What needs the whole crate, a process or a socket: the command line, the daemon, the socket, the layers.

mod cli;
mod daemon;
mod ipc;
mod layering;
mod support;
