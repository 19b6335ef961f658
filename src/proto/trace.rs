//! A place in a distributed trace (W3C Trace Context): carried from one agent to the other inside what is sealed, so that
//! a trace goes on at the other end. It says nothing else, and nothing is decided by it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of a `traceparent`: version, trace id, parent id and flags, with hyphens between.
pub const TRACE_LENGTH: usize = 55;

/// A `traceparent`: `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceParent(String);

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent: it is 00-TRACE-PARENT-FLAGS in lower-case hex (W3C Trace Context), 55 characters")]
pub struct NoTraceParent;

impl TraceParent {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let is_hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_something = |part: &str| part.bytes().any(|byte| byte != b'0');
        let parts: Vec<&str> = text.split('-').take(5).collect();
        match parts.as_slice() {
            [version, trace, parent, flags]
                if is_hex(version, 2)
                    && *version != "ff"
                    && is_hex(trace, 32)
                    && is_something(trace)
                    && is_hex(parent, 16)
                    && is_something(parent)
                    && is_hex(flags, 2) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(NoTraceParent),
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_standard_has_is_taken() {
        // The examples of the standard.
        for text in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "cc-12345678901234567890123456789012-1234567890123456-01",
        ] {
            let read: TraceParent = text.parse().unwrap();
            assert_eq!((read.as_str(), read.as_str().len()), (text, TRACE_LENGTH));
            assert_eq!(serde_json::to_value(&read).unwrap(), text);
        }
        for text in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1\n",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(NoTraceParent), "{text}");
        }
    }
}
