"""A client of the Agent2Agent protocol on `a2a-sdk` of the Python package registry: JSON lines in and out.

{"n": 1, "do": "card" | "send" | "stream" | "get" | "cancel" | "subscribe", …} in, {"n": 1, "ok" | "error": …} out.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import httpx
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import CancelTaskRequest, GetTaskRequest, Message, Part, Role, SendMessageRequest, SubscribeToTaskRequest
from google.protobuf.json_format import MessageToDict

TIMEOUT_S = 60


def tell(message: dict) -> None:
    """One line out."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class Session:
    """A client of one agent."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http, self._url = http, url
        self._clients: dict[tuple[bool, bool], Client] = {}

    async def _client(self, *, streaming: bool = False, polling: bool = False) -> Client:
        if (streaming, polling) not in self._clients:
            config = ClientConfig(streaming=streaming, polling=polling, httpx_client=self._http)
            self._clients[streaming, polling] = await ClientFactory(config).create_from_url(self._url)
        return self._clients[streaming, polling]

    async def obey(self, verb: str, command: dict) -> object:
        """Carries out one command."""
        match verb:
            case "card":
                return MessageToDict(await A2ACardResolver(self._http, self._url).get_agent_card())
            case "send":
                client = await self._client(polling=command.pop("polling", False))
                return (await collect(client.send_message(request(command))))[-1]
            case "stream":
                client = await self._client(streaming=True)
                return await collect(client.send_message(request(command)))
            case "subscribe":
                client = await self._client(streaming=True)
                return await collect(client.subscribe(SubscribeToTaskRequest(id=command["task"])))
            case "get":
                client = await self._client()
                return MessageToDict(await client.get_task(GetTaskRequest(id=command["task"])))
            case "cancel":
                client = await self._client()
                return MessageToDict(await client.cancel_task(CancelTaskRequest(id=command["task"])))
        raise LookupError(f"unknown command {verb}")

    async def answer(self, line: str) -> None:
        """One line in."""
        command = json.loads(line)
        number, verb = command.pop("n"), command.pop("do")
        try:
            tell({"n": number, "ok": await self.obey(verb, command)})
        except Exception as error:
            tell({"n": number, "error": f"{type(error).__name__}: {error}"})


def request(command: dict) -> SendMessageRequest:
    """A message with the words, and with the bytes of a file if they are given in hex."""
    parts = [Part(text=command["text"])] if command.get("text") else []
    if file := command.get("file"):
        parts.append(Part(raw=bytes.fromhex(file["hex"]), filename=file["name"], media_type=file["mime"]))
    if address := command.get("address"):
        parts.append(Part(url=address))
    message = Message(
        message_id=command["id"],
        role=Role.ROLE_USER,
        parts=parts,
        task_id=command.get("task", ""),
        context_id=command.get("context", ""),
    )
    if agent := command.get("agent"):
        message.metadata["agent"] = agent
    return SendMessageRequest(message=message)


async def collect(events: AsyncIterator) -> list:
    """All that comes, told as it comes, too."""
    collected = []
    async for event in events:
        collected.append(MessageToDict(event))
        tell({"event": "update", "update": collected[-1]})
    return collected


async def main(url: str, token: str) -> None:
    """Runs until stdin ends."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S) as http:
        session = Session(http, url)
        answers = set()
        while line := await asyncio.to_thread(sys.stdin.readline):
            answers.add(asyncio.create_task(session.answer(line)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
