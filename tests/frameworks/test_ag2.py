"""AG2 on its own `TestConfig`."""

from __future__ import annotations

import json

from ag2 import Agent
from ag2.events import ToolCallEvent
from ag2.testing import TestConfig, TrackingConfig

from conftest import ANSWER, DONE, SCRIPT, Scene, check_schemas
from p2p_comm.integrations import ag2


def scripted() -> TrackingConfig:
    calls = [ToolCallEvent(name=name, arguments=json.dumps(arguments)) for name, arguments in SCRIPT]
    return TrackingConfig(TestConfig(*calls, DONE))


async def test_it_takes_the_tools_as_they_are(scene: Scene) -> None:
    config = scripted()
    agent = Agent("alice", config=config, tools=scene.alice.tools())
    reply = await scene.call_is_heard(agent.ask("ask Bob"))
    assert reply.body == DONE
    functions = [schema.function for schema in config.calls[0].tools]
    descriptions = {function.name: function.description for function in functions}
    check_schemas({function.name: function.parameters for function in functions}, descriptions)


async def test_the_wrapped_tools_place_a_call(scene: Scene) -> None:
    agent = Agent("alice", config=scripted(), tools=ag2.tools(scene.alice))
    await scene.call_is_heard(agent.ask("ask Bob"))


async def test_it_answers_calls(scene: Scene) -> None:
    config = TrackingConfig(TestConfig(ANSWER, ANSWER))
    await scene.is_served_by(Agent("alice", config=config))
    assert len(config.calls) == 2
    assert "The agent «bob»" in str(config.mock.call_args)
