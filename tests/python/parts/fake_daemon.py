"""A daemon made of paper: it speaks JSON-RPC on the socket of a home, and does what a test tells it.

The journal behaves as the engine's: `wait` peeks, `commit` takes one event for one consumer, in any order. Every other
method answers from `replies`, by a value or by a function of the parameters.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from p2p_comm import __version__

Json = dict[str, Any]
Result = TypeVar("Result")

PEER_KEY = "ab" * 32
AT = "2026-01-02T03:04:05.678Z"

PEER: Json = {
    "id": "bob",
    "name": "Bob",
    "pubkey": PEER_KEY,
    "npub": "npub1bob",
    "tier": "known",
    "looks_like": None,
}


def call(id: str = "00000000000000c1", **changes: Any) -> Json:
    """A call in the shape of the engine."""
    return {
        "call": id,
        "state": "connected",
        "direction": "out",
        "peer": PEER,
        "topic": "API design",
        "protocol": "legacy",
        "away": False,
        "started_at": AT,
        "connected_at": AT,
        "ended_at": None,
        "end_reason": None,
        "reason": None,
        "messages": 0,
        **changes,
    }


def ringing(id: str = "00000000000000c1", **changes: Any) -> Json:
    """A call that rings here."""
    return call(id, **{"state": "ringing", "direction": "in", "connected_at": None, **changes})


def ended(id: str = "00000000000000c1", **changes: Any) -> Json:
    """A call that is over."""
    return call(id, **{"state": "ended", "ended_at": AT, "end_reason": "completed", **changes})


def message(text: str = "hello", *, id: int = 1, **changes: Any) -> Json:
    """A message in the shape of the engine."""
    return {
        "message": f"{id:032x}",
        "call": "00000000000000c1",
        "from": "peer",
        "peer": PEER_KEY,
        "tier": "known",
        "kind": "text",
        "text": text,
        "file": None,
        "at": AT,
        "state": "received",
        "reason": None,
        "answers": None,
        **changes,
    }


def transcript(*messages: Json, **changes: Any) -> Json:
    """A transcript in the shape of the engine."""
    return {
        "call": "00000000000000c1",
        "caller": "alice",
        "callee": "bob",
        "topic": "API design",
        "started_at": AT,
        "ended_at": AT,
        "duration_s": 1.5,
        "message_count": len(messages),
        "messages": list(messages),
        **changes,
    }


def ticket(**changes: Any) -> Json:
    """A question to the owner in the shape of the engine."""
    return {
        "ticket": "0000cafe",
        "call": None,
        "question": "May I?",
        "options": ["yes", "no"],
        "state": "waiting",
        "answer": None,
        "channels": [],
        "at": AT,
        "message": None,
        "asked_at": AT,
        "expires_at": AT,
        **changes,
    }


class Refusal(Exception):
    """An error of the engine."""

    def __init__(self, code: str, text: str = "no", hint: str = "") -> None:
        super().__init__(code)
        self.data = {"code": code, "message": text, "hint": hint}


class FakeDaemon:
    """Serves the socket of `home` in a thread of its own, from `with` to the end of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.replies: dict[str, Json | Callable[[Json], Json]] = {}
        self.asked: list[tuple[str, Json]] = []
        """Every command, in the order of arrival."""
        self.committed: list[int] = []
        self.given_up: list[int] = []
        """Ids of requests that the client cancelled."""
        self._journal: list[Json] = []
        self._taken: dict[str, set[int]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._watchers: set[asyncio.Future[None]] = set()
        self._server: asyncio.AbstractServer | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def __enter__(self) -> FakeDaemon:
        folder = self.home / "p2p-comm"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread.start()
        socket = folder / "daemon.sock"
        self._run(self._serve(socket))
        socket.chmod(0o600)
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def publish(self, kind: str, **members: Any) -> int:
        """Adds an event to the journal; returns its cursor."""
        cursor: int = self._run(self._publish(kind, members))
        return cursor

    def methods(self) -> list[str]:
        """The commands that arrived, by name."""
        return [method for method, _ in self.asked]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a command has brought `condition` about; from any event loop."""
        coroutine = asyncio.wait_for(self._until(condition), 20)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            watcher = self._loop.create_future()
            self._watchers.add(watcher)
            try:
                await watcher
            finally:
                self._watchers.discard(watcher)

    def _changed(self) -> None:
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    def _run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _serve(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._connection, path)

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        connections = tuple(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _publish(self, kind: str, members: Json) -> int:
        cursor = len(self._journal) + 1
        of_call = (members.get("message") or members.get("call_state") or {}).get("call")
        self._journal.append({"cursor": cursor, "kind": kind, "at": AT, "call": of_call, **members})
        self._changed()
        return cursor

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        answers: dict[int, asyncio.Task[None]] = {}
        try:
            while line := await reader.readline():
                request = json.loads(line)
                if request["method"] == "cancel":
                    answers[request["params"]["id"]].cancel()
                    self.given_up.append(request["params"]["id"])
                    self._changed()
                else:
                    answers[request["id"]] = asyncio.create_task(self._answer(request, writer))
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            for answer in answers.values():
                answer.cancel()
            try:
                await asyncio.gather(*answers.values(), return_exceptions=True)
            finally:
                writer.close()
                # Only now: who stops the daemon waits for those that are left.
                self._connections.discard(task)

    async def _answer(self, request: Json, writer: asyncio.StreamWriter) -> None:
        method, params = request["method"], request.get("params") or {}
        answer: Json = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            answer["result"] = await self._carry_out(method, params)
        except Refusal as refusal:
            answer["error"] = {"code": -32000, "message": "no", "data": refusal.data}
        writer.write(json.dumps(answer).encode() + b"\n")

    async def _carry_out(self, method: str, params: Json) -> Json:
        if method == "hello":
            return {"version": __version__, "pid": os.getpid(), "home": str(self.home), "agent": self._agent()}
        self.asked.append((method, params))
        self._changed()
        reply = self.replies.get(method)
        if reply is not None:
            return reply(params) if callable(reply) else reply
        match method:
            case "status":
                return self._status()
            case "wait":
                return await self._wait(params)
            case "commit":
                return self._commit(params)
            case "await-call":
                return call(params["call"])
            case "end":
                over = ended(params.get("call") or "00000000000000c1")
                return {"call": over, "already": False, "transcript": transcript(call=over["call"])}
            case "send":
                return message(params["text"], state="queued") | {"from": "me"}
            case _:
                raise Refusal("internal", f"nobody told the fake daemon about {method}")

    async def _wait(self, params: Json) -> Json:
        taken = self._taken.setdefault(params.get("consumer") or "", set())

        def peek() -> Iterator[Json]:
            for event in self._journal:
                fits = event["cursor"] > (params.get("after") or 0) and event["cursor"] not in taken
                fits = fits and params.get("call") in (None, event["call"])
                if fits and (not params["kinds"] or event["kind"] in params["kinds"]):
                    yield event

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._until(lambda: next(peek(), None) is not None), params["timeout_s"])
        found = peek()
        event = next(found, None)
        cursor = len(self._journal) if event is None else event["cursor"]
        ahead = list(itertools.islice(found, params.get("ahead", 0)))
        return {"cursor": cursor, "event": event, "ahead": ahead, "timeout": event is None}

    def _commit(self, params: Json) -> Json:
        self._taken.setdefault(params.get("consumer") or "", set()).add(params["cursor"])
        self.committed.append(params["cursor"])
        self._changed()
        return {"at": AT}

    def _agent(self) -> Json:
        return {
            "id": "alice",
            "name": "Alice",
            "pubkey": "cd" * 32,
            "npub": "npub1alice",
            "capabilities": ["research"],
            "home": str(self.home),
        }

    def _status(self) -> Json:
        return {
            "agent": self._agent(),
            "daemon": {"version": __version__, "pid": os.getpid(), "uptime_s": 1.0},
            "relays": [],
            "connected": True,
            "clock_offset_s": None,
            "calls": [],
            "unread": 0,
            "outbox": {"queued": 0, "failed": 0},
            "owner": [],
        }
