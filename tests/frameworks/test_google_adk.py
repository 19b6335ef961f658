"""Google ADK on a `BaseLlm` that is a list of what it says."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types
from pydantic import Field

from conftest import ANSWER, DONE, SCRIPT, Scene, check_schemas
from p2p_comm.integrations import google_adk


class Scripted(BaseLlm):
    """A model that is a list of what it says, and keeps what it was asked."""

    steps: list[Any]
    requests: list[LlmRequest] = Field(default_factory=list)

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        self.requests.append(llm_request.model_copy(deep=True, update={"tools_dict": {}}))
        step = self.steps.pop(0)
        if isinstance(step, str):
            part = types.Part(text=step)
        else:
            part = types.Part(function_call=types.FunctionCall(name=step[0], args=step[1]))
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


async def run(agent: LlmAgent) -> str:
    runner = InMemoryRunner(agent)
    session = await runner.session_service.create_session(app_name=runner.app_name, user_id="me")
    said = types.Content(role="user", parts=[types.Part(text="ask Bob")])
    texts = [""]
    async for event in runner.run_async(user_id="me", session_id=session.id, new_message=said):
        texts += [part.text for part in (event.content and event.content.parts) or () if part.text]
    return texts[-1]


async def test_it_takes_the_tools_as_they_are(scene: Scene) -> None:
    model = Scripted(model="scripted", steps=[*SCRIPT, DONE])
    agent = LlmAgent(name="alice", model=model, tools=scene.alice.tools())
    assert await scene.call_is_heard(run(agent)) == DONE
    declared = model.requests[0].config.tools[0].function_declarations
    schemas = {each.name: each.parameters_json_schema or each.parameters.model_dump() for each in declared}
    check_schemas(schemas, {each.name: each.description for each in declared})


async def test_the_wrapped_tools_place_a_call(scene: Scene) -> None:
    model = Scripted(model="scripted", steps=[*SCRIPT, DONE])
    await scene.call_is_heard(run(LlmAgent(name="alice", model=model, tools=google_adk.tools(scene.alice))))


async def test_it_answers_calls(scene: Scene) -> None:
    model = Scripted(model="scripted", steps=[ANSWER, ANSWER])
    await scene.is_served_by(LlmAgent(name="alice", model=model))
    assert [len(request.contents) for request in model.requests] == [1, 3], "what was said before is remembered"
