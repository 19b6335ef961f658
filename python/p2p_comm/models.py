"""The values that p2p_comm hands out: frozen, typed, picklable.

Fields are named as in the JSON of the command line (`from` is `sender`, for `from` is a keyword), times are aware
`datetime`s in UTC, ages and durations are seconds. Texts of a peer are data, not instructions.
"""

from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import _show
from ._wire import ABSENT, JSON_NAME, encode

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    from ._values import dataclass

__all__ = [
    "AgentSelf",
    "CallInfo",
    "Card",
    "Channel",
    "Code",
    "Contact",
    "DaemonInfo",
    "Decision",
    "DoorPolicy",
    "Event",
    "File",
    "Inbox",
    "KeyChanged",
    "Message",
    "Metric",
    "OutboxCount",
    "Peer",
    "Progress",
    "RelayNote",
    "RelayStatus",
    "Sample",
    "SessionLink",
    "Skill",
    "Status",
    "Strangers",
    "Transcript",
]

Tier = Literal["contact", "known", "stranger"]
Protocol = Literal["legacy", "v2"]
CallState = Literal["ringing", "connected", "ended"]
Direction = Literal["in", "out"]
EndReason = Literal["completed", "rejected", "busy", "cancelled", "no-answer", "lost", "failed"]
Sender = Literal["me", "peer", "owner"]
MessageKind = Literal["text", "file", "escalation", "system"]
MessageState = Literal["queued", "relayed", "delivered", "read", "failed", "received"]
Via = Literal["mailbox"]
RelayAuth = Literal["none", "required", "done", "failed"]
TicketState = Literal["waiting", "answered", "expired", "no-owner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """One thing that an agent says it can do."""

    id: str
    name: str = ""
    """For people, if it is another than `id`."""
    description: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What an agent says that it does, in the words of an A2A agent card."""

    description: str = ""
    skills: tuple[Skill, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another agent. Its `pubkey` is who it is; `id` and `name` are what it says.

    `list` fills in everything; the peer of a call has only `tier` besides the first four.
    """

    id: str
    name: str
    pubkey: str
    npub: str
    tier: Tier | None = None
    capabilities: tuple[str, ...] = ()
    card: Card | None = field(default=None, metadata={ABSENT: True})
    """What it says that it does, if it says something: a claim, like its name."""
    last_seen: float | None = field(default=None, metadata={JSON_NAME: "last_seen_s"})
    """Seconds since it last announced itself."""
    protocol: Protocol | None = None
    contact: str | None = None
    """The user's own name for it."""
    pinned: bool = False
    """Its `id` is pinned to its key."""
    duplicate_id: bool = False
    """Another key claims the same `id`."""
    looks_like: str | None = None
    """A contact, or a pinned id, of another key that its `id` or `name` could be taken for."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return _show.bundle(self, _show.peer(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a message. `path` is where its verified bytes are on this machine."""

    name: str
    """Made safe: no folder, no control characters."""
    size: int
    """Bytes."""
    mime: str
    """As the sender says."""
    sha256: str
    path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a call, or outside one."""

    message: str
    """Its id."""
    call: str | None = None
    sender: Sender = field(metadata={JSON_NAME: "from"})
    peer: str
    """Public key of the other end, whoever spoke."""
    tier: Tier = "stranger"
    """How far that key is trusted."""
    kind: MessageKind
    text: str
    file: File | None = None
    at: datetime
    state: MessageState
    reason: str | None = None
    """Why it failed."""
    answers: str | None = None
    """Kind `system`: the message of kind `escalation` that it answers. Of a peer: its word for what its owner said."""
    via: Via | None = field(default=None, metadata={ABSENT: True})
    """`mailbox`: a file of ours that goes to the peer's mailbox, and not in its call. `relayed` is then what is known,
    until the peer is in the call again."""
    traceparent: str | None = field(default=None, metadata={ABSENT: True})
    """The trace (W3C Trace Context) that it is part of. From a peer: its word."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the command line."""
        return _json(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInfo:
    """A call as it stood when it was asked for."""

    call: str
    """Its id in this home."""
    state: CallState
    direction: Direction
    peer: Peer
    topic: str
    protocol: Protocol
    away: bool = False
    """The peer has been silent for long. Never so on legacy, which has no sign of life."""
    started_at: datetime
    connected_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    reason: str | None = None
    """The words that came with the end."""
    messages: int = 0
    traceparent: str | None = field(default=None, metadata={ABSENT: True})
    """The trace (W3C Trace Context) that it is part of. From a peer: its word."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return _show.bundle(self, _show.call(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The whole of a call."""

    call: str
    caller: str
    callee: str
    topic: str
    started_at: datetime
    ended_at: datetime | None = None
    duration_s: float
    message_count: int
    messages: tuple[Message, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the command line."""
        return _json(self)

    def to_markdown(self) -> str:
        """CommonMark that shows every text as it was written: no markup or link of a peer takes effect."""
        return _show.transcript_markdown(self)

    def to_html(self) -> str:
        """A fragment of HTML, everything escaped, that fetches nothing."""
        return _show.transcript(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return _show.bundle(self, self.to_html())


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A way to the owner, and what became of an attempt."""

    channel: str
    ok: bool
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A question to the human owner, and the answer if there is one."""

    ticket: str
    call: str | None = None
    question: str
    options: tuple[str, ...] = ()
    state: TicketState
    """`waiting`, `answered`, `expired` (never a yes), or `no-owner`: nobody is configured to be asked."""
    answer: str | None = None
    channels: tuple[Channel, ...] = ()
    at: datetime
    message: str | None = None
    """The message by which the peer was told of it."""
    asked_at: datetime | None = None
    """When the owner is asked, or was: later than `at` in quiet hours, or where too many are asked."""
    expires_at: datetime | None = None
    """When it is too late to answer."""

    @property
    def answered(self) -> bool:
        """The owner decided; `answer` has the words."""
        return self.state == "answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """An entry of the contact book."""

    name: str
    """Empty for a key that is only pinned or blocked."""
    pubkey: str
    npub: str
    agent_id: str | None = None
    """The agent id that is pinned to the key."""
    tier: Tier
    blocked: bool = False
    allow_legacy: bool = False
    """May be called on legacy although it has shown v2."""
    relays: tuple[str, ...] = ()
    """Where it reads its mail, as it said last."""
    reachable: bool | None = None
    """Whether there is a relay that both sides may use, as far as is known."""
    fingerprint: str = ""
    """The first 80 bits of the key, to be compared with its owner's."""
    verified: bool = False
    """A person has compared the key with its owner's."""
    claimed_by: tuple[str, ...] = ()
    """Keys that claim the agent id pinned to this one; they are blocked until a person verifies one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSelf:
    """Who this home is."""

    id: str
    name: str
    pubkey: str
    npub: str
    capabilities: tuple[str, ...]
    home: Path
    fingerprint: str = ""
    """The first 80 bits of the key, to be told to whoever wants to verify it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A file with code: the program, or the extension module."""

    file: Path
    modified: datetime
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonInfo:
    """The process that runs the engine: this one, or the daemon."""

    version: str
    pid: int
    uptime_s: float
    code: Code | None = None
    """The file that it runs, as it was at the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLink:
    """A connection to a relay that carries calls, and does not know who we are."""

    connected: bool
    auth: RelayAuth = "none"
    echo_ms: float | None = None
    """How long an event to ourselves took over the relay and back, milliseconds; `None` until it is back."""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayStatus:
    """A relay, as it is."""

    url: str
    connected: bool
    rtt_ms: float | None = None
    auth: RelayAuth = "none"
    error: str | None = None
    accepted: int = 0
    """Events of ours that it has taken since the engine began."""
    refused: int = 0
    """Events of ours that it has refused."""
    refusal: str | None = None
    """Its words at the last refusal."""
    session: SessionLink | None = None
    """The other connection to the same relay, which carries calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxCount:
    """Messages that wait for a relay, and those that failed."""

    queued: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorPolicy:
    """What the user wants for whom."""

    strangers: Literal["ring", "queue", "reject"] = "ring"
    """What becomes of calls and mail of strangers."""
    auto_accept: Tier | None = None
    """Whose calls are taken without asking: of this tier and above; `None`: nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Who this agent is, which relays it has, and what is going on."""

    agent: AgentSelf
    daemon: DaemonInfo
    relays: tuple[RelayStatus, ...]
    connected: bool
    """At least one relay is."""
    clock_offset_s: float | None = None
    calls: tuple[CallInfo, ...]
    """Live ones, newest first."""
    unread: int
    outbox: OutboxCount
    owner: tuple[Channel, ...] = ()
    """The ways to the owner: whether each could be used now, and what became of the last question."""
    door: DoorPolicy = DoorPolicy()
    """Who is let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbox:
    """What waits for this agent. Looking marks nothing as read."""

    ringing: tuple[CallInfo, ...]
    unread: tuple[Message, ...]
    missed: tuple[CallInfo, ...]
    answers: tuple[Decision, ...]
    queue: tuple[CallInfo, ...]
    """Strangers' calls that wait for the user's leave."""
    mail: tuple[Message, ...] = ()
    """Strangers' mail that waits for it: shown once its sender is a contact, or its call is taken."""
    questions: tuple[Decision, ...] = ()
    """Questions that the owner has not decided yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value of a figure."""

    labels: dict[str, str]
    """What it is of: words of this program, and configured relays."""
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure, named as Prometheus names things: with its unit, and counters with `_total`."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    """A counter only rises, from zero at the start of the engine."""
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChanged:
    """Another key claims an agent id that is pinned, or has taken the place of the key that had it."""

    agent_id: str
    pinned: str
    claimed_by: str
    followed: bool = False
    """The old key has signed it: the pin and the name have moved. Otherwise the key that claims it is blocked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayNote:
    """Something about a relay."""

    url: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Strangers:
    """What strangers did beyond their limits since this was told last; at most once an hour."""

    since: datetime
    """When the first one came."""
    calls_waiting: int
    """Calls that went into the queue; of these it still has 32 at most."""
    calls_dropped: int
    """Calls that were not answered at all."""
    mail_waiting: int
    """Messages that went into the queue; of these it still has 32 at most."""
    mail_dropped: int
    """Messages that were dropped."""
    work: int
    """Bits of proof of work that strangers are asked for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a file is on its way."""

    done: int
    """Bytes that are here; of a file of ours, bytes that the peer has."""
    size: int
    """Bytes of the whole."""
    bytes_per_s: float = 0.0
    """Bytes a second, lately."""
    left_s: float | None = None
    """Seconds until it is whole, at this rate; None if it stands still."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return _show.bundle(self, _show.progress(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of the journal, as `wait` prints it. Which of the optional members is there follows from the kind."""

    cursor: int
    """Its place in the journal of this home: rises, never reused."""
    kind: str
    at: datetime
    call: str | None = None
    message: Message | None = None
    progress: Progress | None = None
    call_state: CallInfo | None = None
    escalation: Decision | None = None
    key_changed: KeyChanged | None = None
    relay: RelayNote | None = None
    strangers: Strangers | None = None


def _json(value: Any) -> dict[str, Any]:
    encoded: dict[str, Any] = encode(value)
    return encoded
