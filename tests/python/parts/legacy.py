"""The legacy peer of tests/interop/legacy: a look-alike of the deployed agents, on npm nostr-tools."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parts.node import PROGRAMS, node
from parts.process import DEADLINE_S, clean_environment, end, start
from parts.talker import Talker

PROGRAM = PROGRAMS / "legacy" / "agent.mjs"

Json = dict[str, Any]


class LegacyPeer(Talker):
    """A running legacy peer: commands go in, what it decrypts comes out."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, agent_id: str) -> None:
        super().__init__(process, folder, agent_id)
        self.agent_id = agent_id
        ready = self.event("ready")
        self.pubkey: str = ready["pubkey"]
        self.name: str = ready["name"]

    def payload(self, type: str, *, timeout: float = DEADLINE_S, **fields: Any) -> Json:
        """Waits for the next payload of this type with these fields; adds `from` and `event_id` to it."""
        wanted = {"type": type, **{_wire(name): value for name, value in fields.items()}}

        def is_wanted(event: Json) -> bool:
            return bool(wanted.items() <= event["payload"].items())

        event = self.event("payload", where=is_wanted, timeout=timeout)
        return {**event["payload"], "from": event["from"], "event_id": event["id"]}

    def payloads(self, type: str | None = None) -> list[Json]:
        """All payloads so far that `payload` has not returned yet, of one type or of all."""
        seen = [event["payload"] for event in self.seen("payload")]
        return [payload for payload in seen if type in (None, payload.get("type"))]


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
