"""How long a message takes from `call.send` in one Python process to `async for` in another, and how many go through.

`python benches/conversation.py BINARY`. Both agents host their engine in their own process; the relay is an embedded
one in a third. The second process is this program with the word `peer`; it tells on its standard output when something
came, by the clock that both share.
"""

from __future__ import annotations

import asyncio
import sys
import time

from support import PYTHON, home, quantile, relays, show, tell

from p2p_comm import Agent, Message

TEXT = "x" * 200
MESSAGES = 1_000
# One after the other, with a pause in which all of the last one comes to its end.
PAUSE_S = 0.005
BURST = 2_000


async def answer(folder: str, url: str) -> None:
    """The second process: takes one call, and tells when each message of it came."""
    async with Agent("bob", home=folder, relays=[url]) as agent:
        status = await agent.status()
        write(status.agent.npub)
        async for ring in agent.incoming():
            call = await ring.accept()
            async for event in call:
                if isinstance(event, Message):
                    write(str(time.time_ns()))
            break


def write(line: str) -> None:
    """Tells the first process a line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def measure(binary: str) -> None:
    """The first process: measures and prints."""
    with relays(binary, 1) as [url], home() as mine, home() as theirs:
        peer = await asyncio.create_subprocess_exec(
            PYTHON, __file__, "peer", str(theirs), url, stdout=asyncio.subprocess.PIPE
        )

        async def line() -> str:
            return (await peer.stdout.readline()).decode().strip()

        async with Agent("alice", home=mine, relays=[url]) as agent:
            call = await agent.call(await line(), topic="benchmark", wait=60)
            commits, arrivals = [], []
            for _ in range(MESSAGES):
                begun = time.time_ns()
                await call.send(TEXT)
                commits.append((time.time_ns() - begun) / 1e3)
                arrivals.append((int(await line()) - begun) / 1e3)
                await asyncio.sleep(PAUSE_S)

            begun = time.time_ns()
            await asyncio.gather(*(call.send(TEXT) for _ in range(BURST)))
            committed = time.time_ns() - begun
            for _ in range(BURST):
                last = int(await line())
            arrived = last - begun
            await call.end()
        await peer.wait()

    rows = [
        (name, [f"{quantile(samples, 0.5):.0f}", f"{quantile(samples, 0.99):.0f}"])
        for name, samples in [("call.send returns", commits), ("call.send to async for", arrivals)]
    ]
    rates = {"committed_per_s": BURST / committed * 1e9, "arrived_per_s": BURST / arrived * 1e9}
    rows += [
        (f"{BURST} at once: committed", ["", "", f"{rates['committed_per_s']:.0f}"]),
        (f"{BURST} at once: arrived", ["", "", f"{rates['arrived_per_s']:.0f}"]),
    ]
    show(f"in Python, messages of {len(TEXT)} bytes", ["p50 µs", "p99 µs", "a second"], rows)

    def spread(samples: list[float]) -> dict[str, int]:
        return {"p50": round(quantile(samples, 0.5)), "p99": round(quantile(samples, 0.99))}

    rounded = {name: round(rate) for name, rate in rates.items()}
    tell({"bench": "conversation", "send_us": spread(commits), "arrival_us": spread(arrivals), **rounded})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["peer", folder, url]:
            asyncio.run(answer(folder, url))
        case [binary]:
            asyncio.run(measure(binary))
