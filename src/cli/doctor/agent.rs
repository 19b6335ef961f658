//! What only the daemon knows: clock, relays, the ways to contacts and to the owner.

use std::collections::BTreeSet;

use super::Check;
use crate::api::{AgentEntry, Channel, Code, Contact, RelayAuth, RelayStatus, SessionLink, Status};
use crate::home::Settings;
use crate::home::settings::DEFAULT_RELAYS;
use crate::proto::PublicKey;
use crate::proto::text::quote;

/// From this many seconds on, relays and peers begin to refuse what we sign (docs/protocol.md, section 4).
const CLOCK_OFF_S: f64 = 20.0;

/// `code` is the file that this command runs.
pub(super) fn daemon(status: &Status, configured: &Settings, code: Option<&Code>) -> Check {
    let daemon = &status.daemon;
    let detail = format!("version {}, pid {}", daemon.version, daemon.pid);
    let missing =
        configured.relays.iter().find(|url| !status.relays.iter().any(|relay| is_same(&relay.url, url)));
    let other_id = configured.agent_id.as_ref().filter(|id| **id != status.agent.id);
    let replaced =
        daemon.code.as_ref().zip(code).is_some_and(|(its, ours)| its.file == ours.file && its != ours);
    let why = match (missing, other_id) {
        _ if replaced => "its program was replaced since it was started".to_owned(),
        (Some(url), _) => format!("it was started without the relay {}", quote(url)),
        (None, Some(id)) => format!("it was started as {}, not as {}", quote(&status.agent.id), quote(id)),
        (None, None) => return Check::well("daemon", detail),
    };
    Check::ill("daemon", format!("{detail}; {why}"), "p2p-comm daemon stop; the next command starts it anew")
}

/// Whether two spellings may be the same address. In doubt they are.
fn is_same(one: &str, other: &str) -> bool {
    let plain = |url: &str| {
        let url = url.trim().trim_end_matches('/').to_lowercase();
        let url = url.strip_prefix("wss://").map_or(url.clone(), |rest| rest.replacen(":443", "", 1));
        url.strip_prefix("ws://").map_or(url.clone(), |rest| rest.replacen(":80", "", 1))
    };
    plain(one) == plain(other)
}

pub(super) fn clock(offset_s: Option<f64>) -> Check {
    match offset_s {
        None => Check::well("clock", "nothing to compare it with yet"),
        Some(offset) if offset.abs() <= CLOCK_OFF_S => Check::well("clock", format!("off by {offset:+.1} s")),
        Some(offset) => Check::ill(
            "clock",
            format!("off by {offset:+.1} s: relays and peers refuse what it dates"),
            "timedatectl set-ntp true",
        ),
    }
}

pub(super) fn relay(relay: &RelayStatus, configured: &[String]) -> Check {
    let name = format!("relay {}", quote(&relay.url));
    let mut detail = if relay.connected { "connected" } else { "not connected" }.to_owned();
    if let Some(rtt) = relay.rtt_ms.filter(|_| relay.connected) {
        detail.push_str(&format!(", {rtt:.0} ms"));
    }
    match relay.auth {
        RelayAuth::None | RelayAuth::Required => {}
        RelayAuth::Done => detail.push_str(", authenticated"),
        RelayAuth::Failed => detail.push_str(", authentication refused"),
    }
    detail.push_str(&said(relay.error.as_deref()));
    detail.push_str(&format!("; {} accepted, {} refused", relay.accepted, relay.refused));
    detail.push_str(&said(relay.refusal.as_deref()));
    if let Some(session) = &relay.session {
        detail.push_str(&format!("; for calls {}", session_link(session)));
    }
    match flaw(relay) {
        Some(flaw) => {
            let others: Vec<&str> =
                configured.iter().filter(|url| !is_same(url, &relay.url)).map(String::as_str).collect();
            let others = if others.is_empty() { DEFAULT_RELAYS.to_vec() } else { others };
            let without = format!("p2p-comm config set relays {}", others.join(","));
            Check::ill(name, detail, format!("{flaw}; to do without it: {without}; p2p-comm daemon stop"))
        }
        None => Check::well(name, detail),
    }
}

fn said(words: Option<&str>) -> String {
    words.map_or_else(String::new, |words| format!(", {}", quote(words)))
}

fn session_link(session: &SessionLink) -> String {
    let state = match (session.connected, session.echo_ms, &session.error) {
        (false, ..) => "not connected".to_owned(),
        (true, Some(echo), _) => format!("connected, an echo in {echo:.0} ms"),
        (true, None, Some(_)) => "connected, no echo".to_owned(),
        (true, None, None) => "connected, an echo is awaited".to_owned(),
    };
    format!("{state}{}", said(session.error.as_deref()))
}

/// What is wrong with a relay that is not well.
const OFFLINE: &str = "it cannot be reached: see whether this machine is online";
const STRANGE: &str = "it does not know this key, and may want it to be registered";
const REFUSING: &str = "it takes nothing from this key";
const WORK: &str = "it wants more work for each event than is done";
const MUTE: &str = "calls do not get through it";

/// What is wrong, if anything: the nearest cause first.
fn flaw(relay: &RelayStatus) -> Option<&'static str> {
    if !relay.connected {
        return Some(OFFLINE);
    }
    if relay.auth == RelayAuth::Failed {
        return Some(STRANGE);
    }
    if relay.refused > 0 && relay.accepted == 0 {
        let wants_work = relay.refusal.as_ref().is_some_and(|words| words.starts_with("pow:"));
        return Some(if wants_work { WORK } else { REFUSING });
    }
    let session = relay.session.as_ref()?;
    if !session.connected {
        return Some(OFFLINE);
    }
    (session.echo_ms.is_none() && session.error.is_some()).then_some(MUTE)
}

/// Whether those whom the user knows can be reached, and who else goes by their names.
pub(super) fn contacts(contacts: &[Contact], online: &[AgentEntry], relays: &[String]) -> Vec<Check> {
    let mut checks = Vec::new();
    let is_blocked =
        |agent: &AgentEntry| contacts.iter().any(|contact| contact.blocked && contact.pubkey == agent.pubkey);
    for contact in contacts.iter().filter(|contact| !contact.blocked) {
        let label = if contact.name.is_empty() { contact.agent_id.as_ref() } else { Some(&contact.name) };
        let Some(label) = label else { continue };
        let name = format!("contact {}", quote(label));
        if contact.reachable == Some(false) {
            let theirs: Vec<String> = contact.relays.iter().map(|url| quote(url)).collect();
            let common: Vec<&str> = relays.iter().chain(contact.relays.first()).map(String::as_str).collect();
            checks.push(Check::ill(
                &name,
                format!("no relay in common; it reads at {}", theirs.join(", ")),
                shared(&common),
            ));
        }
        let claims = |agent: &&AgentEntry| {
            contact.agent_id.as_ref() == Some(&agent.id)
                && agent.pubkey != contact.pubkey
                && !is_blocked(agent)
        };
        // Also those that are not online any more: they stay blocked until a person has looked.
        let seen = online.iter().filter(claims).map(|agent| agent.pubkey);
        let claimants: BTreeSet<PublicKey> = contact.claimed_by.iter().copied().chain(seen).collect();
        for other in claimants {
            checks.push(Check::ill(
                &name,
                format!("another key goes by its agent id: {other}"),
                format!(
                    "compare fingerprints with it another way. If the key is new, in a terminal: p2p-comm contacts verify \
                     {} {other}; if not: p2p-comm contacts block {other}",
                    argument(label),
                ),
            ));
        }
    }
    if checks.is_empty() {
        checks.push(Check::well("contacts", format!("{}, nothing odd about any", contacts.len())));
    }
    checks
}

/// How to meet somebody at a relay of theirs. The address is theirs: it is not put into a command unless it is nothing
/// but an address.
fn shared(relays: &[&str]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:[]".contains(c);
    match relays.iter().all(|url| url.chars().all(is_plain)) {
        true => format!("p2p-comm config set relays {}; p2p-comm daemon stop", relays.join(",")),
        false => "agree on a relay with it: p2p-comm config set relays URL,URL".to_owned(),
    }
}

/// A name as one word of a shell, if it is one; otherwise where it goes.
fn argument(name: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._@".contains(c) || c == '-';
    if name.chars().all(is_plain) && !name.starts_with('-') { name } else { "NAME" }
}

pub(super) fn outbox(status: &Status) -> Check {
    let detail = format!("{} queued, {} failed", status.outbox.queued, status.outbox.failed);
    if status.outbox.queued > 0 && !status.connected {
        return Check::ill("outbox", detail, "it leaves by itself as soon as a relay is reachable");
    }
    Check::well("outbox", detail)
}

pub(super) fn owner(ways: &[Channel]) -> Vec<Check> {
    if ways.is_empty() {
        let detail = "no way to the owner is configured; questions get the state no-owner";
        return vec![Check::well("owner", detail).with_hint("p2p-comm owner set exec:PROGRAM")];
    }
    ways.iter()
        .map(|Channel { channel, error, .. }| {
            let name = format!("owner {}", quote(channel));
            match error {
                None => {
                    Check::well(name, "nothing known against it").with_hint("try it: p2p-comm owner test")
                }
                Some(error) => Check::ill(
                    name,
                    quote(error),
                    "mend it, then: p2p-comm owner test; or name another: p2p-comm owner set exec:PROGRAM",
                ),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Tier;
    use crate::proto::{Hex, Protocol};

    fn well() -> RelayStatus {
        RelayStatus {
            url: "wss://relay.example".into(),
            connected: true,
            rtt_ms: Some(41.7),
            auth: RelayAuth::Done,
            error: None,
            accepted: 12,
            refused: 1,
            refusal: Some("blocked: \u{1b}[2J".into()),
            session: Some(SessionLink {
                connected: true,
                auth: RelayAuth::None,
                echo_ms: Some(80.2),
                error: None,
            }),
        }
    }

    #[test]
    fn a_relay_is_told_of_with_both_its_links_and_what_it_took() {
        let check = relay(&well(), &[]);
        assert!(check.ok);
        assert_eq!(
            check.detail,
            "connected, 42 ms, authenticated; 12 accepted, 1 refused, «blocked: \\u{1b}[2J»; \
             for calls connected, an echo in 80 ms"
        );
    }

    #[test]
    fn what_is_not_well_about_a_relay_has_a_hint_of_its_own() {
        let link = |connected, error: Option<&str>| {
            let error = error.map(str::to_owned);
            Some(SessionLink { connected, auth: RelayAuth::None, echo_ms: None, error })
        };
        let refusal = |words: &str| RelayStatus { accepted: 0, refusal: Some(words.into()), ..well() };
        for (status, expected) in [
            (well(), None),
            (RelayStatus { session: None, ..well() }, None),
            (RelayStatus { session: link(true, None), ..well() }, None),
            (RelayStatus { session: link(true, Some("no echo of a live event")), ..well() }, Some(MUTE)),
            (RelayStatus { session: link(false, Some("cannot connect")), ..well() }, Some(OFFLINE)),
            (RelayStatus { connected: false, ..well() }, Some(OFFLINE)),
            (RelayStatus { auth: RelayAuth::Failed, ..well() }, Some(STRANGE)),
            (refusal("restricted: members only"), Some(REFUSING)),
            (refusal("pow: 28 bits needed"), Some(WORK)),
        ] {
            assert_eq!(flaw(&status), expected, "{status:?}");
        }
    }

    #[test]
    fn the_command_that_does_without_a_relay_names_the_others_or_the_usual_ones() {
        let ill = RelayStatus { connected: false, ..well() };
        let hint = |configured: &[&str]| {
            relay(&ill, &configured.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>()).hint.unwrap()
        };
        let others = ["wss://RELAY.example:443/", "wss://one.example", "wss://two.example"];
        assert!(hint(&others).contains("config set relays wss://one.example,wss://two.example;"));
        assert!(hint(&["wss://relay.example"]).contains(&DEFAULT_RELAYS.join(",")));
    }

    fn contact() -> Contact {
        Contact {
            name: "ally".into(),
            pubkey: Hex([1; 32]),
            npub: "npub1ally".into(),
            agent_id: Some("alice".into()),
            tier: Tier::Contact,
            blocked: false,
            allow_legacy: false,
            relays: vec!["ws://10.0.0.1:7447".into()],
            reachable: Some(true),
            fingerprint: String::new(),
            verified: false,
            claimed_by: vec![],
        }
    }

    fn claimant(id: &str, key: u8) -> AgentEntry {
        AgentEntry {
            id: id.into(),
            name: id.into(),
            pubkey: Hex([key; 32]),
            npub: format!("npub1{key}"),
            capabilities: Vec::new(),
            card: None,
            last_seen_s: 1,
            protocol: Protocol::V2,
            contact: None,
            pinned: false,
            duplicate_id: true,
            looks_like: None,
        }
    }

    #[test]
    fn a_contact_that_cannot_be_reached_or_whose_name_another_key_bears_is_told_of() {
        let ours = ["wss://one.example".to_owned()];
        let check = |contact: Contact, online: &[AgentEntry]| contacts(&[contact], online, &ours);
        let fine = check(contact(), &[claimant("alice", 1), claimant("bob", 2)]);
        assert!(fine.iter().all(|check| check.ok) && fine.len() == 1);
        let [apart] = &check(Contact { reachable: Some(false), ..contact() }, &[])[..] else { panic!() };
        let together =
            "p2p-comm config set relays wss://one.example,ws://10.0.0.1:7447; p2p-comm daemon stop";
        assert_eq!((apart.ok, apart.hint.as_deref()), (false, Some(together)));
        let odd = Contact { relays: vec!["wss://x/$(id)".into()], reachable: Some(false), ..contact() };
        assert!(!check(odd, &[])[0].hint.as_ref().unwrap().contains("$(id)"));
        let [claimed] = &check(contact(), &[claimant("alice", 2)])[..] else { panic!() };
        assert!(!claimed.ok && claimed.hint.as_ref().unwrap().contains("contacts verify ally 0202"));
        let [kept] = &check(Contact { claimed_by: vec![Hex([2; 32])], ..contact() }, &[])[..] else {
            panic!()
        };
        assert_eq!((kept.ok, &kept.hint), (false, &claimed.hint));
        let blocked = Contact { blocked: true, reachable: Some(false), ..contact() };
        assert!(check(blocked, &[claimant("alice", 2)])[0].ok);
    }

    #[test]
    fn the_ways_to_the_owner_are_told_apart() {
        let way = |error: Option<&str>| Channel {
            channel: "exec:notify".into(),
            ok: error.is_none(),
            error: error.map(str::to_owned),
        };
        assert!(owner(&[])[0].ok && owner(&[])[0].hint.is_some());
        let checks = owner(&[way(None), way(Some("it ended with exit status: 3"))]);
        assert_eq!(checks.iter().map(|check| check.ok).collect::<Vec<_>>(), [true, false]);
    }
}
