"""LangChain's `create_agent`, which is a LangGraph graph, on a chat model of `langchain_core`'s own for tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from conftest import ANSWER, DONE, SCRIPT, Scene, check_schemas
from p2p_comm.integrations import langchain


class Scripted(GenericFakeChatModel):
    """The fake model, which takes tools like a real one."""

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self


def scripted() -> Scripted:
    calls = [AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": name}]) for name, arguments in SCRIPT]
    return Scripted(messages=iter([*calls, AIMessage(DONE)]))


def saying(words: Iterable[str]) -> Scripted:
    return Scripted(messages=iter(AIMessage(text) for text in words))


async def test_langchain_takes_the_tools_as_they_are(scene: Scene) -> None:
    agent = create_agent(scripted(), tools=scene.alice.tools())
    result = await scene.call_is_heard(agent.ainvoke({"messages": [("user", "ask Bob")]}))
    assert result["messages"][-1].text == DONE
    assert all(not each.content.startswith('{"error"') for each in result["messages"] if isinstance(each, ToolMessage))


async def test_langgraph_takes_the_tools_as_they_are(scene: Scene) -> None:
    model = scripted()

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(scene.alice.tools()))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    result = await scene.call_is_heard(graph.compile().ainvoke({"messages": [("user", "ask Bob")]}))
    assert result["messages"][-1].text == DONE


async def test_every_argument_is_described(scene: Scene) -> None:
    functions = [convert_to_openai_tool(tool)["function"] for tool in scene.alice.tools()]
    check_schemas({each["name"]: each["parameters"] for each in functions})
    functions = [convert_to_openai_tool(tool)["function"] for tool in langchain.tools(scene.alice)]
    check_schemas({each["name"]: each["parameters"] for each in functions})


async def test_the_described_tools_place_a_call(scene: Scene) -> None:
    agent = create_agent(scripted(), tools=langchain.tools(scene.alice))
    await scene.call_is_heard(agent.ainvoke({"messages": [("user", "ask Bob")]}))


async def test_it_answers_calls(scene: Scene) -> None:
    await scene.is_served_by(create_agent(saying([ANSWER, ANSWER]), tools=[]))


async def test_it_answers_calls_with_a_checkpointer(scene: Scene) -> None:
    saver = InMemorySaver()
    await scene.is_served_by(create_agent(saying([ANSWER, ANSWER]), tools=[], checkpointer=saver))
    (call,) = await scene.alice.calls()
    state = saver.get({"configurable": {"thread_id": call.id}})
    assert state is not None
    assert len(state["channel_values"]["messages"]) == 4
