"""smolagents' `ToolCallingAgent` and `CodeAgent` on a model that is a list of what it says."""

from __future__ import annotations

import asyncio
from typing import Any

from smolagents import ChatMessage, CodeAgent, MessageRole, Model, ToolCallingAgent
from smolagents.models import ChatMessageToolCall, ChatMessageToolCallFunction, get_tool_json_schema

from conftest import ANSWER, DONE, SCRIPT, Scene, check_schemas
from p2p_comm.integrations import smolagents


class Scripted(Model):
    """A model that is a list of what it says, and keeps what it was asked."""

    def __init__(self, *steps: str | tuple[str, dict[str, Any]]) -> None:
        super().__init__(model_id="scripted")
        self.steps = list(steps)
        self.read: list[str] = []

    def generate(self, messages: list[ChatMessage], **_: Any) -> ChatMessage:
        self.read.append(str([message.content for message in messages]))
        step = self.steps.pop(0)
        if isinstance(step, str):
            return ChatMessage(role=MessageRole.ASSISTANT, content=step)
        name, arguments = step
        function = ChatMessageToolCallFunction(name=name, arguments=arguments)
        call = ChatMessageToolCall(id=name, type="function", function=function)
        return ChatMessage(role=MessageRole.ASSISTANT, content=None, tool_calls=[call])


async def test_the_tools_place_a_call(scene: Scene) -> None:
    model = Scripted(*SCRIPT, ("final_answer", {"answer": DONE}))
    agent = ToolCallingAgent(tools=smolagents.tools(scene.alice), model=model)
    assert await scene.call_is_heard(asyncio.to_thread(agent.run, "ask Bob")) == DONE


async def test_code_places_a_call(scene: Scene) -> None:
    lines = [f"print({name}(**{arguments!r}))" for name, arguments in SCRIPT]
    code = "\n".join([*lines, f"final_answer({DONE!r})"])
    model = Scripted(f"Thought: ask him.\n<code>\n{code}\n</code>")
    agent = CodeAgent(tools=smolagents.tools(scene.alice), model=model)
    assert await scene.call_is_heard(asyncio.to_thread(agent.run, "ask Bob")) == DONE


async def test_every_argument_is_described(scene: Scene) -> None:
    functions = [get_tool_json_schema(tool)["function"] for tool in smolagents.tools(scene.alice)]
    check_schemas({each["name"]: each["parameters"] for each in functions})


async def test_it_answers_calls(scene: Scene) -> None:
    model = Scripted(*[("final_answer", {"answer": ANSWER})] * 2)
    await scene.is_served_by(ToolCallingAgent(tools=[], model=model))
    assert [text.count("The agent «bob»") for text in model.read] == [1, 2], "what was said before is remembered"


async def test_a_code_agent_is_made_for_each_call(scene: Scene) -> None:
    step = f"<code>\nfinal_answer({ANSWER!r})\n</code>"
    made: list[CodeAgent] = []

    def make() -> CodeAgent:
        made.append(CodeAgent(tools=[], model=Scripted(step, step)))
        return made[-1]

    await scene.is_served_by(make)
    await scene.is_served_by(make)
    assert len(made) == 2
