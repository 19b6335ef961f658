"""LlamaIndex's `FunctionAgent` on its `MockFunctionCallingLLM`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.tools import FunctionTool

from conftest import ANSWER, DONE, SCRIPT, Scene, check_schemas
from p2p_comm.integrations import llama_index


def scripted(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
    check_schemas({tool.metadata.name: tool.metadata.get_parameters_dict() for tool in kwargs["tools"]})
    turn = sum(message.role == MessageRole.TOOL for message in messages)
    if turn == len(SCRIPT):
        return ChatMessage(role="assistant", blocks=[TextBlock(text=DONE)])
    name, arguments = SCRIPT[turn]
    return ChatMessage(
        role="assistant", blocks=[ToolCallBlock(tool_call_id=name, tool_name=name, tool_kwargs=arguments)]
    )


def remembering(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
    said = [message for message in messages if message.role == MessageRole.USER]
    assert "The agent «bob»" in str(said[-1].content)
    kept = len([message for message in messages if message.role == MessageRole.ASSISTANT]) == len(said) - 1
    return ChatMessage(role="assistant", content=ANSWER if kept else "forgotten")


async def test_it_takes_the_tools_as_they_are(scene: Scene) -> None:
    agent = FunctionAgent(tools=scene.alice.tools(), llm=MockFunctionCallingLLM(response_generator=scripted))
    assert str(await scene.call_is_heard(agent.run("ask Bob"))) == DONE


async def test_a_tool_alone_places_a_call(scene: Scene) -> None:
    tools: dict[str | None, FunctionTool] = {tool.metadata.name: tool for tool in llama_index.tools(scene.alice)}

    async def run() -> None:
        for name, arguments in SCRIPT:
            assert '"error"' not in str(await tools[name].acall(**arguments))

    await scene.call_is_heard(run())


async def test_it_answers_calls(scene: Scene) -> None:
    llm = MockFunctionCallingLLM(response_generator=remembering)
    await scene.is_served_by(FunctionAgent(tools=[], llm=llm))
