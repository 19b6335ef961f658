"""Microsoft's Agent Framework. It takes `agent.tools()` as they are: `Agent(client, tools=agent.tools())`."""

from typing import Any

from agent_framework import Agent as FrameworkAgent
from agent_framework import FunctionTool

from ..agent import Agent
from ..serving import Conversation, Handler, Heard
from ..tools import described
from ._schema import arguments


def tools(agent: Agent) -> list[FunctionTool]:
    """The tools of an agent, with each argument described in the schema."""
    return [
        FunctionTool(name=tool.__name__, description=described(tool)[0], func=tool, input_model=arguments(tool))
        for tool in agent.tools()
    ]


def handler(agent: FrameworkAgent[Any]) -> Handler:
    """Answers with an agent, one session a call."""

    async def answer(heard: Heard, conversation: Conversation) -> str:
        conversation.memory = conversation.memory or agent.create_session(session_id=conversation.call.id)
        return (await agent.run(conversation.prompt(heard), session=conversation.memory)).text

    return answer
