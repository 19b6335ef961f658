//! Links against relays: honest ones (`nostr-relay-builder`, in this process) and scripted ones, which do what no
//! relay should. No sleeps: everything is awaited, with one deadline.

mod echoes;
mod honest;
mod scripted;
mod server;
mod sessions;

use std::fmt::Debug;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::transport::link::Now;

/// Longer than anything here takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits in milliseconds where daemons wait in seconds; deadlines of the relay's long enough for a loaded machine,
/// unless the test is about them.
fn quick() -> Tuning {
    let ms = Duration::from_millis;
    Tuning {
        backoff_first: ms(5),
        backoff_most: ms(20),
        pause_first: ms(5),
        pause_most: ms(20),
        resubscribe_first: ms(5),
        resubscribe_most: ms(20),
        ..Tuning::DEFAULT
    }
}

/// A pool with the receiving end of its channel.
struct Agent {
    identity: Identity,
    pool: Pool,
    inbound: mpsc::Receiver<Inbound>,
}

impl Agent {
    fn start(relay: &str, tuning: Tuning) -> Self {
        Self::with(relay, tuning, 1_024, Vec::new())
    }

    fn with(relay: &str, tuning: Tuning, capacity: usize, cursors: Vec<(String, Class, u64)>) -> Self {
        let identity = Identity::generate();
        let (sender, inbound) = mpsc::channel(capacity);
        let pool = Pool::start(Options {
            relays: vec![relay.to_owned()],
            inbox: vec![relay.to_owned()],
            identity: identity.clone(),
            cursors,
            inbound: sender,
            seen: None,
            tuning,
        });
        Self { identity, pool: pool.unwrap(), inbound }
    }

    fn key(&self) -> crate::proto::PublicKey {
        self.identity.public_key()
    }

    fn message_to(&self, peer: crate::proto::PublicKey, text: &str, created_at: u64) -> Signed {
        legacy::seal(&self.identity, &peer, text, created_at).unwrap()
    }

    async fn next(&mut self) -> Inbound {
        timeout(DEADLINE, self.inbound.recv()).await.expect("nothing came").expect("the pool is gone")
    }

    /// The first thing that `pick` picks; the rest is passed over.
    async fn until<T>(&mut self, mut pick: impl FnMut(Inbound) -> Option<T>) -> T {
        loop {
            if let Some(picked) = pick(self.next().await) {
                return picked;
            }
        }
    }

    async fn until_up(&mut self) {
        self.until(|inbound| matches!(inbound, Inbound::Up { .. }).then_some(())).await;
    }

    async fn until_down(&mut self) -> String {
        self.until(|inbound| match inbound {
            Inbound::Down { error, .. } => Some(error),
            _ => None,
        })
        .await
    }

    async fn until_synced(&mut self, of: Class) -> u64 {
        self.until(|inbound| match inbound {
            Inbound::Synced { class, since_request, .. } if class == of => Some(since_request),
            _ => None,
        })
        .await
    }

    async fn until_published(&mut self) -> (crate::proto::EventId, Outcome) {
        self.until(|inbound| match inbound {
            Inbound::Published(published) => Some((published.id, published.outcome)),
            _ => None,
        })
        .await
    }

    async fn until_message(&mut self) -> String {
        self.until(|inbound| match inbound {
            Inbound::Direct { payload, .. } => Some(payload),
            _ => None,
        })
        .await
    }

    /// Everything up to `Synced` of the direct class, that included.
    async fn sync(&mut self) -> Vec<Inbound> {
        let mut all = Vec::new();
        loop {
            all.push(self.next().await);
            if matches!(all.last(), Some(Inbound::Synced { class: Class::Direct, .. })) {
                return all;
            }
        }
    }

    fn counters(&self) -> Counters {
        self.pool.counters()[0].1
    }
}

fn payloads(inbound: &[Inbound]) -> Vec<&str> {
    inbound
        .iter()
        .filter_map(|inbound| match inbound {
            Inbound::Direct { payload, .. } => Some(payload.as_str()),
            _ => None,
        })
        .collect()
}

fn gaps(inbound: &[Inbound]) -> Vec<u64> {
    inbound
        .iter()
        .filter_map(|inbound| match inbound {
            Inbound::Gap { second, .. } => Some(*second),
            _ => None,
        })
        .collect()
}

fn now() -> u64 {
    Now::read().unix
}

async fn soon<T: Debug>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("too late")
}
