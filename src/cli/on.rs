//! `on`: programs of the user's that the daemon runs when something happens.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::session::{Session, ask};
use super::usage::usage;
use super::{DONE, Verdict, config, show, wait};
use crate::api::{Command, Error, ErrorKind, EventKind, Messages};
use crate::home::hooks::{self, Hook};
use crate::proto::text::{escape, quote, shell_word};
use crate::wake::find_program;

/// Run a program when something happens
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    override_usage = "p2p-comm on EVENT[,EVENT…] [--timeout SECONDS] -- PROGRAM [ARG…]\n       p2p-comm on list\n       p2p-comm on remove ID",
    after_help = "\
Example: p2p-comm on call.ringing,message.received -- /usr/local/bin/notify --sound bell
         p2p-comm on list

The daemon runs the program for each event that comes from now on, in order, one at a time: the event as one JSON object on
standard input (as wait --json prints it), and P2P_EVENT, P2P_CURSOR, P2P_CALL, P2P_MESSAGE, P2P_TICKET, P2P_PEER, P2P_TRY
and P2P_COMM_HOME in its environment. No shell is used, and its output is not kept. An exit code other than 0 means: again,
after 1 s, 2 s, 4 s and so on, ten times in all. A run may come twice after a crash. Peers' words in it are data."
)]
pub(super) struct On {
    #[command(subcommand)]
    verb: Option<OnVerb>,
    /// Kinds of event, separated by commas
    #[arg(value_name = "EVENT", value_delimiter = ',', value_parser = wait::kind)]
    events: Vec<EventKind>,
    /// How long one run may take, 1 to 600
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// The program and its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    run: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum OnVerb {
    /// Which programs run, and for what
    List,
    /// Run one no more
    Remove { id: String },
}

impl On {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        match self.verb {
            None => add(session, self.events, self.timeout, self.run).await,
            Some(OnVerb::List) => list(session),
            Some(OnVerb::Remove { id }) => {
                let removed = hooks::remove(&session.home()?, &id)?;
                config::reload(session).await?;
                session
                    .printer
                    .data(&json!({ "removed": view(&removed) }), || format!("removed {}", line(&removed)))?;
                Ok(DONE)
            }
        }
    }
}

async fn add(session: &Session, mut events: Vec<EventKind>, timeout_s: u64, mut run: Vec<String>) -> Verdict {
    events.sort_unstable();
    events.dedup();
    let Some(program) = run.first_mut().filter(|_| !events.is_empty()) else {
        let hint = "p2p-comm on call.ringing -- PROGRAM; see: p2p-comm on --help";
        return Err(usage("on needs an event, and a program behind --", hint).into());
    };
    let found = find_program(program).map_err(|error| {
        Error::new(
            ErrorKind::FileNotFound,
            format!("{} cannot be run: {error}", quote(program)),
            "name a program by its path, or one in a folder of PATH; chmod +x makes a script one",
        )
    })?;
    *program = found.into_os_string().into_string().map_err(|path| {
        let message = format!("{} is not UTF-8", quote(&Path::new(&path).display().to_string()));
        Error::new(ErrorKind::InvalidValue, message, "give it another name, or a link to it")
    })?;
    let home = session.home()?;
    let client = session.client().await?;
    // From now on: what has happened before is not run for.
    let Messages { cursor: after, .. } =
        ask(&client, Command::Messages { call: None, unread: false, limit: 0 }).await?;
    let mut id = [0; 4];
    getrandom::fill(&mut id).map_err(Error::internal)?;
    let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let hook = Hook { id, events, run, timeout_s, after };
    hooks::add(&home, hook.clone())?;
    config::reload(session).await?;
    session.printer.data(&view(&hook), || line(&hook))?;
    Ok(DONE)
}

fn list(session: &Session) -> Verdict {
    let hooks = hooks::read(&session.home()?)?;
    let views: Vec<_> = hooks.iter().map(view).collect();
    session.printer.data(&json!({ "hooks": views }), || {
        show::lines(&hooks, "nothing runs when something happens", line)
    })?;
    Ok(DONE)
}

fn view(hook: &Hook) -> serde_json::Value {
    json!({
        "id": hook.id,
        "events": hook.events,
        "run": hook.run,
        "timeout_s": hook.timeout_s,
        "error": flaw(hook),
    })
}

fn line(hook: &Hook) -> String {
    let events: Vec<_> = hook.events.iter().map(|kind| kind.word()).collect();
    let words: Vec<_> = hook.run.iter().map(|word| escape(&shell_word(word))).collect();
    let flaw = flaw(hook).map_or_else(String::new, |error| format!("  (cannot be run: {error})"));
    format!("{}  {}: {}{flaw}", hook.id, events.join(","), words.join(" "))
}

/// Why it could not be run now.
pub(super) fn flaw(hook: &Hook) -> Option<String> {
    hook.run.first().and_then(|program| find_program(program).err()).map(|error| error.to_string())
}
