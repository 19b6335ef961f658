//! Bugs planted on purpose: `make mutants` plants one after the other, and shows that a check catches each.
//!
//! A hook is one line at the place where the bug would be: `if planted(Mutant::NoPaging) { … }`. Without the feature
//! `mutants` [`planted`] is the constant `false`, so that nothing of a hook is left in what is built. With it, the bug
//! that [`VARIABLE`] names is there, in every layer and in every process that inherits the variable; without the
//! variable there is none.
//!
//! docs/reliability.md has the table of the bugs and of the checks that catch them; `scripts/mutants.py` is that table
//! carried out.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` plants bugs: it is for tests, and there is no release with it");

/// The variable that names the planted bug. Not `P2P_…`: what is started by tests inherits nothing of that name.
#[cfg(feature = "mutants")]
const VARIABLE: &str = "MUTANT_OF_P2P_COMM";

macro_rules! mutants {
    ($($(#[$doc:meta])* $mutant:ident = $name:literal,)+) => {
        /// A bug that can be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Mutant {
            $($(#[$doc])* $mutant,)+
        }

        #[cfg(feature = "mutants")]
        const NAMES: &[(&str, Mutant)] = &[$(($name, Mutant::$mutant)),+];
    };
}

mutants! {
    /// An acknowledgement leaves before what it acknowledges is committed.
    AckBeforeCommit = "ack-before-commit",
    /// A commit does not wait for the disk.
    SyncOff = "sync-off",
    /// What was handled before is handled again.
    DedupSkipped = "dedup-skipped",
    /// Neither ids nor signatures are checked.
    VerificationSkipped = "verification-skipped",
    /// An event has the id that it claims, whatever its content is.
    ClaimedIdTrusted = "claimed-id-trusted",
    /// A relay is asked for what is newer than the moment at which it was read last, without a look back.
    SinceLastSeen = "since-last-seen",
    /// The first page of what a relay has stored is taken for all of it.
    NoPaging = "no-paging",
    /// What a relay may have dropped because it was not read in time is not asked for again.
    LagIgnored = "lag-ignored",
    /// Messages are shown by the seconds of their events instead of by their numbers.
    OrderByCreatedAt = "order-by-created-at",
    /// A message that a relay has taken counts as delivered.
    OkIsDelivered = "ok-is-delivered",
    /// The socket serves whoever can open it.
    NoPeerUid = "no-peer-uid",
    /// The name that a peer gives to a file is joined to a path as it is.
    NameJoined = "name-joined",
    /// What peers write is printed as it is.
    RawPrint = "raw-print",
    /// A call that rings is connected by any acceptance, whoever says it and of whichever room.
    AnyAcceptance = "any-acceptance",
    /// An identity file that cannot be read makes room for a new key.
    NewKey = "new-key",
}

/// Whether this bug is planted.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn planted(_: Mutant) -> bool {
    false
}

/// Whether this bug is planted: the one that [`VARIABLE`] named when this was asked first.
#[cfg(feature = "mutants")]
pub(crate) fn planted(mutant: Mutant) -> bool {
    use std::sync::OnceLock;
    static PLANTED: OnceLock<Option<Mutant>> = OnceLock::new();
    let named = |name: String| {
        let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, mutant)| *mutant);
        known.expect("the variable names one of the bugs that can be planted")
    };
    *PLANTED.get_or_init(|| std::env::var(VARIABLE).ok().map(named)) == Some(mutant)
}
