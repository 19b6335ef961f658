//! Finds any of a few long words in a text, or a row of numbers, at the speed of memory: whatever leaves this machine is
//! looked through, files of any size too.
//!
//! Of the text only every so-many-th place is looked at. The distance is such that of each occurrence of each word one
//! part of [`GRAM`] bytes stands at such a place; all parts that can stand there are known (Wu and Manber, 1994).

use memchr::memmem;

use crate::proto::wipe;

/// Bytes of a word that are looked up at once.
const GRAM: usize = 4;

/// The words that are looked for, each of [`GRAM`] bytes or more.
pub(super) struct Words {
    words: Vec<Vec<u8>>,
    /// From one place to the next.
    step: usize,
    /// For each hash of a part whether any word has it: passes by nearly all of a text.
    marked: Vec<u8>,
    /// Hash of a part, which word it is of, and where it stands in it; sorted.
    parts: Vec<[u16; 3]>,
}

impl Drop for Words {
    fn drop(&mut self) {
        self.words.iter_mut().for_each(|word| wipe(word));
        wipe(&mut self.marked);
        // They hold as much of the words as their hashes tell.
        self.parts.fill([0; 3]);
        std::hint::black_box(&self.parts);
    }
}

impl Words {
    pub(super) fn new(words: Vec<Vec<u8>>) -> Self {
        let shortest = words.iter().map(Vec::len).min().unwrap_or(GRAM);
        let step = (shortest + 1).saturating_sub(GRAM).max(1);
        let (mut marked, mut parts) = (vec![0; 1 << 16], Vec::new());
        for (number, word) in (0u16..).zip(&words) {
            for (offset, part) in (0u16..).zip(word.windows(GRAM).take(step)) {
                marked[usize::from(hash(part))] = 1;
                parts.push([hash(part), number, offset]);
            }
        }
        parts.sort_unstable();
        Self { words, step, marked, parts }
    }

    /// Whether any of them stands in the text.
    pub(super) fn are_in(&self, text: &[u8]) -> bool {
        let mut place = 0;
        while let Some(part) = text.get(place..place + GRAM) {
            let hash = hash(part);
            if self.marked[usize::from(hash)] != 0 && self.is_around(text, place, hash) {
                return true;
            }
            place += self.step;
        }
        false
    }

    /// Whether a word stands where its part of this hash would be at this place.
    fn is_around(&self, text: &[u8], place: usize, hash: u16) -> bool {
        let first = self.parts.partition_point(|part| part[0] < hash);
        let mut same = self.parts[first..].iter().take_while(|part| part[0] == hash);
        same.any(|[_, word, offset]| {
            let begin = place.checked_sub(usize::from(*offset));
            begin.is_some_and(|begin| text[begin..].starts_with(&self.words[usize::from(*word)]))
        })
    }
}

fn hash(part: &[u8]) -> u16 {
    let bytes = [part[0], part[1], part[2], part[3]];
    (u32::from_le_bytes(bytes).wrapping_mul(0x9e37_79b1) >> 16) as u16
}

/// Numbers in decimal, one after the other, whatever stands between them that is no digit.
pub(super) struct Numbers {
    numbers: Vec<Vec<u8>>,
    /// The one that is looked for first: one of the longest.
    anchor: usize,
}

impl Drop for Numbers {
    fn drop(&mut self) {
        self.numbers.iter_mut().for_each(|number| wipe(number));
    }
}

impl Numbers {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let numbers: Vec<Vec<u8>> = bytes.iter().map(|byte| byte.to_string().into_bytes()).collect();
        let anchor = (0..numbers.len()).max_by_key(|place| numbers[*place].len()).unwrap_or_default();
        Self { numbers, anchor }
    }

    /// Whether all of them stand in the text.
    pub(super) fn are_in(&self, text: &[u8]) -> bool {
        let (before, rest) = self.numbers.split_at(self.anchor);
        let Some((anchor, after)) = rest.split_first() else { return false };
        memmem::find_iter(text, anchor).any(|place| {
            let (left, right) = (&text[..place], &text[place + anchor.len()..]);
            is_left(left, before.iter().rev()) && is_right(right, after.iter())
        })
    }
}

/// Whether a text, in which a number has just ended, goes on with these.
fn is_right<'a>(mut text: &[u8], mut numbers: impl Iterator<Item = &'a Vec<u8>>) -> bool {
    let ends = |text: &[u8]| !text.first().is_some_and(u8::is_ascii_digit);
    ends(text)
        && numbers.all(|number| {
            let between = text.iter().take_while(|byte| !byte.is_ascii_digit()).count();
            let rest = text[between..].strip_prefix(number.as_slice());
            rest.is_some_and(|rest| {
                text = rest;
                ends(rest)
            })
        })
}

/// The same to the other side.
fn is_left<'a>(mut text: &[u8], mut numbers: impl Iterator<Item = &'a Vec<u8>>) -> bool {
    let ends = |text: &[u8]| !text.last().is_some_and(u8::is_ascii_digit);
    ends(text)
        && numbers.all(|number| {
            let between = text.iter().rev().take_while(|byte| !byte.is_ascii_digit()).count();
            let rest = text[..text.len() - between].strip_suffix(number.as_slice());
            rest.is_some_and(|rest| {
                text = rest;
                ends(rest)
            })
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A text of few letters, in which parts of words are everywhere.
    fn text(letters: usize, length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec((0..letters).prop_map(|letter| b"ab0129 ,"[letter]), length)
    }

    proptest! {
        #[test]
        fn words_are_found_exactly_where_a_plain_search_finds_them(
            words in prop::collection::vec(text(2, 5..12), 1..6), text in text(2, 0..200),
        ) {
            let plain = words.iter().any(|word| memmem::find(&text, word).is_some());
            prop_assert_eq!(Words::new(words).are_in(&text), plain);
        }

        #[test]
        fn a_word_is_found_wherever_it_stands(
            words in prop::collection::vec(text(4, 30..60), 1..6), before in text(8, 0..100), after in text(8, 0..100),
        ) {
            let all = Words::new(words.clone());
            for word in words {
                prop_assert!(all.are_in(&[&before[..], &word, &after].concat()));
            }
        }

        #[test]
        fn numbers_are_found_exactly_where_they_stand_alone_and_in_order(
            bytes in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 9, 10, 12, 121]), 1..4),
            text in text(8, 0..60),
        ) {
            let words = |text: &[u8]| {
                let text = text.iter().map(|byte| if byte.is_ascii_digit() { char::from(*byte) } else { ' ' });
                text.collect::<String>().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
            };
            let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
            let plain = words(&text).windows(numbers.len()).any(|some| some == numbers);
            prop_assert_eq!(Numbers::new(&bytes).are_in(&text), plain);
            let written = [&text[..], b" ", numbers.join(", ").as_bytes(), b"x", &text].concat();
            prop_assert!(Numbers::new(&bytes).are_in(&written));
        }
    }
}
