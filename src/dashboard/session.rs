//! Who may look: a token once, then a cookie and a key.

use std::sync::{Mutex, PoisonError};

use axum::http::HeaderMap;
use axum::http::header::COOKIE;

use crate::http::Secret;

/// The header that carries the key of a session.
const KEY_HEADER: &str = "x-p2p-key";
struct Session {
    cookie: Secret,
    key: Secret,
}

/// The sessions of one dashboard.
pub(super) struct Sessions {
    /// Pages of other ports get a name of their own in the browser's jar.
    name: String,
    state: Mutex<State>,
}

enum State {
    /// Nobody has come with the token yet.
    Invited(Secret),
    /// Somebody has; the token is void.
    Open(Session),
}

/// What whoever has brought the token is given.
pub(super) struct Admission {
    /// For the browser's jar.
    pub(super) set_cookie: String,
    /// For the page.
    pub(super) key: String,
}

impl Sessions {
    /// No session yet, and the token that makes one.
    pub(super) fn begin(port: u16) -> (Self, Secret) {
        let token = Secret::fresh();
        let state = Mutex::new(State::Invited(token.clone()));
        (Self { name: format!("p2p_comm_{port}"), state }, token)
    }

    /// Takes the token, once.
    pub(super) fn admit(&self, token: &str) -> Option<Admission> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Invited(expected) = &*state else { return None };
        if !expected.is(token) {
            return None;
        }
        let session = Session { cookie: Secret::fresh(), key: Secret::fresh() };
        let name = &self.name;
        let admission = Admission {
            set_cookie: format!("{name}={}; HttpOnly; SameSite=Strict; Path=/api", session.cookie.reveal()),
            key: session.key.reveal().to_owned(),
        };
        *state = State::Open(session);
        Some(admission)
    }

    /// Whether a request is of the session.
    pub(super) fn knows(&self, headers: &HeaderMap) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Open(session) = &*state else { return false };
        let key = headers.get(KEY_HEADER).and_then(|key| key.to_str().ok()).unwrap_or_default();
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let ours = cookies
            .flat_map(|value| value.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .any(|(name, value)| name == self.name && session.cookie.is(value));
        ours & session.key.is(key)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(cookie: &str, key: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
        headers.insert(KEY_HEADER, HeaderValue::from_str(key).unwrap());
        headers
    }

    #[test]
    fn the_token_counts_once_and_a_session_needs_both_of_its_secrets() {
        let (sessions, token) = Sessions::begin(4_000);
        assert!(sessions.admit("").is_none() && sessions.admit(Secret::fresh().reveal()).is_none());
        assert!(!sessions.knows(&headers("p2p_comm_4000=", "")), "before anybody has come");
        let Admission { set_cookie, key } = sessions.admit(token.reveal()).unwrap();
        assert!(sessions.admit(token.reveal()).is_none(), "the token is void");
        let cookie = set_cookie.split(';').next().unwrap();
        assert!(set_cookie.contains("HttpOnly") && set_cookie.contains("SameSite=Strict"));
        assert!(sessions.knows(&headers(&format!("other=1; {cookie}"), &key)));
        assert!(!sessions.knows(&headers(cookie, "")), "another port of this machine is sent the cookie");
        assert!(!sessions.knows(&headers("", &key)));
        assert!(!sessions.knows(&headers(&cookie.replace("4000", "4001"), &key)));
    }
}
