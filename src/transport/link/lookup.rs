//! A question with one answer: a peer's list of inbox relays.

use nostr_sdk::{ClientMessage, Filter, JsonUtil, Kind, SubscriptionId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::random_name;
use super::subscription::Effects;
use crate::proto::PublicKey;
use crate::transport::inbound::InboxList;
use crate::transport::v2::inbox;

/// Where the answer goes; none if the relay has no list. Dropped if it does not answer.
pub(in crate::transport) type Asker = mpsc::Sender<Option<InboxList>>;

/// One question to one relay.
pub(super) struct Lookup {
    pub id: String,
    pub key: PublicKey,
    pub by: Instant,
    /// The relay wants to know us first.
    pub unauthenticated: bool,
    newest: Option<InboxList>,
    asker: Asker,
}

impl Lookup {
    pub(super) fn begin(key: PublicKey, asker: Asker, by: Instant, effects: &mut Effects) -> Self {
        let mut lookup = Self { id: String::new(), key, by, unauthenticated: false, newest: None, asker };
        lookup.ask(effects);
        lookup
    }

    /// Puts the question, once more if the relay has closed it.
    pub(super) fn ask(&mut self, effects: &mut Effects) {
        self.id = random_name();
        self.unauthenticated = false;
        let author = nostr_sdk::PublicKey::from_byte_array(self.key.0);
        let filter = Filter::new().kind(Kind::from_u16(inbox::KIND)).author(author).limit(1);
        effects.frames.push_back(ClientMessage::req(SubscriptionId::new(&self.id), vec![filter]).as_json());
    }

    pub(super) fn found(&mut self, list: InboxList) {
        if self.newest.as_ref().is_none_or(|newest| newest.created_at < list.created_at) {
            self.newest = Some(list);
        }
    }

    /// The relay has told all that it has.
    pub(super) fn end(self, effects: &mut Effects) {
        close(&self.id, effects);
        // Its channel has room for every link; if it is gone, so is the question.
        let _ = self.asker.try_send(self.newest);
    }

    /// It takes too long.
    pub(super) fn give_up(self, effects: &mut Effects) {
        close(&self.id, effects);
    }
}

fn close(id: &str, effects: &mut Effects) {
    effects.frames.push_back(ClientMessage::close(SubscriptionId::new(id)).as_json());
}
