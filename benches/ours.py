"""p2p-comm as a contender of `table.py`: `call.send` in one process, `async for` in another.

`python benches/ours.py URL DURABILITY`: both host their engine; the relay is anybody's.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from contender import PATIENCE_S, Receiver, Replies, Sender, came, clock, write

from p2p_comm import Agent, Call, Message


def configure(home: Path, durability: str) -> None:
    """Settings that have no argument of their own."""
    folder = home / "p2p-comm"
    folder.mkdir(mode=0o700)
    config = folder / "config.toml"
    config.write_text(f'durability = "{durability}"\nauto_accept = "contact"\n')
    config.chmod(0o600)


async def receive(home: str, url: str, durability: str, caller: str) -> None:
    """The other process: takes calls, and tells when messages come."""
    configure(Path(home), durability)
    async with Agent("bob", home=home, relays=[url]) as agent:
        await agent.add_contact("alice", caller)
        write(agent.npub)

        async def follow(call: Call) -> None:
            async for event in call:
                if isinstance(event, Message):
                    came(event.text)

        async def answer() -> None:
            async for event in agent.events(kinds=("call.connected",), consumer="benchmark"):
                # It is taken already, by the settings: this only asks for it.
                talks.append(asyncio.ensure_future(follow(await agent.answer(event.call))))

        talks: list[asyncio.Future[None]] = []
        answering = asyncio.ensure_future(answer())
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        answering.cancel()
        for talk in talks:
            talk.cancel()


class Ours(Sender):
    """With what only p2p-comm has."""

    def __init__(self, agent: Agent, call: Call, peer: str, receiver: Receiver) -> None:
        super().__init__(call.send, receiver)
        self.agent, self.call, self.peer = agent, call, peer

    async def setup(self, count: int) -> Replies:
        """Calls, one after the other: nanoseconds from `agent.call` to connected, taken by the peer's settings."""
        connected = []
        for _ in range(count):
            await self.call.end()
            begun = clock()
            self.call = await self.agent.call(self.peer, topic="benchmark", wait=PATIENCE_S)
            connected.append(clock() - begun)
            self.send = self.call.send
            # Until it is heard.
            await self.alone(1)
        return {"connected": connected}

    async def delivered(self, count: int) -> Replies:
        """All at once, until the peer has acknowledged the last as committed."""
        begun = clock()
        receipts = await asyncio.gather(*(self.send("." * 200) for _ in range(count)))
        taken = clock() - begun
        await receipts[-1].delivered(timeout=PATIENCE_S)
        return {"taken_per_s": count / taken * 1e9, "delivered_per_s": count / (clock() - begun) * 1e9}


async def main(url: str, durability: str) -> None:
    """The sender."""
    with tempfile.TemporaryDirectory(prefix="p2p-") as mine, tempfile.TemporaryDirectory(prefix="p2p-") as theirs:
        configure(Path(mine), durability)
        async with Agent("alice", home=mine, relays=[url]) as agent:
            receiver = await Receiver.start(__file__, theirs, url, durability, agent.npub)
            peer = await receiver.line()
            call = await agent.call(peer, topic="benchmark", wait=PATIENCE_S)
            await Ours(agent, call, peer, receiver).obey()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["receive", home, url, durability, caller]:
            asyncio.run(receive(home, url, durability, caller))
        case [url, durability]:
            asyncio.run(main(url, durability))
