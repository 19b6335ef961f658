"""Strands: `Agent(model=…, tools=strands.tools(agent))`."""

import asyncio
from typing import Any

from strands import Agent as StrandsAgent
from strands.tools.tools import PythonAgentTool
from strands.types.tools import ToolResult, ToolSpec, ToolUse

from ..agent import Agent
from ..serving import Conversation, Handler, Heard
from ..tools import Tool, described
from ._schema import arguments


def tools(agent: Agent) -> list[PythonAgentTool]:
    """The tools of an agent. Not by the decorator `tool`, to which an argument `agent` is one that no model sees."""
    return [_tool(tool) for tool in agent.tools()]


def _tool(function: Tool) -> PythonAgentTool:
    model, name = arguments(function), function.__name__

    async def use(tool_use: ToolUse, **_: Any) -> ToolResult:
        text = await function(**model.model_validate(tool_use["input"]).model_dump())
        return {"toolUseId": tool_use["toolUseId"], "status": "success", "content": [{"text": text}]}

    spec = ToolSpec(name=name, description=described(function)[0], inputSchema={"json": model.model_json_schema()})
    return PythonAgentTool(name, spec, use)


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
