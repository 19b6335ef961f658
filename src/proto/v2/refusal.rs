//! Why a file is not taken, or does not come: the reason of a `file-cancel`. It begins with a code that programs know, so
//! that whoever reads it can say it in words of their own; what follows the colon is for people.

use std::fmt;

/// Why a file does not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Larger than this side takes; the limit in bytes.
    TooLarge(u64),
    /// The disk has no room for it.
    NoSpace,
    /// As many come already as are taken at a time.
    TooMany,
    /// A person or an agent has cancelled it.
    Cancelled,
    /// Its bytes are not those that were announced.
    Altered,
    /// A folder with something in it that is not unpacked: a link, a device, a path that leads out.
    Unsafe,
    /// Nothing of it came for too long.
    Stalled,
    /// Its copy cannot be read any more.
    Gone,
    /// Something else, in the other side's words.
    Other(String),
}

impl Refusal {
    const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "too-large",
            Self::NoSpace => "no-space",
            Self::TooMany => "too-many",
            Self::Cancelled => "cancelled",
            Self::Altered => "altered",
            Self::Unsafe => "unsafe",
            Self::Stalled => "stalled",
            Self::Gone => "gone",
            Self::Other(_) => "other",
        }
    }

    /// As it stands in a `file-cancel`.
    pub fn write(&self) -> String {
        match self {
            Self::TooLarge(limit) => format!("too-large: {limit}"),
            Self::Other(words) => format!("other: {words}"),
            known => format!("{}: {}", known.code(), known.words()),
        }
    }

    /// What a `file-cancel` says. A reason without a code that is known is taken as words.
    pub fn read(reason: &str) -> Self {
        let (code, words) = reason.split_once(": ").unwrap_or((reason, ""));
        match code {
            "too-large" => words.parse().map_or_else(|_| Self::Other(reason.to_owned()), Self::TooLarge),
            "no-space" => Self::NoSpace,
            "too-many" => Self::TooMany,
            "cancelled" => Self::Cancelled,
            "altered" => Self::Altered,
            "unsafe" => Self::Unsafe,
            "stalled" => Self::Stalled,
            "gone" => Self::Gone,
            "other" => Self::Other(words.to_owned()),
            _ => Self::Other(reason.to_owned()),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::TooLarge(0) => "files are not taken".to_owned(),
            Self::TooLarge(limit) => format!("at most {limit} bytes are taken"),
            Self::NoSpace => "there is no room for it on the disk".to_owned(),
            Self::TooMany => "too many files at once".to_owned(),
            Self::Cancelled => "it was cancelled".to_owned(),
            Self::Altered => "its bytes are not those that were announced".to_owned(),
            Self::Unsafe => "there is something in the folder that is not unpacked".to_owned(),
            Self::Stalled => "nothing of it came for a quarter of an hour".to_owned(),
            Self::Gone => "its copy cannot be read any more".to_owned(),
            Self::Other(words) => words.clone(),
        }
    }
}

/// The code, and what it means: in our words, but for what the other side says beyond the codes.
impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(words) => formatter.write_str(words),
            known => write!(formatter, "{} ({})", known.words(), known.code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_the_wire_and_what_is_none_is_words() {
        for refusal in [
            Refusal::TooLarge(5),
            Refusal::NoSpace,
            Refusal::TooMany,
            Refusal::Cancelled,
            Refusal::Altered,
            Refusal::Unsafe,
            Refusal::Stalled,
            Refusal::Gone,
            Refusal::Other("not: today".into()),
        ] {
            assert_eq!(Refusal::read(&refusal.write()), refusal);
        }
        for words in ["", "it is larger than this agent takes", "too-large: much", "no-such: code"] {
            assert_eq!(Refusal::read(words), Refusal::Other(words.to_owned()));
        }
    }
}
