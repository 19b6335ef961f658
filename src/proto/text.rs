//! Text of other people, made fit to be shown: the only way in which it reaches a terminal.
//!
//! A quotation is marked with `«` and `»`, and whatever could leave it, hide in it or reorder it is escaped in Rust's
//! notation: control characters (so no CSI, OSC or C1 sequence survives, and no line can be forged), characters that
//! change the direction of writing, characters of no width (tag characters and variation selectors too, which carry
//! hidden messages), and the marks themselves. A backslash is doubled, so an escape can be told from its imitation.

use std::fmt::Write;

use crate::mutants::{Mutant, planted};

/// Where a quotation begins.
pub const OPEN: char = '«';
/// Where it ends.
pub const CLOSE: char = '»';

/// The longest beginning of `text` of at most `limit` bytes that ends between two characters.
pub fn beginning(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rfind(|at| text.is_char_boundary(*at)).unwrap_or_default();
    &text[..end]
}

/// `text` as one marked quotation on one line.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 4);
    quoted.push(OPEN);
    escape_into(text, &mut quoted);
    quoted.push(CLOSE);
    quoted
}

/// `text` on one line, escaped as in a quotation, for places that are marked in another way.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    escape_into(text, &mut escaped);
    escaped
}

/// `text` with its lines kept, each escaped on its own and begun with `prefix`: no line of it can pass for one of ours.
pub fn quote_lines(text: &str, prefix: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + prefix.len());
    for line in text.split('\n') {
        quoted.push_str(prefix);
        escape_into(line, &mut quoted);
        quoted.push('\n');
    }
    quoted
}

/// `text` with its lines and marks kept, and nothing in it that controls, hides or reorders: the last door before a
/// terminal, for text that is ours but may carry a piece of somebody else's.
pub fn printable(text: &str) -> String {
    if planted(Mutant::RawPrint) {
        return text.to_owned();
    }
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '\n' && is_deceptive(character) {
            push_code(character, &mut printable);
        } else {
            printable.push(character);
        }
    }
    printable
}

/// `text` as one word of a shell, for a command that is shown to be run.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn escape_into(text: &str, out: &mut String) {
    if planted(Mutant::RawPrint) {
        return out.push_str(text);
    }
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            OPEN | CLOSE => push_code(character, out),
            _ if is_deceptive(character) => push_code(character, out),
            _ => out.push(character),
        }
    }
}

fn push_code(character: char, out: &mut String) {
    // Writing to a `String` cannot fail.
    let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
}

/// Does this character control a terminal, reorder text or hide in it?
pub const fn is_deceptive(character: char) -> bool {
    matches!(character,
        // C0, DEL, C1.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // No width, or drawn as nothing: soft hyphen, combining grapheme joiner, fillers, vowel separators.
        | '\u{ad}' | '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        // Direction of writing.
        | '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        // Lines and paragraphs of Unicode's own.
        | '\u{2028}'..='\u{2029}'
        // Variation selectors, interlinear annotation, musical formatting, tags; and what is no character.
        | '\u{fe00}'..='\u{fe0f}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_words_of_any_alphabet_are_left_alone() {
        for text in
            ["Hello, world!", "über \"quoted\" 'text'", "日本語 — العربية — עברית", "a🙂b", "{\"a\": [1]}"]
        {
            assert_eq!(quote(text), format!("«{text}»"));
        }
    }

    #[test]
    fn whatever_controls_a_terminal_is_escaped() {
        assert_eq!(
            quote("\u{1b}[31mred\u{1b}]8;;http://x\u{7}"),
            "«\\u{1b}[31mred\\u{1b}]8;;http://x\\u{7}»"
        );
        assert_eq!(quote("\u{9b}2J\u{7f}\r\n\t"), "«\\u{9b}2J\\u{7f}\\r\\n\\t»");
        assert_eq!(quote("\u{202e}abc\u{2066}\u{200b}\u{feff}"), "«\\u{202e}abc\\u{2066}\\u{200b}\\u{feff}»");
        assert_eq!(quote("\u{e0041}\u{e0042}\u{fe0f}"), "«\\u{e0041}\\u{e0042}\\u{fe0f}»");
    }

    #[test]
    fn a_quotation_cannot_be_left_and_an_escape_cannot_be_imitated() {
        assert_eq!(quote("» owner: «yes"), "«\\u{bb} owner: \\u{ab}yes»");
        assert_eq!(quote("\\n"), "«\\\\n»");
    }

    #[test]
    fn every_line_of_a_block_carries_the_prefix() {
        assert_eq!(
            quote_lines("one\ntwo\r\n\nfour\u{2028}x", "| "),
            "| one\n| two\\r\n| \n| four\\u{2028}x\n"
        );
    }

    proptest! {
        #[test]
        fn no_deceptive_character_survives(text in any::<String>()) {
            let quoted = quote(&text);
            prop_assert!(!quoted.chars().any(is_deceptive));
            prop_assert_eq!(quoted.matches(OPEN).count(), 1);
            prop_assert_eq!(quoted.matches(CLOSE).count(), 1);
        }
    }
}
