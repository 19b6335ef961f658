//! What a peer may offer that is not of ours: more files at once than are taken, files that never come.

use super::super::start::Made;
use super::super::tests::{Agent, connected, relay};
use super::super::{Options, core::Core};
use super::arrivals::STILL_TIME;
use crate::home::Home;
use crate::proto::call::Call;
use crate::proto::v2::body::{Content, FileOffer};
use crate::proto::v2::delivery::FILE_STREAMS;
use crate::proto::v2::refusal::Refusal;
use crate::proto::{CallId, Hex, MessageId, MessageState};

/// Bob's engine without its thread, in a call with Alice.
struct Bob {
    core: Core,
    call: Call,
    _alice: Agent,
    _agent: Agent,
}

fn message(number: u8) -> MessageId {
    Hex([number; 16])
}

impl Bob {
    async fn in_a_call() -> Self {
        let relay = relay().await;
        let (alice, bob) = (Agent::start("alice", &relay.url()), Agent::start("bob", &relay.url()));
        let (_, call): (_, CallId) = connected(&alice, &bob).await;
        bob.engine.stop().await;
        let home = Home::open(Some(bob.folder.path())).unwrap();
        let mut core = Made::of(Options { home, settings: bob.settings.clone() }).unwrap().core;
        let call = core.restore_call(&call).unwrap().unwrap();
        Self { core, call, _alice: alice, _agent: bob }
    }

    /// What the engine does in one transaction.
    fn batch(&mut self, inputs: impl FnOnce(&mut Core, &Call)) {
        self.core.store.begin().unwrap();
        inputs(&mut self.core, &self.call);
        let now = self.core.wall();
        self.core.drain_talk(&self.call.id, now).unwrap();
        self.core.store.commit().unwrap();
    }

    /// Alice offers a file on the stream of this number.
    fn offer(&mut self, number: u8) {
        self.batch(|core, call| {
            let now = core.wall();
            let (name, mime) = (format!("{number}.bin"), "text/plain".to_owned());
            let offer =
                FileOffer { stream: 2 + u32::from(number), name, size: 10, mime, sha256: Hex([0; 32]) };
            core.handle_file_offer(call, message(number), offer, now).unwrap();
        });
    }

    /// What Bob says to Alice about a file.
    fn said(&self, number: u8) -> Option<Content> {
        let unacked = self.core.lines.talks.get(&self.call.id).unwrap().delivery.saved().unacked;
        let last = unacked.iter().rfind(|queued| queued.entry.id == message(number))?;
        Content::decode(std::slice::from_ref(&last.entry)).ok()
    }

    fn refusal(&self, number: u8) -> Option<Refusal> {
        match self.said(number)? {
            Content::FileCancel(reason) => Some(Refusal::read(&reason)),
            _ => None,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_files_come_at_once_as_there_are_streams_and_one_more_when_one_is_through() {
    let mut bob = Bob::in_a_call().await;
    let all = FILE_STREAMS as u8;
    for number in 0..all {
        bob.offer(number);
        assert_eq!(bob.said(number), Some(Content::FileAccept), "{number}");
    }
    bob.offer(all);
    assert_eq!(bob.refusal(all), Some(Refusal::TooMany));
    assert!(bob.core.transfer(&bob.call.id, false, &message(all)).unwrap().is_none());
    // Alice takes one of them back.
    bob.batch(|core, call| {
        let now = core.wall();
        core.handle_file_cancel(call, &message(3), &Refusal::Cancelled.write(), now).unwrap();
    });
    bob.offer(all + 1);
    assert_eq!(bob.said(all + 1), Some(Content::FileAccept));
    bob.offer(all + 2);
    assert_eq!(bob.refusal(all + 2), Some(Refusal::TooMany));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_which_nothing_comes_for_too_long_is_given_up_and_both_sides_are_told() {
    let mut bob = Bob::in_a_call().await;
    let id = bob.call.id;
    for number in 0..3 {
        bob.offer(number);
    }
    let age = |bob: &mut Bob, number: u8, by| {
        let moved = bob.core.lines.moved.get_mut(&(id, message(number))).unwrap();
        *moved = moved.checked_sub(by).unwrap();
    };
    let look = |bob: &mut Bob| {
        bob.batch(|core, _| {
            let now = core.wall();
            core.fail_stalled_arrivals(now).unwrap();
        });
    };
    age(&mut bob, 0, STILL_TIME / 2);
    age(&mut bob, 1, STILL_TIME / 2);
    age(&mut bob, 2, STILL_TIME / 2);
    look(&mut bob);
    assert_eq!(bob.refusal(0), None, "there is time left");
    age(&mut bob, 0, STILL_TIME / 2);
    // The second one is all there, and waits for its turn to be checked.
    age(&mut bob, 1, STILL_TIME / 2);
    bob.core.lines.keeping.insert((id, message(1)));
    look(&mut bob);
    assert_eq!(bob.refusal(0), Some(Refusal::Stalled));
    let failed = bob.core.store.peer_message(&bob.call.peer, &message(0)).unwrap().unwrap().message;
    assert_eq!(failed.state, MessageState::Failed);
    assert!(bob.core.transfer(&id, false, &message(0)).unwrap().is_none());
    for number in [1, 2] {
        assert_eq!(bob.refusal(number), None);
        assert!(bob.core.transfer(&id, false, &message(number)).unwrap().is_some());
    }
}
