"""Pydantic AI on its `FunctionModel`, which is a function in the place of a model."""

from __future__ import annotations

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from conftest import ANSWER, DONE, SCRIPT, Scene, check_schemas
from p2p_comm.integrations import pydantic_ai


def scripted(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    check_schemas({tool.name: tool.parameters_json_schema for tool in info.function_tools})
    turn = sum(isinstance(message, ModelResponse) for message in messages)
    if turn == len(SCRIPT):
        return ModelResponse(parts=[TextPart(DONE)])
    name, arguments = SCRIPT[turn]
    return ModelResponse(parts=[ToolCallPart(name, arguments)])


def remembering(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    said = [part for message in messages for part in message.parts if part.part_kind == "user-prompt"]
    assert "The agent «bob»" in str(said[-1].content)
    return ModelResponse(parts=[TextPart(ANSWER if len(said) * 2 - 1 == len(messages) else "forgotten")])


async def test_it_takes_the_tools_as_they_are(scene: Scene) -> None:
    agent = Agent(FunctionModel(scripted), tools=scene.alice.tools())
    result = await scene.call_is_heard(agent.run("ask Bob"))
    assert result.output == DONE


async def test_the_described_tools_place_a_call(scene: Scene) -> None:
    agent = Agent(FunctionModel(scripted), tools=pydantic_ai.tools(scene.alice))
    await scene.call_is_heard(agent.run("ask Bob"))


async def test_it_answers_calls(scene: Scene) -> None:
    await scene.is_served_by(Agent(FunctionModel(remembering)))
