//! Replies as text that may be looked at in a terminal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::Error;
use crate::proto::text::is_deceptive;

/// One line of JSON, with everything escaped that could harm a terminal it is looked at in.
///
/// # Errors
/// `internal` if the data cannot be written as JSON.
pub fn to_json(data: &impl Serialize) -> Result<String, Error> {
    let mut bytes = Vec::new();
    data.serialize(&mut Serializer::with_formatter(&mut bytes, Harmless)).map_err(Error::internal)?;
    String::from_utf8(bytes).map_err(Error::internal)
}

/// Compact JSON in which no deceptive character stands as itself.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((place, character)) =
            rest.char_indices().find(|(_, character)| is_deceptive(*character))
        {
            writer.write_all(&rest.as_bytes()[..place])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[place + character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn deceptive_characters_are_escaped_in_json_and_mean_the_same() {
        let text = "a\u{1b}[31m\u{9b}\u{202e}\u{e0041}é\n";
        let json = to_json(&text).unwrap();
        assert_eq!(json, r#""a\u001b[31m\u009b\u202e\udb40\udc41é\n""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    proptest! {
        #[test]
        fn json_is_harmless_and_lossless(text in any::<String>()) {
            let json = to_json(&text).unwrap();
            prop_assert!(!json.chars().any(is_deceptive));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
