//! A question to many links, with one answer to the engine.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::inbound::{Inbound, Whereabouts};
use super::link::{Command, Control, Link};
use super::tuning::Tuning;
use crate::proto::PublicKey;

/// Commands that wait for one link. More than one of a kind at a time come from commands that run at once; refreshes
/// of a class share a walk.
pub(super) const MAX_COMMANDS: usize = 32;
/// Answers of one link to one question: a directory's worth of pages, and the last one.
const MAX_ANSWERS: usize = 64;

/// What a link says to a question that takes several pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// A page; there are more.
    Page,
    /// All that it has.
    All,
}

/// What counts as an answer.
pub(super) trait Answers {
    /// It is not over yet.
    fn goes_on(&self) -> bool;
}

impl Answers for Told {
    fn goes_on(&self) -> bool {
        *self == Self::Page
    }
}

impl Answers for Whereabouts {
    fn goes_on(&self) -> bool {
        false
    }
}

/// A question that is with its links.
pub(super) struct Question<T> {
    answers: mpsc::Receiver<T>,
    asked: usize,
    /// The longest that all of them have.
    within: Duration,
    /// The longest that those have who are telling.
    telling: Duration,
    /// How long the slower ones have once the first has answered.
    grace: Duration,
}

impl<T: Answers> Question<T> {
    /// Gives each of these links that is connected a command.
    pub(super) fn ask<'a>(
        links: impl Iterator<Item = (&'a Link, &'a mpsc::Sender<Command>)>,
        command: impl Fn(mpsc::Sender<T>) -> Command,
        tuning: &Tuning,
    ) -> Self {
        let connected: Vec<_> = links.filter(|(link, _)| link.desk().status.connected).collect();
        let (sender, answers) = mpsc::channel((connected.len() * MAX_ANSWERS).max(1));
        let asked = connected
            .iter()
            .filter(|(_, commands)| commands.try_send(command(sender.clone())).is_ok())
            .count();
        let (within, telling) = (tuning.refresh_within, tuning.walk_within);
        Self { answers, asked, within, telling, grace: tuning.refresh_grace }
    }

    /// Hands over what the answers make: at once if nobody was asked, and not at all once the pool stops.
    pub(super) async fn tell(
        self,
        inbound: mpsc::Sender<Inbound>,
        mut control: watch::Receiver<Control>,
        answer: impl FnOnce(Vec<T>, usize) -> Inbound,
    ) {
        let asked = self.asked;
        let tell = async {
            let answers = self.gather().await;
            // An error means that the engine is gone.
            let _ = inbound.send(answer(answers, asked)).await;
        };
        tokio::select! {
            biased;
            _ = control.wait_for(|control| control.stopping) => {}
            () = tell => {}
        }
    }

    /// Takes answers until all are there, nobody is left who could answer, or time is up. A link that is telling is waited
    /// for as long as it goes on, within bounds.
    async fn gather(mut self) -> Vec<T> {
        let (mut deadline, last) = (Instant::now() + self.within, Instant::now() + self.telling);
        let mut answered = Vec::with_capacity(self.asked);
        while answered.len() < self.asked {
            tokio::select! {
                biased;
                answer = self.answers.recv() => match answer {
                    Some(answer) if answer.goes_on() => {
                        deadline = deadline.max(Instant::now() + self.grace).min(last);
                    }
                    Some(answer) => {
                        answered.push(answer);
                        deadline = deadline.min(Instant::now() + self.grace);
                    }
                    None => break,
                },
                () = sleep_until(deadline) => break,
            }
        }
        answered
    }
}

/// What the relays tell about a key, taken together: one that withholds something changes nothing.
pub(super) fn together(
    token: u64,
    key: PublicKey,
) -> impl FnOnce(Vec<Whereabouts>, usize) -> Inbound + Send + 'static {
    move |answers, asked| {
        let answered = answers.len();
        let mut found = Whereabouts::default();
        answers.into_iter().for_each(|answer| found.add(answer));
        Inbound::Whereabouts { token, key, found, answered, asked }
    }
}
