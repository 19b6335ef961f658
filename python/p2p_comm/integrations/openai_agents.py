"""OpenAI Agents: `Agent(name=…, tools=openai_agents.tools(agent))`."""

from typing import Any

from agents import Agent as OpenAIAgent
from agents import FunctionTool, Runner, function_tool

from ..agent import Agent
from ..serving import Conversation, Handler, Heard


def tools(agent: Agent) -> list[FunctionTool]:
    """The tools of an agent."""
    return [function_tool(tool, docstring_style="google") for tool in agent.tools()]


def handler(agent: OpenAIAgent[Any]) -> Handler:
    """Answers with an agent that needs no context."""

    async def answer(heard: Heard, conversation: Conversation) -> str:
        said: list[Any] = [*(conversation.memory or []), {"role": "user", "content": conversation.prompt(heard)}]
        result = await Runner.run(agent, said)
        conversation.memory = result.to_input_list()
        return str(result.final_output)

    return answer
