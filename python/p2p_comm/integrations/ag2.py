"""AG2. It takes `agent.tools()` as they are: `Agent("alice", tools=agent.tools(), config=…)`."""

from typing import Any

from ag2 import Agent as AG2Agent
from ag2 import tool as ag2_tool

from ..agent import Agent
from ..serving import Conversation, Handler, Heard


def tools(agent: Agent) -> list[Any]:
    """The tools of an agent."""
    return [ag2_tool(tool) for tool in agent.tools()]


def handler(agent: AG2Agent[Any]) -> Handler:
    """Answers with an agent: each reply continues the one before it."""

    async def answer(heard: Heard, conversation: Conversation) -> str | None:
        last = conversation.memory or agent
        conversation.memory = reply = await last.ask(conversation.prompt(heard))
        return reply.body

    return answer
