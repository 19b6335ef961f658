//! Messages from relays (NIP-01, NIP-42), read in one pass.
//!
//! The SDK's own reader builds a tree of JSON values first and takes the event out of that.

use std::borrow::Cow;
use std::fmt;

use nostr_sdk::Event;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

/// A message from a relay.
#[derive(Debug)]
pub(super) enum Frame<'a> {
    Event {
        subscription: Cow<'a, str>,
        event: Box<Event>,
    },
    Ok {
        /// None where a relay refuses without saying what: PyPI nostr-relay leaves the id empty.
        id: Option<nostr_sdk::EventId>,
        accepted: bool,
        message: Cow<'a, str>,
    },
    EndOfStored {
        subscription: Cow<'a, str>,
    },
    Closed {
        subscription: Cow<'a, str>,
        message: Cow<'a, str>,
    },
    Auth {
        challenge: Cow<'a, str>,
    },
    Notice {
        message: Cow<'a, str>,
    },
    /// COUNT, negentropy, whatever comes: not asked for, not looked at.
    Other,
}

impl<'a> Frame<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// A string that is borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Frame<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;

        impl<'de> Visitor<'de> for Elements {
            type Value = Frame<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a relay message")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Frame<'de>, A::Error> {
                let label: Text<'de> = required(&mut elements)?;
                let frame = match &*label.0 {
                    "EVENT" => {
                        let Text(subscription) = required(&mut elements)?;
                        Frame::Event { subscription, event: Box::new(required(&mut elements)?) }
                    }
                    "OK" => Frame::Ok {
                        id: match required::<_, Text>(&mut elements)? {
                            Text(id) if id.is_empty() => None,
                            Text(id) => Some(nostr_sdk::EventId::from_hex(&id).map_err(A::Error::custom)?),
                        },
                        accepted: required(&mut elements)?,
                        message: text_or_empty(&mut elements)?,
                    },
                    "EOSE" => Frame::EndOfStored { subscription: required::<_, Text>(&mut elements)?.0 },
                    "CLOSED" => Frame::Closed {
                        subscription: required::<_, Text>(&mut elements)?.0,
                        message: text_or_empty(&mut elements)?,
                    },
                    "AUTH" => Frame::Auth { challenge: required::<_, Text>(&mut elements)?.0 },
                    "NOTICE" => Frame::Notice { message: text_or_empty(&mut elements)? },
                    _ => Frame::Other,
                };
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(frame)
            }
        }

        deserializer.deserialize_seq(Elements)
    }
}

fn required<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(elements: &mut A) -> Result<T, A::Error> {
    elements.next_element()?.ok_or_else(|| A::Error::custom("a relay message ends early"))
}

/// Some relays leave the last string out.
fn text_or_empty<'de, A: SeqAccess<'de>>(elements: &mut A) -> Result<Cow<'de, str>, A::Error> {
    Ok(elements.next_element::<Text<'de>>()?.map_or(Cow::Borrowed(""), |text| text.0))
}

#[cfg(test)]
mod tests {
    use nostr_sdk::{EventBuilder, JsonUtil, Keys, RelayMessage, SubscriptionId};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_message_of_nip_01_and_nip_42_is_read() {
        let event =
            EventBuilder::text_note("tab\t, \"quotes\", é").sign_with_keys(&Keys::generate()).unwrap();
        let text = RelayMessage::event(SubscriptionId::new("s\"1"), event.clone()).as_json();
        let Frame::Event { subscription, event: read } = Frame::parse(&text).unwrap() else {
            panic!("{text}")
        };
        assert_eq!((&*subscription, *read), ("s\"1", event.clone()));

        let text = RelayMessage::ok(event.id, false, "blocked: no").as_json();
        let Frame::Ok { id, accepted, message } = Frame::parse(&text).unwrap() else { panic!("{text}") };
        assert_eq!((id, accepted, &*message), (Some(event.id), false, "blocked: no"));
        assert!(matches!(
            Frame::parse(r#"["OK","",false,"no"]"#).unwrap(),
            Frame::Ok { id: None, accepted: false, .. }
        ));

        let text = format!(r#"["OK","{}",true]"#, event.id);
        assert!(matches!(Frame::parse(&text).unwrap(), Frame::Ok { accepted: true, .. }));
        assert!(
            matches!(Frame::parse(r#"["EOSE","x"]"#).unwrap(), Frame::EndOfStored { subscription } if subscription == "x")
        );
        assert!(
            matches!(Frame::parse(r#"["CLOSED","x"]"#).unwrap(), Frame::Closed { message, .. } if message.is_empty())
        );
        assert!(
            matches!(Frame::parse(r#"["AUTH","c"]"#).unwrap(), Frame::Auth { challenge } if challenge == "c")
        );
        assert!(matches!(Frame::parse(r#"["NOTICE","n",{}]"#).unwrap(), Frame::Notice { .. }));
        assert!(matches!(Frame::parse(r#"["COUNT","x",{"count":1}]"#).unwrap(), Frame::Other));
    }

    #[test]
    fn what_is_no_relay_message_is_an_error() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "[]",
            "{}",
            "null",
            "[1]",
            r#"["EVENT"]"#,
            r#"["EVENT","x",{}]"#,
            r#"["OK","00",true,""]"#,
            r#"["EOSE"]"#,
            &deep,
        ] {
            assert!(Frame::parse(text).is_err(), "{}", &text[..text.len().min(40)]);
        }
    }

    proptest! {
        #[test]
        fn no_text_whatever_makes_the_reader_panic(text in r#"(\["(EVENT|OK|AUTH|X)",)?[\x00-\x7fé"\\\[\]{}]{0,60}"#) {
            let _ = Frame::parse(&text);
        }
    }
}
