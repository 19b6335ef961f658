"""OpenAI's Agents SDK on its own `ScriptedModel`."""

from __future__ import annotations

from agents import Agent, Runner, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

from conftest import ANSWER, DONE, SCRIPT, Scene, check_schemas
from p2p_comm.integrations import openai_agents

set_tracing_disabled(True)


async def test_the_tools_place_a_call(scene: Scene) -> None:
    calls = [[function_call(name, arguments, call_id=name)] for name, arguments in SCRIPT]
    model = ScriptedModel([*calls, [assistant_message(DONE)]])
    agent = Agent(name="alice", model=model, tools=openai_agents.tools(scene.alice))
    result = await scene.call_is_heard(Runner.run(agent, "ask Bob"))
    assert result.final_output == DONE
    model.assert_complete()


async def test_every_argument_is_described(scene: Scene) -> None:
    check_schemas({tool.name: tool.params_json_schema for tool in openai_agents.tools(scene.alice)})


async def test_it_answers_calls(scene: Scene) -> None:
    model = ScriptedModel([[assistant_message(ANSWER)], [assistant_message(ANSWER)]])
    await scene.is_served_by(Agent(name="alice", model=model))
    first, second = model.calls
    assert (len(first.input), len(second.input)) == (1, 3), "what was said before is remembered"
    assert "The agent «bob»" in str(second.input[-1])
