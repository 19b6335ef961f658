"""Pydantic AI. It takes `agent.tools()` as they are: `Agent(model, tools=agent.tools())`."""

from typing import Any

from pydantic_ai import Agent as PydanticAgent
from pydantic_ai import Tool

from ..agent import Agent
from ..serving import Conversation, Handler, Heard


def tools(agent: Agent) -> list[Tool[Any]]:
    """The tools of an agent; a docstring without its descriptions of arguments would be an error."""
    return [Tool(tool, docstring_format="google", require_parameter_descriptions=True) for tool in agent.tools()]


def handler(agent: PydanticAgent[None, Any]) -> Handler:
    """Answers with an agent that needs no dependencies."""

    async def answer(heard: Heard, conversation: Conversation) -> str:
        result = await agent.run(conversation.prompt(heard), message_history=conversation.memory)
        conversation.memory = result.all_messages()
        return str(result.output)

    return answer
