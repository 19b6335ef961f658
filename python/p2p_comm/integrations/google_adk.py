"""Google's Agent Development Kit. It takes `agent.tools()` as they are: `LlmAgent(name=…, tools=agent.tools())`."""

from google.adk.agents import BaseAgent
from google.adk.runners import InMemoryRunner
from google.adk.tools import FunctionTool
from google.genai import types

from ..agent import Agent
from ..serving import Conversation, Handler, Heard


def tools(agent: Agent) -> list[FunctionTool]:
    """The tools of an agent."""
    return [FunctionTool(tool) for tool in agent.tools()]


def handler(agent: BaseAgent) -> Handler:
    """Answers with an agent, one session a call, kept in memory and gone with the call."""

    async def answer(heard: Heard, conversation: Conversation) -> str:
        user, call = conversation.peer.pubkey, conversation.call.id
        runner: InMemoryRunner | None = conversation.memory
        if runner is None:
            runner = conversation.memory = InMemoryRunner(agent)
            await runner.session_service.create_session(app_name=runner.app_name, user_id=user, session_id=call)
        said = types.Content(role="user", parts=[types.Part(text=conversation.prompt(heard))])
        reply = ""
        async for event in runner.run_async(user_id=user, session_id=call, new_message=said):
            if event.is_final_response() and event.content:
                reply = "".join(part.text or "" for part in event.content.parts or ())
        return reply

    return answer
