//! The command line without Python, for tests and for `cargo install`.

fn main() {}
