"""A proxy in front of a relay, in a thread of its own: what those that record and those that lie have in common."""

from __future__ import annotations

import asyncio
import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from parts.process import DEADLINE_S

Value = TypeVar("Value")

# Turns of the loop from a connection that is accepted until it is served, and some more.
TURNS = 10


@dataclass
class Counts:
    """How often something happened."""

    # Connections that were accepted.
    accepted: int = 0
    # Connections that `cut` dropped.
    cut: int = 0
    # Frames of the relay that did not reach a client because of `mute`.
    muted: int = 0


class Proxy(ABC):
    """A running proxy. Its levers work from the moment that they return."""

    def __init__(self, relay_url: str, loop: asyncio.AbstractEventLoop) -> None:
        relay = urlsplit(relay_url)
        assert relay.hostname is not None
        assert relay.port is not None
        self.counts = Counts()
        self._relay = (relay.hostname, relay.port)
        self._loop = loop
        self._port = 0
        self._numbers = itertools.count(1)
        self._server: asyncio.Server | None = None
        self._connections: dict[int, list[asyncio.StreamWriter]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._do(self._listen())

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"ws://127.0.0.1:{self._port}"

    def cut(self) -> None:
        """Drops all connections, without a word."""
        self._do(self._cut())

    def close(self) -> None:
        """Refuses connections from now on; those that are there stay."""
        self._do(self._close())

    def open(self) -> None:
        """Accepts connections again, on the same port."""
        self._do(self._listen())

    def end(self) -> None:
        """Ends it."""
        self._do(self._end())

    @abstractmethod
    async def _pass_on(
        self,
        number: int,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        writers: list[asyncio.StreamWriter],
    ) -> None:
        """Serves a connection to its end; whatever is in `writers` is closed then, or aborted before."""

    def _do(self, lever: Coroutine[Any, Any, Value]) -> Value:
        return asyncio.run_coroutine_threadsafe(lever, self._loop).result(DEADLINE_S)

    async def _listen(self) -> None:
        assert self._server is None, "it is open already"
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        # A server that is closed forgets whom it accepted a moment ago, with the socket open: so it accepts nobody any
        # more, serves who is there, and only then is closed.
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())
        for _ in range(TURNS):
            await asyncio.sleep(0)
        server.close()

    async def _cut(self) -> None:
        self.counts.cut += len(self._connections)
        self._abort()

    def _abort(self) -> None:
        for writers in self._connections.values():
            for writer in writers:
                writer.transport.abort()

    async def _end(self) -> None:
        await self._close()
        # Closing would wait for a client that does not read.
        self._abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number = next(self._numbers)
        self.counts.accepted += 1
        writers = self._connections[number] = [writer]
        try:
            # Either side may go at any moment; then the other one goes too.
            with suppress(OSError, EOFError, asyncio.CancelledError):
                await self._pass_on(number, reader, writer, writers)
            for one in writers:
                one.close()
            for one in writers:
                with suppress(OSError, asyncio.CancelledError):
                    await one.wait_closed()
        finally:
            # Who does not read what it was written to is still there when this is cancelled.
            for one in writers:
                one.transport.abort()
            del self._connections[number]
            self._tasks.discard(task)


@contextmanager
def loop_of_its_own(name: str) -> Iterator[asyncio.AbstractEventLoop]:
    """Runs an event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()
