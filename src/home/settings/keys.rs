//! The settings, one line each: name, variable, what values it takes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::way::WakeWay;
use crate::proto::QuietHours;
use crate::proto::presence::is_agent_id;
use crate::proto::{DESCRIPTION_LIMIT, SKILLS_LIMIT, read_skill};

/// How a webhook's secret begins (Standard Webhooks, 1.0).
pub const WEBHOOK_SECRET: &str = "whsec_";
/// How many bytes it has (the same).
const WEBHOOK_KEY: RangeInclusive<usize> = 24..=64;

/// Longest value of text, bytes: a webhook's address with its token fits.
const TEXT_LIMIT: usize = 2_048;
/// Most items of a list: what an announcement carries of capabilities.
const LIST_LIMIT: usize = 64;

/// Most servers of blobs: each is asked in turn, while somebody waits.
const SERVERS_LIMIT: usize = 4;

/// Largest file, MiB: a tebibyte.
const MOST_MIB: i64 = 1 << 20;

/// One setting.
#[derive(Debug, PartialEq)]
pub struct Key {
    /// Its name in `config.toml`.
    pub name: &'static str,
    /// The environment variable of the deployed agents.
    pub variable: Option<&'static str>,
    /// What it means, in a few words.
    pub about: &'static str,
    /// Written to `config.toml` at the first start: it is what the agent is known by.
    pub remembered: bool,
    /// A running daemon takes a change of it; otherwise it counts from the next start on.
    pub live: bool,
    /// Shown only when it is asked for by its name.
    pub secret: bool,
    kind: Kind,
}

#[derive(Debug, PartialEq)]
enum Kind {
    AgentId,
    Text,
    List,
    Relays,
    /// A description of the agent.
    Brief,
    Skills,
    /// Where something is served.
    Address,
    Whole(RangeInclusive<i64>),
    OneOf(&'static [&'static str]),
    Quiet,
    Whsec,
    Wakes,
    /// Servers of blobs.
    Servers,
}

const fn key(name: &'static str, variable: Option<&'static str>, about: &'static str, kind: Kind) -> Key {
    Key { name, variable, about, remembered: false, live: false, secret: false, kind }
}

/// Every setting.
pub static KEYS: [Key; 23] = [
    Key {
        remembered: true,
        ..key("agent_id", Some("P2P_AGENT_ID"), "the label that others call", Kind::AgentId)
    },
    Key {
        remembered: true,
        live: true,
        ..key("name", Some("P2P_AGENT_NAME"), "the display name", Kind::Text)
    },
    Key {
        remembered: true,
        live: true,
        ..key("capabilities", Some("P2P_CAPABILITIES"), "what this agent can do, a list", Kind::List)
    },
    Key {
        live: true,
        ..key("description", None, "what this agent is for, in a sentence or two", Kind::Brief)
    },
    Key {
        live: true,
        ..key(
            "skills",
            None,
            "what it can do, a list of NAME: WHAT IT DOES, separated by semicolons",
            Kind::Skills,
        )
    },
    Key {
        remembered: true,
        ..key(
            "relays",
            Some("P2P_NOSTR_RELAYS"),
            "where agents meet, a list of ws:// or wss:// URLs",
            Kind::Relays,
        )
    },
    Key {
        live: true,
        ..key("owner", Some("P2P_OWNER_CHANNEL"), "ways to the human owner, a list", Kind::List)
    },
    Key {
        live: true,
        ..key(
            "owner_quiet",
            None,
            "hours in which the owner is left alone: 22:00-07:00, or 22:00-07:00 +02:00; empty: none",
            Kind::Quiet,
        )
    },
    Key {
        live: true,
        secret: true,
        ..key("owner_webhook_secret", None, "signs what a webhook gets; made when it is needed", Kind::Whsec)
    },
    key("audit_mode", Some("P2P_AUDIT_MODE"), "the audit mode of the deployed agents", Kind::Text),
    key("audit_log", Some("P2P_AUDIT_LOG"), "the path of the audit log", Kind::Text),
    key(
        "metrics",
        None,
        "where Prometheus fetches figures: a port of this machine, or ADDRESS:PORT",
        Kind::Address,
    ),
    key(
        "durability",
        None,
        "what a commit waits for: full (the disk), os (the system; a power cut may take the last seconds)",
        Kind::OneOf(&["full", "os"]),
    ),
    key("ring_time_s", None, "how long a call rings, 5 to 600 seconds", Kind::Whole(5..=600)),
    key("max_calls", None, "how many calls may be up at once, 1 to 1000", Kind::Whole(1..=1_000)),
    Key {
        live: true,
        ..key(
            "strangers",
            None,
            "what becomes of calls of strangers: ring (3 an hour each, 30 in all), queue, reject",
            Kind::OneOf(&["ring", "queue", "reject"]),
        )
    },
    Key {
        live: true,
        ..key(
            "auto_accept",
            None,
            "whose calls are taken without asking: never, contact, known, anyone",
            Kind::OneOf(&["never", "contact", "known", "anyone"]),
        )
    },
    Key {
        live: true,
        ..key(
            "wake",
            None,
            "agents to wake when something waits, a list: openclaw:http://127.0.0.1:18789",
            Kind::Wakes,
        )
    },
    Key {
        live: true,
        ..key("wake_token_file", None, "the file with the token of OpenClaw's hooks, mode 600", Kind::Text)
    },
    Key {
        live: true,
        ..key(
            "wake_repeat_s",
            None,
            "after how long a wake is repeated for the first time, 5 to 3600 seconds",
            Kind::Whole(5..=3_600),
        )
    },
    Key {
        live: true,
        ..key(
            "file_limit_mib",
            None,
            "the largest file taken of a contact, in MiB; 0 takes none",
            Kind::Whole(0..=MOST_MIB),
        )
    },
    Key {
        live: true,
        ..key(
            "file_limit_others_mib",
            None,
            "the largest file taken of anybody else in a call, in MiB; 0 takes none",
            Kind::Whole(0..=MOST_MIB),
        )
    },
    Key {
        live: true,
        ..key(
            "blossom",
            None,
            "servers that keep encrypted files for agents that are away, a list of https:// URLs; empty: none",
            Kind::Servers,
        )
    },
];

impl Key {
    /// The setting of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Reads a value from a flag, a variable or the command line; lists are separated by commas.
    pub(super) fn parse(&self, text: &str) -> Result<toml::Value, String> {
        let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let value = match &self.kind {
            Kind::AgentId
            | Kind::Text
            | Kind::Brief
            | Kind::Address
            | Kind::OneOf(_)
            | Kind::Quiet
            | Kind::Whsec => toml::Value::from(text.trim()),
            // A way may hold commas, in a path or a query: each has a line of its own.
            Kind::List if self.name == "owner" => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                toml::Value::Array(lines.map(toml::Value::from).collect())
            }
            // What a skill does may need a comma.
            Kind::Skills => toml::Value::Array(
                text.split(';')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(toml::Value::from)
                    .collect(),
            ),
            Kind::List | Kind::Relays | Kind::Wakes | Kind::Servers => {
                toml::Value::Array(items().map(toml::Value::from).collect())
            }
            Kind::Whole(_) => toml::Value::from(
                text.trim().parse::<i64>().map_err(|_| "it takes a whole number".to_owned())?,
            ),
        };
        self.check(&value)?;
        Ok(value)
    }

    /// Is this a value of the setting? The error says what it takes.
    pub(super) fn check(&self, value: &toml::Value) -> Result<(), String> {
        match &self.kind {
            Kind::AgentId => match value.as_str() {
                Some(text) if is_agent_id(text) => Ok(()),
                _ => Err("it takes 1 to 128 characters, none of them a control character".to_owned()),
            },
            Kind::Text => check_text(value),
            Kind::Address => match value.as_str() {
                Some(text) if text.is_empty() || address(text).is_some() => Ok(()),
                _ => Err("it takes a port of the loopback address, or ADDRESS:PORT in numbers".to_owned()),
            },
            Kind::Brief => match value.as_str() {
                Some(text) if text.chars().count() <= DESCRIPTION_LIMIT => check_text(value),
                _ => Err(format!("it takes text of at most {DESCRIPTION_LIMIT} characters")),
            },
            Kind::Skills => match list(value)? {
                skills if skills.len() > SKILLS_LIMIT => {
                    Err(format!("it takes at most {SKILLS_LIMIT} skills"))
                }
                skills => skills
                    .iter()
                    .try_for_each(|skill| read_skill(skill.as_str().unwrap_or_default()).map(drop)),
            },
            Kind::List => list(value)?.iter().try_for_each(check_text),
            Kind::Relays => {
                let relays = list(value)?;
                if relays.is_empty() {
                    return Err("it takes at least one relay".to_owned());
                }
                relays.iter().try_for_each(check_relay)
            }
            Kind::Wakes => list(value)?.iter().try_for_each(|item| {
                check_text(item)?;
                item.as_str().map_or(Ok(()), |text| WakeWay::parse(text).map(drop))
            }),
            Kind::Servers => match list(value)? {
                servers if servers.len() > SERVERS_LIMIT => {
                    Err(format!("it takes at most {SERVERS_LIMIT} servers"))
                }
                servers => servers.iter().try_for_each(check_server),
            },
            Kind::OneOf(words) => match value.as_str() {
                Some(word) if words.contains(&word) => Ok(()),
                _ => Err(format!("it takes one of {}", words.join(", "))),
            },
            Kind::Quiet => match value.as_str() {
                Some("") => Ok(()),
                text => text
                    .unwrap_or_default()
                    .parse::<QuietHours>()
                    .map(drop)
                    .map_err(|error| error.to_string()),
            },
            // An empty one is made anew.
            Kind::Whsec => match value.as_str() {
                Some(text) if text.is_empty() || webhook_key(text).is_some() => Ok(()),
                _ => Err(format!(
                    "it takes {WEBHOOK_SECRET} and the base64 of {} to {} bytes",
                    WEBHOOK_KEY.start(),
                    WEBHOOK_KEY.end()
                )),
            },
            Kind::Whole(range) => match value.as_integer() {
                Some(number) if range.contains(&number) => Ok(()),
                _ => Err(format!("it takes a whole number from {} to {}", range.start(), range.end())),
            },
        }
    }
}

/// The bytes of a webhook's secret.
pub fn webhook_key(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text.strip_prefix(WEBHOOK_SECRET)?).ok()?;
    Some(bytes).filter(|bytes| WEBHOOK_KEY.contains(&bytes.len()))
}

/// An address to serve something at: a port alone is one of this machine.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    match text.parse::<u16>() {
        Ok(port) => Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        Err(_) => text.parse().ok(),
    }
}

fn list(value: &toml::Value) -> Result<&Vec<toml::Value>, String> {
    match value.as_array() {
        Some(items) if items.len() <= LIST_LIMIT => Ok(items),
        _ => Err(format!("it takes a list of at most {LIST_LIMIT} texts")),
    }
}

fn check_text(value: &toml::Value) -> Result<(), String> {
    match value.as_str() {
        Some(text) if text.len() <= TEXT_LIMIT && !text.chars().any(char::is_control) => Ok(()),
        _ => Err(format!("it takes text of at most {TEXT_LIMIT} bytes, without control characters")),
    }
}

fn check_relay(value: &toml::Value) -> Result<(), String> {
    check_text(value)?;
    let host = value.as_str().and_then(|url| url.strip_prefix("wss://").or(url.strip_prefix("ws://")));
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace) => {
            Ok(())
        }
        _ => Err("a relay is a URL that begins with wss:// or ws://".to_owned()),
    }
}

/// A server of blobs is a place of the web, and nothing behind it; without encryption only on this machine.
fn check_server(value: &toml::Value) -> Result<(), String> {
    check_text(value)?;
    let url = value.as_str().unwrap_or_default();
    let (host, open) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(host), _) => (host, false),
        (None, Some(host)) => (host, true),
        (None, None) => return Err("a server is a URL that begins with https://".to_owned()),
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    if host.is_empty() || host.contains(|it: char| it.is_whitespace() || matches!(it, '/' | '?' | '#' | '@'))
    {
        return Err("a server is https:// and its host, with a port if need be, and no path".to_owned());
    }
    let port = |(_, port): &(&str, &str)| port.parse::<u16>().is_ok();
    let name = host.rsplit_once(':').filter(port).map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let local = name == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match open && !local {
        true => Err("http:// is for servers on this machine; others begin with https://".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_blobs_is_on_the_web_encrypted_or_on_this_machine() {
        let check = |url: &str| check_server(&toml::Value::from(url));
        for url in [
            "https://blobs.example",
            "https://blobs.example:8443/",
            "https://[2606:4700::1]",
            "http://127.0.0.1:3000",
            "http://localhost",
            "http://[::1]:3000",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in [
            "",
            "blobs.example",
            "wss://blobs.example",
            "https://",
            "https://blobs.example/path",
            "https://blobs.example?x",
            "https://user@blobs.example",
            "http://blobs.example",
            "http://127.blobs.example",
            "http://10.0.0.1",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
    }
}
