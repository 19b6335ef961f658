//! How the relays are, of both pools.

use super::url::RelayId;
use crate::api::{RelayStatus, SessionLink};

/// The identity's links with, for each, the link that carries sessions to the same relay. Behind them stand the relays
/// that only sessions use (a peer has named them): of those, all that is known is how the session link is.
pub fn joined(mut identity: Vec<RelayStatus>, sessions: Vec<(RelayId, SessionLink)>) -> Vec<RelayStatus> {
    for (relay, session) in sessions {
        match identity.iter_mut().find(|status| status.url == relay.as_str()) {
            Some(status) => status.session = Some(session),
            None => identity.push(RelayStatus {
                connected: session.connected,
                auth: session.auth,
                error: session.error.clone(),
                session: Some(session),
                ..unknown(&relay)
            }),
        }
    }
    identity
}

/// A relay before anything is known of it.
pub(super) fn unknown(relay: &RelayId) -> RelayStatus {
    RelayStatus {
        url: relay.as_str().to_owned(),
        connected: false,
        rtt_ms: None,
        auth: crate::api::RelayAuth::None,
        error: None,
        accepted: 0,
        refused: 0,
        refusal: None,
        session: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RelayAuth;

    #[test]
    fn a_relay_of_both_pools_is_one_and_one_of_sessions_alone_comes_last() {
        let relay = |name: &str| RelayId::parse(&format!("wss://{name}.example")).unwrap();
        let link = SessionLink { connected: true, auth: RelayAuth::Done, echo_ms: Some(12.5), error: None };
        let lost =
            SessionLink { connected: false, auth: RelayAuth::None, echo_ms: None, error: Some("x".into()) };
        let (both, identity, session) = (relay("both"), relay("identity"), relay("a-session"));
        let all = joined(
            vec![unknown(&both), unknown(&identity)],
            vec![(session.clone(), lost.clone()), (both.clone(), link.clone())],
        );
        let of = |status: &RelayStatus| (status.url.clone(), status.session.clone());
        assert_eq!(
            all.iter().map(of).collect::<Vec<_>>(),
            [(both.to_string(), Some(link)), (identity.to_string(), None), (session.to_string(), Some(lost))]
        );
        assert!(!all[0].connected, "of the identity's link");
        assert_eq!(all[2].error.as_deref(), Some("x"));
    }
}
