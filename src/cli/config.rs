//! `config`: what this agent is set to.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::session::{Session, ask};
use super::{DONE, Verdict};
use crate::api::{Command, Done};
use crate::daemon;
use crate::home::Home;
use crate::home::Settings;
use crate::home::settings::{self, KEYS, Key, Source};

/// What stands in a list of all settings for one that is secret.
const KEPT: &str = "(secret)";

/// What this agent is set to
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm config set relays ws://127.0.0.1:7447,wss://nos.lol

Settings: agent_id, name, capabilities, relays, owner, owner_quiet, owner_webhook_secret, audit_mode, audit_log,
ring_time_s, max_calls, strangers, auto_accept, wake, wake_token_file, wake_repeat_s, description, skills, metrics,
file_limit_mib, file_limit_others_mib, durability. Lists are separated by commas, skills by semicolons.
Flags count more than the environment (P2P_AGENT_ID, P2P_AGENT_NAME, P2P_CAPABILITIES,
P2P_NOSTR_RELAYS, P2P_OWNER_CHANNEL, P2P_AUDIT_MODE, P2P_AUDIT_LOG), that more than config.toml, that more than the
defaults.")]
pub(super) struct Config {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Every setting, and where it comes from
    Show,
    /// One setting
    Get { key: String },
    /// Change one in config.toml
    Set { key: String, value: String },
}

impl Config {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let home = session.home()?;
        match self.verb {
            ConfigVerb::Show => {
                let mut shown = effective(&home)?;
                for (_, value, _) in shown.iter_mut().filter(|(key, value, _)| key.secret && !value.is_null())
                {
                    *value = json!(KEPT);
                }
                let file = home.config().display().to_string();
                let settings: Map<String, Value> = shown
                    .iter()
                    .map(|(key, value, source)| {
                        (key.name.to_owned(), json!({"value": value, "source": source}))
                    })
                    .collect();
                session.printer.data(&json!({"file": file, "settings": settings}), || {
                    let lines = shown.iter().map(|(key, value, source)| {
                        format!("{} = {value}  ({source}): {}", key.name, key.about)
                    });
                    format!("{file}\n{}", lines.collect::<Vec<_>>().join("\n"))
                })?;
            }
            ConfigVerb::Get { key } => print_one(session, &home, &key)?,
            ConfigVerb::Set { key, value } => {
                let changed = settings::set(&home, &key, &value)?;
                let is_running = reload(session).await?;
                if is_running && !changed.live {
                    session.printer.talk("hint: it counts from the next start on: p2p-comm daemon stop");
                }
                print_one(session, &home, &key)?;
            }
        }
        Ok(DONE)
    }
}

fn print_one(session: &Session, home: &Home, name: &str) -> Result<(), super::Stop> {
    let shown = effective(home)?;
    let (_, value, source) =
        shown.iter().find(|(key, ..)| key.name == name).ok_or_else(|| settings::unknown_key(name))?;
    session.printer.data(&json!({"key": name, "value": value, "source": source}), || match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

/// Tells a running daemon that the file has changed; starts none. Returns whether there is one.
pub(super) async fn reload(session: &Session) -> Result<bool, crate::api::Error> {
    let Some((client, _)) = daemon::probe(&session.home()?).await? else { return Ok(false) };
    ask::<Done>(&client, Command::Reload {}).await?;
    Ok(true)
}

/// Every setting with its value and where that comes from.
fn effective(home: &Home) -> Result<Vec<(&'static Key, Value, String)>, crate::api::Error> {
    let layers = settings::load(home, &[])?;
    let defaults = Settings::default();
    let shown = KEYS.iter().map(|key| match layers.entries.iter().find(|entry| entry.key == key) {
        Some(entry) => {
            let source = match entry.source {
                Source::Flag => "flag".to_owned(),
                Source::Variable(name) => name.to_owned(),
                Source::File => "config.toml".to_owned(),
            };
            (key, json!(entry.value), source)
        }
        None => (key, default_of(&defaults, key.name), "default".to_owned()),
    });
    Ok(shown.collect())
}

fn default_of(defaults: &Settings, name: &str) -> Value {
    match name {
        "capabilities" => json!(defaults.capabilities),
        "relays" => json!(defaults.relays),
        "owner" => json!(defaults.owner),
        "owner_quiet" => json!(""),
        "durability" => json!(defaults.durability),
        "ring_time_s" => json!(defaults.ring_time_s),
        "max_calls" => json!(defaults.max_calls),
        "strangers" => json!(defaults.strangers),
        "wake" => json!(defaults.wake.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "wake_repeat_s" => json!(defaults.wake_repeat_s),
        "auto_accept" => json!(settings::auto_accept_word(defaults.auto_accept)),
        "file_limit_mib" => json!(defaults.file_limit_mib),
        "file_limit_others_mib" => json!(defaults.file_limit_others_mib),
        // Made from the key, or not set.
        _ => Value::Null,
    }
}
