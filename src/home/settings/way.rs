//! An agent's host that can be woken, as the setting `wake` names it.

use std::fmt;

/// How to wake the host of an agent. All three are OpenClaw's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WakeWay {
    /// `POST …/agent`: a turn of its own, which can be repeated without beginning twice.
    Turn(Endpoint),
    /// `POST …/wake`: a notice in the agent's main session.
    Notice(Endpoint),
    /// `openclaw system event`: the same notice, by the program of this name or path.
    Program(String),
}

/// Where a gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The whole address, `http://127.0.0.1:18789/hooks/agent`.
    pub url: String,
    /// Which of its agents; its own choice if absent.
    pub agent: Option<String>,
}

/// What a word of the setting begins with.
const PREFIX: &str = "openclaw";
/// The path of the hooks unless the gateway has another (`hooks.path`).
const DEFAULT_PATH: &str = "/hooks/agent";
/// Plain HTTP goes to this machine only.
const LOCAL: [&str; 3] = ["http://127.0.0.1", "http://localhost", "http://[::1]"];

impl WakeWay {
    /// Reads `openclaw:http://127.0.0.1:18789`, with a path that ends in `/agent` or `/wake` if need be and `#AGENT` for
    /// one of several agents; `openclaw` or `openclaw:/path/of/openclaw` for the program.
    ///
    /// # Errors
    /// What it takes.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let place = match text.strip_prefix(PREFIX) {
            Some("") => return Ok(Self::Program(PREFIX.to_owned())),
            Some(rest) => rest.strip_prefix(':'),
            None => None,
        };
        let Some(place) = place else { return Err(takes()) };
        if place.starts_with('/') {
            return Ok(Self::Program(place.to_owned()));
        }
        let (address, agent) = match place.split_once('#') {
            Some((address, agent)) if !agent.is_empty() => (address, Some(agent.to_owned())),
            Some(_) => return Err(takes()),
            None => (place, None),
        };
        if address.contains(['?', '@', ' ']) {
            return Err(
                "a wake's address has no user, password or query: the token goes into a file".to_owned()
            );
        }
        let is_local = LOCAL.iter().any(|start| {
            address.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        });
        let Some((_, host)) =
            address.split_once("://").filter(|_| is_local || address.starts_with("https://"))
        else {
            return Err("a wake goes to this machine (http://127.0.0.1:18789) or over https://".to_owned());
        };
        let (host, path) = match host.find('/') {
            Some(start) => host.split_at(start),
            None => (host, ""),
        };
        if host.is_empty() {
            return Err(takes());
        }
        let address = address.trim_end_matches('/');
        match path.trim_end_matches('/') {
            "" => Ok(Self::Turn(Endpoint { url: format!("{address}{DEFAULT_PATH}"), agent })),
            path if path.ends_with("/agent") => Ok(Self::Turn(Endpoint { url: address.to_owned(), agent })),
            path if path.ends_with("/wake") => Ok(Self::Notice(Endpoint { url: address.to_owned(), agent })),
            _ => Err("the path of a wake ends in /agent (a turn of its own) or /wake (a notice)".to_owned()),
        }
    }
}

impl fmt::Display for WakeWay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(program) if program == PREFIX => formatter.write_str(PREFIX),
            Self::Program(program) => write!(formatter, "{PREFIX}:{program}"),
            Self::Turn(Endpoint { url, agent }) | Self::Notice(Endpoint { url, agent }) => {
                write!(formatter, "{PREFIX}:{url}")?;
                agent.as_ref().map_or(Ok(()), |agent| write!(formatter, "#{agent}"))
            }
        }
    }
}

fn takes() -> String {
    "it takes openclaw, openclaw:/path/of/openclaw or openclaw:http://127.0.0.1:18789[/hooks/wake][#AGENT]"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str, agent: Option<&str>) -> Endpoint {
        Endpoint { url: url.into(), agent: agent.map(String::from) }
    }

    #[test]
    fn each_way_to_a_host_is_read() {
        let gateway = "http://127.0.0.1:18789";
        for (text, way) in [
            ("openclaw", WakeWay::Program("openclaw".into())),
            ("openclaw:/opt/bin/openclaw", WakeWay::Program("/opt/bin/openclaw".into())),
            (&format!("openclaw:{gateway}"), WakeWay::Turn(at(&format!("{gateway}/hooks/agent"), None))),
            (&format!("openclaw:{gateway}/"), WakeWay::Turn(at(&format!("{gateway}/hooks/agent"), None))),
            (
                &format!("openclaw:{gateway}#main"),
                WakeWay::Turn(at(&format!("{gateway}/hooks/agent"), Some("main"))),
            ),
            (
                &format!("openclaw:{gateway}/claw/agent/"),
                WakeWay::Turn(at(&format!("{gateway}/claw/agent"), None)),
            ),
            (
                &format!("openclaw:{gateway}/hooks/wake"),
                WakeWay::Notice(at(&format!("{gateway}/hooks/wake"), None)),
            ),
            (
                "openclaw:https://h.example/hooks/wake#b",
                WakeWay::Notice(at("https://h.example/hooks/wake", Some("b"))),
            ),
        ] {
            let read = WakeWay::parse(text).unwrap();
            assert_eq!(read, way, "{text}");
            assert_eq!(WakeWay::parse(&read.to_string()).unwrap(), way, "{read}");
        }
    }

    #[test]
    fn a_wake_leaves_this_machine_only_encrypted_and_its_address_holds_no_secret() {
        for text in [
            "",
            "telegram:1",
            "openclawd",
            "openclaw:",
            "openclaw:http://gateway.example",
            "openclaw:http://127.0.0.1.evil.example",
            "openclaw:https://",
            "openclaw:https:///hooks/agent",
            "openclaw:ftp://127.0.0.1",
            "openclaw:https://user:pw@h.example",
            "openclaw:https://h.example/hooks/wake?token=1",
            "openclaw:http://127.0.0.1:18789/other",
            "openclaw:http://127.0.0.1:18789#",
        ] {
            assert!(WakeWay::parse(text).is_err(), "{text}");
        }
    }
}
