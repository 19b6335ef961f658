"""A client of the Model Context Protocol on `mcp` 1.x of the Python package registry.

    python client_1.py <command> [<argument>...]

Starts that server and talks in JSON lines: {"n": 1, "do": "tools" | "call" | "resources" | "read" | "subscribe", …} in,
{"n": 1, "ok": …} or {"n": 1, "error": …} out; {"event": "ready", …} once, {"event": "updated", "uri": …} whenever.
"""

import asyncio
import json
import os
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import ResourceUpdatedNotification, ServerNotification
from pydantic import AnyUrl


def tell(message: dict) -> None:
    """One line out."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def notice(message: object) -> None:
    """What the server says by itself."""
    if isinstance(message, ServerNotification) and isinstance(message.root, ResourceUpdatedNotification):
        tell({"event": "updated", "uri": str(message.root.params.uri)})


async def obey(session: ClientSession, verb: str, command: dict) -> object:
    """Carries out one command."""
    match verb:
        case "tools":
            return [tool.model_dump(mode="json") for tool in (await session.list_tools()).tools]
        case "call":
            result = await session.call_tool(command["tool"], command.get("arguments", {}))
            text = [content.text for content in result.content]
            return {"failed": result.isError, "text": text, "structured": result.structuredContent}
        case "resources":
            return [str(resource.uri) for resource in (await session.list_resources()).resources]
        case "read":
            contents = (await session.read_resource(AnyUrl(command["uri"]))).contents
            return [content.text for content in contents]
        case "subscribe":
            await session.subscribe_resource(AnyUrl(command["uri"]))
            return None
    raise LookupError(f"unknown command {verb}")


async def answer(session: ClientSession, line: str) -> None:
    """One line in."""
    command = json.loads(line)
    number, verb = command.pop("n"), command.pop("do")
    try:
        tell({"n": number, "ok": await obey(session, verb, command)})
    except Exception as error:
        tell({"n": number, "error": str(error)})


async def main(words: list[str]) -> None:
    """Runs until stdin ends."""
    server = StdioServerParameters(command=words[0], args=words[1:], env=dict(os.environ))
    async with (
        stdio_client(server) as (read, write),
        ClientSession(read, write, message_handler=notice) as session,
    ):
        hello = await session.initialize()
        tell({"event": "ready", "version": hello.protocolVersion, "instructions": hello.instructions})
        answers = set()
        while line := await asyncio.to_thread(sys.stdin.readline):
            answers.add(asyncio.create_task(answer(session, line)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
