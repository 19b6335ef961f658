//! JSON-RPC 2.0 as this socket speaks it: what a line means, and how replies are written.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::{Command, Error, ErrorKind, Reply};

/// JSON-RPC: the line is not JSON.
const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: JSON, but no request.
const INVALID_REQUEST: i64 = -32600;
/// JSON-RPC: no such method.
const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: the method does not take these parameters.
const INVALID_PARAMS: i64 = -32602;
/// Every error of ours; `data` has the code that counts. The first of the codes that JSON-RPC leaves to servers.
const APPLICATION_ERROR: i64 = -32000;
/// Longest id of a request that is text: a UUID with room to spare.
const ID_LIMIT: usize = 128;

/// What a client asks.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    /// Of the engine.
    Command(Box<Command>),
    /// Who serves this socket?
    Hello,
    /// An orderly stop.
    Stop,
    /// Of this connection: gives up the request with that id.
    Cancel(Value),
}

/// A line that could be read.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    /// Absent: the client wants no reply.
    pub(super) id: Option<Value>,
    pub(super) asked: Asked,
}

/// A line that could not.
#[derive(Debug, PartialEq)]
pub(super) struct BadRequest {
    pub(super) id: Value,
    code: i64,
    pub(super) error: Error,
}

/// Reads a request.
pub(super) fn read(line: &[u8]) -> Result<Request, BadRequest> {
    // serde_json stops at 128 levels: nesting is an error, never a deep stack.
    let value: Value = serde_json::from_slice(line).map_err(|error| BadRequest {
        id: Value::Null,
        code: PARSE_ERROR,
        error: usage(format!("not JSON: {error}"), "send one JSON object a line"),
    })?;
    let Value::Object(mut members) = value else {
        return Err(invalid(Value::Null, "a request is one JSON object"));
    };
    let id = match members.remove("id") {
        None => None,
        Some(id) if is_id(&id) => Some(id),
        Some(_) => return Err(invalid(Value::Null, "an id is a number, null, or text of at most 128 bytes")),
    };
    let reply_to = id.clone().unwrap_or(Value::Null);
    if members.remove("jsonrpc") != Some(json!("2.0")) {
        return Err(invalid(reply_to, "the member \"jsonrpc\" must be \"2.0\""));
    }
    let Some(Value::String(method)) = members.remove("method") else {
        return Err(invalid(reply_to, "the member \"method\" must be text"));
    };
    let params = members.remove("params").unwrap_or_else(|| json!({}));
    match asked(&method, params) {
        Ok(asked) => Ok(Request { id, asked }),
        Err((code, error)) => Err(BadRequest { id: reply_to, code, error }),
    }
}

fn asked(method: &str, params: Value) -> Result<Asked, (i64, Error)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Cancel {
        id: Value,
    }
    let wrong_params = |why: serde_json::Error| {
        let hint = "docs/ipc.md lists the methods and their parameters";
        (INVALID_PARAMS, usage(format!("wrong parameters for {method}: {why}"), hint))
    };
    match method {
        "hello" => Ok(Asked::Hello),
        "stop" => Ok(Asked::Stop),
        "cancel" => {
            serde_json::from_value(params).map(|Cancel { id }| Asked::Cancel(id)).map_err(wrong_params)
        }
        _ if !is_method(method) => Err((
            METHOD_NOT_FOUND,
            usage(
                format!("there is no method {}", crate::proto::text::quote(method)),
                "docs/ipc.md lists the methods",
            ),
        )),
        _ => serde_json::from_value(json!({"method": method, "params": params}))
            .map(|command| Asked::Command(Box::new(command)))
            .map_err(wrong_params),
    }
}

/// Is there a command of that name? Asked of serde, so that the list of commands is in one place: it looks for the
/// variant before it looks at the parameters, and a text is the parameters of no command.
fn is_method(method: &str) -> bool {
    let probe = json!({"method": method, "params": ""});
    serde_json::from_value::<Command>(probe)
        .is_err_and(|error| !error.to_string().starts_with("unknown variant"))
}

fn is_id(id: &Value) -> bool {
    match id {
        Value::Null | Value::Number(_) => true,
        Value::String(text) => text.len() <= ID_LIMIT,
        _ => false,
    }
}

fn invalid(id: Value, why: &str) -> BadRequest {
    BadRequest { id, code: INVALID_REQUEST, error: usage(why.to_owned(), "docs/ipc.md has examples") }
}

fn usage(message: String, hint: &str) -> Error {
    Error::new(ErrorKind::Usage, message, hint)
}

/// The line of a reply, its end included.
pub(super) fn reply_line(id: &Value, reply: &Result<Reply, Error>) -> Vec<u8> {
    match reply {
        Ok(reply) => result_line(id, reply),
        Err(error) => error_line(id, APPLICATION_ERROR, error),
    }
}

/// The line of a result, its end included.
pub(super) fn result_line(id: &Value, result: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        jsonrpc: &'static str,
        id: &'a Value,
        result: &'a T,
    }
    // Not by way of `Value`: a long transcript would be copied once more.
    match serde_json::to_vec(&Line { jsonrpc: "2.0", id, result }) {
        Ok(mut line) => {
            line.push(b'\n');
            line
        }
        Err(error) => error_line(id, APPLICATION_ERROR, &Error::internal(error)),
    }
}

impl BadRequest {
    /// The line that refuses it, its end included.
    pub(super) fn line(&self) -> Vec<u8> {
        error_line(&self.id, self.code, &self.error)
    }
}

/// The line for a client that cannot be served at all.
pub(super) fn refusal_line(why: impl std::fmt::Display) -> Vec<u8> {
    invalid(Value::Null, &why.to_string()).line()
}

fn error_line(id: &Value, code: i64, error: &Error) -> Vec<u8> {
    let error = json!({"code": code, "message": error.message, "data": error});
    let mut line = json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// A request as the client writes it, its end included.
pub(super) fn request_line(id: Option<u64>, method: &str, params: &Value) -> Vec<u8> {
    let request = match id {
        Some(id) => json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}),
        None => json!({"jsonrpc": "2.0", "method": method, "params": params}),
    };
    let mut line = request.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// A reply as the client reads it; `None` if it answers nothing that this client asked.
pub(super) fn read_reply(line: &[u8]) -> Option<(u64, Result<Value, Error>)> {
    #[derive(Deserialize)]
    struct Line {
        id: Value,
        #[serde(default, deserialize_with = "present")]
        result: Option<Value>,
        error: Option<Failure>,
    }
    #[derive(Deserialize)]
    struct Failure {
        message: String,
        data: Option<Error>,
    }
    /// A result of null is a result.
    fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(deserializer).map(Some)
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    let outcome = match (line.result, line.error) {
        (Some(result), None) => Ok(result),
        (_, Some(Failure { data: Some(error), .. })) => Err(error),
        // A newer daemon may have codes that this version does not know.
        (_, Some(Failure { message, data: None })) => Err(Error::internal(message)),
        (None, None) => Err(Error::internal("a reply without result and error")),
    };
    Some((line.id.as_u64()?, outcome))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(line: &str) -> (i64, Value) {
        let bad = read(line.as_bytes()).unwrap_err();
        assert_eq!(bad.error.kind, ErrorKind::Usage);
        (bad.code, bad.id)
    }

    #[test]
    fn a_command_is_a_method_with_its_parameters() {
        let request = read(br#"{"jsonrpc":"2.0","id":"a","method":"calls","params":{"limit":3}}"#).unwrap();
        assert_eq!(request.id, Some(json!("a")));
        assert_eq!(request.asked, Asked::Command(Box::new(Command::Calls { limit: 3 })));
        let request = read(br#"{"jsonrpc":"2.0","method":"status"}"#).unwrap();
        assert_eq!(request, Request { id: None, asked: Asked::Command(Box::new(Command::Status {})) });
    }

    #[test]
    fn what_is_no_request_is_refused_by_json_rpcs_codes() {
        assert_eq!(refused("nonsense"), (PARSE_ERROR, Value::Null));
        assert_eq!(refused(&"[".repeat(100_000)), (PARSE_ERROR, Value::Null));
        assert_eq!(refused("[]"), (INVALID_REQUEST, Value::Null));
        assert_eq!(refused(r#"{"id":1,"method":"status"}"#), (INVALID_REQUEST, json!(1)));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":[],"method":"status"}"#), (INVALID_REQUEST, Value::Null));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":1,"method":"fly"}"#), (METHOD_NOT_FOUND, json!(1)));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":1,"method":"calls"}"#), (INVALID_PARAMS, json!(1)));
        assert_eq!(
            refused(r#"{"jsonrpc":"2.0","id":1,"method":"status","params":{"x":1}}"#),
            (INVALID_PARAMS, json!(1))
        );
        assert_eq!(
            refused(r#"{"jsonrpc":"2.0","id":1,"method":"contact-edit","params":{"action":"x"}}"#),
            (INVALID_PARAMS, json!(1))
        );
    }

    #[test]
    fn an_error_keeps_its_kind_on_its_way_through_the_socket() {
        let error = Error::new(ErrorKind::UnknownAgent, "nobody", "look");
        let line = reply_line(&json!(7), &Err(error.clone()));
        assert_eq!(read_reply(&line), Some((7, Err(error))));
        assert_eq!(read_reply(br#"{"jsonrpc":"2.0","id":7,"result":null}"#), Some((7, Ok(Value::Null))));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in any::<Vec<u8>>(), text in any::<String>()) {
            let _ = read(&line);
            let _ = read(text.as_bytes());
            let _ = read_reply(&line);
        }
    }
}
