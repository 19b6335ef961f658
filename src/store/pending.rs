//! What is written once a batch, however often it changes in it: numbers that only rise, and who has taken what. A burst
//! of messages in one call is one row each then, and not four.
//!
//! Whoever reads these rows writes what is pending first; a commit does, and so does everything outside of a batch.

use std::collections::{BTreeMap, BTreeSet};

use super::{Filter, Result, Store};
use crate::proto::CallId;

#[derive(Debug, Default)]
pub(super) struct Pending {
    calls: BTreeMap<CallId, Numbers>,
    /// By call, direction (outgoing) and stream: the next seq.
    streams: BTreeMap<(CallId, bool, u32), u64>,
    taken: BTreeMap<String, BTreeSet<u64>>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// Messages that came on top.
    messages: u64,
    next_out: u64,
    next_in: u64,
}

impl Pending {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.streams.is_empty() && self.taken.is_empty()
    }
}

impl Store {
    fn note(&self, what: impl FnOnce(&mut Pending)) -> Result<()> {
        what(&mut self.pending.borrow_mut());
        if self.db.is_autocommit() { self.write_pending() } else { Ok(()) }
    }

    /// The numbers of what was said in a call have risen.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn number_call(&mut self, call: &CallId, next_out: u64, next_in: u64) -> Result<()> {
        self.note(|pending| {
            let numbers = pending.calls.entry(*call).or_default();
            numbers.next_out = numbers.next_out.max(next_out);
            numbers.next_in = numbers.next_in.max(next_in);
        })
    }

    /// A call has one message more.
    pub(super) fn count_message(&self, call: &CallId) -> Result<()> {
        self.note(|pending| pending.calls.entry(*call).or_default().messages += 1)
    }

    /// A stream's number rises and never falls: an entry that is replaced has an older one.
    pub(super) fn raise_stream(&self, call: &CallId, outgoing: bool, stream: u32, next: u64) -> Result<()> {
        self.note(|pending| {
            let raised = pending.streams.entry((*call, outgoing, stream)).or_default();
            *raised = next.max(*raised);
        })
    }

    /// A consumer takes an event, and moves its low-water mark as far as that allows.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn take(&mut self, consumer: &str, cursor: u64) -> Result<()> {
        self.note(|pending| match pending.taken.get_mut(consumer) {
            Some(taken) => _ = taken.insert(cursor),
            None => _ = pending.taken.insert(consumer.to_owned(), BTreeSet::from([cursor])),
        })
    }

    /// Writes what is pending.
    pub(super) fn write_pending(&self) -> Result<()> {
        if self.pending.borrow().is_empty() {
            return Ok(());
        }
        let Pending { calls, streams, taken } = self.pending.take();
        for (call, numbers) in calls {
            self.execute(
                "UPDATE calls SET messages = messages + ?2, next_out = max(next_out, ?3), next_in = max(next_in, ?4) \
                 WHERE id = ?1",
                (call, numbers.messages, numbers.next_out, numbers.next_in),
            )?;
        }
        for ((call, outgoing, stream), next) in streams {
            self.execute(
                "INSERT INTO streams VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET next = max(next, ?4)",
                (call, outgoing, stream, next),
            )?;
        }
        taken.into_iter().try_for_each(|(consumer, cursors)| self.write_taken(consumer, &cursors))
    }

    fn write_taken(&self, consumer: String, cursors: &BTreeSet<u64>) -> Result<()> {
        self.execute("INSERT INTO consumers VALUES (?, 0) ON CONFLICT DO NOTHING", [&consumer])?;
        let low = self.count("SELECT low FROM consumers WHERE name = ?", [&consumer])?;
        for cursor in cursors.range(low + 1..) {
            self.execute("INSERT INTO taken VALUES (?, ?) ON CONFLICT DO NOTHING", (&consumer, cursor))?;
        }
        // Never past what was taken now: what comes only when asked for stops nobody, and may still be asked for behind it.
        let newest = cursors.last().copied().unwrap_or(low);
        let filter = Filter { consumer: Some(consumer), ..Filter::default() };
        let new_low = self.peek(&filter)?.map_or(newest, |first| newest.min(first.cursor - 1));
        if new_low > low {
            self.execute("UPDATE consumers SET low = ?2 WHERE name = ?1", (&filter.consumer, new_low))?;
            self.execute(
                "DELETE FROM taken WHERE consumer = ?1 AND cursor <= ?2",
                (&filter.consumer, new_low),
            )?;
        }
        Ok(())
    }
}
