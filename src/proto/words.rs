//! The words for states and kinds, shared by the machines, the database, the wire and every front end.

/// An enum whose variants have a stable word each.
macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word, as JSON and the database carry it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The one that `word` means.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|candidate| candidate.word() == word)
            }
        }
    };
}

pub(super) use words;

words! {
    /// How far a peer is trusted. Decided by the user and by history, never by what the peer says.
    pub enum Tier {
        /// Nobody we know.
        Stranger = "stranger",
        /// A call with this key was once accepted.
        Known = "known",
        /// In the user's contacts.
        Contact = "contact",
    }
}

words! {
    /// What the user wants for rings of strangers.
    #[derive(Default)]
    pub enum StrangerPolicy {
        /// They ring, within limits.
        #[default]
        Ring = "ring",
        /// They wait in the queue.
        Queue = "queue",
        /// They are turned away.
        Reject = "reject",
    }
}

words! {
    /// What a commit waits for.
    #[derive(Default)]
    pub enum Durability {
        /// The disk: what is accepted outlives a power cut.
        #[default]
        Full = "full",
        /// The operating system: it outlives the death of this process, not that of the machine.
        Os = "os",
    }
}

words! {
    /// Which dialect of the wire protocol a peer or a call speaks.
    pub enum Protocol {
        /// What `openclaw-p2p` 0.1 to 0.3 speaks: NIP-04 JSON in kind 4.
        Legacy = "legacy",
        /// Gift-wrapped signalling and sealed session frames.
        V2 = "v2",
    }
}

words! {
    /// Where a call is in its life.
    pub enum CallState {
        /// Somebody has to answer.
        Ringing = "ringing",
        /// Messages flow.
        Connected = "connected",
        /// Over; `end_reason` says how.
        Ended = "ended",
    }
}

words! {
    /// Who placed the call.
    pub enum Direction {
        /// The peer called.
        In = "in",
        /// We called.
        Out = "out",
    }
}

words! {
    /// Why a call is over.
    pub enum EndReason {
        /// One side ended a connected call.
        Completed = "completed",
        /// The callee declined.
        Rejected = "rejected",
        /// The callee has no room for another call.
        Busy = "busy",
        /// The caller took the ring back.
        Cancelled = "cancelled",
        /// Nobody answered within the ring time.
        NoAnswer = "no-answer",
        /// The peer is gone, or began another call in place of this one.
        Lost = "lost",
        /// It could not be placed: every relay refused it.
        Failed = "failed",
    }
}

words! {
    /// Who said it.
    pub enum Sender {
        /// This agent.
        Me = "me",
        /// The other agent.
        Peer = "peer",
        /// The human owner, answering an escalation.
        Owner = "owner",
    }
}

words! {
    /// What a message is.
    pub enum MessageKind {
        /// Words.
        Text = "text",
        /// A file; `file` describes it.
        File = "file",
        /// A question to the sender's human owner, told to the peer.
        Escalation = "escalation",
        /// Something the system notes in the transcript.
        System = "system",
    }
}

words! {
    /// How far a message has come. The words are promises: see `docs/guarantees.md`.
    pub enum MessageState {
        /// Committed here.
        Queued = "queued",
        /// At least one relay said OK.
        Relayed = "relayed",
        /// The peer's daemon committed it, and its acknowledgement arrived.
        Delivered = "delivered",
        /// The peer's application took it.
        Read = "read",
        /// It will not arrive; `reason` says why.
        Failed = "failed",
        /// It came from the peer.
        Received = "received",
    }
}

words! {
    /// Where a question to the owner stands.
    pub enum TicketState {
        /// The owner was asked.
        Waiting = "waiting",
        /// The owner decided.
        Answered = "answered",
        /// Nobody decided in time. Never a yes.
        Expired = "expired",
        /// No owner channel is configured.
        NoOwner = "no-owner",
    }
}

words! {
    /// The kinds of event. Append-only.
    pub enum EventKind {
        /// A peer calls.
        CallRinging = "call.ringing",
        /// A call that we placed was accepted, or one that rang here was.
        CallConnected = "call.connected",
        /// The callee declined, or is busy.
        CallRejected = "call.rejected",
        /// A call is over.
        CallEnded = "call.ended",
        /// A peer called, and nobody answered.
        CallMissed = "call.missed",
        /// A text came.
        MessageReceived = "message.received",
        /// A relay took a message of ours.
        MessageRelayed = "message.relayed",
        /// The peer's daemon has a message of ours.
        MessageDelivered = "message.delivered",
        /// The peer's application took a message of ours.
        MessageRead = "message.read",
        /// A message of ours will not arrive.
        MessageFailed = "message.failed",
        /// A peer wants to send a file.
        FileOffered = "file.offered",
        /// A file moves.
        FileProgress = "file.progress",
        /// A file came, whole and verified.
        FileReceived = "file.received",
        /// A file will not come.
        FileFailed = "file.failed",
        /// The peer asks its human owner.
        EscalationReceived = "escalation.received",
        /// Our owner decided, or the time for it is over.
        EscalationAnswered = "escalation.answered",
        /// Another key claims a pinned agent id.
        ContactKeyChanged = "contact.key-changed",
        /// The peer has been silent for long.
        PeerAway = "peer.away",
        /// The peer is back.
        PeerBack = "peer.back",
        /// Something may have been missed; the event says where.
        Gap = "gap",
        /// A relay is connected.
        RelayUp = "relay.up",
        /// A relay is gone.
        RelayDown = "relay.down",
        /// Strangers called or wrote beyond their limits: how often, at most once an hour.
        StrangersDigest = "strangers.digest",
    }
}

impl EventKind {
    /// Comes only when asked for by name: noise to somebody who waits for a conversation.
    pub const fn only_when_asked(self) -> bool {
        matches!(self, Self::RelayUp | Self::RelayDown | Self::FileProgress | Self::MessageRelayed)
    }
}
