"""Programs that talk in JSON lines: commands go in, replies and events come out."""

from __future__ import annotations

import itertools
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parts.process import DEADLINE_S, last_words

Json = dict[str, Any]


class Talker:
    """A running program: {"n": 1, "do": …} in, {"n": 1, "ok": …} or {"n": 1, "error": …} and {"event": …} out."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, label: str) -> None:
        self.label = label
        self._process = process
        self._folder = folder
        self._numbers = itertools.count(1)
        self._lines: queue.Queue[Json | None] = queue.Queue()
        self._events: list[Json] = []
        self._replies: dict[int, Json] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def do(self, verb: str, **fields: Any) -> Any:
        """Gives a command and returns its result; a refusal (of the relay, too) fails the test."""
        reply = self._reply(verb, fields)
        assert "error" not in reply, f"{self.label}: {verb}: {reply['error']}"
        return reply["ok"]

    def refuses(self, verb: str, **fields: Any) -> str:
        """Gives a command that must fail; returns why it did."""
        reply = self._reply(verb, fields)
        assert "error" in reply, f"{self.label}: {verb} succeeded: {reply}"
        return str(reply["error"])

    def event(self, kind: str, *, where: Callable[[Json], bool] | None = None, timeout: float = DEADLINE_S) -> Json:
        """Waits for an event, and takes it out of the list of those seen."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self._events:
                if event["event"] == kind and (where is None or where(event)):
                    self._events.remove(event)
                    return event
            self._take(deadline, kind)

    def seen(self, kind: str) -> list[Json]:
        """All events of a kind so far that `event` has not returned yet."""
        while not self._lines.empty():
            self._keep(self._lines.get())
        return [event for event in self._events if event["event"] == kind]

    def begin(self, verb: str, **fields: Any) -> Callable[[], Any]:
        """Gives a command, and returns what waits for its result; a refusal fails the test then."""
        number = self._give(verb, fields)

        def result() -> Any:
            reply = self._await(number, verb)
            assert "error" not in reply, f"{self.label}: {verb}: {reply['error']}"
            return reply["ok"]

        return result

    def _reply(self, verb: str, fields: Json) -> Json:
        return self._await(self._give(verb, fields), verb)

    def _give(self, verb: str, fields: Json) -> int:
        number = next(self._numbers)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"n": number, "do": verb, **fields}) + "\n")
        self._process.stdin.flush()
        return number

    def _await(self, number: int, verb: str) -> Json:
        deadline = time.monotonic() + DEADLINE_S
        while number not in self._replies:
            self._take(deadline, f"the reply to {verb}")
        return self._replies.pop(number)

    def _take(self, deadline: float, what: str) -> None:
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"{self.label} never saw {what}; it saw {self._events}") from None
        self._keep(line)

    def _keep(self, line: Json | None) -> None:
        assert line is not None, f"{self.label} ended: {last_words(self._folder)}"
        if "event" in line:
            self._events.append(line)
        else:
            self._replies[line["n"]] = line

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)
