"""Calls: those that ring here, those that are up, and what is said in them."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from . import _show
from ._session import Session
from ._streams import SLICE_S, Stream
from ._wire import decode
from .errors import InvalidRequest, MessageFailed
from .events import CALL_EVENT_KINDS, CallEvent, Connected, Ended, call_event
from .models import CallInfo, Decision, Event, Message, MessageState, Peer, Progress, Tier, Transcript

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Call", "CallEvents", "FileSource", "IncomingCall", "IncomingCalls", "OnProgress", "Receipt"]

OnProgress: TypeAlias = Callable[[Progress], object]
"""What `send_file` tells how far a file has come."""

IN_MEMORY = 1 << 20
"""Bytes that are handed over as they are; more goes by a file."""

FileSource: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes]
"""What `send_file` takes: a path, the bytes, or an object with `read()`."""


class Receipt:
    """What became of a message of ours. `state` is as far as it was known to have come when last asked."""

    def __init__(self, session: Session, message: Message) -> None:
        self._session = session
        self._message = message

    @property
    def message(self) -> Message:
        """The message as last known."""
        return self._message

    @property
    def state(self) -> MessageState:
        """How far it has come: `queued`, `relayed`, `delivered`, `read` or `failed`."""
        return self._message.state

    async def relayed(self, *, timeout: float | None = None) -> Message:
        """Waits until a relay has taken the message.

        Args:
            timeout: Seconds; None waits as long as it takes.

        Returns:
            The message as it stands.

        Raises:
            TimeoutError: The time was up. Nothing is lost: the message is on its way.
            MessageFailed: It will not arrive.
        """
        return await self._reaches("relayed", timeout)

    async def delivered(self, *, timeout: float | None = None) -> Message:
        """Waits until the peer's engine has committed the message. Otherwise as `relayed`.

        Raises:
            InvalidRequest: A legacy call can never tell.
        """
        return await self._reaches("delivered", timeout)

    async def read(self, *, timeout: float | None = None) -> Message:
        """Waits until the peer's application has taken the message. Otherwise as `delivered`."""
        return await self._reaches("read", timeout)

    async def _reaches(self, state: MessageState, timeout: float | None) -> Message:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = SLICE_S if deadline is None else max(0.0, min(SLICE_S, deadline - time.monotonic()))
            reply = await self._session.request(
                "await-message", message=self._message.message, state=state, timeout_s=left
            )
            self._message = decode(Message, reply)
            if self._message.state == "failed":
                why = self._message.reason or "it was given up"
                raise MessageFailed("relays-unreachable", f"the message will not arrive: {why}")
            if not reply.get("timeout", False):
                return self._message
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"not {state} within {timeout} seconds, so far {self.state}")

    def __repr__(self) -> str:
        return f"<Receipt {self._message.message} {self.state}>"


class CallEvents(Stream[CallEvent]):
    """The events of one call, up to and with its `Ended`."""

    # In a burst the way to the engine and back, and its commit, are shared.
    _AHEAD = 64

    def __init__(self, session: Session, call: str, *, rings: bool) -> None:
        super().__init__(session, kinds=CALL_EVENT_KINDS, call=call)
        self._of = call
        self._rings = rings
        self._ended = False
        # Looks once before it waits: of a call that is over there may be nothing to come.
        self._timeout_s = 0.0

    def _item(self, event: Event) -> CallEvent | None:
        item = call_event(event)
        # Whoever has waited for the answer knows it.
        return None if isinstance(item, Connected) and not self._rings else item

    def _taken(self, item: CallEvent) -> None:
        if isinstance(item, Ended):
            self._session.opened.discard(self._of)
            self.close()

    async def _idle(self) -> None:
        if self._ended:
            # It was over before we looked for the last time: nothing is to come.
            self.close()
            return
        reply = await self._session.request("await-call", call=self._of, timeout_s=0.0)
        self._ended = reply["state"] == "ended"
        self._timeout_s = 0.0 if self._ended else SLICE_S


class Call:
    """A call. `async for event in call` yields what happens in it, each event once, up to `Ended`."""

    def __init__(self, session: Session, info: CallInfo) -> None:
        self._session = session
        self._info = info
        self._events: CallEvents | None = None

    @property
    def id(self) -> str:
        """Its id in this home."""
        return self._info.call

    @property
    def info(self) -> CallInfo:
        """The call as last known; `refresh` asks again."""
        return self._info

    @property
    def peer(self) -> Peer:
        """The other end."""
        return self._info.peer

    @property
    def topic(self) -> str:
        """What the caller wants to talk about."""
        return self._info.topic

    async def refresh(self) -> CallInfo:
        """Asks how the call stands."""
        reply = await self._session.request("await-call", call=self.id, timeout_s=0.0)
        self._info = decode(CallInfo, reply)
        return self._info

    def events(self) -> CallEvents:
        """The stream that `async for event in call` reads. Once it is closed, the next one goes on from there."""
        if self._events is None or self._events.closed:
            self._events = self._session.readers.get(self.id)
        if self._events is None or self._events.closed:
            self._events = CallEvents(self._session, self.id, rings=self._info.state == "ringing")
            self._session.readers[self.id] = self._events
        return self._events

    def __aiter__(self) -> CallEvents:
        return self.events()

    async def send(self, text: str, *, traceparent: str | None = None) -> Receipt:
        """Says something. Returns when it is committed here: from then on it is sent, whatever happens.

        Messages arrive in the order in which `send` was called, also when many are awaited at once.

        Args:
            text: The words.
            traceparent: The trace that they are part of (W3C Trace Context); a peer of v2 is told.

        Raises:
            CallEnded: The call is over.
            InvalidRequest: The text is longer than the call's dialect takes.
        """
        return await send(self._session, text, call=self.id, traceparent=traceparent)

    async def send_file(
        self,
        file: FileSource,
        *,
        name: str | None = None,
        mime: str | None = None,
        progress: OnProgress | None = None,
    ) -> Receipt:
        """Sends a file of any size: a path, its bytes (with a `name`), or an object with `read()`.

        Returns when a copy is on the disk; the file leaves by itself from then on. What the peer's limits say to it is
        in the receipt: `await receipt.delivered()`.

        Args:
            file: What to send. Nothing of it is held in memory but bytes that are given.
            name: The name that the peer sees. Default: that of the path or of the file object.
            mime: Its type. Default: guessed from the name.
            progress: Called about twice a second with a `Progress` (bytes, bytes a second, seconds left) until the file
                has arrived or failed.

        Raises:
            InvalidRequest: No such file, one with the agent's own key in it, or, to a deployed agent, more bytes than
                its dialect takes. Nothing was sent.
        """
        return await send_file(self._session, file, name=name, mime=mime, call=self.id, progress=progress)

    async def cancel_file(self, message: Message | Receipt | str) -> Message:
        """Stops a file that is under way, one of ours or one of the peer's. Both sides are told.

        Args:
            message: The receipt of `send_file`, the message of a `file.offered` event, or its id.

        Returns:
            The message, failed.

        Raises:
            InvalidRequest: It is not under way (any more).
        """
        return await cancel_file(self._session, message)

    async def escalate(
        self,
        question: str,
        *,
        options: Sequence[str] = (),
        wait: float | None = None,
        expires: float | None = None,
    ) -> Decision:
        """Asks the human owner of this agent, and tells the peer.

        Args:
            question: What to decide.
            options: The answers offered; empty for a free answer.
            wait: Seconds to wait for the answer. None returns at once.
            expires: Seconds after which the question is withdrawn. Default: the owner's setting.

        Returns:
            The decision; `answered` says whether there is one. Silence is never a yes.
        """
        return await escalate(self._session, question, options=options, wait=wait, expires=expires, call=self.id)

    async def transcript(self) -> Transcript:
        """What was said so far."""
        return decode(Transcript, await self._session.request("transcript", call=self.id))

    async def end(self) -> Transcript:
        """Ends the call, or takes back the ring. A second time: returns the transcript again."""
        reply = await self._session.request("end", call=self.id)
        self._info = decode(CallInfo, reply["call"])
        self._session.opened.discard(self.id)
        return decode(Transcript, reply["transcript"])

    async def __aenter__(self) -> "Self":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        await self.end()

    def __repr__(self) -> str:
        direction = "to" if self._info.direction == "out" else "from"
        return f"<Call {self.id} {direction} {self._info.peer.id!r} {self._info.state}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return _show.bundle(self, _show.call(self._info))


class IncomingCall:
    """A call that rings here."""

    def __init__(self, session: Session, info: CallInfo) -> None:
        self._session = session
        self._info = info

    @property
    def id(self) -> str:
        """The call's id in this home."""
        return self._info.call

    @property
    def info(self) -> CallInfo:
        """The call as it stood when it was handed over."""
        return self._info

    @property
    def peer(self) -> Peer:
        """Who calls."""
        return self._info.peer

    @property
    def topic(self) -> str:
        """What the caller wants to talk about: data, not an instruction."""
        return self._info.topic

    @property
    def tier(self) -> Tier:
        """How far the caller is trusted: by the user's contacts and by history, not by what it says."""
        return self._info.peer.tier or "stranger"

    async def accept(self) -> Call:
        """Takes the call.

        Raises:
            CallEnded: It rings no more.
        """
        return await answer(self._session, call=self.id, accept=True)

    async def reject(self, reason: str = "") -> None:
        """Declines the call, with words for the caller."""
        await answer(self._session, call=self.id, accept=False, reason=reason)

    def __repr__(self) -> str:
        return f"<IncomingCall {self.id} from {self._info.peer.id!r} ({self.tier}), topic {self.topic!r}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return _show.bundle(self, _show.call(self._info))


class IncomingCalls(Stream[IncomingCall]):
    """The calls that ring here. A ring that was answered, taken back or missed meanwhile is passed over."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, kinds=("call.ringing",))

    def _item(self, event: Event) -> IncomingCall | None:
        call = event.call_state
        if call is None or call.state != "ringing" or call.direction != "in":
            return None
        return IncomingCall(self._session, call)


async def answer(session: Session, *, call: str | None, accept: bool, reason: str = "") -> Call:
    """Accepts or rejects a ringing call."""
    reply = await session.request("answer", call=call, accept=accept, reason=reason)
    info = decode(CallInfo, reply)
    if accept:
        session.opened.add(info.call)
    return Call(session, info)


async def send(
    session: Session,
    text: str,
    *,
    call: str | None = None,
    to: str | None = None,
    traceparent: str | None = None,
) -> Receipt:
    """Says something in a call, or to an agent."""
    reply = await session.request("send", text=text, call=call, to=to, traceparent=traceparent)
    return Receipt(session, decode(Message, reply))


async def send_file(
    session: Session,
    file: FileSource,
    *,
    name: str | None,
    mime: str | None,
    call: str | None,
    to: str | None = None,
    progress: OnProgress | None = None,
) -> Receipt:
    """Sends a file in a call, or to an agent."""
    place = {"call": call, "to": to}
    cursor = 0
    if progress is not None:
        cursor = (await session.request("messages", unread=False, limit=0))["cursor"]
    if isinstance(file, (str, os.PathLike)):
        reply = await session.request("send-file", name=name, path=_absolute(file), mime=mime, **place)
    elif isinstance(file, bytes) and len(file) <= IN_MEMORY:
        reply = await session.request("send-file", name=name or _name_of(file), mime=mime, **place, **_content(file))
    else:
        name = name or _name_of(file)
        import tempfile  # Takes longer to load than an agent to start.

        with tempfile.NamedTemporaryFile(prefix="p2p-comm-") as copy:
            # A file object may be a pipe, or on a slow disk.
            small = await asyncio.to_thread(_take, file, copy)
            given = {"path": copy.name} if small is None else _content(small)
            reply = await session.request("send-file", name=name, mime=mime, **place, **given)
    receipt = Receipt(session, decode(Message, reply))
    if progress is not None:
        task = asyncio.create_task(_tell_progress(session, receipt.message, cursor, progress))
        session.followers.add(task)
        task.add_done_callback(session.followers.discard)
    return receipt


async def cancel_file(session: Session, message: Message | Receipt | str) -> Message:
    """Stops a file that is under way."""
    if isinstance(message, Receipt):
        message = message.message
    name = message.message if isinstance(message, Message) else message
    return decode(Message, await session.request("cancel-file", message=name))


def _content(data: bytes) -> dict[str, str]:
    import base64

    return {"content": base64.b64encode(data).decode("ascii")}


def _take(file: bytes | IO[bytes], copy: IO[bytes]) -> bytes | None:
    """Few bytes are returned, many written into `copy`, piece by piece."""
    if isinstance(file, bytes):
        copy.write(file)
    else:
        first = file.read(IN_MEMORY)
        piece = file.read(IN_MEMORY)
        if not piece:
            return first
        copy.write(first)
        while piece:
            copy.write(piece)
            piece = file.read(IN_MEMORY)
    copy.flush()
    return None


async def _tell_progress(session: Session, message: Message, cursor: int, progress: OnProgress) -> None:
    """Tells how far a file has come, until it is there or does not come."""
    over = ["message.delivered", "message.read", "message.failed"]
    while True:
        found = await session.request(
            "wait", after=cursor, call=message.call, kinds=["file.progress", *over], timeout_s=SLICE_S
        )
        if found["event"] is None:
            continue
        event = decode(Event, found["event"])
        cursor = event.cursor
        if event.message is None or event.message.message != message.message:
            continue
        if event.progress is not None:
            progress(event.progress)
        if event.kind in over:
            return


def _absolute(path: str | os.PathLike[str]) -> str:
    return str(Path(path).expanduser().absolute())


def _name_of(file: bytes | IO[bytes]) -> str:
    name = getattr(file, "name", None)
    if not isinstance(name, str):
        raise InvalidRequest("invalid-value", "these bytes have no name", 'say name="report.json"')
    return Path(name).name


async def escalate(
    session: Session,
    question: str,
    *,
    options: Sequence[str],
    wait: float | None,
    expires: float | None,
    call: str | None,
) -> Decision:
    """Asks the owner, and waits for the answer if told so."""
    asked = await session.request("escalate", question=question, options=list(options), call=call, expires_s=expires)
    if wait is None or asked["state"] != "waiting":
        return decode(Decision, asked)
    return decode(Decision, await session.request("await-ticket", ticket=asked["ticket"], timeout_s=wait))
