"""CrewAI: `Agent(role=…, tools=crewai.tools(agent))`. It runs without `await`."""

from typing import Any

from crewai import Agent as CrewAgent
from crewai.tools.base_tool import BaseTool, Tool

from .. import sync
from ..agent import Agent
from ..serving import Conversation, Handler, Heard
from ..tools import described
from ._schema import arguments


def tools(agent: "Agent | sync.Agent") -> list[BaseTool]:
    """The tools of an agent."""
    blocking = agent if isinstance(agent, sync.Agent) else sync.Agent.of(agent)
    return [
        Tool(
            name=tool.__name__,
            description=described(tool)[0],
            func=tool,
            args_schema=arguments(tool),
            cache_function=_never,
        )
        for tool in blocking.tools()
    ]


def _never(*_: Any) -> bool:
    """CrewAI would answer a second wait with the result of the first."""
    return False


def handler(agent: CrewAgent) -> Handler:
    """Answers with an agent that needs no crew."""

    async def answer(heard: Heard, conversation: Conversation) -> str:
        said = [*(conversation.memory or []), {"role": "user", "content": conversation.prompt(heard)}]
        reply = str((await agent.kickoff_async(said)).raw)
        conversation.memory = [*said, {"role": "assistant", "content": reply}]
        return reply

    return answer
