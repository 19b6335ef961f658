"""WebSocket (RFC 6455) as proxies and bare clients of tests need it: frames, and the head before them."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

END_OF_HEAD = b"\r\n\r\n"
CONTINUATION, TEXT, BINARY, CLOSE = 0, 1, 2, 8
LAST = 0x80


def without_extensions(request: bytes) -> bytes:
    """A client's request that asks for no compression, since compressed messages could not be read here."""
    return re.sub(rb"(?im)^sec-websocket-extensions:.*\r\n", b"", request)


def is_switch(answer: bytes) -> bool:
    """Whether a relay's answer is the beginning of a WebSocket."""
    return answer.startswith(b"HTTP/1.1 101 ")


@dataclass(frozen=True)
class Frame:
    """A frame: its payload unmasked, and all its bytes as they came."""

    opcode: int
    is_last: bool
    payload: bytes
    raw: bytes


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame (RFC 6455, 5.2)."""
    head = await reader.readexactly(2)
    size = head[1] & 0x7F
    extended = await reader.readexactly({126: 2, 127: 8}.get(size, 0))
    if extended:
        size = int.from_bytes(extended, "big")
    mask = await reader.readexactly(4 if head[1] & 0x80 else 0)
    payload = await reader.readexactly(size)
    plain = _unmasked(payload, mask) if mask else payload
    return Frame(head[0] & 0x0F, bool(head[0] & 0x80), plain, head + extended + mask + payload)


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


async def copy_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on whatever comes, to its end."""
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()


async def first_end(*directions: Coroutine[Any, Any, None]) -> None:
    """Runs both until one of them ends, and ends the other."""
    tasks = [asyncio.create_task(direction) for direction in directions]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def frame_of(payload: bytes, *, first: int = LAST | TEXT, mask: bytes | None = None) -> bytes:
    """A frame with this first byte, by default a whole text; what a client sends has a mask (four bytes)."""
    masked = 0 if mask is None else 0x80
    if len(payload) < 126:
        head = struct.pack("!BB", first, masked | len(payload))
    elif len(payload) < 65_536:
        head = struct.pack("!BBH", first, masked | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, masked | 127, len(payload))
    return head + payload if mask is None else head + mask + _unmasked(payload, mask)
