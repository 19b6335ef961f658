"""A proxy in front of a relay: it writes down what is said in both directions, and can be made to fail.

It knows HTTP only up to the end of the first head, and of WebSocket (RFC 6455) only the frames; what it reads it
passes on byte for byte. The one exception: extensions are struck from the client's request, because compressed
messages could not be read here.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from parts.process import DEADLINE_S

Direction = Literal["to relay", "to client"]
Value = TypeVar("Value")

_END_OF_HEAD = b"\r\n\r\n"
_CONTINUATION, _TEXT, _BINARY = 0, 1, 2


@dataclass(frozen=True)
class Message:
    """A text message that was passed on. Connections are numbered from 1, as they came."""

    connection: int
    direction: Direction
    text: str
    # Seconds since the proxy began.
    at: float


@dataclass
class Counts:
    """How often something happened."""

    # Connections that were accepted.
    accepted: int = 0
    # Connections that `cut` dropped.
    cut: int = 0
    # Frames of the relay that did not reach a client because of `mute`.
    muted: int = 0


class RecordingProxy:
    """A running proxy. Its levers work from the moment that they return."""

    def __init__(self, relay_url: str, loop: asyncio.AbstractEventLoop) -> None:
        relay = urlsplit(relay_url)
        assert relay.hostname is not None
        assert relay.port is not None
        self.counts = Counts()
        self._relay = (relay.hostname, relay.port)
        self._loop = loop
        self._port = 0
        self._began = time.monotonic()
        self._numbers = itertools.count(1)
        self._messages: list[Message] = []
        self._server: asyncio.Server | None = None
        self._audible = asyncio.Event()
        self._audible.set()
        self._connections: dict[int, list[asyncio.StreamWriter]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._do(self._listen())

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"ws://127.0.0.1:{self._port}"

    @property
    def messages(self) -> list[Message]:
        """Everything that was passed on so far, in the order in which it came."""
        return list(self._messages)

    def mute(self) -> None:
        """From now on nothing reaches a client: what it says is passed on, what the relay answers is thrown away.

        Who connects now gets the answer to its handshake after `unmute`.
        """
        self._do(self._hear(False))

    def unmute(self) -> None:
        """What the relay says from now on reaches the clients again."""
        self._do(self._hear(True))

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

    def _do(self, lever: Coroutine[Any, Any, Value]) -> Value:
        return asyncio.run_coroutine_threadsafe(lever, self._loop).result(DEADLINE_S)

    async def _listen(self) -> None:
        assert self._server is None, "it is open already"
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _hear(self, audible: bool) -> None:
        (self._audible.set if audible else self._audible.clear)()

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
        finally:
            del self._connections[number]
            self._tasks.discard(task)
            for one in writers:
                one.close()
                with suppress(OSError, asyncio.CancelledError):
                    await one.wait_closed()

    async def _pass_on(
        self,
        number: int,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        writers: list[asyncio.StreamWriter],
    ) -> None:
        request = await client.readuntil(_END_OF_HEAD)
        relay, to_relay = await asyncio.open_connection(*self._relay)
        writers.append(to_relay)
        to_relay.write(re.sub(rb"(?im)^sec-websocket-extensions:.*\r\n", b"", request))
        answer = await relay.readuntil(_END_OF_HEAD)
        await self._audible.wait()
        to_client.write(answer)
        if answer.startswith(b"HTTP/1.1 101 "):
            await _first_end(
                self._frames(number, "to relay", client, to_relay), self._frames(number, "to client", relay, to_client)
            )
        else:
            await _first_end(_bytes(client, to_relay), _bytes(relay, to_client))

    async def _frames(
        self, number: int, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Passes frames on, for as long as there are any."""
        message, kind, thrown_away = bytearray(), _BINARY, False
        while True:
            frame = await _read_frame(reader)
            muted = direction == "to client" and not self._audible.is_set()
            # A message that began to pass goes through as a whole.
            if frame.opcode in (_TEXT, _BINARY):
                message, kind, thrown_away = bytearray(), frame.opcode, muted
            is_data = frame.opcode in (_CONTINUATION, _TEXT, _BINARY)
            if thrown_away if is_data else muted:
                self.counts.muted += 1
                continue
            if is_data:
                message += frame.payload
            if is_data and frame.is_last and kind == _TEXT:
                at = time.monotonic() - self._began
                self._messages.append(Message(number, direction, message.decode(), at))
            writer.write(frame.raw)
            await writer.drain()


@dataclass(frozen=True)
class _Frame:
    opcode: int
    is_last: bool
    payload: bytes
    raw: bytes


async def _read_frame(reader: asyncio.StreamReader) -> _Frame:
    """The next frame (RFC 6455, 5.2)."""
    head = await reader.readexactly(2)
    size = head[1] & 0x7F
    extended = await reader.readexactly({126: 2, 127: 8}.get(size, 0))
    if extended:
        size = int.from_bytes(extended, "big")
    mask = await reader.readexactly(4 if head[1] & 0x80 else 0)
    payload = await reader.readexactly(size)
    plain = _unmasked(payload, mask) if mask else payload
    return _Frame(head[0] & 0x0F, bool(head[0] & 0x80), plain, head + extended + mask + payload)


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


async def _bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()


async def _first_end(*directions: Coroutine[Any, Any, None]) -> None:
    """Runs both until one of them ends, and ends the other."""
    tasks = [asyncio.create_task(direction) for direction in directions]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def recording_proxy(relay_url: str) -> Iterator[RecordingProxy]:
    """Runs a proxy in front of a relay, in a thread of its own, on any free port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="recording proxy", daemon=True)
    thread.start()
    try:
        proxy = RecordingProxy(relay_url, loop)
        try:
            yield proxy
        finally:
            proxy.end()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()
