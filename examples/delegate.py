"""Delegating a task: one agent finds another by what it can do, sends it a file, and gets a report back.

    python examples/delegate.py
    python examples/delegate.py --relays wss://relay.example.org

Without `--relays` everything happens on this machine, over a relay of its own. Between machines the two agents are two
programs; nothing else changes. The worker counts words; an agent of a framework can stand in its place:
`serve(my_agent, on=worker)`.
"""

import argparse
import asyncio
import contextlib
import json
import tempfile
from collections import Counter
from pathlib import Path

from p2p_comm import Agent, Conversation, Ended, Heard, Message, ReceivedFile, serve
from p2p_comm.testing import LocalNetwork

LETTER = b"the relay has the letter and the letter has no sender"


async def count_words(heard: Heard, conversation: Conversation) -> str | None:
    """The worker: answers what it hears in a call, here with a file."""
    if heard.file is None or heard.file.path is None:
        return "Send me a text file, and I count its words."
    text = await asyncio.to_thread(heard.file.path.read_text)
    words = Counter(text.lower().split())
    report = {"file": heard.file.name, "words": sum(words.values()), "most frequent": words.most_common(1)[0]}
    await conversation.call.send_file(json.dumps(report).encode(), name="report.json")
    return None


async def delegate(boss: Agent) -> None:
    """The boss: finds somebody who can do it, and has it done."""
    while not (workers := await boss.list(capability="counting")):
        await asyncio.sleep(0.1)
    print("found", workers[0].id)

    async with await boss.call(workers[0].npub, topic="count the words of a letter", wait=60) as call:
        await call.send_file(LETTER, name="letter.txt")
        async for event in call:
            match event:
                case ReceivedFile(name=name, path=path) if path is not None:
                    print(name, await asyncio.to_thread(path.read_text))
                    break
                case Message(text=text):
                    print("the worker says:", text)
                case Ended(reason=reason):
                    raise SystemExit(f"the worker hung up: {reason}")


async def main(relays: list[str]) -> None:
    """Both of them."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2p-", ignore_cleanup_errors=True)))
        relays = relays or [(await stack.enter_async_context(LocalNetwork())).relay]
        worker = await stack.enter_async_context(
            Agent("worker", capabilities=["counting"], home=folder / "worker", relays=relays)
        )
        boss = await stack.enter_async_context(Agent("boss", home=folder / "boss", relays=relays))
        # `serve` takes calls of those whom the user has named.
        await worker.add_contact("boss", boss.npub)
        working = asyncio.create_task(serve(count_words, on=worker))
        try:
            await delegate(boss)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--relays", type=lambda text: text.split(","), default=[])
    asyncio.run(main(arguments.parse_args().relays))
