"""CrewAI on a `BaseLLM` that is a list of what it says."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

os.environ.update(OTEL_SDK_DISABLED="true", CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false")

from crewai import Agent, BaseLLM, Crew, Task
from pydantic import Field

from conftest import ANSWER, DONE, SCRIPT, Scene, check_schemas
from p2p_comm.integrations import crewai


class Scripted(BaseLLM):
    """A model that is a list of what it says, and keeps what it was asked."""

    steps: list[Any] = Field(default_factory=list)
    read: list[str] = Field(default_factory=list)

    def call(self, messages: Any, tools: Any = None, callbacks: Any = None, **_: Any) -> Any:
        self.read.append(str(messages))
        step = self.steps.pop(0)
        if isinstance(step, str):
            return step
        name, arguments = step
        return [{"id": name, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}]

    def supports_function_calling(self) -> bool:
        return True


def alice(llm: BaseLLM, **options: Any) -> Agent:
    return Agent(role="caller", goal="ask Bob", backstory="has a phone", llm=llm, verbose=False, **options)


async def test_the_tools_place_a_call(scene: Scene) -> None:
    llm = Scripted(model="scripted", steps=[*SCRIPT, DONE])
    agent = alice(llm, tools=crewai.tools(scene.alice))
    task = Task(description="ask Bob", expected_output="what he says", agent=agent)
    crew = Crew(agents=[agent], tasks=[task], verbose=False)
    assert str(await scene.call_is_heard(asyncio.to_thread(crew.kickoff))) == DONE


async def test_every_argument_is_described(scene: Scene) -> None:
    check_schemas({tool.name: tool.args_schema.model_json_schema() for tool in crewai.tools(scene.alice)})


async def test_a_second_wait_is_not_answered_from_a_cache(scene: Scene) -> None:
    (wait,) = [tool for tool in crewai.tools(scene.alice) if tool.name == "p2p_wait"]
    assert wait.cache_function({}, "result") is False


async def test_it_answers_calls(scene: Scene) -> None:
    llm = Scripted(model="scripted", steps=[ANSWER, ANSWER])
    await scene.is_served_by(alice(llm))
    assert [text.count("The agent «bob»") for text in llm.read] == [1, 2], "what was said before is remembered"
