"""What one side of an exchange was promised, told and shown, written down as it happens.

A ledger is a file of JSON lines that is only ever appended to. Its first line says whose it is, the others say, in
the order in which they happened, `what`:

    side      {"agent", "pubkey"}                                        the first line
    call      {"call", "name"}             what this side calls a call that both sides know by `name`
    tried     {"message"|null, "to", "call"|null, "kind", "body"}        before a message is handed in
    accepted  {"message", "to", "call"|null, "kind", "body"}             the reply came: from here on it is promised
    told      {"message", "state", "reason"|null}                        what became of it, as this side was told
    surfaced  {"message", "from", "call"|null, "kind", "body"}           the application had it in its hands

`kind` is text, escalation or file; `body` the text, or a file's SHA-256 in hex. Keys are hex. `tests/python/checker.py`
reads the ledgers of both sides; it shares no code with this.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

Kind = Literal["text", "escalation", "file"]
State = Literal["relayed", "delivered", "read", "failed"]


class Ledger:
    """One side's ledger. Any thread may write; a line is in the file before the method returns."""

    def __init__(self, path: Path, *, agent: str, pubkey: str) -> None:
        self.path = path
        self.pubkey = pubkey
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._file = path.open("x", encoding="utf-8")
        self._write(what="side", agent=agent, pubkey=pubkey)

    def call(self, call: str, *, name: str) -> None:
        """Says what this side calls the call that both know by `name`."""
        self._write(what="call", call=call, name=name)

    def tried(self, *, message: str | None, to: str, call: str | None, kind: Kind, body: str) -> None:
        """A message is about to be handed in. Without an id, the id is the engine's to choose."""
        self._write(what="tried", message=message, to=to, call=call, kind=kind, body=body)

    def accepted(self, *, message: str, to: str, call: str | None, kind: Kind, body: str) -> None:
        """The reply came: the message is promised."""
        self._write(what="accepted", message=message, to=to, call=call, kind=kind, body=body)

    def told(self, *, message: str, state: State, reason: str | None = None) -> None:
        """What became of a message, as this side's events or `messages` say."""
        self._write(what="told", message=message, state=state, reason=reason)

    def surfaced(self, *, message: str, sender: str, call: str | None, kind: Kind, body: str) -> None:
        """The application has a message in its hands. `sender` is who wrote it, as this side was told."""
        self._write(what="surfaced", message=message, **{"from": sender}, call=call, kind=kind, body=body)

    def count(self, what: str) -> int:
        """How many lines of a sort there are; of `told` also by state, as in `told delivered`."""
        with self._lock:
            return self._counts[what]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, **line: Any) -> None:
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            self._counts[line["what"]] += 1
            if line["what"] == "told":
                self._counts[f"told {line['state']}"] += 1
