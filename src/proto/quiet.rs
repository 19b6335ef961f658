//! Hours in which the owner is left alone: `22:00-07:00`, by the clock of this machine, or `22:00-07:00 +02:00`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Millis;

/// Minutes of a day.
const DAY: i64 = 24 * 60;
/// The zones of the earth lie within so many minutes of UTC.
const FURTHEST: i64 = 14 * 60;

/// From one time of the day to another, which may be on the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    /// Minutes after midnight.
    from: i64,
    to: i64,
    /// Minutes east of UTC; where this machine is, if absent.
    zone: Option<i64>,
}

/// A text that names no hours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it takes two times of the day, 22:00-07:00, and may name a zone: 22:00-07:00 +02:00")]
pub struct NoHours;

impl FromStr for QuietHours {
    type Err = NoHours;

    fn from_str(text: &str) -> Result<Self, NoHours> {
        let (hours, zone) = match text.trim().split_once(' ') {
            Some((hours, zone)) => (hours, Some(zone.trim())),
            None => (text.trim(), None),
        };
        let zone = match zone {
            None => None,
            Some("UTC" | "Z") => Some(0),
            Some(zone) => {
                let sign = if zone.starts_with('-') { -1 } else { 1 };
                let minutes = zone.strip_prefix(['+', '-']).and_then(minutes).ok_or(NoHours)?;
                Some(sign * minutes).filter(|_| minutes <= FURTHEST)
            }
            .ok_or(NoHours)
            .map(Some)?,
        };
        let (from, to) = hours.split_once('-').ok_or(NoHours)?;
        let (from, to) = (minutes(from.trim()).ok_or(NoHours)?, minutes(to.trim()).ok_or(NoHours)?);
        // The whole day would be for ever.
        if from == to { Err(NoHours) } else { Ok(Self { from, to, zone }) }
    }
}

/// `07:30` in minutes.
fn minutes(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, below: i64| {
        let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| is_number && *number < below)
    };
    Some(number(hour, 24)? * 60 + number(minute, 60)?)
}

impl fmt::Display for QuietHours {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(formatter, "{}-{}", clock(self.from), clock(self.to))?;
        match self.zone {
            None => Ok(()),
            Some(zone) => {
                write!(formatter, " {}{}", if zone < 0 { '-' } else { '+' }, clock(zone.abs()))
            }
        }
    }
}

impl QuietHours {
    /// When it is no longer quiet; nothing if it is not quiet now. `local` gives the seconds that the clock of this
    /// machine is ahead of UTC at a moment.
    pub fn until(&self, local: impl Fn(Millis) -> i64, now: Millis) -> Option<Millis> {
        let ahead = |at: Millis| self.zone.map_or_else(|| local(at), |zone| zone * 60);
        let shown = i64::try_from(now.as_secs()).ok()? + ahead(now);
        let minute = shown.div_euclid(60).rem_euclid(DAY);
        let is_quiet = match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        };
        if !is_quiet {
            return None;
        }
        let left = (self.to - minute).rem_euclid(DAY) * 60 - shown.rem_euclid(60);
        let end = now + Duration::from_secs(u64::try_from(left).ok()?);
        // Where the clocks are set in between, the end is what they show then.
        let set = ahead(end) - ahead(now);
        let end = Millis(end.0.saturating_add_signed(-1_000 * set));
        Some(Millis(end.0 - end.0 % 1_000)).filter(|end| *end > now).or(Some(now + Duration::from_secs(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-26T00:00:00Z.
    const MIDNIGHT: u64 = 1_795_651_200;

    fn at(hour: u64, minute: u64) -> Millis {
        Millis::from_secs(MIDNIGHT + hour * 3_600 + minute * 60)
    }

    fn until(hours: &str, now: Millis) -> Option<Millis> {
        hours.parse::<QuietHours>().unwrap().until(|_| 0, now)
    }

    #[test]
    fn a_night_ends_in_the_morning_whichever_side_of_midnight_it_is() {
        let night = "22:00-07:00";
        assert_eq!(until(night, at(21, 59)), None);
        assert_eq!(until(night, at(22, 0)), Some(at(31, 0)));
        assert_eq!(until(night, at(6, 59)), Some(at(7, 0)));
        assert_eq!(until(night, at(7, 0)), None);
        assert_eq!(until("12:00-13:30", at(13, 29)), Some(at(13, 30)));
        assert_eq!(until("12:00-13:30", at(11, 0)), None);
        assert_eq!(until(night, Millis(at(6, 59).0 + 59_999)), Some(at(7, 0)));
    }

    #[test]
    fn a_zone_that_is_named_counts_more_than_that_of_the_machine() {
        assert_eq!(until("22:00-07:00 +02:00", at(20, 0)), Some(at(29, 0)));
        assert_eq!(until("22:00-07:00 -05:30", at(3, 30)), Some(at(12, 30)));
        assert_eq!(until("22:00-07:00 UTC", at(20, 0)), None);
        let local: QuietHours = "22:00-07:00".parse().unwrap();
        assert_eq!(local.until(|_| 7_200, at(20, 0)), Some(at(29, 0)));
        let named: QuietHours = "22:00-07:00 UTC".parse().unwrap();
        assert_eq!(named.until(|_| 7_200, at(20, 0)), None);
    }

    #[test]
    fn a_night_in_which_the_clocks_are_set_ends_when_they_show_its_end() {
        let night: QuietHours = "22:00-07:00".parse().unwrap();
        // One hour back at 01:00 UTC.
        let local = |moment: Millis| if moment < at(25, 0) { 7_200 } else { 3_600 };
        assert_eq!(night.until(local, at(20, 0)), Some(at(30, 0)));
    }

    #[test]
    fn what_names_no_hours_is_refused_and_what_does_survives_being_shown() {
        for text in [
            "",
            "22",
            "22:00",
            "22:00-22:00",
            "24:00-07:00",
            "22:60-07:00",
            "a-b",
            "22:00-07:00 CET",
            "22:00-07:00 +15:00",
            "-1:00-07:00",
            "22:00-07:00 02:00",
            "+2:00-07:00",
            "022:00-07:00",
        ] {
            assert_eq!(text.parse::<QuietHours>(), Err(NoHours), "{text:?}");
        }
        for text in ["22:00-07:00", "00:30-06:00 +02:00", "22:00-07:00 -05:30"] {
            assert_eq!(text.parse::<QuietHours>().unwrap().to_string(), text);
        }
        assert_eq!("9:05 - 10:00".parse::<QuietHours>(), Err(NoHours), "a space comes before the zone only");
    }
}
