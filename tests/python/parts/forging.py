"""A relay that serves what nobody would sign: a proxy in front of a real relay, with forged events of its own.

It serves them live, under whatever open subscription fits best, or as stored events to each new subscription.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parts.chaos import ChaosRelay, report
from parts.installing import installed
from parts.process import REPOSITORY
from parts.proxy import loop_of_its_own

Json = dict[str, Any]

PROGRAM = REPOSITORY / "tests" / "interop" / "v2" / "forger.py"
# Written to a connection before it is waited for what was written.
_AT_ONCE = 100


@dataclass(frozen=True)
class Forged:
    """An event, and what is wrong with it."""

    what: str
    event: Json


def forged(*words: str, scene: Json | None = None) -> list[Forged]:
    """What the forger makes (tests/interop/v2/forger.py)."""
    told = None if scene is None else json.dumps(scene)
    done = subprocess.run([_python(), PROGRAM, *words], input=told, stdout=subprocess.PIPE, text=True, check=True)
    return [Forged(line["class"], line["event"]) for line in map(json.loads, done.stdout.splitlines())]


def _python() -> Path:
    return installed("install-nostr-sdk.sh")


class ForgingRelay(ChaosRelay):
    """A running one. It counts by class what it has served."""

    def __init__(self, relay_url: str, loop: asyncio.AbstractEventLoop, *, seed: int | str) -> None:
        self.live: Counter[str] = Counter()
        self.fetched: Counter[str] = Counter()
        self._stored: list[Forged] = []
        self._genuine: dict[str, Json] = {}
        super().__init__(relay_url, loop, seed=seed)

    def seen(self) -> list[Json]:
        """Every genuine event that has passed, as it was first seen."""
        return list(self._genuine.values())

    def push(self, events: Sequence[Forged]) -> None:
        """Serves them live to every connection that asks for their kind; returns when the sockets have taken it all."""
        asyncio.run_coroutine_threadsafe(self._push(events), self._loop).result()

    def store(self, events: Sequence[Forged]) -> None:
        """Serves them from now on to each new subscription that asks for their kind."""
        self._do(self._store(events))

    async def _store(self, events: Sequence[Forged]) -> None:
        self._stored = [*events]

    async def _push(self, events: Sequence[Forged]) -> None:
        for number, one in enumerate(events):
            for link in list(self._links.values()):
                for subscription, filters in link.subscriptions.items():
                    if _asks_for(filters, one.event):
                        self.live[one.what] += 1
                        self._write(link, "to client", json.dumps(["EVENT", subscription, one.event]))
            if number % _AT_ONCE == 0:
                for link in list(self._links.values()):
                    if not link.to_client.is_closing():
                        await link.to_client.drain()

    def _remember(self, event: Json) -> None:
        self._genuine.setdefault(event["id"], event)
        super()._remember(event)

    def _from_client(self, link: Any, text: str) -> None:
        super()._from_client(link, text)
        said = json.loads(text)
        if said[0] != "REQ":
            return
        # They are written before the relay's own answer can come.
        for one in self._stored:
            if _asks_for(said[2:], one.event):
                self.fetched[one.what] += 1
                self._write(link, "to client", json.dumps(["EVENT", said[1], one.event]))


def _asks_for(filters: Sequence[Json], event: Json) -> bool:
    """Whether a filter asks for this kind: a relay that lies may serve it then, whatever else is asked."""
    return any(event["kind"] in asked.get("kinds", ()) for asked in filters)


@contextmanager
def forging_relay(relay_url: str, *, seed: int | str) -> Iterator[ForgingRelay]:
    """Runs one in front of a relay, on any free port."""
    with loop_of_its_own("forging relay") as loop:
        relay = ForgingRelay(relay_url, loop, seed=seed)
        try:
            yield relay
            relay.check()
        finally:
            relay.end()
            report(f"forging relay, seed {seed!r}: live {dict(relay.live)}, fetched {dict(relay.fetched)}")
