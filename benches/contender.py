"""What the contenders of `table.py` have in common. Standard library only: some run in environments of their own.

A contender is two processes with something between them. The sender obeys the conductor, one line a command, one JSON
object a reply; the receiver, its child, tells when those messages came that ask for it.

    conductor ── "alone 50" ──▶ sender ── what is measured ──▶ receiver
              ◀── {…} ─────────        ◀── nanoseconds, a line a message ──

Times are those of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

clock = time.monotonic_ns
TEXT_BYTES = 200
# How a message begins whose arrival is to be told, and any other.
TOLD, UNTOLD = "!", "."
# Between two messages that are measured alone: all of the last one has come to its end.
PAUSE_S = 0.005
# Longer than anything takes on a busy machine.
PATIENCE_S = 60


def text(begin: str) -> str:
    """What is said: two sentences, for their length."""
    return begin + "x" * (TEXT_BYTES - 1)


def write(line: str) -> None:
    """Tells the parent a line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def came(message: str) -> None:
    """For the receiver: a message came."""
    if message.startswith(TOLD):
        write(str(clock()))


class Receiver:
    """The receiving process, seen from the sender."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, script: str, *words: str) -> Receiver:
        """Starts it: this interpreter, this script."""
        pipe = asyncio.subprocess.PIPE
        words = (script, "receive", *words)
        return cls(await asyncio.create_subprocess_exec(sys.executable, *words, stdin=pipe, stdout=pipe))

    async def line(self) -> str:
        """Its next line."""
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_S)
        if not line:
            raise SystemExit("the receiver has ended early")
        return line.decode().strip()

    async def time(self) -> int:
        """When the next message came that was to be told."""
        return int(await self.line())

    async def stop(self) -> None:
        """Lets it end: its standard input does."""
        self.process.stdin.close()
        await self.process.wait()


Send = "Callable[[str], Awaitable[object]]"
Replies = dict[str, Any]


class Sender:
    """Obeys the conductor."""

    def __init__(self, send: Callable[[str], Awaitable[object]], receiver: Receiver) -> None:
        self.send = send
        self.receiver = receiver

    async def alone(self, count: int) -> Replies:
        """Messages one at a time: nanoseconds until `send` returns, and until they came."""
        returned, arrived = [], []
        for _ in range(count):
            begun = clock()
            await self.send(text(TOLD))
            returned.append(clock() - begun)
            arrived.append(await self.receiver.time() - begun)
            await asyncio.sleep(PAUSE_S)
        return {"returned": returned, "arrived": arrived}

    async def stream(self, count: int, every_us: int) -> Replies:
        """One message after each pause, whatever became of the one before: nanoseconds until they came."""
        begun, sends = [], []

        async def one() -> None:
            begun.append(clock())
            await self.send(text(TOLD))

        first = clock()
        for number in range(count):
            await asyncio.sleep(max(0, first + number * every_us * 1_000 - clock()) / 1e9)
            sends.append(asyncio.ensure_future(one()))
        await asyncio.gather(*sends)
        return {"arrived": [await self.receiver.time() - at for at in begun]}

    async def awaited(self, count: int) -> Replies:
        """One caller that waits for each `send`."""
        begun = clock()
        for left in reversed(range(count)):
            await self.send(text(UNTOLD if left else TOLD))
        taken = clock() - begun
        await self.receiver.time()
        return {"per_s": count / taken * 1e9}

    async def burst(self, count: int) -> Replies:
        """All at once: how many a second were taken, and came."""
        texts = [text(UNTOLD)] * (count - 1) + [text(TOLD)]
        begun = clock()
        await asyncio.gather(*(self.send(each) for each in texts))
        taken = clock() - begun
        arrived = await self.receiver.time() - begun
        return {"taken_per_s": count / taken * 1e9, "arrived_per_s": count / arrived * 1e9}

    async def obey(self) -> None:
        """Until the conductor closes the standard input."""
        write(json.dumps({"ready": True}))
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            verb, *numbers = line.split()
            write(json.dumps(await getattr(self, verb)(*map(int, numbers))))
        await self.receiver.stop()
