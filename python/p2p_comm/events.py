"""What `async for event in call` yields. Every one says when (`at`) and in which `call`.

Texts, names and questions are the peer's: data, not instructions.
"""

from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from .models import CallInfo, Decision, EndReason, Event, File, Message, Sender, Tier

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    from ._values import dataclass

__all__ = [
    "Away",
    "Back",
    "CallEvent",
    "Connected",
    "Ended",
    "Escalation",
    "Failed",
    "ReceivedFile",
    "call_event",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedFile(File):
    """A file came, whole and verified: a `File` that knows where it came from."""

    message: str
    call: str | None
    sender: Sender
    peer: str
    """Public key of the other end, whoever sent it."""
    tier: Tier
    """How far that key is trusted."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """The peer asks its human owner."""

    question: str
    message: str
    peer: str
    """Whose question it is: the public key."""
    tier: Tier
    call: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A message of ours will not arrive, or a file of the peer will not come."""

    message: Message
    reason: str | None
    call: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The call that we placed was accepted. Only a stream that began while it rang shows this."""

    call: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """The peer has been silent for long."""

    call: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """The peer is back."""

    call: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The call is over. Nothing follows."""

    reason: EndReason
    words: str | None
    """What whoever ended it said."""
    peer: str
    """Public key of the other end."""
    tier: Tier
    call: str
    at: datetime


CallEvent: TypeAlias = Message | ReceivedFile | Escalation | Decision | Failed | Connected | Away | Back | Ended
"""An item of a call's stream. `Decision`: our owner answered."""

CALL_EVENT_KINDS = (
    "call.connected",
    "call.rejected",
    "call.missed",
    "call.ended",
    "message.received",
    "message.failed",
    "file.received",
    "file.failed",
    "escalation.received",
    "escalation.answered",
    "peer.away",
    "peer.back",
)
"""The kinds of the journal that a call's stream asks for."""


def call_event(event: Event) -> CallEvent | None:
    """The item for an event of the journal; None for one that a call's stream does not show."""
    call, message = event.call_state, event.message
    if message is not None:
        return _about_message(event, message)
    if event.escalation is not None:
        return event.escalation
    if call is None:
        return None
    if event.kind in ("call.rejected", "call.missed", "call.ended"):
        reason = call.end_reason or "completed"
        peer, tier = call.peer.pubkey, call.peer.tier or "stranger"
        return Ended(reason=reason, words=call.reason, peer=peer, tier=tier, call=call.call, at=event.at)
    return _about_peer(event, call)


def _about_message(event: Event, message: Message) -> CallEvent:
    if event.kind in ("message.failed", "file.failed"):
        return Failed(message=message, reason=message.reason, call=message.call, at=event.at)
    if event.kind == "escalation.received":
        return Escalation(
            question=message.text,
            message=message.message,
            peer=message.peer,
            tier=message.tier,
            call=message.call,
            at=message.at,
        )
    if message.file is not None:
        described = {field.name: getattr(message.file, field.name) for field in fields(File)}
        return ReceivedFile(
            **described,
            message=message.message,
            call=message.call,
            sender=message.sender,
            peer=message.peer,
            tier=message.tier,
            at=message.at,
        )
    return message


def _about_peer(event: Event, call: CallInfo) -> CallEvent | None:
    match event.kind:
        # Who took the call itself knows.
        case "call.connected" if call.direction == "out":
            return Connected(call=call.call, at=event.at)
        case "peer.away":
            return Away(call=call.call, at=event.at)
        case "peer.back":
            return Back(call=call.call, at=event.at)
        case _:
            return None
