"""A client of the Model Context Protocol on `mcp` 2.x of the Python package registry. It talks as client_1.py does."""

import asyncio
import json
import os
import sys

from mcp import Client, StdioServerParameters


def tell(message: dict) -> None:
    """One line out."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class Session:
    """A connected client, and what it listens to."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._listening: set[asyncio.Task] = set()

    async def obey(self, verb: str, command: dict) -> object:
        """Carries out one command."""
        client = self._client
        match verb:
            case "tools":
                return [tool.model_dump(mode="json", by_alias=True) for tool in (await client.list_tools()).tools]
            case "call":
                result = await client.call_tool(command["tool"], command.get("arguments", {}))
                text = [content.text for content in result.content]
                return {"failed": result.is_error, "text": text, "structured": result.structured_content}
            case "resources":
                return [str(resource.uri) for resource in (await client.list_resources()).resources]
            case "read":
                return [content.text for content in (await client.read_resource(command["uri"])).contents]
            case "subscribe":
                heard = asyncio.Event()
                self._listening.add(asyncio.create_task(self._listen(command["uri"], heard)))
                return await heard.wait() and None
        raise LookupError(f"unknown command {verb}")

    async def _listen(self, uri: str, heard: asyncio.Event) -> None:
        async with self._client.listen(resource_subscriptions=[uri]) as changes:
            heard.set()
            async for change in changes:
                tell({"event": "updated", "uri": change.uri})

    async def answer(self, line: str) -> None:
        """One line in."""
        command = json.loads(line)
        number, verb = command.pop("n"), command.pop("do")
        try:
            tell({"n": number, "ok": await self.obey(verb, command)})
        except Exception as error:
            tell({"n": number, "error": str(error)})

    def close(self) -> None:
        """Listens to nothing any more."""
        for task in self._listening:
            task.cancel()


async def main(words: list[str]) -> None:
    """Runs until stdin ends."""
    async with Client(StdioServerParameters(command=words[0], args=words[1:], env=dict(os.environ))) as client:
        session = Session(client)
        tell({"event": "ready", "version": client.protocol_version, "instructions": client.instructions})
        answers = set()
        while line := await asyncio.to_thread(sys.stdin.readline):
            answers.add(asyncio.create_task(session.answer(line)))
        session.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
