//! What this side wants: to say something, to send a file, to end the call.

use super::machine::{Delivery, Phase};
use super::{Change, FILE_STREAMS, QUEUE_BYTES, QUEUE_ENTRIES, READ_MERGE_TIME, Refused, span_bytes};
use crate::proto::v2::batch::{FIRST_FILE, Kind};
use crate::proto::v2::body::{self, Content};
use crate::proto::{MessageId, Millis};

impl Delivery {
    /// Says something. Returns the seq of its first entry. A message that is not delivered at its deadline is withdrawn.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn say(
        &mut self,
        id: MessageId,
        content: &Content,
        deadline: Option<Millis>,
    ) -> Result<u64, Refused> {
        self.check_open()?;
        let (place, (size, limit)) = (content.place(), content.size());
        if size > limit {
            return Err(Refused::TooLarge { size, limit });
        }
        let stream = match content {
            Content::FileOffer(offer) => offer.stream,
            _ => place.0,
        };
        let is_file = matches!(content, Content::FileOffer(_) | Content::Chunk { .. });
        if is_file && (stream < FIRST_FILE || !self.outgoing.is_open(stream)) {
            return Err(Refused::NoStream);
        }
        let is_full = match place.1 {
            Kind::Chunk if size == 0 => return Err(Refused::Empty),
            Kind::Chunk => self.outgoing.bytes_in(stream) + size > span_bytes(stream) as usize,
            _ => self.outgoing.entries() >= QUEUE_ENTRIES || self.outgoing.bytes() + size > QUEUE_BYTES,
        };
        if is_full {
            return Err(Refused::Full);
        }
        if body::is_message(place.1) && self.outgoing.knows(&id) {
            return Err(Refused::Repeated);
        }
        let mut first = None;
        for body in content.encode() {
            let queued = self.outgoing.push(place, id, body, deadline, self.issued + 1);
            first = first.or(Some(queued.entry.seq));
            self.persist(Change::Queue(queued));
        }
        Ok(first.unwrap_or_default())
    }

    /// Tells the peer that the application has taken this message, and all before it: with the next frame, or after
    /// [`READ_MERGE_TIME`].
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn read(&mut self, id: MessageId, now: Millis) -> Result<(), Refused> {
        self.check_open()?;
        if self.outgoing.entries() >= QUEUE_ENTRIES {
            return Err(Refused::Full);
        }
        let queued = self.outgoing.push_read(id, self.issued + 1);
        self.persist(Change::Queue(queued));
        self.receipt_at.get_or_insert(now + READ_MERGE_TIME);
        Ok(())
    }

    /// What the application has taken is told with the next frame: nothing more comes that could go with it.
    pub fn hurry_reads(&mut self) {
        self.receipt_at = None;
    }

    /// Opens a stream for a file of ours; the offer names it.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn open_outgoing(&mut self) -> Result<u32, Refused> {
        self.check_open()?;
        if self.outgoing.file_streams().len() >= FILE_STREAMS {
            return Err(Refused::TooManyFiles);
        }
        let stream = self.outgoing.open_file();
        self.persist(Change::OpenOutgoing(stream));
        Ok(stream)
    }

    /// A file of ours is through, or cancelled: what waits in its stream is dropped.
    pub fn close_outgoing(&mut self, stream: u32) {
        if stream >= FIRST_FILE && self.outgoing.close(stream) {
            self.persist(Change::CloseOutgoing(stream));
        }
    }

    /// Opens the stream of a file: before the offer that named it is accepted. Its frames are taken after [`Self::admit`].
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn open_incoming(&mut self, stream: u32) -> Result<(), Refused> {
        self.check_open()?;
        if stream < FIRST_FILE || self.incoming.is_open(stream) {
            return Err(Refused::NoStream);
        }
        if self.incoming.file_streams().len() >= FILE_STREAMS {
            return Err(Refused::TooManyFiles);
        }
        self.incoming.open(stream, 1);
        self.persist(Change::OpenIncoming(stream));
        Ok(())
    }

    /// There is a place for the chunks of this stream: its frames are taken from now on.
    pub fn admit(&mut self, stream: u32) {
        self.incoming.admit(stream);
    }

    /// A file of the peer is through, or not wanted: what still comes on its stream is dropped.
    pub fn close_incoming(&mut self, stream: u32) {
        if stream >= FIRST_FILE && self.incoming.close(stream) {
            self.persist(Change::CloseIncoming(stream));
        }
    }

    /// Ends the call: what was said before still goes out, for [`DRAIN_TIME`]. `false` if it ends already.
    pub fn end(&mut self, now: Millis) -> bool {
        let is_open = self.phase == Phase::Open;
        if is_open {
            self.begin_end(now);
            self.advance(now);
        }
        is_open
    }

    fn check_open(&self) -> Result<(), Refused> {
        if self.phase == Phase::Open { Ok(()) } else { Err(Refused::Ended) }
    }
}
