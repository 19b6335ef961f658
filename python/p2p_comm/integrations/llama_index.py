"""LlamaIndex. It takes `agent.tools()` as they are: `FunctionAgent(tools=agent.tools(), llm=…)`."""

from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow, BaseWorkflowAgent
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context

from ..agent import Agent
from ..serving import Conversation, Handler, Heard


def tools(agent: Agent) -> list[FunctionTool]:
    """The tools of an agent, also for a `FunctionCallingLLM` without an agent."""
    return [FunctionTool.from_defaults(async_fn=tool) for tool in agent.tools()]


def handler(workflow: "BaseWorkflowAgent | AgentWorkflow") -> Handler:
    """Answers with an agent of `llama_index.core.agent.workflow`, or with several of them."""

    async def answer(heard: Heard, conversation: Conversation) -> str:
        memory: Context[Any] = conversation.memory or Context(workflow)
        conversation.memory = memory
        return str(await workflow.run(user_msg=conversation.prompt(heard), ctx=memory))

    return answer
