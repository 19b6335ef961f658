//! One way to the owner, as a setting names it.

use std::fmt;
use std::io;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Errand, programs, webhook};
use crate::proto::{Hex, PublicKey, TicketId};
use crate::store::WayId;
use crate::transport::{npub, parse_key};

/// The channels of OpenClaw that reach a person, by the names that its command knows (`openclaw message send --help`,
/// 2026.9.6).
const OPENCLAW: [&str; 20] = [
    "discord",
    "feishu",
    "googlechat",
    "imessage",
    "irc",
    "line",
    "matrix",
    "mattermost",
    "msteams",
    "nextcloud-talk",
    "signal",
    "slack",
    "sms",
    "synology-chat",
    "telegram",
    "tlon",
    "twitch",
    "whatsapp",
    "zalo",
    "zalouser",
];

/// One way to the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A key of Nostr, which is written to privately.
    Nostr(PublicKey),
    /// A program, without arguments, without a shell.
    Exec(String),
    /// A URL that takes a POST.
    Webhook(String),
    /// A channel that OpenClaw serves.
    OpenClaw {
        /// Its name there.
        channel: String,
        /// Who or where.
        target: String,
    },
    /// A URL that PyPI apprise knows.
    Apprise(String),
    /// A notification on the screen of this machine.
    Desktop,
    /// What deployed agents or a later version reach, and this one does not: kept, and reported with each question.
    Unknown {
        /// As it was written, shortened.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Why the owner was not reached.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// A program did not run.
    #[error("cannot run it: {0}")]
    Run(#[from] io::Error),
    /// A program is not there.
    #[error("the program {0} is not in the PATH of the daemon; {1}")]
    Missing(&'static str, &'static str),
    /// A program ran, and said no.
    #[error("it ended with {0}")]
    Failed(std::process::ExitStatus),
    /// A program had something to say about that.
    #[error("{0}")]
    Told(String),
    /// A program did not end.
    #[error("it took longer than {} s", .0.as_secs())]
    Slow(Duration),
    /// It is none.
    #[error("{0}")]
    Unusable(&'static str),
}

/// The name of a way in the database.
pub(super) fn id(text: &str) -> WayId {
    let digest: [u8; 32] = Sha256::digest(text.trim().as_bytes()).into();
    let mut id = Hex([0; 16]);
    id.0.copy_from_slice(&digest[..16]);
    id
}

const NOT_KNOWN: &str = "this version does not know this way; it knows nostr:KEY, exec:PROGRAM, https://…, apprise:URL, \
                         desktop, and OpenClaw's: telegram:…, discord:…, slack:…, whatsapp:…, signal:…";

impl fmt::Display for Way {
    /// Without what a URL may carry after its host, often a secret, and without a person's number or name.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nostr(key) => write!(formatter, "nostr:{}", npub(key)),
            Self::Exec(program) => write!(formatter, "exec:{program}"),
            Self::Webhook(url) => match url.split_once("://") {
                Some((scheme, rest)) => {
                    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
                    write!(formatter, "{scheme}://{}", place.rsplit('@').next().unwrap_or_default())
                }
                None => formatter.write_str("webhook"),
            },
            Self::OpenClaw { channel, .. } => write!(formatter, "{channel}:…"),
            Self::Apprise(url) => {
                write!(formatter, "apprise:{}…", url.split_once(':').map_or("", |(scheme, _)| scheme))
            }
            Self::Desktop => formatter.write_str("desktop"),
            Self::Unknown { text, .. } => match text.split_once(':') {
                Some((scheme, _)) => write!(formatter, "{scheme}:…"),
                None => formatter.write_str("unknown"),
            },
        }
    }
}

impl Way {
    /// Reads a way as the settings name it. One that is not known stops nobody from working: the owner can still answer
    /// at a terminal.
    pub(super) fn parse(text: &str, me: &PublicKey) -> Self {
        let text = text.trim();
        let unknown = |why| {
            let text = text.chars().filter(|c| !c.is_control()).take(80).collect();
            Self::Unknown { text, why }
        };
        if text == "desktop" {
            return Self::Desktop;
        }
        let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let is_local = local.iter().any(|start| {
            text.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '?']))
        });
        if text.starts_with("https://") || is_local {
            return Self::Webhook(text.to_owned());
        }
        if text.starts_with("http://") {
            return unknown("a webhook on another machine is https://");
        }
        match text.split_once(':') {
            Some(("nostr", key)) => match parse_key(key) {
                Ok(key) if key == *me => unknown("this is the agent's own key; the owner has another one"),
                Ok(key) => Self::Nostr(key),
                Err(_) => unknown("behind nostr: comes the owner's public key: npub1…, or 64 hex characters"),
            },
            Some(("exec", program)) if !program.is_empty() => Self::Exec(program.to_owned()),
            Some(("apprise", url)) if url.contains("://") => Self::Apprise(url.to_owned()),
            Some((channel, target)) if OPENCLAW.contains(&channel) && !target.trim().is_empty() => {
                Self::OpenClaw { channel: channel.to_owned(), target: target.trim().to_owned() }
            }
            _ => unknown(NOT_KNOWN),
        }
    }

    /// Why nothing can be carried, as far as can be told without trying.
    pub fn flaw(&self) -> Option<Unreached> {
        match self {
            Self::Nostr(_) | Self::Webhook(_) => None,
            Self::Exec(program) => programs::find(program).err().map(Unreached::Run),
            Self::OpenClaw { .. } => programs::openclaw().err(),
            Self::Apprise(_) => programs::python().err(),
            Self::Desktop => programs::desktop().err(),
            Self::Unknown { why, .. } => Some(Unreached::Unusable(why)),
        }
    }

    /// Whether what was not carried is tried again. A program of the owner's own knows best what became of it.
    pub fn is_tried_again(&self) -> bool {
        matches!(self, Self::Nostr(_) | Self::Webhook(_) | Self::OpenClaw { .. } | Self::Apprise(_))
    }

    /// Carries something, and brings back what the other side has decided, if it was asked.
    pub(super) async fn carry(&self, errand: &Errand) -> Result<Vec<(Option<TicketId>, String)>, Unreached> {
        let parcel = &errand.parcel;
        match self {
            Self::Exec(program) => programs::exec(program, parcel.json()).await,
            Self::Webhook(url) => {
                webhook::post(url, errand).await.map_err(Unreached::Told).map(|()| Vec::new())
            }
            Self::OpenClaw { channel, target } => {
                programs::send_by_openclaw(channel, target, &parcel.heading()).await.map(|()| Vec::new())
            }
            Self::Apprise(url) => {
                programs::send_by_apprise(url, &parcel.title(), &parcel.text()).await.map(|()| Vec::new())
            }
            Self::Desktop => {
                programs::show_on_desktop(&parcel.title(), &parcel.heading()).await.map(|()| Vec::new())
            }
            // The engine has the relays.
            Self::Nostr(_) => Err(Unreached::Unusable("it is carried by the relays")),
            Self::Unknown { why, .. } => Err(Unreached::Unusable(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: PublicKey = Hex([0; 32]);
    /// The generator of secp256k1: a key that nobody uses.
    const KEY: &str = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn parse(text: &str) -> Way {
        Way::parse(text, &ME)
    }

    #[test]
    fn every_way_is_known_by_its_form_and_shown_without_its_secrets() {
        let key: PublicKey = KEY.parse().unwrap();
        for (text, shown) in [
            (format!("nostr:{KEY}"), format!("nostr:{}", npub(&key))),
            (format!("nostr:{}", npub(&key)), format!("nostr:{}", npub(&key))),
            ("exec:/usr/bin/ask".into(), "exec:/usr/bin/ask".into()),
            ("https://user:pw@h.example/secret?token=1".into(), "https://h.example".into()),
            ("http://127.0.0.1:80/x".into(), "http://127.0.0.1:80".into()),
            ("telegram:-100123".into(), "telegram:…".into()),
            ("apprise:tgram://token/chat".into(), "apprise:tgram…".into()),
            (" desktop ".into(), "desktop".into()),
        ] {
            assert!(!matches!(parse(&text), Way::Unknown { .. }), "{text}");
            assert_eq!(parse(&text).to_string(), shown);
        }
        let discord = Way::OpenClaw { channel: "discord".into(), target: "channel:123".into() };
        assert_eq!(parse("discord:channel:123"), discord);
    }

    #[test]
    fn what_is_no_way_is_kept_and_says_why() {
        for (text, why) in [
            ("http://hooks.example".to_owned(), "https"),
            ("http://127.0.0.1.evil.example".into(), "https"),
            ("ftp://x".into(), "does not know"),
            ("exec:".into(), "does not know"),
            ("".into(), "does not know"),
            ("carrier-pigeon:1".into(), "does not know"),
            ("telegram:".into(), "does not know"),
            ("apprise:nothing".into(), "does not know"),
            ("nostr:npub1x".into(), "npub1"),
            (format!("nostr:{}", "0".repeat(64)), "npub1"),
        ] {
            let flaw = parse(&text).flaw().unwrap().to_string();
            assert!(flaw.contains(why), "{text}: {flaw}");
        }
        let me: PublicKey = KEY.parse().unwrap();
        let flaw = Way::parse(&format!("nostr:{KEY}"), &me).flaw().unwrap().to_string();
        assert!(flaw.contains("own key"), "{flaw}");
        assert_eq!(parse("carrier-pigeon:123").to_string(), "carrier-pigeon:…");
    }

    #[test]
    fn a_way_is_the_same_however_much_space_is_around_it_and_another_is_another() {
        assert_eq!(id(" telegram:1 "), id("telegram:1"));
        assert_ne!(id("telegram:1"), id("telegram:2"));
    }
}
