//! The legacy dialect's payloads: the JSON inside the NIP-04 ciphertext of a kind 4 event, as `openclaw-p2p` 0.1
//! to 0.3 writes it (`docs/protocol.md`, "Legacy dialect").
//!
//! Ours add `id` and `seq`, which deployed agents ignore; between two of ours they give dedup and order. Reading is
//! strict about what we act on (`type`, `roomId`) and forgiving about the rest: a missing name is an empty one, an
//! extension of an odd type is as good as absent.

use serde::{Deserialize, Deserializer, Serialize};

use super::MessageId;

/// Longest room id taken, bytes. Deployed agents use a UUID; the limit is the protocol's.
pub const ROOM_LIMIT: usize = 1_024;
/// Longest name, agent id or MIME type kept from a peer, characters. What is longer is cut: it is only a label.
pub const LABEL_LIMIT: usize = 128;
/// Longest topic or reason kept from a peer, characters.
pub const TOPIC_LIMIT: usize = 2_000;
/// Most bytes of a payload's JSON: what NIP-04 and base64 leave of the 64 KiB that relays take for an
/// `["EVENT",…]` message.
pub const PLAINTEXT_LIMIT: usize = 48_799;
/// Most raw bytes of a file to a legacy peer: base64 and NIP-04 bring them just below a relay's 64 KiB.
pub const FILE_LIMIT: usize = 36_000;

/// One payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The room: chosen by the caller, the same for the whole call.
    pub room: String,
    /// The sender's agent id.
    pub origin: String,
    /// The message's id. Only ours carry one.
    pub id: Option<MessageId>,
    /// The message's place in its direction of the room, from 1. Only ours carry one. In `end_call`: the last one.
    pub seq: Option<u64>,
    /// What it says.
    pub body: Body,
}

/// What a payload says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Rings.
    CallRequest {
        /// The caller's agent id.
        agent_id: String,
        /// The caller's display name.
        agent_name: String,
        /// What it is about.
        topic: String,
    },
    /// Takes the call.
    CallAccepted {
        /// The callee's agent id.
        agent_id: String,
        /// The callee's display name.
        agent_name: String,
        /// Ours: the callee's own ring that this call takes the place of, when both rang at once.
        replaces: Option<String>,
    },
    /// Declines the call.
    CallRejected {
        /// The callee's agent id.
        agent_id: String,
        /// The callee's display name.
        agent_name: String,
        /// Words for the caller.
        reason: String,
        /// Ours: nobody declined; there is no room for another call.
        busy: bool,
    },
    /// Says something.
    Message {
        /// The sender's display name.
        sender: String,
        /// The words.
        content: String,
    },
    /// Sends a file.
    File {
        /// The sender's display name.
        sender: String,
        /// Its name, as the sender says: see [`super::safe_file_name`].
        filename: String,
        /// The bytes, base64.
        content: String,
        /// MIME type, as the sender says.
        mime: String,
    },
    /// Tells that the sender asks its human owner.
    Escalate {
        /// The sender's agent id.
        from_agent: String,
        /// The question.
        message: String,
    },
    /// Ends the call, or takes back the ring.
    EndCall {
        /// Why.
        reason: String,
    },
}

/// Why a payload was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or not of the shape.
    #[error("not a payload: {0}")]
    Json(#[from] serde_json::Error),
    /// A type that this dialect does not have.
    #[error("unknown payload type")]
    UnknownType,
    /// The room id is empty, too long, or has control characters.
    #[error("bad room id")]
    BadRoom,
    /// A member that this type needs is not there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
}

/// Every member that any payload has. Absent ones are not written.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    #[serde(rename = "type")]
    kind: String,
    room_id: String,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    agent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    agent_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    busy: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    replaces: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    filename: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    mime_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    from_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "forgiving")]
    message: Option<String>,
}

/// A member of another type than ours counts as absent: it is some other software's extension.
pub(super) fn forgiving<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Member<T> {
        Ours(T),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Member::deserialize(deserializer)? {
        Member::Ours(value) => Some(value),
        Member::Other(_) => None,
    })
}

/// The first `limit` characters.
pub(super) fn cut(mut text: String, limit: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(limit) {
        text.truncate(end);
    }
    text
}

fn label(member: Option<String>) -> String {
    cut(member.unwrap_or_default(), LABEL_LIMIT)
}

impl Payload {
    /// Reads a decrypted payload.
    ///
    /// # Errors
    /// [`Malformed`] if it is not one; nothing is to be done with it then.
    pub fn parse(json: &str) -> Result<Self, Malformed> {
        let wire: Wire = serde_json::from_str(json)?;
        if wire.room_id.is_empty()
            || wire.room_id.len() > ROOM_LIMIT
            || wire.room_id.chars().any(char::is_control)
        {
            return Err(Malformed::BadRoom);
        }
        let body = match wire.kind.as_str() {
            "call_request" => Body::CallRequest {
                agent_id: label(wire.agent_id.or_else(|| wire.origin.clone())),
                agent_name: label(wire.agent_name),
                topic: cut(wire.topic.unwrap_or_default(), TOPIC_LIMIT),
            },
            "call_accepted" => Body::CallAccepted {
                agent_id: label(wire.agent_id.or_else(|| wire.origin.clone())),
                agent_name: label(wire.agent_name),
                replaces: wire.replaces.filter(|room| room.len() <= ROOM_LIMIT),
            },
            "call_rejected" => Body::CallRejected {
                agent_id: label(wire.agent_id.or_else(|| wire.origin.clone())),
                agent_name: label(wire.agent_name),
                reason: cut(wire.reason.unwrap_or_default(), TOPIC_LIMIT),
                busy: wire.busy.unwrap_or(false),
            },
            "room_message" => Body::Message {
                sender: label(wire.sender),
                content: wire.content.ok_or(Malformed::Missing("content"))?,
            },
            "room_file" => Body::File {
                sender: label(wire.sender),
                filename: wire.filename.unwrap_or_default(),
                content: wire.content.ok_or(Malformed::Missing("content"))?,
                mime: label(wire.mime_type),
            },
            "escalate" => Body::Escalate {
                from_agent: label(wire.from_agent),
                message: wire.message.ok_or(Malformed::Missing("message"))?,
            },
            "end_call" => Body::EndCall { reason: cut(wire.reason.unwrap_or_default(), TOPIC_LIMIT) },
            _ => return Err(Malformed::UnknownType),
        };
        Ok(Self { room: wire.room_id, origin: label(wire.origin), id: wire.id, seq: wire.seq, body })
    }

    /// Writes the payload for sealing.
    pub fn to_json(&self) -> String {
        let mut wire = Wire {
            room_id: self.room.clone(),
            origin: Some(self.origin.clone()),
            id: self.id,
            seq: self.seq,
            ..Wire::default()
        };
        wire.kind = match self.body.clone() {
            Body::CallRequest { agent_id, agent_name, topic } => {
                (wire.agent_id, wire.agent_name, wire.topic) =
                    (Some(agent_id), Some(agent_name), Some(topic));
                "call_request"
            }
            Body::CallAccepted { agent_id, agent_name, replaces } => {
                (wire.agent_id, wire.agent_name, wire.replaces) =
                    (Some(agent_id), Some(agent_name), replaces);
                "call_accepted"
            }
            Body::CallRejected { agent_id, agent_name, reason, busy } => {
                (wire.agent_id, wire.agent_name, wire.reason) =
                    (Some(agent_id), Some(agent_name), Some(reason));
                wire.busy = busy.then_some(true);
                "call_rejected"
            }
            Body::Message { sender, content } => {
                (wire.sender, wire.content) = (Some(sender), Some(content));
                "room_message"
            }
            Body::File { sender, filename, content, mime } => {
                (wire.sender, wire.filename) = (Some(sender), Some(filename));
                (wire.content, wire.mime_type) = (Some(content), Some(mime));
                "room_file"
            }
            Body::Escalate { from_agent, message } => {
                (wire.from_agent, wire.message) = (Some(from_agent), Some(message));
                "escalate"
            }
            Body::EndCall { reason } => {
                wire.reason = Some(reason);
                "end_call"
            }
        }
        .to_owned();
        serde_json::to_string(&wire).expect("strings and numbers always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Hex;

    fn message(content: &str) -> Payload {
        Payload {
            room: "1b4e28ba-2fa1-11d2-883f-0016d3cca427".into(),
            origin: "alice".into(),
            id: Some(Hex([7; 16])),
            seq: Some(3),
            body: Body::Message { sender: "Alice".into(), content: content.into() },
        }
    }

    #[test]
    fn a_payload_is_written_as_the_deployed_agents_read_it() {
        let json: serde_json::Value = serde_json::from_str(&message("hello").to_json()).unwrap();
        let expected = serde_json::json!({
            "type": "room_message", "roomId": "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "origin": "alice",
            "id": "07070707070707070707070707070707", "seq": 3, "sender": "Alice", "content": "hello",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn every_payload_survives_a_round_trip() {
        let (agent_id, agent_name) = (String::from("bob"), String::from("Bob ✓"));
        let bodies = [
            Body::CallRequest {
                agent_id: agent_id.clone(),
                agent_name: agent_name.clone(),
                topic: "a\nb".into(),
            },
            Body::CallAccepted {
                agent_id: agent_id.clone(),
                agent_name: agent_name.clone(),
                replaces: Some("room".into()),
            },
            Body::CallRejected { agent_id, agent_name, reason: "no".into(), busy: true },
            Body::Message { sender: "Bob".into(), content: "ü\u{202e}".into() },
            Body::File {
                sender: "Bob".into(),
                filename: "a.txt".into(),
                content: "aGk=".into(),
                mime: "text/plain".into(),
            },
            Body::Escalate { from_agent: "bob".into(), message: "may I?".into() },
            Body::EndCall { reason: "ended_by_peer".into() },
        ];
        for body in bodies {
            let payload = Payload { body, ..message("") };
            assert_eq!(Payload::parse(&payload.to_json()).unwrap(), payload);
        }
    }

    #[test]
    fn extensions_of_an_odd_type_count_as_absent() {
        let payload = Payload::parse(
            r#"{"type":"room_message","roomId":"r","content":"hi","id":5,"seq":"x","sender":null,"extra":[1]}"#,
        )
        .unwrap();
        assert_eq!((payload.id, payload.seq), (None, None));
        assert_eq!(payload.body, Body::Message { sender: String::new(), content: "hi".into() });
    }

    #[test]
    fn what_cannot_be_acted_on_is_refused() {
        for json in [
            "",
            "[]",
            "null",
            r#"{"type":"room_message"}"#,
            r#"{"type":"room_message","roomId":"r"}"#,
            r#"{"type":"room_message","roomId":7,"content":"x"}"#,
            r#"{"type":"self_destruct","roomId":"r"}"#,
            "{\"type\":\"end_call\",\"roomId\":\"a\\nb\"}",
        ] {
            assert!(Payload::parse(json).is_err(), "{json}");
        }
        let long = format!(r#"{{"type":"end_call","roomId":"{}"}}"#, "r".repeat(ROOM_LIMIT + 1));
        assert!(matches!(Payload::parse(&long), Err(Malformed::BadRoom)));
        let deep = format!(r#"{{"type":"end_call","roomId":"r","x":{}}}"#, "[".repeat(100_000));
        assert!(Payload::parse(&deep).is_err());
    }

    #[test]
    fn labels_are_cut_and_words_are_not() {
        let json = serde_json::json!({
            "type": "call_request", "roomId": "r", "agentId": "é".repeat(500), "topic": "t".repeat(5_000),
        });
        let Body::CallRequest { agent_id, topic, .. } = Payload::parse(&json.to_string()).unwrap().body
        else {
            panic!("not a call request");
        };
        assert_eq!((agent_id.chars().count(), topic.len()), (LABEL_LIMIT, TOPIC_LIMIT));
    }
}
