"""A panel: a moderator calls two experts at the same time, tells each what the other said, and keeps the transcripts.

    python examples/panel.py
    python examples/panel.py --relays wss://relay.example.org,wss://relay.example.net

Without `--relays` everything happens on this machine, over a relay of its own. The experts are plain functions; agents
of a framework can stand in their places: `serve(my_agent, on=agent)`.
"""

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from p2p_comm import Agent, Call, Conversation, Ended, Heard, Message, serve
from p2p_comm.testing import LocalNetwork

Expert = Callable[[Heard, Conversation], Awaitable[str]]

QUESTION = "Shall we move the database to another host this week?"


async def cost(heard: Heard, conversation: Conversation) -> str:
    """Thinks of money. `conversation.history` is what was said before in this call, and what is said now."""
    if len(conversation.history) > 1:
        return "Then wait a month: the old host costs 90 EUR."
    return "Yes. The new host is cheaper."


async def risk(heard: Heard, conversation: Conversation) -> str:
    """Thinks of what can go wrong."""
    if len(conversation.history) > 1:
        return "A month is fine: then there is time to rehearse."
    return "No. Nobody has rehearsed it."


async def ask(call: Call, text: str) -> str:
    """Says something in a call, and waits for the answer."""
    await call.send(text)
    async for event in call:
        match event:
            case Message(text=answer):
                return answer
            case Ended(reason=reason):
                raise SystemExit(f"{call.peer.id} hung up: {reason}")
    raise SystemExit(f"{call.peer.id} said nothing")


async def moderate(moderator: Agent, experts: dict[str, Agent]) -> None:
    """Two rounds with all experts at once: first the question, then what the other one said."""
    async with contextlib.AsyncExitStack() as stack:
        calls = await asyncio.gather(
            *(moderator.call(agent.npub, topic="a panel", wait=60) for agent in experts.values())
        )
        for call in calls:
            stack.push_async_exit(call)

        views = await asyncio.gather(*(ask(call, QUESTION) for call in calls))
        for name, view in zip(experts, views, strict=True):
            print(f"{name}: {view}")
        final = await asyncio.gather(
            *(ask(call, f"The other expert says: {other}") for call, other in zip(calls, reversed(views), strict=True))
        )
        for name, view in zip(experts, final, strict=True):
            print(f"{name}, having heard the other: {view}")

        for transcript in await asyncio.gather(*(call.end() for call in calls)):
            print(f"{transcript.topic} with {transcript.callee}: {len(transcript.messages)} messages")


async def main(relays: list[str]) -> None:
    """All three of them."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2p-", ignore_cleanup_errors=True)))
        relays = relays or [(await stack.enter_async_context(LocalNetwork())).relay]

        async def agent(name: str) -> Agent:
            return await stack.enter_async_context(Agent(name, home=folder / name, relays=relays))

        moderator, answering = await agent("moderator"), []
        experts = {"cost": await agent("cost"), "risk": await agent("risk")}
        for expert, on in zip((cost, risk), experts.values(), strict=True):
            # `serve` takes calls of those whom the user has named.
            await on.add_contact("moderator", moderator.npub)
            answering.append(asyncio.create_task(serve(expert, on=on)))
        try:
            await moderate(moderator, experts)
        finally:
            for task in answering:
                task.cancel()
            await asyncio.gather(*answering, return_exceptions=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--relays", type=lambda text: text.split(","), default=[])
    asyncio.run(main(arguments.parse_args().relays))
