"""Microsoft's Agent Framework on a chat client that is a list of what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent_framework import Agent, BaseChatClient, ChatResponse, Content, FunctionInvocationLayer, Message

from conftest import ANSWER, DONE, SCRIPT, Scene, check_schemas
from p2p_comm.integrations import agent_framework


class Scripted(FunctionInvocationLayer, BaseChatClient):
    """A model that is a list of what it says, and keeps what it was asked."""

    def __init__(self, *steps: Any) -> None:
        super().__init__()
        self.steps = list(steps)
        self.requests: list[tuple[list[Message], Mapping[str, Any]]] = []

    async def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **_: Any
    ) -> ChatResponse:
        self.requests.append((list(messages), options))
        step = self.steps.pop(0)
        if isinstance(step, str):
            return ChatResponse(messages=[Message(role="assistant", contents=[step])])
        call = Content.from_function_call(call_id=step[0], name=step[0], arguments=json.dumps(step[1]))
        return ChatResponse(messages=[Message(role="assistant", contents=[call])])


async def test_it_takes_the_tools_as_they_are(scene: Scene) -> None:
    client = Scripted(*SCRIPT, DONE)
    result = await scene.call_is_heard(Agent(client, tools=scene.alice.tools()).run("ask Bob"))
    assert result.text == DONE
    tools = client.requests[0][1]["tools"]
    check_schemas({tool.name: tool.parameters() for tool in tools}, {tool.name: tool.description for tool in tools})


async def test_the_described_tools_place_a_call(scene: Scene) -> None:
    tools = agent_framework.tools(scene.alice)
    check_schemas({tool.name: tool.parameters() for tool in tools})
    await scene.call_is_heard(Agent(Scripted(*SCRIPT, DONE), tools=tools).run("ask Bob"))


async def test_it_answers_calls(scene: Scene) -> None:
    client = Scripted(ANSWER, ANSWER)
    await scene.is_served_by(Agent(client))
    assert [len(messages) for messages, _ in client.requests] == [1, 3], "what was said before is remembered"
