//! L4, the command line: one verb, one file. Its readers are language models that drive it through a shell, then people.
//!
//! # Life of a command
//!
//! ```text
//!  argv ─▶ words (text with dashes) ─▶ clap ─▶ verb ─▶ home ─▶ daemon (started if needed) ─▶ Command ─▶ Reply
//!                                                                                             │
//!  exit code ◀── verdict ◀── what was shown is committed ◀── flushed ◀── Printer ◀────────────┘
//! ```
//!
//! # Invariants
//!
//! * stdout is data, stderr is talk, the exit code is the verdict; it is returned, never taken by `exit`.
//! * With `--json`, stdout is exactly one JSON object, errors included.
//! * Text of other people leaves only through [`crate::proto::text`], or as a JSON string.
//! * What was not printed is not taken: an event is committed after stdout was flushed.
//! * Help starts neither a runtime nor a daemon.

mod a2a;
mod answer;
mod call;
mod calls;
mod completions;
mod config;
mod contacts;
mod daemon;
mod dashboard;
mod demo;
mod doctor;
mod end;
mod escalate;
mod identity;
mod inbox;
mod install;
mod list;
mod mcp;
mod messages;
mod metrics;
mod on;
mod owner;
mod password;
mod printer;
mod progress;
mod relay;
mod rewake;
mod send;
mod sendfile;
mod session;
mod show;
mod skill;
mod status;
mod transcript;
mod usage;
mod wait;
mod words;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use self::printer::{Printer, Stop};
use self::session::Session;
use crate::api::Error;
use crate::daemon::Launcher;

/// Done.
const DONE: u8 = 0;
/// Refused or failed.
const FAILED: u8 = 1;
/// The time was up, and nothing is lost: what `timeout` of coreutils exits with.
const TIMEOUT: u8 = 124;
/// Interrupted: what a shell shows for SIGINT.
const INTERRUPTED: u8 = 130;
/// Whoever read stdout is gone: what a shell shows for SIGPIPE.
const BROKEN_PIPE: u8 = 141;

/// What a verb comes to: the exit code, or why it was not carried out.
type Verdict = Result<u8, Stop>;

#[derive(Debug, Parser)]
#[command(name = "p2p-comm", version, override_help = include_str!("help.txt"), color = clap::ColorChoice::Never)]
#[command(max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Common {
    /// Print exactly one JSON object; also P2P_COMM_OUTPUT=json
    #[arg(long, global = true, overrides_with = "json")]
    json: bool,
    /// The agent's folder; also P2P_COMM_HOME; ~/.openclaw if neither is given
    #[arg(long, global = true, value_name = "DIR", overrides_with = "home")]
    home: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Status(status::Status),
    List(list::List),
    Call(call::Call),
    Answer(answer::Answer),
    Send(send::Send),
    Sendfile(sendfile::SendFile),
    Escalate(escalate::Escalate),
    End(end::End),
    Inbox(inbox::Inbox),
    Wait(wait::Wait),
    On(on::On),
    Messages(messages::Messages),
    Transcript(transcript::Transcript),
    Calls(calls::Calls),
    Contacts(contacts::Contacts),
    Identity(identity::Identity),
    Owner(owner::Owner),
    Config(config::Config),
    Daemon(daemon::Daemon),
    Relay(relay::Relay),
    Doctor(doctor::Doctor),
    Demo(demo::Demo),
    Mcp(mcp::Mcp),
    Skill(skill::Skill),
    Dashboard(dashboard::Dashboard),
    A2a(a2a::A2a),
    Metrics(metrics::Metrics),
    #[command(hide = true)]
    Logs(daemon::Logs),
    #[command(hide = true)]
    Service(daemon::Run),
    #[command(hide = true)]
    RotateKeys(identity::Rotate),
    Completions(completions::Completions),
}

/// Carries out one command line; `args` begins with the name of the program. Returns the exit code.
pub fn run(args: Vec<OsString>, launcher: Launcher) -> u8 {
    crate::home::restrict_new_files();
    let args = words::arrange(args);
    let printer = Printer::new(usage::wants_json(&args));
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage::answer(&error, &args, &printer),
    };
    let session = Session::new(printer, cli.common.home, launcher);
    let verdict = cli.verb.run(&session);
    match verdict {
        Ok(code) => code,
        Err(Stop::Error(error)) => printer.error(&error),
        Err(Stop::BrokenPipe) => BROKEN_PIPE,
    }
}

impl Verb {
    fn run(self, session: &Session) -> Verdict {
        match self {
            // These need no daemon, or are one, and bring what they run in.
            Self::Daemon(daemon::Daemon { verb: daemon::DaemonVerb::Run(run) }) | Self::Service(run) => {
                run.run(session)
            }
            Self::Relay(verb) => verb.run(session),
            Self::Demo(verb) => verb.run(session),
            Self::Completions(verb) => verb.run(session),
            Self::Status(verb) => block_on(verb.run(session)),
            Self::List(verb) => block_on(verb.run(session)),
            Self::Call(verb) => block_on(verb.run(session)),
            Self::Answer(verb) => block_on(verb.run(session)),
            Self::Send(verb) => block_on(verb.run(session)),
            Self::Sendfile(verb) => block_on(verb.run(session)),
            Self::Escalate(verb) => block_on(verb.run(session)),
            Self::End(verb) => block_on(verb.run(session)),
            Self::Inbox(verb) => block_on(verb.run(session)),
            Self::Wait(verb) => block_on(verb.run(session)),
            Self::On(verb) => block_on(verb.run(session)),
            Self::Messages(verb) => block_on(verb.run(session)),
            Self::Transcript(verb) => block_on(verb.run(session)),
            Self::Calls(verb) => block_on(verb.run(session)),
            Self::Contacts(verb) => block_on(verb.run(session)),
            Self::Identity(verb) => block_on(verb.run(session)),
            Self::RotateKeys(verb) => block_on(verb.run(session)),
            Self::Owner(verb) => block_on(verb.run(session)),
            Self::Config(verb) => block_on(verb.run(session)),
            Self::Doctor(verb) => block_on(verb.run(session)),
            Self::Mcp(verb) => block_on(verb.run(session)),
            Self::Skill(verb) => block_on(verb.run(session)),
            Self::Dashboard(verb) => block_on(verb.run(session)),
            Self::A2a(verb) => block_on(verb.run(session)),
            Self::Metrics(verb) => block_on(verb.run(session)),
            Self::Logs(verb) => block_on(verb.run(session)),
            Self::Daemon(verb) => block_on(verb.run(session)),
        }
    }
}

/// Runs a verb to its end, or until Ctrl-C.
fn block_on(verb: impl Future<Output = Verdict>) -> Verdict {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::internal)?;
    let verdict = runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(Error::internal);
        let mut interrupt = listen(SignalKind::interrupt())?;
        // A daemon that hangs up, or a reader that does, is an error to be told, not a silent end.
        drop(listen(SignalKind::pipe())?);
        tokio::select! {
            biased;
            _ = interrupt.recv() => Ok(INTERRUPTED),
            verdict = verb => verdict,
        }
    });
    // Whoever reads a terminal cannot be interrupted: it ends with the process.
    runtime.shutdown_background();
    verdict
}
