"""The legacy peer of tests/interop/legacy: a look-alike of the deployed agents, on npm nostr-tools."""

from __future__ import annotations

import itertools
import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parts.node import PROGRAMS, node
from parts.process import DEADLINE_S, clean_environment, end, last_words, start

PROGRAM = PROGRAMS / "legacy" / "agent.mjs"

Json = dict[str, Any]


class LegacyPeer:
    """A running legacy peer: commands go in, what it decrypts comes out."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, agent_id: str) -> None:
        self.agent_id = agent_id
        self._process = process
        self._folder = folder
        self._numbers = itertools.count(1)
        self._lines: queue.Queue[Json | None] = queue.Queue()
        self._events: list[Json] = []
        self._replies: dict[int, Json] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        ready = self.event("ready")
        self.pubkey: str = ready["pubkey"]
        self.name: str = ready["name"]

    def do(self, verb: str, **fields: Any) -> Any:
        """Gives a command and returns its result; a refusal (of the relay, too) fails the test."""
        reply = self._reply(verb, fields)
        assert "error" not in reply, f"{self.agent_id}: {verb}: {reply['error']}"
        return reply["ok"]

    def refuses(self, verb: str, **fields: Any) -> str:
        """Gives a command that must fail; returns why it did."""
        reply = self._reply(verb, fields)
        assert "error" in reply, f"{self.agent_id}: {verb} succeeded: {reply}"
        return str(reply["error"])

    def payload(self, type: str, *, timeout: float = DEADLINE_S, **fields: Any) -> Json:
        """Waits for the next payload of this type with these fields; adds `from` and `event_id` to it."""
        wanted = {"type": type, **{_wire(name): value for name, value in fields.items()}}
        event = self.event("payload", timeout=timeout, payload=wanted)
        return {**event["payload"], "from": event["from"], "event_id": event["id"]}

    def payloads(self, type: str | None = None) -> list[Json]:
        """All payloads so far that `payload` has not returned yet, of one type or of all."""
        self._drain()
        seen = [event["payload"] for event in self._events if event["event"] == "payload"]
        return [payload for payload in seen if type in (None, payload.get("type"))]

    def event(self, kind: str, *, payload: Json | None = None, timeout: float = DEADLINE_S) -> Json:
        """Waits for an event, and takes it out of the list of those seen."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self._events:
                if event["event"] == kind and (payload or {}).items() <= event.get("payload", {}).items():
                    self._events.remove(event)
                    return event
            self._take(deadline, f"{kind} {payload or ''}")

    def _reply(self, verb: str, fields: Json) -> Json:
        number = next(self._numbers)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"n": number, "do": verb, **fields}) + "\n")
        self._process.stdin.flush()
        deadline = time.monotonic() + DEADLINE_S
        while number not in self._replies:
            self._take(deadline, f"the reply to {verb}")
        return self._replies.pop(number)

    def _take(self, deadline: float, what: str) -> None:
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"{self.agent_id} never saw {what}; it saw {self._events}") from None
        assert line is not None, f"the legacy peer ended: {last_words(self._folder)}"
        self._keep(line)

    def _drain(self) -> None:
        while not self._lines.empty():
            line = self._lines.get()
            assert line is not None, f"the legacy peer ended: {last_words(self._folder)}"
            self._keep(line)

    def _keep(self, line: Json) -> None:
        if "event" in line:
            self._events.append(line)
        else:
            self._replies[line["n"]] = line

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)


@contextmanager
def legacy_peer(folder: Path, relay_url: str, agent_id: str, *, secret: str | None = None) -> Iterator[LegacyPeer]:
    """Runs a legacy peer on one relay, with a new key unless `secret` (hex) is given."""
    words: list[str | Path] = [node(), PROGRAM, relay_url, agent_id, *([secret] if secret else [])]
    process = start(words, folder=folder, environment=clean_environment(folder), talks=True)
    try:
        yield LegacyPeer(process, folder, agent_id)
    finally:
        end(process)


def _wire(name: str) -> str:
    """`room_id` is `roomId` on the wire."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
