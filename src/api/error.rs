//! What can go wrong, as front ends see it: a stable kind, a sentence, and what to do.

use serde::{Deserialize, Serialize};

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:literal => $exit:literal,)+) => {
        /// The stable kinds of error. Append-only; the same words in Rust, on the command line and in Python.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorKind {
            $($(#[$doc])* #[serde(rename = $code)] $variant,)+
        }

        impl ErrorKind {
            /// Every kind, in the order of `docs/cli.md`.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The code that JSON and Python carry.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The exit code of the command line.
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit,)+ }
            }
        }
    };
}

error_kinds! {
    /// The words of a command are wrong.
    Usage = "usage" => 2,
    /// A command needs a live call, and there is none.
    NoActiveCall = "no-active-call" => 1,
    /// `answer` without a ringing call.
    NoRingingCall = "no-ringing-call" => 1,
    /// Several calls fit; the message lists them.
    AmbiguousCall = "ambiguous-call" => 1,
    /// No call, message or ticket has this id.
    UnknownCall = "unknown-call" => 1,
    /// The call is over.
    CallEnded = "call-ended" => 1,
    /// Nobody online or known answers to this name.
    UnknownAgent = "unknown-agent" => 1,
    /// Two keys claim this agent id; the message lists them.
    AmbiguousAgent = "ambiguous-agent" => 1,
    /// A call with this peer is up already, or the peer said that it is busy.
    PeerBusy = "peer-busy" => 1,
    /// The peer declined the call.
    Rejected = "rejected" => 1,
    /// Nobody answered within the ring time.
    NoAnswer = "no-answer" => 1,
    /// The user blocked this key.
    Blocked = "blocked" => 1,
    /// More bytes than the dialect or the disk quota takes.
    TooLarge = "too-large" => 1,
    /// The file argument is not base64.
    InvalidBase64 = "invalid-base64" => 1,
    /// No readable file is at this path.
    FileNotFound = "file-not-found" => 1,
    /// This content may not leave the machine (the agent's own key).
    NotSendable = "not-sendable" => 1,
    /// A value is out of its range, or not possible here.
    InvalidValue = "invalid-value" => 1,
    /// The identity file cannot be used. Its bytes are left as they are.
    IdentityDamaged = "identity-damaged" => 1,
    /// Others own the home folder or may write to it.
    UnsafeHome = "unsafe-home" => 1,
    /// Others may read the identity file.
    UnsafeIdentity = "unsafe-identity" => 1,
    /// This home belongs to another agent id.
    AgentIdMismatch = "agent-id-mismatch" => 1,
    /// The running daemon has other settings.
    SettingsMismatch = "settings-mismatch" => 1,
    /// The clock is too far off for relays and peers.
    ClockSkew = "clock-skew" => 1,
    /// No space left to commit; nothing was accepted.
    DiskFull = "disk-full" => 1,
    /// The system did not read or write (an error of the disk, no descriptor left); nothing was accepted.
    IoError = "io-error" => 1,
    /// The database cannot be read. It is kept aside.
    DatabaseDamaged = "database-damaged" => 1,
    /// The daemon or the database is of a version that this one cannot talk to.
    VersionMismatch = "version-mismatch" => 1,
    /// No daemon, and none could be started.
    DaemonUnreachable = "daemon-unreachable" => 3,
    /// A daemon is there and does not answer.
    DaemonNotResponding = "daemon-not-responding" => 3,
    /// Not one relay is connected.
    RelaysUnreachable = "relays-unreachable" => 3,
    /// Events after this cursor are no longer kept.
    CursorExpired = "cursor-expired" => 1,
    /// More messages in a short time than relays would carry.
    TooFast = "too-fast" => 1,
    /// Whoever asks may not do this, whatever the state: an approval without a terminal.
    NotAllowed = "not-allowed" => 1,
    /// A question that is decided, or whose time is over: a decision counts once.
    QuestionClosed = "question-closed" => 1,
    /// A defect of ours; the hint names the log.
    Internal = "internal" => 1,
}

/// An error as every front end carries it: `{"code", "message", "hint"}` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The stable kind.
    #[serde(rename = "code")]
    pub kind: ErrorKind,
    /// What is wrong, one sentence.
    pub message: String,
    /// What to do next; empty where the message says it all.
    #[serde(default)]
    pub hint: String,
}

impl Error {
    /// An error with a hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: hint.into() }
    }

    /// A defect: what happened goes to the user as it is, the log has the rest.
    pub fn internal(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, format!("internal error: {what}"), "see: p2p-comm daemon logs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kebab_case_unique_and_the_same_in_json() {
        let mut codes: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
        for kind in ErrorKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.code());
            assert!(kind.code().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
    }
}
