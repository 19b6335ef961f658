//! `status`: who am I, which relays, which calls.

use clap::Args;

use super::session::{Session, ask};
use super::{DONE, Verdict, show};
use crate::api::{self, Command};
use crate::home::settings::auto_accept_word;
use crate::proto::text::quote;

/// Who am I, which relays, which calls
#[derive(Debug, Args)]
#[command(after_help = "Example: p2p-comm status --json")]
pub(super) struct Status {}

impl Status {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let client = session.client().await?;
        let status: api::Status = ask(&client, Command::Status {}).await?;
        session.printer.data(&status, || plain(&status))?;
        Ok(DONE)
    }
}

fn plain(status: &api::Status) -> String {
    let agent = &status.agent;
    let capabilities: Vec<_> = agent.capabilities.iter().map(|name| quote(name)).collect();
    let capabilities = if capabilities.is_empty() { "none".to_owned() } else { capabilities.join(" ") };
    let offset =
        status.clock_offset_s.map_or_else(|| "unknown".to_owned(), |offset| format!("{offset:+.1} s"));
    format!(
        "agent {} {}\nnpub {}\nkey {}\nfingerprint {}\ncapabilities {capabilities}\nhome {}\n\
         daemon {}, pid {}, up {:.0} s\n{}\nclock offset {offset}\n{}\n\
         strangers {}\nauto-accept {}\nunread {}\noutbox {} queued, {} failed",
        quote(&agent.id),
        quote(&agent.name),
        agent.npub,
        agent.pubkey,
        agent.fingerprint,
        agent.home,
        status.daemon.version,
        status.daemon.pid,
        status.daemon.uptime_s,
        show::lines(&status.relays, "no relays", show::relay),
        show::lines(&status.calls, "no live calls", show::call),
        status.door.strangers.word(),
        auto_accept_word(status.door.auto_accept),
        status.unread,
        status.outbox.queued,
        status.outbox.failed,
    )
}
