"""smolagents: `ToolCallingAgent(tools=smolagents.tools(agent), model=…)`, or a `CodeAgent`. It runs without `await`."""

import asyncio
import inspect
from collections.abc import Callable

from smolagents import MultiStepAgent, Tool

from .. import sync
from ..agent import Agent
from ..serving import Conversation, Handler, Heard
from ..tools import described


class P2PTool(Tool):
    """A tool made of a function, without reading its source."""

    skip_forward_signature_validation = True
    output_type = "string"

    def __init__(self, function: Callable[..., str]) -> None:
        self.name = function.__name__
        self.forward = function
        self.description, arguments = described(function)
        self.inputs = {
            name: {
                "type": "number" if parameter.annotation is float else "string",
                "description": arguments[name],
                "nullable": parameter.default is not parameter.empty,
            }
            for name, parameter in inspect.signature(function).parameters.items()
        }
        super().__init__()


def tools(agent: "Agent | sync.Agent") -> list[Tool]:
    """The tools of an agent."""
    blocking = agent if isinstance(agent, sync.Agent) else sync.Agent.of(agent)
    return [P2PTool(tool) for tool in blocking.tools()]


def handler(agent: MultiStepAgent) -> Handler:
    """Answers with an agent, one call after the other: its memory is its own, and changes with the call."""
    turn = asyncio.Lock()

    async def answer(heard: Heard, conversation: Conversation) -> str:
        async with turn:
            agent.memory.steps = conversation.memory or []
            running = asyncio.ensure_future(asyncio.to_thread(agent.run, conversation.prompt(heard), reset=False))
            try:
                reply = str(await asyncio.shield(running))
            except asyncio.CancelledError:
                # A thread cannot be cancelled: the agent is nobody else's until it has stopped.
                agent.interrupt()
                await asyncio.wait((running,))
                raise
            conversation.memory = agent.memory.steps
        return reply

    return answer
