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

/// A question that is with its links.
pub(super) struct Question<T> {
    answers: mpsc::Receiver<T>,
    asked: usize,
    /// The longest that all of them have.
    within: Duration,
    /// How long the slower ones have once the first has answered.
    grace: Duration,
}

impl<T> Question<T> {
    /// Gives each of these links that is connected a command.
    pub(super) fn ask<'a>(
        links: impl Iterator<Item = (&'a Link, &'a mpsc::Sender<Command>)>,
        command: impl Fn(mpsc::Sender<T>) -> Command,
        tuning: &Tuning,
    ) -> Self {
        let connected: Vec<_> = links.filter(|(link, _)| link.desk().status.connected).collect();
        let (sender, answers) = mpsc::channel(connected.len().max(1));
        let asked = connected
            .iter()
            .filter(|(_, commands)| commands.try_send(command(sender.clone())).is_ok())
            .count();
        Self { answers, asked, within: tuning.refresh_within, grace: tuning.refresh_grace }
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

    /// Takes answers until all are there, nobody is left who could answer, or time is up.
    async fn gather(mut self) -> Vec<T> {
        let mut deadline = Instant::now() + self.within;
        let mut answered = Vec::with_capacity(self.asked);
        while answered.len() < self.asked {
            tokio::select! {
                biased;
                answer = self.answers.recv() => match answer {
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
