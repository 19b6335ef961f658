//! Relay addresses: what may be configured, how it is written, and which foreign ones may be dialled at all.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nostr_sdk::Url;

/// A longer address is nobody's relay. Browsers and servers agree on about 2,000 characters.
const MAX_URL: usize = 2_048;

/// A text that is no relay address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a relay address: {text:?}: {why}")]
pub struct BadRelayUrl {
    /// What was given, shortened.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A relay, named by its normalised address. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayId(Arc<str>);

impl RelayId {
    /// Normalises an address: lower-case host, no default port, no fragment, no lone `/` at the end.
    ///
    /// # Errors
    /// What is not `wss://` or `ws://`, has no host, or carries a user name or password, which would be shown
    /// by `status` and logs.
    pub fn parse(text: &str) -> Result<Self, BadRelayUrl> {
        let bad = |why| BadRelayUrl { text: text.chars().take(100).collect(), why };
        if text.len() > MAX_URL {
            return Err(bad("it is too long"));
        }
        let mut url = Url::parse(text.trim()).map_err(|_| bad("it cannot be parsed"))?;
        if !matches!(url.scheme(), "wss" | "ws") {
            return Err(bad("it must begin with wss:// or ws://"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(bad("it has no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("it must not carry a user name or password"));
        }
        if url.port() == Some(0) {
            return Err(bad("port 0 cannot be dialled"));
        }
        url.set_fragment(None);
        let text = url.as_str();
        let text = if url.path() == "/" && url.query().is_none() { text.trim_end_matches('/') } else { text };
        // It grows where characters are escaped, and has to be read again as it is written.
        if text.len() > MAX_URL {
            return Err(bad("it is too long"));
        }
        Ok(Self(text.into()))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host (an IPv6 address without its brackets) and port to dial.
    pub(super) fn host_and_port(&self) -> Option<(String, u16)> {
        let url = Url::parse(&self.0).ok()?;
        Some((bare_host(&url)?.to_owned(), url.port_or_known_default()?))
    }
}

impl fmt::Display for RelayId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for RelayId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn bare_host(url: &Url) -> Option<&str> {
    url.host_str().map(|host| host.trim_start_matches('[').trim_end_matches(']'))
}

/// Whether a relay address that somebody else chose (in a presence or an invite) may be dialled: `wss://` to what
/// looks like a public host, or exactly a host and port of the user's own configuration.
///
/// A public name may still resolve to a private address: whoever dials a foreign relay asks [`is_public`] about
/// each resolved address too.
pub fn foreign_relay_allowed(url: &str, configured: &[RelayId]) -> bool {
    let Ok(relay) = RelayId::parse(url) else { return false };
    let Some(place) = relay.host_and_port() else { return false };
    if configured.iter().any(|ours| ours.host_and_port().as_ref() == Some(&place)) {
        return true;
    }
    let (host, _) = place;
    relay.as_str().starts_with("wss://")
        && match host.parse::<IpAddr>() {
            Ok(address) => is_public(address),
            Err(_) => is_public_name(&host),
        }
}

/// A name that only the open internet resolves: with a dot, and under no suffix reserved for local use
/// (RFC 6761, RFC 6762, RFC 8375, and ICANN's `.internal`).
fn is_public_name(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let reserved = ["localhost", "local", "internal", "home.arpa", "test", "invalid", "example", "onion"];
    host.contains('.')
        && !reserved.iter().any(|suffix| {
            host.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
}

/// Whether an address belongs to the open internet: not loopback, private, link-local, shared (RFC 6598),
/// multicast, reserved, nor an IPv6 form that carries such an IPv4 address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol_assignments = a == 192 && b == 0 && c == 0;
    let benchmarking = a == 198 && (b == 18 || b == 19);
    !(a == 0
        || a >= 224
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || shared
        || protocol_assignments
        || benchmarking)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Global unicast is 2000::/3; everything else (loopback, unique local, link-local, multicast, IPv4-mapped,
    // NAT64) is not for foreign relays.
    let global = segments[0] & 0xe000 == 0x2000;
    let documentation = segments[0] == 0x2001 && segments[1] == 0x0db8;
    let teredo = segments[0] == 0x2001 && segments[1] == 0;
    let six_to_four = segments[0] == 0x2002;
    global && !documentation && !teredo && !six_to_four
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(text: &str) -> RelayId {
        RelayId::parse(text).unwrap()
    }

    #[test]
    fn one_relay_has_one_name_however_it_is_written() {
        for text in ["wss://nos.lol", "wss://nos.lol/", "WSS://NOS.LOL:443", " wss://nos.lol/#x "] {
            assert_eq!(relay(text).as_str(), "wss://nos.lol", "{text}");
        }
        assert_eq!(relay("ws://127.0.0.1:7777/").as_str(), "ws://127.0.0.1:7777");
        assert_eq!(relay("wss://a.example/path/").as_str(), "wss://a.example/path/");
        assert_eq!(relay("ws://[::1]:80/").host_and_port(), Some(("::1".into(), 80)));
    }

    #[test]
    fn what_is_no_relay_address_is_refused_with_the_reason() {
        let long = format!("wss://a.example/{}", "x".repeat(3_000));
        for text in ["", "nos.lol", "https://nos.lol", "wss://", "wss://user:pw@nos.lol", "ws://a:0", &long] {
            let error = RelayId::parse(text).unwrap_err();
            assert!(error.text.chars().count() <= 100 && !error.why.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_foreign_relay_is_public_and_encrypted_or_one_of_our_own() {
        let ours = [relay("ws://127.0.0.1:7777"), relay("wss://box.local")];
        for url in [
            "wss://nos.lol",
            "wss://8.8.8.8",
            "wss://[2606:4700::1]:8443/x",
            "ws://127.0.0.1:7777/",
            "wss://box.local:443",
        ] {
            assert!(foreign_relay_allowed(url, &ours), "{url}");
        }
        for url in [
            "ws://nos.lol",
            "wss://localhost",
            "wss://relay.localhost",
            "wss://box",
            "wss://other.local",
            "wss://127.0.0.1",
            "wss://127.1",
            "wss://2130706433",
            "wss://0x7f.1",
            "wss://10.0.0.1",
            "wss://192.168.1.1",
            "wss://172.16.0.1",
            "wss://169.254.169.254",
            "wss://100.64.0.1",
            "wss://0.0.0.0",
            "wss://224.0.0.1",
            "wss://255.255.255.255",
            "wss://[::1]",
            "wss://[::]",
            "wss://[fe80::1]",
            "wss://[fd00::1]",
            "wss://[::ffff:127.0.0.1]",
            "wss://[64:ff9b::7f00:1]",
            "wss://[2002:7f00:1::]",
            "ws://127.0.0.1:7778",
            "wss://nos.lol@127.0.0.1",
            "http://nos.lol",
        ] {
            assert!(!foreign_relay_allowed(url, &ours), "{url}");
        }
    }
}
