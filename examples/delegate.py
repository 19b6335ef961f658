"""Delegating a task: one agent finds another by what it can do, sends it a file, and gets a report back.

    python examples/delegate.py

Everything happens on this machine, over a relay of its own. Between machines, `Agent("boss")` and `Agent("worker")`
take the place of `network.agent(…)`, each in a process of its own; nothing else changes. The worker counts words; an
agent of a framework can stand in its place: `serve(my_agent, on=worker)`.
"""

import asyncio
import json
from collections import Counter

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


async def main() -> None:
    """Both of them, on a network of their own."""
    async with (
        LocalNetwork() as network,
        network.agent("worker", capabilities=["counting"]) as worker,
        network.agent("boss") as boss,
    ):
        # `serve` takes calls of those whom the user has named.
        await worker.add_contact("boss", boss.npub)
        working = asyncio.create_task(serve(count_words, on=worker))
        try:
            await delegate(boss)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
