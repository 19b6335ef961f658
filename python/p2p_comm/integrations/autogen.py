"""AutoGen (AgentChat): `AssistantAgent("alice", model_client=…, tools=autogen.tools(agent))`."""

import asyncio
from typing import Any

from autogen_agentchat.agents import BaseChatAgent
from autogen_core import CancellationToken
from autogen_core.tools import BaseTool
from pydantic import BaseModel

from ..agent import Agent
from ..serving import Conversation, Handler, Heard
from ..tools import Tool, described
from ._schema import arguments


class P2PTool(BaseTool[BaseModel, Any]):
    """A tool made of a function whose docstring describes the arguments."""

    def __init__(self, function: Tool) -> None:
        super().__init__(arguments(function), str, function.__name__, described(function)[0])
        self._function = function

    async def run(self, args: BaseModel, cancellation_token: CancellationToken) -> str:
        """Uses the tool; cancelling the token cancels it."""
        running = asyncio.ensure_future(self._function(**args.model_dump()))
        cancellation_token.link_future(running)
        return await running


def tools(agent: Agent) -> list[BaseTool[Any, Any]]:
    """The tools of an agent."""
    return [P2PTool(tool) for tool in agent.tools()]


def handler(agent: BaseChatAgent) -> Handler:
    """Answers with an agent, one call after the other: its state is its own, and changes with the call."""
    turn = asyncio.Lock()

    async def answer(heard: Heard, conversation: Conversation) -> str:
        async with turn:
            await agent.on_reset(CancellationToken())
            if conversation.memory is not None:
                await agent.load_state(conversation.memory)
            result = await agent.run(task=conversation.prompt(heard))
            conversation.memory = await agent.save_state()
        return str(result.messages[-1].to_text())

    return answer
