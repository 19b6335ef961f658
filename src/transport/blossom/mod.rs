//! Servers that keep encrypted files for whoever is not there (Blossom, BUD-01, 02, 06 and 11).
//!
//! ```text
//!   probe    HEAD /upload          would it take a blob of this size? remembered for some minutes
//!   upload   PUT /upload           the blob, authorized by a key made for it
//!            HEAD /<sha256>        is it there, for whoever knows its name?
//!   fetch    GET …                 of an address that a peer has written: guarded, bounded, checked
//! ```
//!
//! A server is not trusted: it never has the key, and what it gives back is believed for its hash. Everything here blocks;
//! it runs on threads for that. No proxy of the environment is used: it would resolve names that only `guard` may.

mod cipher;
mod guard;
mod token;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use ureq::http::Response;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};

pub use self::cipher::{open, seal};
use self::guard::{Guard, Origin, refusal};
use crate::proto::Hex;
use crate::proto::text::beginning;

/// How long a name and a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long a server may think before it answers.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// How long a probe may take: whoever sends a file waits for it.
const PROBE_TIME: Duration = Duration::from_secs(8);
/// How long a blob may take in either direction: at the limit of 16 MiB that is 0.75 Mbit/s.
const BLOB_TIME: Duration = Duration::from_secs(180);
/// How long what a probe said is believed.
const PROBE_KEPT: Duration = Duration::from_secs(300);
/// How long a server that did not pass is left alone.
const PROBE_SHUNNED: Duration = Duration::from_secs(60);
/// Redirects that are followed, each address checked anew: BUD-01 lets a server point to where it keeps its blobs.
const REDIRECTS: u32 = 2;
/// Most bytes of a blob's descriptor.
const DESCRIPTOR_LIMIT: u64 = 64 << 10;
/// Longest words of a server that are repeated, characters.
const WORDS_LIMIT: usize = 100;
/// Bytes that are read at a time: between two pieces it is seen whether anybody still wants them.
const PIECE: usize = 64 << 10;
/// What is uploaded tells nothing but its size.
const MIME: &str = "application/octet-stream";

/// Why a file did not come, or did not go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It may be better in a while.
    #[error("{0}")]
    Passing(String),
    /// It stays so.
    #[error("{0}")]
    Final(String),
    /// Nobody wants it any more.
    #[error("nobody wants it any more")]
    Over,
}

/// What servers answered to probes.
#[derive(Debug, Default)]
pub struct Blossom(Mutex<BTreeMap<String, Probe>>);

/// One answer.
#[derive(Debug, Clone)]
struct Probe {
    at: Instant,
    size: u64,
    outcome: Result<(), String>,
}

impl Probe {
    /// What it says about a blob of this size now, if anything.
    fn about(&self, size: u64) -> Option<&Result<(), String>> {
        let (kept, says) = match self.outcome {
            Ok(()) => (PROBE_KEPT, size <= self.size),
            Err(_) => (PROBE_SHUNNED, size >= self.size),
        };
        (says && self.at.elapsed() < kept).then_some(&self.outcome)
    }
}

/// What a server says of a blob that it has taken (BUD-02).
#[derive(Deserialize)]
struct Descriptor {
    sha256: Hex<32>,
    size: u64,
}

impl Blossom {
    /// Whether any of these servers would take a blob of this size.
    ///
    /// # Errors
    /// What each of them says, for the user.
    pub fn probe(&self, servers: &[String], size: u64, now: u64) -> Result<(), String> {
        let mut said = Vec::new();
        for server in servers {
            match self.probe_one(server, size, now) {
                Ok(()) => return Ok(()),
                Err(why) => said.push(why),
            }
        }
        Err(said.join("; "))
    }

    /// Why none of these servers takes anything, as far as all of them have said so lately.
    pub fn complaint(&self, servers: &[String]) -> Option<String> {
        let probes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = servers.iter().map(|server| probes.get(server)?.about(u64::MAX)?.clone().err());
        said.collect::<Option<Vec<_>>>().filter(|said| !said.is_empty()).map(|said| said.join("; "))
    }

    fn probe_one(&self, server: &str, size: u64, now: u64) -> Result<(), String> {
        let probes = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = probes().get(server).and_then(|probe| probe.about(size).cloned()) {
            return known;
        }
        let outcome = ask_whether(server, size, now);
        probes().insert(server.to_owned(), Probe { at: Instant::now(), size, outcome: outcome.clone() });
        outcome
    }

    /// Brings an encrypted file to the first of these servers that takes it, and makes sure that it is there. Returns
    /// where. The same bytes have the same address: doing it twice does it once.
    ///
    /// # Errors
    /// [`Trouble::Passing`], with what each server says.
    pub fn upload(&self, servers: &[String], blob: &[u8], now: u64) -> Result<String, Trouble> {
        let hash = sha256(blob);
        let mut said = Vec::new();
        for server in servers {
            let brought = self
                .probe_one(server, blob.len() as u64, now)
                .and_then(|()| put(server, blob, &hash, now))
                .and_then(|()| is_there(server, blob.len() as u64, &hash));
            match brought {
                Ok(url) => return Ok(url),
                Err(why) => said.push(why),
            }
        }
        Err(Trouble::Passing(match said.is_empty() {
            true => "no server is set in `blossom`".to_owned(),
            false => said.join("; "),
        }))
    }
}

/// Fetches what a peer has put somewhere: at most `limit` bytes, from the open internet or from a server of the user's.
/// `is_wanted` is asked between two pieces.
///
/// # Errors
/// [`Trouble`].
pub fn fetch(
    url: &str,
    ours: &[String],
    limit: u64,
    is_wanted: impl Fn() -> bool,
) -> Result<Vec<u8>, Trouble> {
    let place = shown(url);
    let agent = agent(ours, REDIRECTS, BLOB_TIME);
    let trouble = |error: &ureq::Error| match refusal(error) {
        Some(why) => Trouble::Final(format!("{place} is not asked: {why}")),
        None if matches!(error, ureq::Error::BadUri(_) | ureq::Error::Http(_)) => {
            Trouble::Final(format!("{place} is no address"))
        }
        None => Trouble::Passing(format!("{place}: {}", said_by(error))),
    };
    let mut answer = agent.get(url).call().map_err(|error| trouble(&error))?;
    if !answer.status().is_success() {
        return Err(Trouble::Passing(format!("{place} {}", words(&answer))));
    }
    let too_long = || Trouble::Final(format!("{place} gives more than the {limit} bytes that it may have"));
    if answer.body().content_length().is_some_and(|length| length > limit) {
        return Err(too_long());
    }
    let mut reader = answer.body_mut().as_reader();
    // As large as it may become: it would be copied as it grows.
    let (mut bytes, mut piece) = (Vec::with_capacity(limit as usize), vec![0; PIECE]);
    loop {
        if !is_wanted() {
            return Err(Trouble::Over);
        }
        let length = reader
            .read(&mut piece)
            .map_err(|error| Trouble::Passing(format!("{place} broke off: {}", error.kind())))?;
        if length == 0 {
            return Ok(bytes);
        }
        if bytes.len() as u64 + length as u64 > limit {
            return Err(too_long());
        }
        bytes.extend_from_slice(&piece[..length]);
    }
}

/// The SHA-256 of a blob: its name.
pub fn sha256(blob: &[u8]) -> Hex<32> {
    Hex(Sha256::digest(blob).into())
}

/// The probe (BUD-06). The hash that it names is of nothing: what the blob will be is not known yet, or is nobody's
/// business before the server has agreed.
fn ask_whether(server: &str, size: u64, now: u64) -> Result<(), String> {
    let token = token(server, &sha256(&now.to_be_bytes()), now)?;
    let answer = agent(std::slice::from_ref(&server.to_owned()), 0, PROBE_TIME)
        .head(format!("{server}/upload"))
        .header("authorization", token)
        .header("x-sha-256", sha256(&now.to_be_bytes()).to_string())
        .header("x-content-type", MIME)
        .header("x-content-length", size.to_string())
        .call()
        .map_err(|error| format!("{}: {}", shown(server), said_by(&error)))?;
    // A server need not know the probe; what it thinks of the blob is seen when it comes.
    match answer.status().as_u16() {
        405 | 501 => Ok(()),
        _ if answer.status().is_success() => Ok(()),
        _ => Err(format!("{} {}", shown(server), words(&answer))),
    }
}

fn put(server: &str, blob: &[u8], hash: &Hex<32>, now: u64) -> Result<(), String> {
    let place = shown(server);
    let mut answer = agent(std::slice::from_ref(&server.to_owned()), 0, BLOB_TIME)
        .put(format!("{server}/upload"))
        .header("authorization", token(server, hash, now)?)
        .header("x-sha-256", hash.to_string())
        .content_type(MIME)
        .send(blob)
        .map_err(|error| format!("{place}: {}", said_by(&error)))?;
    if !answer.status().is_success() {
        return Err(format!("{place} {}", words(&answer)));
    }
    let told = answer.body_mut().with_config().limit(DESCRIPTOR_LIMIT).read_to_vec();
    let told = told.map_err(|error| format!("{place}: {}", said_by(&error)))?;
    match serde_json::from_slice::<Descriptor>(&told) {
        Ok(it) if it.sha256 == *hash && it.size == blob.len() as u64 => Ok(()),
        Ok(_) => Err(format!("{place} has kept something else than what it was sent")),
        Err(_) => Err(format!("{place} answers in a way that Blossom does not")),
    }
}

/// Whether whoever knows a blob's name gets it. Returns its address: the one that every server has for it, whatever the
/// descriptor says.
fn is_there(server: &str, size: u64, hash: &Hex<32>) -> Result<String, String> {
    let (url, place) = (format!("{server}/{hash}"), shown(server));
    let answer = agent(std::slice::from_ref(&server.to_owned()), REDIRECTS, PROBE_TIME)
        .head(&url)
        .call()
        .map_err(|error| format!("{place}: {}", said_by(&error)))?;
    let length = answer.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    match answer.status().is_success() && length.is_none_or(|length: u64| length == size) {
        true => Ok(url),
        false => Err(format!("{place} took the file, and does not have it: it {}", words(&answer))),
    }
}

fn token(server: &str, blob: &Hex<32>, now: u64) -> Result<String, String> {
    let host = Origin::of(server).ok_or_else(|| format!("{server} is no address"))?;
    token::for_upload(host.host(), blob, now).ok_or_else(|| "a token cannot be signed".to_owned())
}

/// A client that dials what may be dialled, and ends in time.
fn agent(ours: &[String], redirects: u32, within: Duration) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(redirects)
        .max_redirects_will_error(false)
        .timeout_resolve(Some(CONNECT_TIME))
        .timeout_connect(Some(CONNECT_TIME))
        .timeout_recv_response(Some(ANSWER_TIME))
        .timeout_global(Some(within))
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Guard::new(ours))
}

/// The server of an address as it is shown: what comes after it may be a secret.
fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            format!("{scheme}://{}", rest.split(['/', '?', '#']).next().unwrap_or_default())
        }
        None => url.to_owned(),
    }
}

/// What a server answers, and why, as far as it says so. Its words are data.
fn words(answer: &Response<Body>) -> String {
    let code = answer.status().as_u16();
    let reason = answer.headers().get("x-reason").and_then(|reason| reason.to_str().ok());
    let reason: String = reason.unwrap_or_default().chars().filter(|it| !it.is_control()).collect();
    match beginning(&reason, WORDS_LIMIT) {
        "" => format!("answered {code}"),
        reason => format!("answered {code}: {reason}"),
    }
}

fn said_by(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::HostNotFound => "its host is not known".to_owned(),
        ureq::Error::Io(error) => match error.get_ref() {
            Some(inner) if inner.is::<guard::NotDialled>() => inner.to_string(),
            _ => error.kind().to_string(),
        },
        ureq::Error::BodyExceedsLimit(_) => "it says too much".to_owned(),
        ureq::Error::Rustls(error) => format!("its certificate is not taken: {error}"),
        _ => "it cannot be reached".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_names_inside_is_refused_for_good_and_nothing_is_dialled() {
        for url in [
            "https://127.0.0.1:1/x",
            "https://169.254.169.254/latest",
            "http://8.8.8.8/x",
            "https://[::1]:1/x",
        ] {
            let refused = fetch(url, &[], 100, || true).unwrap_err();
            assert!(
                matches!(&refused, Trouble::Final(why) if why.contains("is not asked")),
                "{url}: {refused:?}"
            );
        }
        for url in ["https://", "https://a b/", "nonsense"] {
            assert!(fetch(url, &[], 100, || true).is_err(), "{url}");
        }
    }

    #[test]
    fn a_probe_speaks_for_what_is_no_larger_and_a_refusal_for_what_is_no_smaller() {
        let now = Instant::now();
        let passed = Probe { at: now, size: 1_000, outcome: Ok(()) };
        assert_eq!([1, 1_000, 1_001].map(|size| passed.about(size).is_some()), [true, true, false]);
        let failed = Probe { at: now, size: 1_000, outcome: Err("413".into()) };
        assert_eq!([999, 1_000, 5_000].map(|size| failed.about(size).is_some()), [false, true, true]);
        let Some(before) = now.checked_sub(PROBE_SHUNNED) else { return };
        assert!(Probe { at: before, ..failed }.about(1_000).is_none());
    }

    #[test]
    fn of_an_address_only_its_server_is_shown() {
        assert_eq!(shown("https://blobs.example:8443/secret?token=1"), "https://blobs.example:8443");
        assert_eq!(shown("https://blobs.example?x"), "https://blobs.example");
    }
}
