//! JSON-RPC 2.0 as A2A 1.0 speaks it over HTTP: requests, results, and errors with their codes (specification, 5.4).

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Error, ErrorKind, to_json};

/// The version of the protocol that is spoken here.
pub(super) const VERSION: &str = "1.0";

/// What a client asks.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    jsonrpc: String,
    #[serde(default)]
    pub(super) id: Value,
    pub(super) method: String,
    #[serde(default)]
    pub(super) params: Value,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    code: i64,
    reason: String,
    message: String,
    hint: String,
}

impl Fault {
    fn new(code: i64, reason: &str, message: impl Into<String>, hint: &str) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), hint: hint.to_owned() }
    }

    pub(super) fn not_json(why: impl std::fmt::Display) -> Self {
        Self::new(-32700, "PARSE_ERROR", format!("not a request: {why}"), "send one JSON-RPC request")
    }

    pub(super) fn invalid_request(why: &str) -> Self {
        Self::new(-32600, "INVALID_REQUEST", why, "send one JSON-RPC 2.0 request")
    }

    pub(super) fn no_method(method: &str) -> Self {
        let hint = match method.contains('/') {
            true => "this is A2A 1.0, whose methods are SendMessage, GetTask, CancelTask and so on",
            false => "methods: SendMessage, SendStreamingMessage, GetTask, CancelTask, SubscribeToTask",
        };
        Self::new(-32601, "METHOD_NOT_FOUND", "there is no such method", hint)
    }

    pub(super) fn invalid_params(why: impl std::fmt::Display, hint: &str) -> Self {
        Self::new(-32602, "INVALID_PARAMS", why.to_string(), hint)
    }

    pub(super) fn no_task() -> Self {
        Self::new(-32001, "TASK_NOT_FOUND", "there is no such task with this agent", "begin one: SendMessage")
    }

    pub(super) fn not_cancelable() -> Self {
        Self::new(-32002, "TASK_NOT_CANCELABLE", "the call is over", "see how it ended: GetTask")
    }

    pub(super) fn no_push() -> Self {
        let hint = "follow a task with SubscribeToTask, or ask with GetTask";
        Self::new(-32003, "PUSH_NOTIFICATION_NOT_SUPPORTED", "nothing is pushed from here", hint)
    }

    pub(super) fn unsupported(why: &str, hint: &str) -> Self {
        Self::new(-32004, "UNSUPPORTED_OPERATION", why, hint)
    }

    pub(super) fn content_type(why: &str) -> Self {
        let hint = "send parts with text, data, or raw bytes with a filename";
        Self::new(-32005, "CONTENT_TYPE_NOT_SUPPORTED", why, hint)
    }

    pub(super) fn no_extended_card() -> Self {
        Self::new(
            -32007,
            "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
            "there is one card",
            "GET .well-known/agent-card.json",
        )
    }

    pub(super) fn version() -> Self {
        Self::new(-32009, "VERSION_NOT_SUPPORTED", "only A2A 1.0 is spoken here", "send A2A-Version: 1.0")
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let code = match error.kind {
            ErrorKind::UnknownCall => return Self::no_task(),
            ErrorKind::CallEnded => -32004,
            ErrorKind::UnknownAgent
            | ErrorKind::AmbiguousAgent
            | ErrorKind::InvalidValue
            | ErrorKind::InvalidBase64
            | ErrorKind::NotSendable
            | ErrorKind::TooLarge
            | ErrorKind::Usage => -32602,
            _ => -32603,
        };
        let reason = error.kind.code().to_uppercase().replace('-', "_");
        Self::new(code, &reason, error.message, &error.hint)
    }
}

/// Reads a request.
pub(super) fn read(body: &[u8]) -> Result<Request, (Value, Fault)> {
    let value: Value = serde_json::from_slice(body).map_err(|error| (Value::Null, Fault::not_json(error)))?;
    let id = value.get("id").cloned().unwrap_or_default();
    if !(id.is_null() || id.is_string() || id.is_number()) {
        return Err((Value::Null, Fault::invalid_request("an id is text or a number")));
    }
    match serde_json::from_value::<Request>(value) {
        Ok(request) if request.jsonrpc == "2.0" => Ok(request),
        Ok(_) => Err((id, Fault::invalid_request("the member \"jsonrpc\" must be \"2.0\""))),
        Err(error) => Err((id, Fault::invalid_request(&error.to_string()))),
    }
}

/// A response, on one line.
pub(super) fn response(id: &Value, outcome: &Result<Value, Fault>) -> String {
    let written = match outcome {
        Ok(result) => to_json(&json!({"jsonrpc": "2.0", "id": id, "result": result})),
        Err(fault) => {
            let info = json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": fault.reason,
                "domain": "a2a-protocol.org",
                "metadata": {"hint": fault.hint},
            });
            let message = match fault.hint.is_empty() {
                true => fault.message.clone(),
                false => format!("{}; {}", fault.message, fault.hint),
            };
            let error = json!({"code": fault.code, "message": message, "data": [info]});
            to_json(&json!({"jsonrpc": "2.0", "id": id, "error": error}))
        }
    };
    // Values of JSON always serialise.
    written.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_request_is_told_by_its_code() {
        for (body, code) in [
            ("", -32700),
            ("[]", -32600),
            (r#"{"jsonrpc":"1.0","id":1,"method":"GetTask"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":[],"method":"GetTask"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
        ] {
            assert_eq!(read(body.as_bytes()).unwrap_err().1.code, code, "{body}");
        }
        assert_eq!(read(br#"{"jsonrpc":"2.0","id":"a","method":"GetTask"}"#).unwrap().id, "a");
    }

    #[test]
    fn an_error_says_its_code_and_what_to_do() {
        let line = response(&json!(7), &Err(Fault::no_task()));
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&read["id"], &read["error"]["code"]), (&json!(7), &json!(-32001)));
        assert_eq!(read["error"]["data"][0]["metadata"]["hint"], "begin one: SendMessage");
        assert!(read["error"]["message"].as_str().unwrap().contains("SendMessage"));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_reader_panic(body in any::<Vec<u8>>()) {
            let _ = read(&body);
        }
    }
}
