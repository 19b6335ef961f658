"""Strands on a `Model` that is a list of what it says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable
from typing import Any

from strands import Agent
from strands.models.model import Model

from conftest import ANSWER, DONE, SCRIPT, Scene, check_schemas
from p2p_comm.integrations import strands


class Scripted(Model):
    """A model that is a list of what it says, and keeps what it was asked."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.lengths: list[int] = []

    def update_config(self, **_: Any) -> None:
        pass

    def get_config(self) -> dict[str, Any]:
        return {}

    def structured_output(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncIterable[Any]:
        self.lengths.append(len(messages))
        step = self.steps.pop(0)
        yield {"messageStart": {"role": "assistant"}}
        if isinstance(step, str):
            start, delta, reason = {}, {"text": step}, "end_turn"
        else:
            start = {"toolUse": {"name": step[0], "toolUseId": step[0]}}
            delta, reason = {"toolUse": {"input": json.dumps(step[1])}}, "tool_use"
        yield {"contentBlockStart": {"start": start}}
        yield {"contentBlockDelta": {"delta": delta}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": reason}}


async def test_the_tools_place_a_call(scene: Scene) -> None:
    agent = Agent(model=Scripted(*SCRIPT, DONE), tools=strands.tools(scene.alice), callback_handler=None)
    assert str(await scene.call_is_heard(agent.invoke_async("ask Bob"))).strip() == DONE


async def test_every_argument_is_described(scene: Scene) -> None:
    specs = [tool.tool_spec for tool in strands.tools(scene.alice)]
    check_schemas({spec["name"]: spec["inputSchema"]["json"] for spec in specs})


async def test_it_answers_calls(scene: Scene) -> None:
    model = Scripted(ANSWER, ANSWER)
    await scene.is_served_by(Agent(model=model, callback_handler=None))
    assert model.lengths == [1, 3], "what was said before is remembered"
