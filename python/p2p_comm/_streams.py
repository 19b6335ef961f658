"""Streams over the journal of a home: peek, hand over, commit.

```
          wait (peeks)                    commit, submitted
nothing ──────────────▶ peeked at ───────────────────────────▶ taken
   ▲                       │  ▲                                  │
   │                       └──┘ cancelled: the next read finds   │
   │                            the same item                    │
   └─────────────────────────────────────────────────────────────┘
```

`__anext__` submits the commit after its last `await`, right before it returns the item: whoever cancels it either gets
the item or leaves it uncommitted. A peek outlives the cancelled reader that began it, so reads with a timeout shorter
than the way to the engine and back make progress too.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._session import Session
from ._wire import decode
from .models import Event

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")

CONSUMER = "python"
"""Whose place in the journal the streams of this package continue."""

SLICE_S = 30.0
"""Longest single wait: so often an idle stream makes sure that the engine is there."""


class Stream(ABC, Generic[T]):
    """An asynchronous iterator over events. Each item is handed over once, and then taken from the journal.

    One task reads a stream at a time. Leaving an `async for` early loses nothing: the next one goes on from there, in
    this process or in a later one.
    """

    _AHEAD = 0
    """How many further events a wait may bring: for a stream that nobody else reads, and whose events do not age."""

    def __init__(
        self,
        session: Session,
        *,
        kinds: Sequence[str] = (),
        call: str | None = None,
        consumer: str | None = CONSUMER,
        after: int | None = None,
    ) -> None:
        self._session = session
        self._kinds = list(kinds)
        self._call = call
        self._consumer = consumer
        self._after = after
        self._timeout_s = SLICE_S
        self._pending: asyncio.Future[dict[str, Any]] | None = None
        self._peeked: tuple[int, T] | None = None
        self._seen: deque[Event] = deque()
        """Events that the last wait brought beyond its first: peeked at like that one."""
        self._reading = False
        self._over = False
        session.streams.add(self)

    def __aiter__(self) -> "Self":
        return self

    async def __anext__(self) -> T:
        if not await self.peek():
            raise StopAsyncIteration
        return self.take()

    async def aclose(self) -> None:
        """Ends the stream. What was not handed over stays in the journal."""
        self.close()

    @property
    def closed(self) -> bool:
        """Whether nothing more will come: it was closed, or has ended."""
        return self._over

    async def peek(self) -> bool:
        """Waits until there is an item to `take`; False at the end of the stream. Takes nothing."""
        if self._reading:
            raise RuntimeError("another task reads this stream: let one read, and hand the items on")
        self._reading = True
        try:
            while self._peeked is None and not self._over:
                event = await self._read()
                if event is None:
                    continue
                item = self._item(event)
                if item is None:
                    self._commit(event.cursor)
                else:
                    self._peeked = (event.cursor, item)
            return not self._over
        finally:
            self._reading = False

    def look(self) -> T:
        """What `peek` found, still in the journal: who dies before it is taken sees it again."""
        if self._peeked is None:
            raise RuntimeError("there is nothing to look at: peek first")
        return self._peeked[1]

    def take(self) -> T:
        """Hands over what `peek` found, and takes it from the journal. From any thread."""
        if self._peeked is None:
            raise RuntimeError("there is nothing to take: peek first")
        cursor, item = self._peeked
        self._peeked = None
        self._commit(cursor)
        self._taken(item)
        return item

    def close(self) -> None:
        """Ends the stream, at once."""
        self._over = True
        self._peeked = None
        self._seen.clear()
        self._session.streams.discard(self)
        self._abandon()

    @abstractmethod
    def _item(self, event: Event) -> T | None:
        """What to hand over for an event; None to pass over it."""

    def _taken(self, item: T) -> None:
        """Called for each item that was handed over."""

    async def _idle(self) -> None:
        """Called when a wait showed nothing."""

    def _commit(self, cursor: int) -> None:
        self._after = cursor
        self._session.post("commit", consumer=self._consumer, cursor=cursor)

    async def _read(self) -> Event | None:
        """The next event: of those that came ahead, or by one wait, begun here or by a reader who was cancelled."""
        if self._seen:
            return self._seen.popleft()
        pending = self._pending
        if pending is None or pending.get_loop() is not asyncio.get_running_loop():
            self._abandon()
            pending = self._pending = self._session.submit(
                "wait",
                consumer=self._consumer,
                after=self._after,
                call=self._call,
                kinds=self._kinds,
                ahead=self._AHEAD,
                timeout_s=self._timeout_s,
            )
        # Unlike `await pending`, this leaves it running when the reader is cancelled.
        await asyncio.wait((pending,))
        self._pending = None
        if pending.cancelled():
            return None
        reply = pending.result()
        if reply["event"] is not None:
            self._seen.extend(decode(Event, event) for event in reply.get("ahead", ()))
            return decode(Event, reply["event"])
        await self._idle()
        return None

    def _abandon(self) -> None:
        pending, self._pending = self._pending, None
        if pending is None:
            return
        event_loop = pending.get_loop()
        if not event_loop.is_closed():
            event_loop.call_soon_threadsafe(_forget, pending)


def _forget(pending: "asyncio.Future[dict[str, Any]]") -> None:
    if not pending.cancel() and not pending.cancelled():
        # Marks an exception as seen: nobody asks any more.
        pending.exception()


class EventStream(Stream[Event]):
    """The journal as it is."""

    def _item(self, event: Event) -> Event:
        return event
