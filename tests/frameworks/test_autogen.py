"""AutoGen's `AssistantAgent` on its own `ReplayChatCompletionClient`."""

from __future__ import annotations

import json

from autogen_agentchat.agents import AssistantAgent
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, ModelFamily, ModelInfo, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

from conftest import ANSWER, DONE, SCRIPT, Scene, check_schemas
from p2p_comm.integrations import autogen

INFO = ModelInfo(
    vision=False,
    function_calling=True,
    json_output=False,
    structured_output=False,
    family=ModelFamily.UNKNOWN,
)


def call(name: str, arguments: object) -> CreateResult:
    return CreateResult(
        finish_reason="function_calls",
        content=[FunctionCall(id=name, name=name, arguments=json.dumps(arguments))],
        usage=RequestUsage(prompt_tokens=0, completion_tokens=0),
        cached=False,
    )


async def test_the_tools_place_a_call(scene: Scene) -> None:
    client = ReplayChatCompletionClient([*(call(*step) for step in SCRIPT), DONE], model_info=INFO)
    agent = AssistantAgent(
        "alice", model_client=client, tools=autogen.tools(scene.alice), max_tool_iterations=len(SCRIPT) + 1
    )
    result = await scene.call_is_heard(agent.run(task="ask Bob"))
    assert result.messages[-1].to_text() == DONE


async def test_every_argument_is_described(scene: Scene) -> None:
    check_schemas({tool.name: tool.schema["parameters"] for tool in autogen.tools(scene.alice)})


async def test_it_answers_calls(scene: Scene) -> None:
    client = ReplayChatCompletionClient([ANSWER, ANSWER], model_info=INFO)
    await scene.is_served_by(AssistantAgent("alice", model_client=client))
    lengths = [len(each["messages"]) for each in client.create_calls]
    assert lengths == [2, 4], "what was said before is remembered"
