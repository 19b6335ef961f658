"""What every framework is tried with: a network of its own, and a peer that picks up and listens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any

import pytest

from p2p_comm import Agent, Message, serve
from p2p_comm.testing import LocalNetwork

SCRIPT: list[tuple[str, dict[str, Any]]] = [
    ("p2p_call", {"agent": "bob", "topic": "API design"}),
    ("p2p_wait", {"timeout_s": 45}),
    ("p2p_send", {"text": "Which of the two schemas?"}),
]
"""The tool calls that a fake model makes, one after the other; then it says `DONE`."""

DONE = "done"
ANSWER = "The second one."
"""What a fake model says to a peer."""

ARGUMENTS = {
    "p2p_list_agents": {"capability"},
    "p2p_call": {"agent", "topic"},
    "p2p_wait": {"timeout_s", "cursor"},
    "p2p_answer": {"decision", "reason", "call"},
    "p2p_send": {"text", "call"},
    "p2p_send_file": {"path", "call"},
    "p2p_escalate": {"question", "options"},
    "p2p_end": {"call"},
}


class Scene:
    """Alice is the framework's, Bob is a person's."""

    def __init__(self, alice: Agent, bob: Agent) -> None:
        self.alice = alice
        self.bob = bob

    async def call_is_heard(self, running: Awaitable[Any]) -> Any:
        """Runs the framework's agent; Bob hears what `SCRIPT` says. Returns what the run returned."""
        listening = asyncio.create_task(self._listen())
        try:
            result = await asyncio.wait_for(running, 120)
            assert await asyncio.wait_for(listening, 60) == ("alice", "API design", "Which of the two schemas?")
        finally:
            listening.cancel()
        return result

    async def _listen(self) -> tuple[str, str, str]:
        ring = await self.bob.incoming().__anext__()
        call = await ring.accept()
        event = await call.events().__anext__()
        assert isinstance(event, Message)
        return ring.peer.id, ring.topic, event.text

    async def is_served_by(self, answerer: Any) -> None:
        """Bob calls, asks twice, and hears what the fake model says."""
        serving = asyncio.create_task(serve(answerer, on=self.alice, accept="anyone"))
        try:
            call = await self.bob.call("alice", topic="API design", wait=30)
            for _ in range(2):
                await call.send("Which of the two schemas?")
                event = await asyncio.wait_for(call.events().__anext__(), 60)
                assert isinstance(event, Message)
                assert event.text == ANSWER
            await call.end()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with LocalNetwork() as network:
        alice, bob = await network.agents("alice", "bob")
        yield Scene(alice, bob)


def check_schemas(schemas: Mapping[str, Mapping[str, Any]], descriptions: Mapping[str, str] | None = None) -> None:
    """The model is told of every tool, and what each argument means.

    Args:
        schemas: The JSON schema of the arguments of each tool.
        descriptions: That of each tool, for frameworks that hand the docstring on whole.
    """
    assert set(schemas) == set(ARGUMENTS)
    for name, schema in schemas.items():
        properties = schema["properties"]
        assert set(properties) == ARGUMENTS[name]
        for argument, member in properties.items():
            kind = "number" if argument == "timeout_s" else "string"
            assert kind in str(member.get("type") or member.get("anyOf")).lower(), (name, argument, member)
            if descriptions is None:
                assert len(member.get("description", "")) > 10, (name, argument, member)
            else:
                assert re.search(rf"^\s*{argument} \(\w+\): .{{10,}}$", descriptions[name], re.MULTILINE)
    assert set(schemas["p2p_call"].get("required", ())) >= {"agent", "topic"}
