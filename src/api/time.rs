//! Times as front ends show them: RFC 3339, UTC, milliseconds.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::proto::Millis;

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;

/// A moment; in JSON `"2026-11-22T12:14:10.123Z"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Millis);

impl std::fmt::Display for Time {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Past the year 9999 there is no RFC 3339: a hostile clock is shown as the last moment it has.
        let seconds = i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX).min(LAST_SECOND);
        let moment = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| std::fmt::Error)?;
        let (date, time) = (moment.date(), moment.time());
        write!(
            formatter,
            "{date}T{:02}:{:02}:{:02}.{:03}Z",
            time.hour(),
            time.minute(),
            time.second(),
            self.0.0 % 1_000
        )
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment = OffsetDateTime::parse(&text, &Rfc3339).map_err(serde::de::Error::custom)?;
        Ok(Self(Millis((moment.unix_timestamp_nanos() / 1_000_000).max(0) as u64)))
    }
}

impl From<Millis> for Time {
    fn from(millis: Millis) -> Self {
        Self(millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_rfc_3339_and_read_back() {
        let moment = Time(Millis(1_763_813_650_123));
        assert_eq!(moment.to_string(), "2025-11-22T12:14:10.123Z");
        let json = serde_json::to_string(&moment).unwrap();
        assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), moment);
        assert_eq!(Time(Millis(1_763_813_650_000)).to_string(), "2025-11-22T12:14:10.000Z");
        assert!(Time(Millis(u64::MAX)).to_string().starts_with("9999-12-31T23:59:59"));
    }
}
