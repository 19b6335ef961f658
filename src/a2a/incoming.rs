//! What a client sends to an agent: a message of A2A, as what is said in a call.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::rpc::Fault;
use crate::api::Command;
use crate::proto::{CallId, Hex, MessageId};

/// Characters of the first text that go into the ring: the callee decides by it whether to take the call.
const TOPIC: usize = 200;
/// Most parts of a message, and bytes of its id.
const PARTS: usize = 64;
const ID: usize = 128;

/// The parameters of `SendMessage` and `SendStreamingMessage`.
#[derive(Debug, Deserialize)]
pub(super) struct Sending {
    pub(super) message: Incoming,
    #[serde(default)]
    pub(super) configuration: Configuration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Configuration {
    pub(super) return_immediately: bool,
    pub(super) history_length: Option<usize>,
    task_push_notification_config: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Incoming {
    message_id: String,
    #[serde(default)]
    context_id: String,
    #[serde(default)]
    task_id: String,
    #[serde(default)]
    parts: Vec<Part>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

/// One of text, raw, data or url is there.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Part {
    text: Option<String>,
    raw: Option<String>,
    url: Option<String>,
    data: Option<Value>,
    filename: String,
    media_type: String,
}

/// A message that can be said in a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Saying {
    id: String,
    /// The call in which it is said, if it goes on with one.
    pub(super) task: Option<String>,
    /// The key with which it is about to be talked, if the client knows it.
    pub(super) context: Option<String>,
    /// The agent that it names, where the address names none.
    pub(super) agent: Option<String>,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    File { name: String, content: String, mime: Option<String> },
}

impl Sending {
    /// What is to be said.
    pub(super) fn read(self) -> Result<(Saying, Configuration), Fault> {
        let Incoming { message_id, context_id, task_id, parts, metadata } = self.message;
        if self.configuration.task_push_notification_config.is_some() {
            return Err(Fault::no_push());
        }
        if message_id.is_empty() || message_id.len() > ID || parts.is_empty() || parts.len() > PARTS {
            let hint = "give each message an id of its own: the same one again is the same message";
            return Err(Fault::invalid_params(
                format_args!("a message has an id of 1 to {ID} bytes, and 1 to {PARTS} parts"),
                hint,
            ));
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        let mut pieces: Vec<Piece> = Vec::new();
        for part in parts {
            match (part.piece()?, pieces.last_mut()) {
                // Texts that follow each other are one message: a peer answers to a whole.
                (Piece::Text(more), Some(Piece::Text(text))) => {
                    text.push('\n');
                    text.push_str(&more);
                }
                (piece, _) => pieces.push(piece),
            }
        }
        let agent = metadata.get("agent").and_then(Value::as_str).map(str::to_owned);
        let saying =
            Saying { id: message_id, task: given(task_id), context: given(context_id), agent, pieces };
        Ok((saying, self.configuration))
    }
}

impl Part {
    fn piece(self) -> Result<Piece, Fault> {
        match (self.text, self.raw, self.data, self.url) {
            (Some(text), None, None, None) if !text.trim().is_empty() => Ok(Piece::Text(text)),
            (None, None, Some(data), None) => Ok(Piece::Text(data.to_string())),
            (None, Some(raw), None, None) => {
                // Either alphabet is allowed in ProtoJSON, padded or not.
                let plain = raw.replace('-', "+").replace('_', "/");
                let plain = plain.trim_end_matches('=');
                let padded = format!("{plain}{}", "=".repeat((4 - plain.len() % 4) % 4));
                let bytes = STANDARD
                    .decode(&padded)
                    .map_err(|_| Fault::invalid_params("raw is not base64", "encode the bytes in base64"))?;
                let name = if self.filename.is_empty() { "file".to_owned() } else { self.filename };
                let mime = (!self.media_type.is_empty()).then_some(self.media_type);
                Ok(Piece::File { name, content: STANDARD.encode(bytes), mime })
            }
            (None, None, None, Some(_)) => {
                Err(Fault::content_type("nothing is fetched from addresses: send the bytes"))
            }
            _ => Err(Fault::content_type("a part is one of text, raw, data; and a text is not empty")),
        }
    }
}

impl Saying {
    /// The ring that it begins.
    pub(super) fn call(&self, agent: &str) -> Command {
        let first = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            Piece::File { name, .. } => format!("file {name}"),
        });
        let topic = first.take(1).collect::<String>().chars().take(TOPIC).collect();
        let client_id = Some(format!("a2a-{}", self.number(usize::MAX)));
        Command::Call { agent: agent.to_owned(), topic, client_id, traceparent: None }
    }

    /// What is said in the call, in order.
    pub(super) fn say(&self, call: CallId) -> Vec<Command> {
        let one = |(place, piece): (usize, &Piece)| match piece.clone() {
            Piece::Text(text) => Command::Send {
                text,
                call: Some(call),
                to: None,
                client_id: Some(self.number(place)),
                wait: None,
                traceparent: None,
            },
            Piece::File { name, content, mime } => Command::SendFile {
                to: None,
                name: Some(name),
                content: Some(content),
                path: None,
                mime,
                call: Some(call),
            },
        };
        self.pieces.iter().enumerate().map(one).collect()
    }

    /// The name of a piece, made from the message's: the same message again says nothing twice.
    fn number(&self, place: usize) -> MessageId {
        let digest = Sha256::digest(format!("a2a {place} {}", self.id));
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Hex(id)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(parts: Value) -> Result<Saying, Fault> {
        let params = json!({"message": {"messageId": "m1", "role": "ROLE_USER", "parts": parts}});
        serde_json::from_value::<Sending>(params).unwrap().read().map(|(saying, _)| saying)
    }

    #[test]
    fn texts_are_joined_data_is_written_and_bytes_are_files() {
        let saying = read(json!([
            {"text": "Please translate"},
            {"data": {"to": "de"}},
            {"raw": "-_8", "filename": "a.bin", "mediaType": "x/y"},
            {"text": "Thanks"},
        ]))
        .unwrap();
        let commands = saying.say(Hex([1; 8]));
        let [
            Command::Send { text, client_id, .. },
            Command::SendFile { name, content, .. },
            Command::Send { .. },
        ] = commands.as_slice()
        else {
            panic!("{commands:?}")
        };
        assert_eq!(text, "Please translate\n{\"to\":\"de\"}");
        assert_eq!((name.as_deref(), content.as_deref()), (Some("a.bin"), Some("+/8=")));
        assert_eq!(commands, saying.say(Hex([1; 8])), "the same message is the same commands");
        assert!(client_id.is_some());
        let Command::Call { topic, .. } = saying.call("bob") else { panic!("a call") };
        assert_eq!(topic, "Please translate {\"to\":\"de\"}");
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for parts in [
            json!([]),
            json!([{}]),
            json!([{"text": " "}]),
            json!([{"url": "http://127.0.0.1/secret"}]),
            json!([{"raw": "!"}]),
            json!([{"text": "a", "url": "b"}]),
        ] {
            assert!(read(parts.clone()).is_err(), "{parts}");
        }
    }
}
