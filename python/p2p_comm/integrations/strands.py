"""Strands: `Agent(model=…, tools=strands.tools(agent))`."""

import asyncio
from typing import Any

from strands import Agent as StrandsAgent
from strands import tool as strands_tool

from ..agent import Agent
from ..serving import Conversation, Handler, Heard


def tools(agent: Agent) -> list[Any]:
    """The tools of an agent."""
    return [strands_tool(tool) for tool in agent.tools()]


def handler(agent: StrandsAgent) -> Handler:
    """Answers with an agent, one call after the other: its messages are its own, and change with the call."""
    turn = asyncio.Lock()

    async def answer(heard: Heard, conversation: Conversation) -> str:
        async with turn:
            agent.messages = conversation.memory or []
            reply = await agent.invoke_async(conversation.prompt(heard))
            conversation.memory = agent.messages
        return str(reply).strip()

    return answer
