//! The screen: every message of a client passes here before nostr-relay-builder sees it.
//!
//! Three reasons. The builder ends a connection over any message it cannot parse; it prefixes every refusal of
//! a policy with `blocked:`, where NIP-01 has `invalid:` and others; and it serves some requests without any
//! limit (NEG-OPEN, COUNT, filters by the thousand, full-text search over the whole store). What fails here is
//! answered here, in NIP-01's words, and the connection lives on.

use std::collections::BTreeSet;

use nostr_relay_builder::prelude::nostr::serde_json;
use nostr_relay_builder::prelude::{
    ClientMessage, Event, Filter, Host, JsonUtil, Kind, RelayMessage, RelayUrl, SubscriptionId, TagKind,
    TagStandard, Timestamp,
};

use super::limits::Limits;

/// What becomes of a message.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The builder may have it.
    Pass,
    /// It ends this subscription: the builder may have it.
    PassClose(String),
    /// It is an event: the builder may have it when the client's pace allows.
    PassAtPace,
    /// It is a request: the builder may have it when there is room for an answer of many events.
    PassWhenAnswerable {
        /// Its subscription.
        subscription: String,
        /// It asks for gift wraps by their kind; the builder sees to it that they are the client's own.
        wraps: bool,
    },
    /// The client gets this instead.
    Refuse(String),
}

/// Judges messages by the limits; holds no state of a connection.
#[derive(Debug)]
pub(super) struct Screen {
    limits: Limits,
    /// What clients call us where a proxy stands in front, for NIP-42's `relay` tag.
    public: Option<RelayUrl>,
}

impl Screen {
    /// `public` is what clients call us where a proxy stands in front.
    pub(super) fn new(limits: Limits, public: Option<RelayUrl>) -> Self {
        Self { limits, public }
    }

    pub(super) fn judge(&self, text: &str, now: Timestamp) -> Verdict {
        let message = match parse(text) {
            Ok(message) => message,
            Err(reason) => return refuse(&RelayMessage::notice(format!("invalid: {reason}"))),
        };
        match message {
            ClientMessage::Event(event) => match self.objection_to_event(&event, now) {
                Some(reason) => refuse(&RelayMessage::ok(event.id, false, reason)),
                None => Verdict::PassAtPace,
            },
            ClientMessage::Req { subscription_id, filters } => {
                let wraps = filters
                    .iter()
                    .any(|filter| kinds(filter).is_some_and(|kinds| kinds.contains(&Kind::GiftWrap)));
                match self.objection_to_filters(filters.iter().map(AsRef::as_ref), wraps) {
                    Some(reason) => closed(&subscription_id, reason),
                    None => Verdict::PassWhenAnswerable { subscription: subscription_id.to_string(), wraps },
                }
            }
            ClientMessage::Auth(event) => match self.objection_to_auth(&event) {
                Some(reason) => refuse(&RelayMessage::ok(event.id, false, reason)),
                None => Verdict::Pass,
            },
            ClientMessage::Close(subscription_id) => Verdict::PassClose(subscription_id.to_string()),
            ClientMessage::Count { subscription_id, .. } => {
                closed(&subscription_id, "unsupported: this relay does not count")
            }
            ClientMessage::NegOpen { .. } | ClientMessage::NegMsg { .. } | ClientMessage::NegClose { .. } => {
                refuse(&RelayMessage::notice("unsupported: this relay does not reconcile sets"))
            }
        }
    }

    fn objection_to_event(&self, event: &Event, now: Timestamp) -> Option<String> {
        let limits = &self.limits;
        if event.content.len() > limits.max_content_bytes {
            return Some(format!("invalid: content is longer than {} bytes", limits.max_content_bytes));
        }
        if event.tags.len() > limits.max_event_tags {
            return Some(format!("invalid: more than {} tags", limits.max_event_tags));
        }
        let ahead = event.created_at.as_secs().saturating_sub(now.as_secs());
        if ahead > limits.max_future.as_secs() {
            return Some(format!("invalid: created_at is {ahead} seconds ahead of this relay's clock"));
        }
        if event.is_expired_at(&now) {
            return Some("invalid: the event has expired".to_owned());
        }
        if event.kind.is_addressable() && event.tags.identifier().is_none() {
            return Some("invalid: an addressable event needs a d tag".to_owned());
        }
        None
    }

    fn objection_to_filters<'a>(
        &self,
        filters: impl Iterator<Item = &'a Filter>,
        wraps: bool,
    ) -> Option<String> {
        let limits = &self.limits;
        let (mut count, mut values) = (0, 0);
        for filter in filters {
            if filter.search.is_some() {
                return Some("unsupported: this relay does not search".to_owned());
            }
            // Which of the filters an event was sent for, nobody can tell afterwards.
            if limits.gift_wraps_to_receiver_only && wraps && kinds(filter).is_none() {
                return Some("restricted: beside gift wraps, a filter must name its kinds".to_owned());
            }
            count += 1;
            values += size(filter);
        }
        if count > limits.max_filters {
            return Some(format!("restricted: more than {} filters", limits.max_filters));
        }
        if values > limits.max_filter_values {
            return Some(format!("restricted: more than {} values in the filters", limits.max_filter_values));
        }
        None
    }

    /// The builder checks challenge, time and signature of an AUTH event, but neither its kind nor for which
    /// relay it was signed: a relay elsewhere could pass our challenge on and speak in its client's name.
    fn objection_to_auth(&self, event: &Event) -> Option<&'static str> {
        if event.kind != Kind::Authentication {
            return Some("invalid: not an event of kind 22242");
        }
        match event.tags.find_standardized(TagKind::Relay) {
            Some(TagStandard::Relay(url)) if self.is_ours(url) => None,
            _ => Some("invalid: signed for another relay"),
        }
    }

    /// Whether a client that means us may call us so. Every port of this machine's own is right: we may stand behind a
    /// tunnel or a proxy of its owner, and whoever else listens here is no relay from elsewhere that passes our challenge
    /// on.
    fn is_ours(&self, url: &RelayUrl) -> bool {
        let own = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        own || self.public.as_ref() == Some(url)
    }
}

/// The message, or what to tell the client. The first form of `EVENT` is by far the most frequent, and going
/// through `serde_json::Value`, as `ClientMessage` does, costs twice as much.
fn parse(text: &str) -> Result<ClientMessage<'_>, String> {
    if text.starts_with(r#"["EVENT","#)
        && let Ok((_, event)) = serde_json::from_str::<(String, Event)>(text)
    {
        return Ok(ClientMessage::event(event));
    }
    ClientMessage::from_json(text).map_err(|error| error.to_string())
}

/// The kinds that a filter asks for; none if it asks for every kind, as it does with an empty list.
fn kinds(filter: &Filter) -> Option<&BTreeSet<Kind>> {
    filter.kinds.as_ref().filter(|kinds| !kinds.is_empty())
}

/// How many values a filter holds.
fn size(filter: &Filter) -> usize {
    let ids = filter.ids.as_ref().map_or(0, |ids| ids.len());
    let authors = filter.authors.as_ref().map_or(0, |authors| authors.len());
    let kinds = filter.kinds.as_ref().map_or(0, |kinds| kinds.len());
    let tags: usize = filter.generic_tags.values().map(|values| values.len()).sum();
    ids + authors + kinds + tags
}

fn refuse(message: &RelayMessage<'_>) -> Verdict {
    Verdict::Refuse(message.as_json())
}

fn closed(subscription_id: &SubscriptionId, reason: impl Into<String>) -> Verdict {
    refuse(&RelayMessage::closed(subscription_id.clone(), reason.into()))
}

#[cfg(test)]
mod tests {
    use nostr_relay_builder::prelude::{EventBuilder, Keys, NostrDatabase, Tag};
    use proptest::prelude::*;

    use super::*;
    use crate::relay::memory::Memory;

    fn screen() -> Screen {
        Screen::new(Limits::default(), None)
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_to_be_judged(
            head in "(\\[\"(EVENT|REQ|CLOSE|AUTH|COUNT|NEG-OPEN|NEG-MSG)\",?)?",
            tail in "[\\[\\]{}\",:a-z0-9#\\\\u{0}\u{fffd}-]{0,60}|.{0,40}",
        ) {
            screen().judge(&(head + &tail), Timestamp::now());
        }

        #[test]
        fn no_tag_is_too_odd_to_be_judged_and_stored(
            kind in prop::sample::select(vec![0u16, 1, 5, 1059, 10_050, 22_242, 30_078]),
            tags in prop::collection::vec(
                (
                    prop::sample::select(vec!["a", "d", "e", "p", "t", "-", "expiration", "relay", "challenge", "nonce"]),
                    prop::collection::vec("[0-9]{0,25}|30078:[0-9a-f]{62,65}:.?|[0-9a-f]{64}|wss?://.{0,9}|.{0,9}", 0..3),
                ),
                0..4,
            ),
        ) {
            let tags = tags.into_iter().map(|(name, mut parts)| {
                parts.insert(0, name.to_owned());
                Tag::parse(parts).expect("a name is enough")
            });
            let keys = Keys::generate();
            let event = EventBuilder::new(Kind::from(kind), "").tags(tags).sign_with_keys(&keys).expect("signed");
            for verb in ["EVENT", "AUTH"] {
                screen().judge(&format!(r#"["{verb}",{}]"#, event.as_json()), Timestamp::now());
            }
            let store = Memory::new();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                store.save_event(&event).await.expect("an answer");
                store.delete(Filter::new()).await.expect("an answer");
            });
        }
    }
}
