//! A question with one answer: where a peer is to be found.

use nostr_sdk::{ClientMessage, Filter, JsonUtil, Kind, SubscriptionId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::random_name;
use super::subscription::Effects;
use crate::proto::PublicKey;
use crate::transport::inbound::Whereabouts;
use crate::transport::rotation;
use crate::transport::v2::inbox;

/// Where the answer goes; an empty one if the relay knows nothing. Dropped if it does not answer.
pub(in crate::transport) type Asker = mpsc::Sender<Whereabouts>;

/// Events looked at of one answer: an honest relay has one of each kind.
const MOST_EVENTS: usize = 8;

/// One question to one relay.
pub(super) struct Lookup {
    pub id: String,
    pub key: PublicKey,
    pub by: Instant,
    /// The relay wants to know us first.
    pub unauthenticated: bool,
    told: Whereabouts,
    events: usize,
    asker: Asker,
}

impl Lookup {
    pub(super) fn begin(key: PublicKey, asker: Asker, by: Instant, effects: &mut Effects) -> Self {
        let mut lookup = Self {
            id: String::new(),
            key,
            by,
            unauthenticated: false,
            told: Whereabouts::default(),
            events: 0,
            asker,
        };
        lookup.ask(effects);
        lookup
    }

    /// Puts the question, once more if the relay has closed it.
    pub(super) fn ask(&mut self, effects: &mut Effects) {
        self.id = random_name();
        self.unauthenticated = false;
        let author = nostr_sdk::PublicKey::from_byte_array(self.key.0);
        let one = |kind| Filter::new().kind(Kind::from_u16(kind)).author(author).limit(1);
        let filters = vec![one(inbox::KIND), one(rotation::KIND)];
        effects.frames.push_back(ClientMessage::req(SubscriptionId::new(&self.id), filters).as_json());
    }

    pub(super) fn found(&mut self, told: Whereabouts) {
        self.events += 1;
        if self.events <= MOST_EVENTS {
            self.told.add(told);
        }
    }

    /// The relay has told all that it has.
    pub(super) fn end(self, effects: &mut Effects) {
        close(&self.id, effects);
        // Its channel has room for every link; if it is gone, so is the question.
        let _ = self.asker.try_send(self.told);
    }

    /// It takes too long.
    pub(super) fn give_up(self, effects: &mut Effects) {
        close(&self.id, effects);
    }
}

fn close(id: &str, effects: &mut Effects) {
    effects.frames.push_back(ClientMessage::close(SubscriptionId::new(id)).as_json());
}
