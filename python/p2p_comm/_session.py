"""What an agent, its calls and its streams have in common: the link to the engine, and what was opened on it."""

import asyncio
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakSet, WeakValueDictionary

from . import _logging, _native
from .errors import P2PError, Unavailable

END_WITHIN_S = 5.0
"""How long the calls of an agent that is left have to end: `end` returns when it is committed, so this is ample."""


class Closable(Protocol):
    """A stream, as far as a session has to know."""

    def close(self) -> None:
        """Ends it, at once."""


class Session:
    """An agent's link to an engine, from `open` to `close`. Belongs to no event loop and no thread."""

    def __init__(self) -> None:
        self._link: _native.Link | None = None
        self.opened: set[str] = set()
        """Calls that were placed or accepted here and are not known to be over."""
        self.placing: set[asyncio.Future[dict[str, Any]]] = set()
        """Rings on their way whose caller was cancelled."""
        self.followers: set[asyncio.Task[None]] = set()
        """Tasks that tell how far files have come."""
        self.streams: WeakSet[Closable] = WeakSet()
        """They end with the session."""
        self.readers: WeakValueDictionary[str, Any] = WeakValueDictionary()
        """The open stream of each call, and of what rings: two at once would both hand out what neither has taken."""

    @property
    def hosted(self) -> bool | None:
        """Whether the engine runs in this process; None while closed."""
        return None if self._link is None else self._link.hosted

    async def open(self, options: dict[str, Any]) -> None:
        """Connects to the engine, or hosts it."""
        if self._link is None:
            _logging.forward()
            self._link = await _native.connect(options)

    async def close(self) -> None:
        """Ends what was opened here, within bounds, and lets go of the engine. A second time: does nothing."""
        link = self._link
        if link is None:
            return
        for stream in tuple(self.streams):
            stream.close()
        for follower in tuple(self.followers):
            # It may belong to another loop than this one.
            follower.get_loop().call_soon_threadsafe(follower.cancel)
        try:
            await self._end_opened()
        finally:
            self._link = None
            self.opened.clear()
            # Submitted even if this task is cancelled while it waits.
            await link.close()

    async def _end_opened(self) -> None:
        loop = asyncio.get_running_loop()
        if placing := [ring for ring in self.placing if ring.get_loop() is loop]:
            await asyncio.wait(placing, timeout=END_WITHIN_S)
        try:
            ends = [self.submit("end", call=call) for call in self.opened]
        except P2PError:
            # The link has failed before, and whoever used it was told so.
            return
        if ends:
            done, _ = await asyncio.wait(ends, timeout=END_WITHIN_S)
            for end in done:
                # A call that had ended is what we want; marks the exception as seen.
                end.exception()

    def take_back(self, call: str) -> None:
        """Ends a call without waiting for it, as somebody who was cancelled must."""
        self.opened.discard(call)
        with suppress(P2PError):
            self.post("end", call=call)

    def submit(self, method: str, **params: Any) -> "asyncio.Future[dict[str, Any]]":
        """Submits a command, and returns the Future of its reply. The engine sees them in this order."""
        return self._open_link().request(method, _given(params))

    def post(self, method: str, **params: Any) -> None:
        """Submits a command whose reply nobody waits for."""
        self._open_link().post(method, _given(params))

    async def request(self, method: str, **params: Any) -> dict[str, Any]:
        """Submits a command at once, and waits for its reply."""
        return await self.submit(method, **params)

    def _open_link(self) -> _native.Link:
        if self._link is None:
            raise Unavailable("daemon-unreachable", "this Agent is closed", 'enter it with "async with", or start() it')
        return self._link


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
