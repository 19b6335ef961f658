"""A proxy in front of a relay: it writes down what is said in both directions, and can be made to fail.

It knows HTTP only up to the end of the first head, and of WebSocket (RFC 6455) only the frames; what it reads it
passes on byte for byte. The one exception: extensions are struck from the client's request, because compressed
messages could not be read here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from parts.proxy import Proxy, loop_of_its_own
from parts.websocket import (
    BINARY,
    CONTINUATION,
    END_OF_HEAD,
    TEXT,
    copy_bytes,
    first_end,
    is_switch,
    read_frame,
    without_extensions,
)

Direction = Literal["to relay", "to client"]


@dataclass(frozen=True)
class Message:
    """A text message that was passed on. Connections are numbered from 1, as they came."""

    connection: int
    direction: Direction
    text: str
    # Seconds since the proxy began.
    at: float


class RecordingProxy(Proxy):
    """A running proxy that records. Its levers work from the moment that they return."""

    def __init__(self, relay_url: str, loop: asyncio.AbstractEventLoop) -> None:
        self._began = time.monotonic()
        self._messages: list[Message] = []
        self._audible = asyncio.Event()
        self._audible.set()
        super().__init__(relay_url, loop)

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

    async def _hear(self, audible: bool) -> None:
        (self._audible.set if audible else self._audible.clear)()

    async def _pass_on(
        self,
        number: int,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        writers: list[asyncio.StreamWriter],
    ) -> None:
        request = await client.readuntil(END_OF_HEAD)
        relay, to_relay = await asyncio.open_connection(*self._relay)
        writers.append(to_relay)
        to_relay.write(without_extensions(request))
        answer = await relay.readuntil(END_OF_HEAD)
        await self._audible.wait()
        to_client.write(answer)
        if is_switch(answer):
            await first_end(
                self._frames(number, "to relay", client, to_relay), self._frames(number, "to client", relay, to_client)
            )
        else:
            await first_end(copy_bytes(client, to_relay), copy_bytes(relay, to_client))

    async def _frames(
        self, number: int, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Passes frames on, for as long as there are any."""
        message, kind, thrown_away = bytearray(), BINARY, False
        while True:
            frame = await read_frame(reader)
            muted = direction == "to client" and not self._audible.is_set()
            # A message that began to pass goes through as a whole.
            if frame.opcode in (TEXT, BINARY):
                message, kind, thrown_away = bytearray(), frame.opcode, muted
            is_data = frame.opcode in (CONTINUATION, TEXT, BINARY)
            if thrown_away if is_data else muted:
                self.counts.muted += 1
                continue
            if is_data:
                message += frame.payload
            if is_data and frame.is_last and kind == TEXT:
                at = time.monotonic() - self._began
                self._messages.append(Message(number, direction, message.decode(), at))
            writer.write(frame.raw)
            await writer.drain()


@contextmanager
def recording_proxy(relay_url: str) -> Iterator[RecordingProxy]:
    """Runs a proxy in front of a relay, in a thread of its own, on any free port."""
    with loop_of_its_own("recording proxy") as loop:
        proxy = RecordingProxy(relay_url, loop)
        try:
            yield proxy
        finally:
            proxy.end()
