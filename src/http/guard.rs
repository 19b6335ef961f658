//! What every request passes before a page sees it, and what every answer carries.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

/// Only what this server itself has: no scripts in the page, no strings that become one, no frames, no forms, and
/// nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// What goes with every answer.
const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The names by which a door may be called.
#[derive(Debug, Clone)]
pub enum Names {
    /// The loopback address and its name, at this port.
    Loopback(u16),
    /// Any: the user has opened the door to a network, whose names for it we do not know.
    Any,
}

impl Names {
    /// Whether `host` is a name of ours.
    fn allow(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback(port) => ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| {
                host.strip_prefix(name)
                    .is_some_and(|rest| rest.strip_prefix(':').is_some_and(|text| text == port.to_string()))
            }),
        }
    }

    /// Why a request is turned away, if it is.
    fn objection(&self, headers: &HeaderMap) -> Option<&'static str> {
        let one = |name: &HeaderName| {
            let mut values = headers.get_all(name).iter();
            let value = values.next().map(|value| value.to_str().unwrap_or("\u{fffd}"));
            // Two are none: proxies and servers disagree about which one counts.
            (value, values.next().is_none())
        };
        let (host, alone) = one(&HOST);
        let Some(host) = host.filter(|host| alone && self.allow(host)) else {
            return Some("this server is not called that; use the address that it printed");
        };
        let (origin, alone) = one(&ORIGIN);
        if origin.is_some_and(|origin| !alone || origin != format!("http://{host}")) {
            return Some("other web pages have no business here");
        }
        // Browsers say where a request comes from even where they send no Origin.
        match headers.get("sec-fetch-site").map(|value| value.to_str().unwrap_or_default()) {
            None | Some("none" | "same-origin") => None,
            Some(_) => Some("other web pages have no business here"),
        }
    }
}

/// Puts the guards in front of a router.
pub fn guard(router: Router, names: Names) -> Router {
    router.layer(middleware::from_fn_with_state(Arc::new(names), pass))
}

async fn pass(State(names): State<Arc<Names>>, request: Request, next: Next) -> Response {
    let mut response = match names.objection(request.headers()) {
        Some(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Names::Loopback(8080).objection(&map).is_some()
    }

    #[test]
    fn only_the_names_that_were_printed_lead_here() {
        for host in ["127.0.0.1:8080", "localhost:8080"] {
            assert!(!refused(&[("host", host)]), "{host}");
        }
        for host in [
            "evil.example:8080",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.0.0.1:08080",
            "localhost.evil.example:8080",
            "127.0.0.1:8080.evil.example",
            "",
            "\u{e9}",
        ] {
            assert!(refused(&[("host", host)]), "{host}");
        }
        assert!(refused(&[]), "a request without a name");
        assert!(refused(&[("host", "127.0.0.1:8080"), ("host", "evil.example")]), "two names");
    }

    #[test]
    fn other_pages_are_refused_by_their_origin_and_by_what_the_browser_says_of_them() {
        let here = ("host", "127.0.0.1:8080");
        assert!(!refused(&[here, ("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "same-origin")]));
        assert!(!refused(&[here, ("sec-fetch-site", "none")]), "typed in by its user");
        for origin in ["https://evil.example", "http://127.0.0.1:8081", "null", "http://localhost:8080", ""] {
            assert!(refused(&[here, ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "whatever"] {
            assert!(refused(&[here, ("sec-fetch-site", site)]), "{site}");
        }
    }
}
