//! Who may do what, and when: one table. What a role may do is decided here, never by what anybody writes.
//!
//! The engine asks [`verdict`] before it carries out a command or takes an owner's answer (`engine/authority.rs`), with the
//! role of whoever asks: a command's comes from the process at the other end of the socket, the owner's from the channel
//! that the user configured. What is not in the table is refused. Peers and relays have no commands: what comes from them
//! goes to the call machine (`proto/call`) and the mailbox, which know rings, answers, words and ends, and nothing else.
//!
//! `docs/guarantees.md` shows the table, and a test compares the two.

use super::words::words;
use super::{CallState, Direction, TicketState, Tier};

words! {
    /// On whose behalf something is asked.
    pub enum Role {
        /// A way to the owner that the user configured, answering the question that it was given.
        Owner = "owner's channel",
        /// A process of this user whose input and error output are a terminal: somebody sits in front of it.
        Terminal = "terminal",
        /// Any other process of this user: an agent, a script, the library.
        Agent = "agent",
        /// A peer whom the user has named.
        Contact = "contact",
        /// A peer with whom a call was once accepted.
        Known = "known peer",
        /// Any other peer.
        Stranger = "stranger",
        /// A relay: it carries what others have signed.
        Relay = "relay",
    }
}

words! {
    /// What is asked.
    pub enum Action {
        /// Read what this home holds.
        Look = "look",
        /// Begin a call: ours rings there, a peer's here.
        Ring = "ring",
        /// Take a call that rings.
        Accept = "accept",
        /// Decline it.
        Reject = "reject",
        /// Say something in a call, or send a file.
        Say = "say, send a file",
        /// Write outside of calls.
        Mail = "write mail",
        /// End a call, or take a ring back.
        End = "end",
        /// Put a question to the owner.
        Escalate = "escalate",
        /// Decide a question: an approval.
        Decide = "answer a question",
        /// Note what was read.
        Mark = "mark as read",
        /// Name, block, unblock or forget a key.
        Befriend = "name, block, unblock",
        /// Give a name or a pinned agent id to another key.
        Vouch = "verify a changed key",
        /// Have changed settings taken.
        Configure = "reload settings",
        /// See the secret key. Into a new file goes more, by the user's own word.
        ShowKey = "show the secret key",
    }
}

words! {
    /// Where that stands which the action is about.
    pub enum State {
        /// Nothing yet, or it is about no call and no question.
        None = "–",
        /// The call rings at the callee's, who asks.
        Ringing = "ringing (callee)",
        /// The call rings, and its caller asks.
        Calling = "ringing (caller)",
        /// The call is up.
        Connected = "connected",
        /// The call is over.
        Ended = "ended",
        /// The question waits for the owner.
        Waiting = "waiting",
        /// The question reached nobody: no channel was configured.
        NoOwner = "no-owner",
        /// The question is decided.
        Answered = "answered",
        /// Its time is over.
        Expired = "expired",
    }
}

impl Role {
    /// A peer of this tier.
    pub const fn of_peer(tier: Tier) -> Self {
        match tier {
            Tier::Contact => Self::Contact,
            Tier::Known => Self::Known,
            Tier::Stranger => Self::Stranger,
        }
    }
}

impl State {
    /// Of a call, seen from one of its ends: `direction` is who placed it as that end sees it.
    pub const fn of_call(state: CallState, direction: Direction) -> Self {
        match (state, direction) {
            (CallState::Ringing, Direction::In) => Self::Ringing,
            (CallState::Ringing, Direction::Out) => Self::Calling,
            (CallState::Connected, _) => Self::Connected,
            (CallState::Ended, _) => Self::Ended,
        }
    }

    /// Of a question.
    pub const fn of_question(state: TicketState) -> Self {
        match state {
            TicketState::Waiting => Self::Waiting,
            TicketState::NoOwner => Self::NoOwner,
            TicketState::Answered => Self::Answered,
            TicketState::Expired => Self::Expired,
        }
    }
}

/// Who may do something, and in which states.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// What.
    pub action: Action,
    /// Who.
    pub roles: &'static [Role],
    /// When.
    pub states: &'static [State],
}

/// The processes of this user.
const OURS: &[Role] = &[Role::Terminal, Role::Agent];
/// Either end of a call.
const ENDS: &[Role] = &[Role::Terminal, Role::Agent, Role::Contact, Role::Known, Role::Stranger];

/// Everything that is allowed. How often and how much a peer may is the door's business (`proto/call/door.rs`); a
/// blocked key is not heard at all.
pub const TABLE: &[Rule] = &[
    Rule { action: Action::Look, roles: OURS, states: State::ALL },
    Rule { action: Action::Ring, roles: ENDS, states: &[State::None] },
    Rule { action: Action::Accept, roles: ENDS, states: &[State::Ringing] },
    Rule { action: Action::Reject, roles: ENDS, states: &[State::Ringing] },
    Rule { action: Action::Say, roles: ENDS, states: &[State::Connected] },
    Rule { action: Action::Mail, roles: ENDS, states: &[State::None, State::Ended] },
    Rule { action: Action::End, roles: ENDS, states: &[State::Ringing, State::Calling, State::Connected] },
    Rule { action: Action::Escalate, roles: OURS, states: &[State::None, State::Connected] },
    Rule { action: Action::Decide, roles: &[Role::Owner], states: &[State::Waiting] },
    Rule { action: Action::Decide, roles: &[Role::Terminal], states: &[State::Waiting, State::NoOwner] },
    Rule { action: Action::Mark, roles: OURS, states: &[State::None] },
    Rule { action: Action::Befriend, roles: OURS, states: &[State::None] },
    Rule { action: Action::Vouch, roles: &[Role::Terminal], states: &[State::None] },
    Rule { action: Action::Configure, roles: OURS, states: &[State::None] },
    Rule { action: Action::ShowKey, roles: &[Role::Terminal], states: &[State::None] },
];

/// What the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// This role may do it, but not now.
    NotNow,
    /// This role may never do it.
    Never,
}

/// Whether a role may do something in a state.
pub fn verdict(role: Role, action: Action, state: State) -> Verdict {
    let rules = || TABLE.iter().filter(|rule| rule.action == action && rule.roles.contains(&role));
    if rules().any(|rule| rule.states.contains(&state)) {
        Verdict::Allowed
    } else if rules().next().is_some() {
        Verdict::NotNow
    } else {
        Verdict::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as Markdown: an action a line, a role a column, in each cell the states in which it is allowed.
    fn rendered() -> String {
        let names: Vec<_> = Role::ALL.iter().map(|role| role.word()).collect();
        let mut text = format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
        for action in Action::ALL {
            let cells = Role::ALL.iter().map(|role| {
                let allowed = |state: &&State| verdict(*role, *action, **state) == Verdict::Allowed;
                let states: Vec<_> = State::ALL.iter().filter(allowed).map(|state| state.word()).collect();
                match states.len() {
                    0 => "never".to_owned(),
                    all if all == State::ALL.len() => "always".to_owned(),
                    _ if states == ["–"] => "yes".to_owned(),
                    _ => states
                        .iter()
                        .map(|word| if *word == "–" { "no call" } else { word })
                        .collect::<Vec<_>>()
                        .join("; "),
                }
            });
            text.push_str(&format!("| {} | {} |\n", action.word(), cells.collect::<Vec<_>>().join(" | ")));
        }
        text
    }

    #[test]
    fn the_published_table_is_this_one() {
        let published = include_str!("../../docs/guarantees.md");
        assert!(published.contains(&rendered()), "docs/guarantees.md has to show:\n{}", rendered());
    }

    #[test]
    fn an_approval_comes_from_the_owner_alone_and_only_while_it_is_asked_for() {
        for role in Role::ALL {
            for state in State::ALL {
                let expected = match (role, state) {
                    (Role::Owner | Role::Terminal, State::Waiting) => Verdict::Allowed,
                    // Nobody was asked: the channel has nothing to answer, a person may all the same.
                    (Role::Terminal, State::NoOwner) => Verdict::Allowed,
                    (Role::Owner | Role::Terminal, _) => Verdict::NotNow,
                    _ => Verdict::Never,
                };
                assert_eq!(verdict(*role, Action::Decide, *state), expected, "{role:?} {state:?}");
            }
        }
    }

    #[test]
    fn every_cell_of_the_table_is_what_it_is_meant_to_be() {
        let peers = [Role::Contact, Role::Known, Role::Stranger];
        for role in Role::ALL {
            let (is_peer, is_ours) = (peers.contains(role), matches!(role, Role::Terminal | Role::Agent));
            for action in Action::ALL {
                for state in State::ALL {
                    let in_call = is_peer || is_ours;
                    let expected = match (action, state) {
                        (Action::Look, _) => is_ours,
                        (Action::Ring, State::None) => in_call,
                        (Action::Accept | Action::Reject, State::Ringing) => in_call,
                        (Action::Say, State::Connected) => in_call,
                        (Action::Mail, State::None | State::Ended) => in_call,
                        (Action::End, State::Ringing | State::Calling | State::Connected) => in_call,
                        (Action::Escalate, State::None | State::Connected) => is_ours,
                        (Action::Decide, State::Waiting) => matches!(role, Role::Owner | Role::Terminal),
                        (Action::Decide, State::NoOwner) => *role == Role::Terminal,
                        (Action::Mark | Action::Befriend | Action::Configure, State::None) => is_ours,
                        (Action::Vouch | Action::ShowKey, State::None) => *role == Role::Terminal,
                        _ => false,
                    };
                    let allowed = verdict(*role, *action, *state) == Verdict::Allowed;
                    assert_eq!(allowed, expected, "{role:?} {action:?} {state:?}");
                }
            }
        }
    }

    #[test]
    fn a_relay_may_nothing_and_a_peer_nothing_that_is_the_users() {
        for action in Action::ALL {
            for state in State::ALL {
                assert_eq!(verdict(Role::Relay, *action, *state), Verdict::Never);
            }
        }
        for tier in Tier::ALL {
            for action in [
                Action::Look,
                Action::Escalate,
                Action::Decide,
                Action::Mark,
                Action::Befriend,
                Action::Vouch,
                Action::Configure,
                Action::ShowKey,
            ] {
                for state in State::ALL {
                    assert_eq!(verdict(Role::of_peer(*tier), action, *state), Verdict::Never, "{action:?}");
                }
            }
        }
    }
}
