"""LangChain and LangGraph. Both take `agent.tools()` as they are; these describe each argument to the model."""

from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from ..agent import Agent
from ..serving import Conversation, Handler, Heard


def tools(agent: Agent) -> list[BaseTool]:
    """The tools of an agent, for `create_agent`, `ToolNode` and `bind_tools`."""
    return [StructuredTool.from_function(coroutine=tool, parse_docstring=True) for tool in agent.tools()]


def handler(graph: Any) -> Handler:
    """Answers with a compiled graph whose state has `messages`, such as that of `create_agent`."""

    async def answer(heard: Heard, conversation: Conversation) -> str:
        said = {"role": "user", "content": conversation.prompt(heard)}
        # A checkpointer remembers the thread by itself.
        before = [] if graph.checkpointer else conversation.memory or []
        thread = {"configurable": {"thread_id": conversation.call.id}}
        conversation.memory = (await graph.ainvoke({"messages": [*before, said]}, thread))["messages"]
        return str(conversation.memory[-1].text)

    return answer
