//! Which addresses are dialled. A peer that names an address makes this machine ask for it: so it must not lead to what
//! only this machine or its network can reach.
//!
//! The name is resolved once, here, and the connection goes to the addresses that were checked: a name that points
//! elsewhere a moment later changes nothing. A redirect comes back here like any other address.

use std::io;

use nostr_sdk::Url;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::transport::is_public;

/// Host and port of a server, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    pub(super) fn of(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let host = url.host_str()?.to_ascii_lowercase();
        Some(Self { scheme: url.scheme().to_owned(), host, port: url.port_or_known_default()? })
    }

    /// The name for which a token is good: of the domain alone.
    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotDialled {
    #[error("its address is not on the open internet, and not of a server in the setting `blossom`")]
    Private,
    #[error("its address is not https://, and not of a server in the setting `blossom`")]
    Open,
}

/// Resolves names, and refuses addresses.
#[derive(Debug)]
pub(super) struct Guard {
    /// The servers that the user has named: they may be anywhere.
    ours: Vec<Origin>,
}

impl Guard {
    pub(super) fn new(ours: &[String]) -> Self {
        Self { ours: ours.iter().filter_map(|url| Origin::of(url)).collect() }
    }

    /// Whether the user has named the server of this address; the error says that it may not be asked.
    fn is_ours(&self, uri: &str) -> Result<bool, NotDialled> {
        match Origin::of(uri) {
            Some(origin) if self.ours.contains(&origin) => Ok(true),
            Some(origin) if origin.scheme == "https" => Ok(false),
            _ => Err(NotDialled::Open),
        }
    }
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let refused = |why: NotDialled| ureq::Error::Io(io::Error::new(io::ErrorKind::PermissionDenied, why));
        let ours = self.is_ours(&uri.to_string()).map_err(refused)?;
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let mut dialled = self.empty();
        found
            .iter()
            .filter(|address| ours || is_public(address.ip()))
            .for_each(|address| dialled.push(*address));
        if dialled.is_empty() { Err(refused(NotDialled::Private)) } else { Ok(dialled) }
    }
}

/// The refusal in an error of the client's, if that is what it is.
pub(super) fn refusal(error: &ureq::Error) -> Option<NotDialled> {
    match error {
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref::<NotDialled>().copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(guard: &Guard, url: &str) -> Result<usize, Option<NotDialled>> {
        let found = guard.resolve(&url.parse().unwrap(), &Config::default(), NextTimeout::default());
        found.map(|found| found.len()).map_err(|error| refusal(&error))
    }

    #[test]
    fn no_address_of_a_peers_leads_into_this_machine_or_its_network() {
        let guard = Guard::new(&[]);
        for host in [
            "127.0.0.1",
            "127.1.2.3",
            "localhost",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[2001::1]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[fe80::1]",
            "[ff02::1]",
        ] {
            let url = format!("https://{host}/x");
            assert_eq!(resolved(&guard, &url), Err(Some(NotDialled::Private)), "{url}");
        }
        for url in ["http://8.8.8.8/x", "http://127.0.0.1/x"] {
            assert_eq!(resolved(&guard, url), Err(Some(NotDialled::Open)), "{url}");
        }
        for url in ["https://8.8.8.8/x", "https://[2606:4700::1]/x"] {
            assert_eq!(resolved(&guard, url), Ok(1), "{url}");
        }
    }

    #[test]
    fn a_server_of_the_users_may_be_anywhere_and_only_that_one() {
        let guard = Guard::new(&["http://127.0.0.1:3000".into(), "https://LOCALHOST".into()]);
        for url in ["http://127.0.0.1:3000/x", "https://localhost/x", "https://localhost:443/x"] {
            assert!(resolved(&guard, url).is_ok(), "{url}");
        }
        for url in [
            "http://127.0.0.1:3001/x",
            "https://127.0.0.1:3000/x",
            "http://127.0.0.2:3000/x",
            "https://localhost:444",
        ] {
            assert!(matches!(resolved(&guard, url), Err(Some(_))), "{url}");
        }
    }
}
