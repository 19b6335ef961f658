//! What agents say to each other about a call, outside of it: rumors of kind 25920, always inside a gift wrap
//! (`docs/protocol.md`, "v2 signalling").
//!
//! ```text
//!   caller  ── invite ──▶  callee          in a stored wrap (1059) at the callee's inbox relays
//!           ◀─ accept ───                  in an ephemeral wrap (21059) to the session key of the invite
//!           ◀─ reject, busy ──             the same
//!           ── cancel ──▶                  stored
//!          ◀── resume, end ──▶             stored: of a call that was up
//! ```
//!
//! Only JSON here. Who signed it, and that it is whole, is the wrap's business. Reading is strict about every member
//! that is known, and blind to those that are not.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::proto::legacy::{LABEL_LIMIT, TOPIC_LIMIT, cut, forgiving};
use crate::proto::presence::is_agent_id;
use crate::proto::{EventId, Hex, Millis, PublicKey, TraceParent};

/// The rumor's kind. Never published bare.
pub const KIND: u16 = 25_920;
/// The dialect's version.
pub const VERSION: u32 = 2;
/// Longest JSON read, bytes: a topic at its limit, every character escaped, and some more.
pub const JSON_LIMIT: usize = 16 * 1_024;
/// Most relays that an invite names: each is a connection that the callee opens for a stranger.
pub const INVITE_RELAYS: usize = 4;
/// Most relays that an accept chooses.
pub const ACCEPT_RELAYS: usize = 3;
/// Longest relay address, bytes.
const RELAY_LIMIT: usize = 256;
/// Most versions listed.
const VERSIONS_LIMIT: usize = 16;
/// Bytes of the first Noise message: an X25519 key.
pub const FIRST_MESSAGE: usize = 32;
/// Bytes of the second Noise message: an X25519 key and the tag of an empty payload.
pub const SECOND_MESSAGE: usize = 48;

/// How far from our clock the rumor of an invite that rings may have been made; a later one is a missed call.
pub const FRESH: Duration = Duration::from_secs(300);
/// How long a stored wrap lives on relays (NIP-40). Older rumors are dropped.
pub const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// How long (sender, call, type, generation) is remembered: the lifetime, and the two days by which clocks and fuzzed
/// times may differ.
pub const REMEMBERED: Duration = Duration::from_secs(9 * 86_400);
/// When an invite without an answer is sent again, in a new wrap, after its first sending.
pub const INVITE_AGAIN: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30)];
/// When an accept is sent again, until the first frame of the caller.
pub const ACCEPT_AGAIN: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6), Duration::from_secs(12)];

/// One call as both sides name it, 16 random bytes chosen by the caller.
pub type SharedCallId = Hex<16>;

/// One signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The call.
    pub call: SharedCallId,
    /// Which handshake of the call: 0 at first, one more with each resumption. The highest wins.
    pub generation: u32,
    /// What it says.
    pub body: Body,
}

/// What a signal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Rings.
    Invite(Offer),
    /// Goes on with a call under new keys; does not ring.
    Resume(Offer),
    /// Takes an invite, or goes along with a resumption.
    Accept(Answer),
    /// Takes the invite back.
    Cancel {
        /// Words for the callee.
        reason: String,
    },
    /// Declines the invite.
    Reject {
        /// Words for the caller.
        reason: String,
    },
    /// Nobody declined; too many calls are up.
    Busy,
    /// Ends the call: the fallback for the entry in a frame.
    End {
        /// Words for the peer.
        reason: String,
    },
}

/// The first half of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The sender's agent id: a label.
    pub agent_id: String,
    /// The sender's display name.
    pub name: String,
    /// What the call is about.
    pub topic: String,
    /// Until when it rings, in seconds. Limits the ringing only.
    pub expires: u64,
    /// The sender's session key for this handshake.
    pub key: PublicKey,
    /// The first Noise message.
    pub noise: [u8; FIRST_MESSAGE],
    /// The versions of the dialect that the sender speaks.
    pub versions: Vec<u32>,
    /// Where the session can meet. Somebody else's choice: to be checked before they are dialled.
    pub relays: Vec<String>,
    /// Where the sender reads its wraps; empty if it does not say.
    pub inbox: Vec<String>,
    /// The trace that the call is part of, if the caller follows one.
    pub traceparent: Option<TraceParent>,
}

/// The second half of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The sender's agent id: a label.
    pub agent_id: String,
    /// The sender's display name.
    pub name: String,
    /// The sender's session key for this handshake.
    pub key: PublicKey,
    /// The second Noise message.
    pub noise: [u8; SECOND_MESSAGE],
    /// Where the session meets: some of the offer's, in the offer's spelling.
    pub relays: Vec<String>,
    /// The rumor that it answers.
    pub invite: EventId,
    /// The handshake's hash, which both sides have to agree on.
    pub hash: Hex<32>,
    /// The sender's own invite, when both rang at once.
    pub replaces: Option<SharedCallId>,
    /// Where the sender reads its wraps; empty if it does not say.
    pub inbox: Vec<String>,
}

impl Body {
    /// Its name in `t`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Invite(_) => "invite",
            Self::Resume(_) => "resume",
            Self::Accept(_) => "accept",
            Self::Cancel { .. } => "cancel",
            Self::Reject { .. } => "reject",
            Self::Busy => "busy",
            Self::End { .. } => "end",
        }
    }
}

impl Offer {
    /// Whether an invite with a rumor of this time rings now, or is a missed call.
    pub fn rings(&self, created_at: u64, now: Millis) -> bool {
        let apart = now.as_secs().abs_diff(created_at);
        apart <= FRESH.as_secs() && now.as_secs() <= self.expires
    }
}

/// Why a text is no signal. Nothing is done with it then.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Longer than any honest one.
    #[error("signal of {0} bytes")]
    TooLong(usize),
    /// Not JSON, or a member of another type.
    #[error("not a signal: {0}")]
    Json(#[from] serde_json::Error),
    /// Of another dialect.
    #[error("signal of version {0}")]
    Version(u32),
    /// A type that this dialect does not have.
    #[error("unknown signal")]
    UnknownType,
    /// A member that this type needs is not there, or not what it has to be.
    #[error("bad or missing `{0}`")]
    Member(&'static str),
}

/// Every member that any signal has. Absent ones are not written.
#[derive(Serialize, Deserialize)]
struct Wire {
    t: String,
    call: SharedCallId,
    #[serde(rename = "gen")]
    generation: u32,
    v: u32,
    #[serde(rename = "agentId", default, skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<PublicKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    noise: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    relays: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inbox: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invite: Option<EventId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<Hex<32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<SharedCallId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Of whoever sends nonsense, nothing: it is a courtesy.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    traceparent: Option<TraceParent>,
}

impl Signal {
    /// Reads the content of a rumor.
    ///
    /// # Errors
    /// [`Malformed`] if it is no signal of this dialect.
    pub fn parse(json: &str) -> Result<Self, Malformed> {
        if json.len() > JSON_LIMIT {
            return Err(Malformed::TooLong(json.len()));
        }
        let wire: Wire = serde_json::from_str(json)?;
        if wire.v != VERSION {
            return Err(Malformed::Version(wire.v));
        }
        let (call, generation) = (wire.call, wire.generation);
        let body = match wire.t.as_str() {
            "invite" => Body::Invite(wire.offer()?),
            "resume" => Body::Resume(wire.offer()?),
            "accept" => Body::Accept(wire.answer()?),
            "cancel" => Body::Cancel { reason: wire.reason() },
            "reject" => Body::Reject { reason: wire.reason() },
            "busy" => Body::Busy,
            "end" => Body::End { reason: wire.reason() },
            _ => return Err(Malformed::UnknownType),
        };
        Ok(Self { call, generation, body })
    }

    /// Writes it, for the rumor's content.
    pub fn to_json(&self) -> String {
        let mut wire = Wire {
            t: self.body.name().into(),
            call: self.call,
            generation: self.generation,
            v: VERSION,
            agent_id: None,
            name: None,
            topic: None,
            exp: None,
            key: None,
            noise: None,
            versions: None,
            relays: None,
            inbox: None,
            invite: None,
            hash: None,
            replaces: None,
            reason: None,
            traceparent: None,
        };
        match &self.body {
            Body::Invite(offer) | Body::Resume(offer) => {
                wire.agent_id = Some(offer.agent_id.clone());
                wire.name = Some(offer.name.clone());
                wire.topic = Some(cut(offer.topic.clone(), TOPIC_LIMIT));
                wire.exp = Some(offer.expires);
                wire.key = Some(offer.key);
                wire.noise = Some(STANDARD.encode(offer.noise));
                wire.versions = Some(offer.versions.clone());
                wire.relays = Some(offer.relays.clone());
                wire.inbox = Some(offer.inbox.clone()).filter(|inbox| !inbox.is_empty());
                wire.traceparent = offer.traceparent.clone();
            }
            Body::Accept(answer) => {
                wire.agent_id = Some(answer.agent_id.clone());
                wire.name = Some(answer.name.clone());
                wire.key = Some(answer.key);
                wire.noise = Some(STANDARD.encode(answer.noise));
                wire.relays = Some(answer.relays.clone());
                wire.invite = Some(answer.invite);
                wire.hash = Some(answer.hash);
                wire.replaces = answer.replaces;
                wire.inbox = Some(answer.inbox.clone()).filter(|inbox| !inbox.is_empty());
            }
            Body::Cancel { reason } | Body::Reject { reason } | Body::End { reason } => {
                wire.reason = Some(cut(reason.clone(), TOPIC_LIMIT));
            }
            Body::Busy => {}
        }
        serde_json::to_string(&wire).expect("strings, numbers and lists of them always serialise")
    }
}

impl Wire {
    fn offer(self) -> Result<Offer, Malformed> {
        let versions = required(self.versions, "versions")?;
        if versions.len() > VERSIONS_LIMIT || !versions.contains(&VERSION) {
            return Err(Malformed::Member("versions"));
        }
        Ok(Offer {
            agent_id: agent_id(self.agent_id)?,
            name: label(self.name),
            topic: cut(self.topic.unwrap_or_default(), TOPIC_LIMIT),
            expires: required(self.exp, "exp")?,
            key: required(self.key, "key")?,
            noise: noise(self.noise)?,
            versions,
            relays: relays(self.relays, INVITE_RELAYS)?,
            inbox: inbox(self.inbox)?,
            traceparent: self.traceparent,
        })
    }

    fn answer(self) -> Result<Answer, Malformed> {
        Ok(Answer {
            agent_id: agent_id(self.agent_id)?,
            name: label(self.name),
            key: required(self.key, "key")?,
            noise: noise(self.noise)?,
            relays: relays(self.relays, ACCEPT_RELAYS)?,
            invite: required(self.invite, "invite")?,
            hash: required(self.hash, "hash")?,
            replaces: self.replaces,
            inbox: inbox(self.inbox)?,
        })
    }

    fn reason(self) -> String {
        cut(self.reason.unwrap_or_default(), TOPIC_LIMIT)
    }
}

fn required<T>(member: Option<T>, name: &'static str) -> Result<T, Malformed> {
    member.ok_or(Malformed::Member(name))
}

fn label(member: Option<String>) -> String {
    cut(member.unwrap_or_default(), LABEL_LIMIT)
}

fn agent_id(member: Option<String>) -> Result<String, Malformed> {
    member.filter(|id| is_agent_id(id)).ok_or(Malformed::Member("agentId"))
}

fn noise<const N: usize>(member: Option<String>) -> Result<[u8; N], Malformed> {
    member
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Malformed::Member("noise"))
}

/// One to `most` addresses. Whether they may be dialled is `transport`'s to say.
fn relays(member: Option<Vec<String>>, most: usize) -> Result<Vec<String>, Malformed> {
    member
        .filter(|relays| (1..=most).contains(&relays.len()))
        .filter(|relays| relays.iter().all(|url| is_relay_address(url)))
        .ok_or(Malformed::Member("relays"))
}

/// None, or at most as many addresses as are looked at in anybody's list.
fn inbox(member: Option<Vec<String>>) -> Result<Vec<String>, Malformed> {
    match member {
        Some(member) if !member.is_empty() => {
            relays(Some(member), INVITE_RELAYS).map_err(|_| Malformed::Member("inbox"))
        }
        _ => Ok(Vec::new()),
    }
}

fn is_relay_address(url: &str) -> bool {
    url.len() <= RELAY_LIMIT
        && (url.starts_with("wss://") || url.starts_with("ws://"))
        && url.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn offer() -> Offer {
        Offer {
            agent_id: "alice".into(),
            name: "Alice".into(),
            topic: "lunch".into(),
            expires: NOW + 60,
            key: Hex([1; 32]),
            noise: [2; FIRST_MESSAGE],
            versions: vec![2],
            relays: vec!["wss://one.example".into(), "wss://two.example".into()],
            inbox: vec![],
            traceparent: None,
        }
    }

    fn answer() -> Answer {
        Answer {
            agent_id: "bob".into(),
            name: String::new(),
            key: Hex([3; 32]),
            noise: [4; SECOND_MESSAGE],
            relays: vec!["wss://one.example".into()],
            invite: Hex([5; 32]),
            hash: Hex([6; 32]),
            replaces: None,
            inbox: vec![],
        }
    }

    fn signals() -> Vec<Signal> {
        let reason = || "no".to_owned();
        [
            Body::Invite(offer()),
            Body::Resume(offer()),
            Body::Accept(answer()),
            Body::Accept(Answer { replaces: Some(Hex([8; 16])), ..answer() }),
            Body::Cancel { reason: reason() },
            Body::Reject { reason: reason() },
            Body::Busy,
            Body::End { reason: reason() },
        ]
        .map(|body| Signal { call: Hex([7; 16]), generation: 3, body })
        .into()
    }

    /// A signal with a member changed, or taken away.
    fn with(body: Body, member: &str, value: Value) -> Result<Signal, Malformed> {
        let json = Signal { call: Hex([7; 16]), generation: 0, body }.to_json();
        let mut wire: Value = serde_json::from_str(&json).unwrap();
        let members = wire.as_object_mut().unwrap();
        if value.is_null() {
            _ = members.remove(member)
        } else {
            members[member] = value
        };
        Signal::parse(&wire.to_string())
    }

    #[test]
    fn every_signal_survives_its_json() {
        for signal in signals() {
            assert_eq!(Signal::parse(&signal.to_json()).unwrap(), signal);
        }
    }

    #[test]
    fn members_of_the_future_are_not_looked_at() {
        let json = r#"{"t":"busy","call":"07070707070707070707070707070707","gen":0,"v":2,"why":[{}]}"#;
        assert_eq!(Signal::parse(json).unwrap().body, Body::Busy);
    }

    #[test]
    fn a_member_that_is_missing_or_wrong_is_named() {
        let invite = || Body::Invite(offer());
        let long = format!("wss://{}.example", "x".repeat(300));
        for (member, value) in [
            ("agentId", json!(null)),
            ("agentId", json!("a\u{0}b")),
            ("exp", json!(null)),
            ("key", json!(null)),
            ("noise", json!("AAAA")),
            ("noise", json!("not base64")),
            ("versions", json!([1, 3])),
            ("versions", json!(vec![2; 17])),
            ("relays", json!([])),
            ("relays", json!(vec!["wss://a.example"; 5])),
            ("relays", json!(["https://a.example"])),
            ("relays", json!(["wss://a example"])),
            ("relays", json!([long])),
        ] {
            let error = with(invite(), member, value.clone()).unwrap_err();
            assert!(matches!(error, Malformed::Member(name) if name == member), "{member} {value}: {error}");
        }
        for (member, value) in [
            ("invite", json!(null)),
            ("hash", json!(null)),
            ("noise", json!(null)),
            ("relays", json!(vec!["wss://a"; 4])),
        ] {
            let error = with(Body::Accept(answer()), member, value).unwrap_err();
            assert!(matches!(error, Malformed::Member(name) if name == member), "{error}");
        }
        for (member, value) in [
            ("call", json!("07")),
            ("gen", json!(-1)),
            ("gen", json!(1u64 << 32)),
            ("key", json!("zz")),
            ("exp", json!("soon")),
            ("topic", json!(7)),
            ("relays", json!("wss://a.example")),
        ] {
            assert!(matches!(with(invite(), member, value), Err(Malformed::Json(_))), "{member}");
        }
    }

    #[test]
    fn a_trace_goes_with_an_offer_and_what_is_none_is_ignored() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let untraced = Signal { call: Hex([7; 16]), generation: 0, body: Body::Invite(offer()) };
        let json = untraced.to_json();
        assert!(!json.contains("traceparent"), "who follows no trace says nothing of it");
        let offered = |value: Value| {
            let mut wire: Value = serde_json::from_str(&json).unwrap();
            wire.as_object_mut().unwrap().insert("traceparent".into(), value);
            match Signal::parse(&wire.to_string()).unwrap().body {
                Body::Invite(offer) => offer.traceparent,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(offered(json!(trace)).unwrap().as_str(), trace);
        for odd in [json!("nonsense"), json!(7), json!(null), json!([trace]), json!(trace.to_uppercase())] {
            assert_eq!(offered(odd), None);
        }
        let traced = Offer { traceparent: trace.parse().ok(), ..offer() };
        let signal = Signal { body: Body::Invite(traced), ..untraced };
        assert_eq!(Signal::parse(&signal.to_json()).unwrap(), signal);
    }

    #[test]
    fn what_is_of_another_version_or_type_or_too_long_is_refused() {
        assert!(matches!(with(Body::Busy, "v", json!(3)), Err(Malformed::Version(3))));
        assert!(matches!(with(Body::Busy, "t", json!("wave")), Err(Malformed::UnknownType)));
        let long = " ".repeat(JSON_LIMIT + 1);
        assert!(matches!(Signal::parse(&long), Err(Malformed::TooLong(_))));
        let twice = r#"{"t":"busy","t":"end","call":"07070707070707070707070707070707","gen":0,"v":2}"#;
        assert!(matches!(Signal::parse(twice), Err(Malformed::Json(_))), "two answers to one question");
    }

    #[test]
    fn the_longest_signal_that_is_written_is_read() {
        let wide = "\u{1}".repeat(LABEL_LIMIT);
        let offer = Offer {
            topic: "\u{1}".repeat(TOPIC_LIMIT + 1),
            name: wide,
            relays: vec![format!("wss://{}", "x".repeat(RELAY_LIMIT - 6)); INVITE_RELAYS],
            ..offer()
        };
        let signal = Signal { call: Hex([7; 16]), generation: u32::MAX, body: Body::Invite(offer) };
        let Body::Invite(read) = Signal::parse(&signal.to_json()).unwrap().body else { panic!() };
        assert_eq!(read.topic.len(), TOPIC_LIMIT);
    }

    #[test]
    fn an_invite_rings_while_it_is_fresh_and_not_expired() {
        let offer = offer();
        let at = |offset: i64| Millis::from_secs(NOW.saturating_add_signed(offset));
        assert!(offer.rings(NOW, at(0)) && offer.rings(NOW, at(60)) && offer.rings(NOW, at(-300)));
        assert!(!offer.rings(NOW, at(61)), "past its end");
        assert!(!offer.rings(NOW, at(-301)), "from the future");
        assert!(!offer.rings(NOW - 301, at(0)), "too old, whatever it says about its end");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in r#"[{}\[\]":,tvacllgen0-9]{0,80}"#) {
            let _ = Signal::parse(&text);
        }
    }
}
