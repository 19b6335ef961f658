//! How far our clock is off, by what relays say: the `Date` header of each handshake, and events of ours that a relay
//! turned away for their time. Pure.
//!
//! A relay may lie, or have a wrong clock itself. So the offset is the median of all relays, and whether they agree is
//! told with it: what follows from an offset is only for those who agree.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Relays whose clocks are so close to the median agree with it, in seconds: NTP keeps servers within milliseconds,
/// the header has whole seconds, and a slow handshake adds some.
const AGREE_WITHIN_S: f64 = 10.0;

/// So many relays have to agree, if there are as many.
const AGREE: usize = 2;

/// A `Date` header as it is to be written (RFC 7231, section 7.1.1.1): a date of RFC 5322, so long and in this zone. The
/// two obsolete forms are not written by anything that speaks WebSocket.
const EXAMPLE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// What the relays say about our clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    /// The relays' time less ours, in seconds: the median of the relays that told theirs. None without data.
    pub offset_s: Option<f64>,
    /// Two relays at least are within ten seconds of it, or it is the word of the only relay there is.
    pub agreed: bool,
    /// A relay has turned an event of ours away for its time since it was last connected.
    pub rejected: bool,
}

impl Clock {
    /// From what each of the links knows: its offset, and whether it turned an event away.
    pub(super) fn of(links: impl Iterator<Item = (Option<f64>, bool)>) -> Self {
        let links: Vec<_> = links.collect();
        let mut offsets: Vec<f64> = links.iter().filter_map(|(offset, _)| *offset).collect();
        let offset_s = median(&mut offsets);
        let agreeing =
            |median: f64| offsets.iter().filter(|offset| (*offset - median).abs() <= AGREE_WITHIN_S).count();
        Self {
            offset_s,
            agreed: offset_s.is_some_and(|median| links.len() == 1 || agreeing(median) >= AGREE),
            rejected: links.iter().any(|(_, rejected)| *rejected),
        }
    }
}

fn median(offsets: &mut [f64]) -> Option<f64> {
    offsets.sort_by(f64::total_cmp);
    let middle = offsets.len() / 2;
    let upper = *offsets.get(middle)?;
    let even = offsets.len().is_multiple_of(2);
    Some(if even { f64::midpoint(offsets[middle - 1], upper) } else { upper })
}

/// The relay's time less ours, in seconds. `received` is our wall clock, since 1970, when the answer was there.
///
/// The header has whole seconds, so that on average it lies half a second back; and the answer was on its way for half
/// a round trip.
pub(super) fn offset(date: &[u8], received: Duration, round_trip: Duration) -> Option<f64> {
    let date = std::str::from_utf8(date).ok()?;
    if date.len() != EXAMPLE.len() || !date.ends_with(" GMT") {
        return None;
    }
    let date = OffsetDateTime::parse(date, &Rfc2822).ok()?;
    let theirs = date.unix_timestamp() as f64 + 0.5 + round_trip.as_secs_f64() / 2.0;
    Some(theirs - received.as_secs_f64())
}

/// Whether a relay's refusal is about the event's time: `invalid:` (NIP-01) or, in older versions of nostream,
/// `rejected:`, and one of the words that relays use. Nothing else is said of a time: a refusal for work, size or
/// membership does not mention one.
pub(super) fn is_about_time(refusal: &str) -> bool {
    let refusal = refusal.to_lowercase();
    let Some((prefix, words)) = refusal.split_once(':') else { return false };
    matches!(prefix.trim(), "invalid" | "rejected")
        && ["created_at", "created at", "timestamp", "too new", "too old", "future"]
            .iter()
            .any(|word| words.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the example was.
    const THEN: u64 = 784_111_777;

    fn clock(links: &[(Option<f64>, bool)]) -> Clock {
        Clock::of(links.iter().copied())
    }

    #[test]
    fn a_date_tells_the_offset_by_the_middle_of_its_second_and_half_the_way() {
        let offset = |ms, round_trip| {
            offset(EXAMPLE.as_bytes(), Duration::from_millis(ms), Duration::from_millis(round_trip)).unwrap()
        };
        let now = THEN * 1_000;
        assert!((offset(now + 500, 0)).abs() < 0.001);
        assert!((offset(now + 600, 200)).abs() < 0.001);
        assert!((offset(now + 30_500, 0) + 30.0).abs() < 0.001, "our clock is ahead");
        assert!((offset(now - 59_500, 0) - 60.0).abs() < 0.001, "our clock is behind");
    }

    #[test]
    fn what_is_no_date_tells_nothing() {
        let long = format!("{EXAMPLE}{}", " ".repeat(5_000));
        for date in [
            "",
            " ",
            "0",
            "784111777",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 999999999999999999999 08:49:37 GMT",
            "Sun, 06 Nov -994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "((((((((((((((((((((((((( GMT",
            "                          GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 GMTX",
            "\u{202e}Sun, 06 Nov 1994 08:49:37 GMT",
            &long,
        ] {
            assert_eq!(offset(date.as_bytes(), Duration::ZERO, Duration::ZERO), None, "{date}");
        }
        assert_eq!(offset(&[0xff, 0xfe, 0x00], Duration::ZERO, Duration::ZERO), None);
        let far = offset(b"Fri, 31 Dec 9999 23:59:59 GMT", Duration::ZERO, Duration::MAX);
        assert!(far.unwrap().is_finite(), "absurd, but a number");
    }

    #[test]
    fn the_offset_is_the_median_and_two_relays_have_to_agree() {
        assert_eq!(clock(&[]), Clock { offset_s: None, agreed: false, rejected: false });
        let silent = clock(&[(None, false), (None, true)]);
        assert_eq!(silent, Clock { offset_s: None, agreed: false, rejected: true });
        let told = |links: &[Option<f64>]| {
            let clock = clock(&links.iter().map(|offset| (*offset, false)).collect::<Vec<_>>());
            (clock.offset_s, clock.agreed)
        };
        assert_eq!(told(&[Some(50.0)]), (Some(50.0), true), "the only relay");
        assert_eq!(told(&[Some(50.0), None]), (Some(50.0), false), "one of two");
        assert_eq!(told(&[Some(50.0), Some(52.0)]), (Some(51.0), true));
        assert_eq!(told(&[Some(50.0), Some(0.0)]), (Some(25.0), false));
        let liar = [Some(0.2), Some(1e12), Some(-0.2), None];
        assert_eq!(told(&liar), (Some(0.2), true), "one liar moves nothing");
        assert_eq!(told(&[Some(0.0), Some(60.0), Some(-60.0)]), (Some(0.0), false));
    }

    #[test]
    fn a_refusal_for_its_time_is_known_by_its_words() {
        for refusal in [
            "invalid: created_at too early",
            "invalid: event creation date is too far off: created_at",
            "Invalid: Timestamp out of range",
            "invalid: event too old",
            "invalid: event too much in the future",
            "rejected: created_at is more than 900 seconds in the future",
        ] {
            assert!(is_about_time(refusal), "{refusal}");
        }
        for refusal in [
            "",
            "invalid",
            "invalid: bad signature",
            "blocked: too old",
            "invalid: event expired",
            "pow: 20",
            "created_at",
        ] {
            assert!(!is_about_time(refusal), "{refusal}");
        }
    }
}
