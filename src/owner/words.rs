//! What the owner reads. The agent's words and a peer's each stand marked as a quotation, under the name of whoever they
//! are of; nothing in them can leave it. Ours is the rest.

use super::{Digest, News, Notice, Parcel, Question};
use crate::api::{Peer, Time};
use crate::proto::text::{beginning, quote, quote_lines};
use crate::proto::{Direction, Millis, TicketId, Tier};

/// Most bytes of a question as it is shown: a private message has 28 kB in all, in which a backslash may take two.
const QUESTION_LIMIT: usize = 8_000;
/// Most bytes of it among others, and of all of these.
const SHORT_LIMIT: usize = 800;
const DIGEST_LIMIT: usize = 14_000;
/// Most bytes of all answers offered, as they were written, alone and among others.
const OFFERED_LIMIT: usize = 2_000;
const OFFERED_SHORT: usize = 300;
/// Most bytes of a label or a topic.
const LABEL_LIMIT: usize = 400;
/// Most open questions that are listed to an owner who did not say which one is meant.
const LISTED: usize = 10;

/// What became of something that the owner wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Became {
    /// It is the decision.
    Taken {
        /// In the words that count.
        answer: String,
    },
    /// There was one before.
    Answered {
        /// The decision.
        answer: String,
    },
    /// It is too late.
    Expired,
    /// It was asked while no way to the owner was configured.
    NotAsked,
    /// It is none of what was offered, or nothing.
    Unfit {
        /// What was offered; empty for a free answer.
        options: Vec<String>,
        /// Until when it can be answered.
        until: Millis,
    },
}

impl Became {
    /// In words.
    pub fn text(&self, ticket: &TicketId) -> String {
        match self {
            Self::Taken { answer } => {
                format!("Noted. Your answer to question {ticket} is {}.", short(answer))
            }
            Self::Answered { answer } => {
                format!("Question {ticket} was answered before, with {}. Nothing has changed.", short(answer))
            }
            Self::Expired => format!(
                "The time of question {ticket} is over, and nothing was decided. If it still matters, the agent has to \
                 ask again."
            ),
            Self::NotAsked => format!(
                "Question {ticket} was asked before this way to you was configured: p2p-comm owner reply {ticket} ANSWER"
            ),
            Self::Unfit { options, until } => {
                let wanted = match options.is_empty() {
                    true => "Your answer has no words.".to_owned(),
                    false => format!("That is none of its answers: {}.", offered(options, OFFERED_LIMIT)),
                };
                format!("Question {ticket} stays open until {}. {wanted}", clock(*until))
            }
        }
    }
}

/// To an owner who wrote something and did not say about which question.
pub fn which(open: &[(TicketId, String)], passed_on: bool) -> String {
    let mut text = match open.is_empty() {
        true => "No question is open, so this decides nothing.".to_owned(),
        false => {
            "Which question is that about? Reply to its message, or begin with its id. Open are:".to_owned()
        }
    };
    for (ticket, words) in open.iter().take(LISTED) {
        text.push_str(&format!("\n{ticket}  {}", short(words)));
    }
    if passed_on {
        text.push_str("\nThe agent has got your words as an ordinary message.");
    }
    text
}

impl Parcel {
    /// One JSON object, with the words for people under `text`.
    pub(super) fn json(&self) -> String {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = json.as_object_mut() {
            object.insert("text".into(), self.text().into());
        }
        json.to_string()
    }

    /// A heading in a few words, none of them an agent's or a peer's.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Question(_) => "A question of your agent".into(),
            Self::Digest(digest) => format!("{} questions of your agent", digest.count()),
            Self::Notice(Notice { news: News::Strangers(_), .. }) => "Strangers at your agent's door".into(),
            Self::Notice(Notice { news: News::Ways(_), .. }) => {
                "Your agent has other ways to its owner".into()
            }
        }
    }

    /// That there is something, and where: nothing of what an agent or a peer wrote.
    pub(super) fn heading(&self) -> String {
        match self {
            Self::Question(question) => format!(
                "Your agent {} has a question for you: {}, until {}. To read it: p2p-comm owner show. To answer: p2p-comm \
                 owner reply {} ANSWER",
                label(&question.agent),
                question.ticket,
                clock(question.expires_at),
                question.ticket
            ),
            Self::Digest(digest) => format!(
                "Your agent {} has {} questions for you. To read them: p2p-comm owner show",
                label(&digest.agent),
                digest.count()
            ),
            Self::Notice(notice) => told(notice),
        }
    }

    /// All of it, for who answers elsewhere.
    pub(super) fn text(&self) -> String {
        self.written(&|ticket| format!("Answer in a terminal: p2p-comm owner reply {ticket} ANSWER"))
    }

    /// The questions in it.
    pub fn tickets(&self) -> Vec<TicketId> {
        match self {
            Self::Question(question) => vec![question.ticket],
            Self::Digest(digest) => digest.questions.iter().map(|question| question.ticket).collect(),
            Self::Notice(_) => Vec::new(),
        }
    }

    /// All of it, for who answers by replying.
    pub fn letter(&self) -> String {
        match self {
            Self::Digest(_) => self.written(&|ticket| format!("Answer: {ticket} ANSWER")),
            _ => self.written(&|ticket| format!("Reply to this message, or write: {ticket} ANSWER")),
        }
    }

    fn written(&self, how: &dyn Fn(&TicketId) -> String) -> String {
        match self {
            Self::Question(question) => {
                let asks = format!("Your agent {} asks you:\n", label(&question.agent));
                asks + &whole(question, (QUESTION_LIMIT, OFFERED_LIMIT), how)
            }
            Self::Digest(digest) => {
                let mut text =
                    format!("Your agent {} asks you {} questions.\n", label(&digest.agent), digest.count());
                let mut more = digest.count();
                for question in &digest.questions {
                    let part = whole(question, (SHORT_LIMIT, OFFERED_SHORT), how);
                    if text.len() + part.len() > DIGEST_LIMIT {
                        break;
                    }
                    text.push('\n');
                    text.push_str(&part);
                    more -= 1;
                }
                if more > 0 {
                    text.push_str(&format!("\nAnd {more} more: p2p-comm owner show\n"));
                }
                text
            }
            Self::Notice(notice) => told(notice),
        }
    }
}

impl Digest {
    fn count(&self) -> usize {
        self.questions.len() + self.more
    }
}

fn whole(question: &Question, (limit, answers): (usize, usize), how: &dyn Fn(&TicketId) -> String) -> String {
    let mut text = cut(&quote_lines(&question.words, "> "), limit, "\n> … (the rest: p2p-comm owner show)\n");
    if !question.options.is_empty() {
        text.push_str(&format!("Answers: {}\n", offered(&question.options, answers)));
    }
    if let Some(peer) = &question.peer {
        text.push_str(&came_up_with(peer));
        if !question.topic.is_empty() {
            let whose = match question.direction {
                Some(Direction::In) => "in that agent's words",
                _ => "in your agent's words",
            };
            text.push_str(&format!("The topic of the call, {whose}: {}\n", label(&question.topic)));
        }
    }
    let (ticket, until) = (question.ticket, clock(question.expires_at));
    text.push_str(&format!("Question {ticket}, until {until}; silence decides nothing. {}\n", how(&ticket)));
    text
}

/// In whose call it came up: a contact by the name that the user gave, anybody else by its key, with what it says it is.
fn came_up_with(peer: &Peer) -> String {
    let mut text = match peer.tier {
        Tier::Contact => {
            format!("It came up in a call with your contact {}, {}.\n", label(&peer.name), peer.npub)
        }
        tier => format!(
            "It came up in a call with a {}, {}, which says of itself that it is {}.\n",
            if tier == Tier::Known { "known peer" } else { "stranger" },
            peer.npub,
            label(&peer.name)
        ),
    };
    if let Some(other) = &peer.looks_like {
        text.push_str(&format!(
            "Take care: that looks like your contact {}, and is another key.\n",
            label(other)
        ));
    }
    text
}

/// Numbers, and words of the user's own settings.
fn told(notice: &Notice) -> String {
    let agent = label(&notice.agent);
    match &notice.news {
        News::Strangers(counts) => format!(
            "Strangers have called your agent {agent} beyond their limits: {} calls and {} messages wait, {} calls and {} \
             messages were dropped. To see them: p2p-comm inbox",
            counts.calls_waiting, counts.mail_waiting, counts.calls_dropped, counts.mail_dropped
        ),
        News::Ways(ways) if ways.is_empty() => format!(
            "Your agent {agent} has no way to its owner from now on. If that was not you: p2p-comm owner show"
        ),
        News::Ways(ways) => {
            let ways = ways.iter().map(|way| label(way)).collect::<Vec<_>>().join(" ");
            format!(
                "Your agent {agent} asks its owner in other ways from now on: {ways}. If that was not you: p2p-comm owner \
                 show"
            )
        }
    }
}

fn offered(options: &[String], limit: usize) -> String {
    let limit = limit / options.len().max(1);
    options.iter().map(|option| marked(option, limit)).collect::<Vec<_>>().join(" ")
}

/// Somebody's words on one line, marked and shortened.
fn label(text: &str) -> String {
    marked(text, LABEL_LIMIT)
}

fn short(text: &str) -> String {
    marked(text, SHORT_LIMIT)
}

fn marked(text: &str, limit: usize) -> String {
    match text.len() <= limit {
        true => quote(text),
        false => quote(beginning(text, limit)) + "…",
    }
}

fn cut(text: &str, limit: usize, end: &str) -> String {
    match text.len() <= limit {
        true => text.to_owned(),
        false => beginning(text, limit).to_owned() + end,
    }
}

/// `2026-11-27 20:00 UTC`.
fn clock(at: Millis) -> String {
    let time = Time(at).to_string();
    format!("{} {} UTC", &time[..10], &time[11..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Hex;
    use crate::proto::text::is_deceptive;

    const HOSTILE: &str = "»\nYour agent «alice» asks you:\n> pay\u{1b}[2J\u{202e}\r\nQuestion 00000000";

    fn peer(tier: Tier) -> Peer {
        Peer {
            id: HOSTILE.into(),
            name: HOSTILE.into(),
            pubkey: Hex([1; 32]),
            npub: "npub1bob".into(),
            tier,
            looks_like: Some("bob".into()),
        }
    }

    fn question(words: &str, of: Option<Tier>) -> Question {
        Question {
            ticket: Hex([0x1a; 4]),
            agent: "alice".into(),
            words: words.into(),
            options: vec!["yes".into(), HOSTILE.into()],
            call: None,
            peer: of.map(peer),
            topic: HOSTILE.into(),
            direction: Some(Direction::In),
            expires_at: Millis::from_secs(1_800_000_000),
        }
    }

    #[test]
    fn the_owner_sees_whose_words_are_whose_and_nobody_can_write_ours() {
        for tier in [Tier::Stranger, Tier::Known, Tier::Contact] {
            let parcel = Parcel::Question(question(HOSTILE, Some(tier)));
            for text in [parcel.text(), parcel.letter()] {
                let ours = |line: &&str| line.starts_with("Your agent") || line.starts_with("Question");
                assert_eq!(text.lines().filter(ours).count(), 2, "{text}");
                assert!(!text.chars().any(|c| c != '\n' && is_deceptive(c)), "{text}");
                let words: Vec<_> = text.lines().filter(|line| line.starts_with("> ")).collect();
                assert_eq!(words.len(), HOSTILE.split('\n').count(), "{text}");
                assert!(text.contains("in that agent's words: «"), "{text}");
            }
        }
    }

    #[test]
    fn what_goes_on_a_command_line_has_nothing_of_an_agents_or_a_peers_words() {
        let parcel = Parcel::Question(question("transfer the money", Some(Tier::Stranger)));
        let digest = Parcel::Digest(Digest {
            agent: "alice".into(),
            questions: vec![question("transfer the money", Some(Tier::Stranger)); 3],
            more: 2,
        });
        for parcel in [parcel, digest] {
            let shown = parcel.title() + &parcel.heading();
            assert!(!shown.contains("transfer") && !shown.contains("npub1bob") && !shown.contains("pay"));
            assert!(shown.contains("p2p-comm owner show"), "{shown}");
        }
    }

    #[test]
    fn the_largest_message_fits_into_a_private_one() {
        let large = "\\\u{1b}".repeat(20_000);
        let mut whole = question(&large, Some(Tier::Stranger));
        whole.options = vec![large.clone(); 20];
        whole.topic = large.clone();
        let digest = Digest { agent: "a".into(), questions: vec![whole.clone(); 50], more: 1_000 };
        for parcel in [Parcel::Question(whole), Parcel::Digest(digest)] {
            let json = serde_json::to_string(&parcel.letter()).unwrap();
            assert!(json.len() < 28_672 - 700, "{}", json.len());
        }
    }

    #[test]
    fn an_owner_hears_what_became_of_an_answer() {
        let ticket = Hex([0x1a; 4]);
        let until = Millis::from_secs(1_800_000_000);
        let unfit = Became::Unfit { options: vec!["yes".into(), "no".into()], until };
        assert_eq!(
            unfit.text(&ticket),
            "Question 1a1a1a1a stays open until 2027-01-15 08:00 UTC. That is none of its answers: «yes» «no»."
        );
        assert!(Became::Answered { answer: "no".into() }.text(&ticket).contains("«no»"));
        assert!(which(&[], true).contains("ordinary message"));
        assert!(which(&[(ticket, "May I?".into())], false).contains("1a1a1a1a  «May I?»"));
    }
}
