//! The command line without Python, for tests and for `cargo install`.

use std::env;
use std::process::ExitCode;

use p2p_comm::cli;
use p2p_comm::daemon::Launcher;

fn main() -> ExitCode {
    let args: Vec<_> = env::args_os().collect();
    // Without /proc, the name that it was called by finds it again on the path.
    let program = env::current_exe().ok().map(Into::into).or_else(|| args.first().cloned());
    let launcher = Launcher { program: program.unwrap_or_else(|| "p2p-comm".into()), args: Vec::new() };
    ExitCode::from(cli::run(args, launcher))
}
