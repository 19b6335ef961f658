"""The chaos relay: a proxy in front of a real relay that loses, garbles and lies, as told by its levers.

A `Lever` says what goes wrong, how often, and for what. Whether it is pulled for a message, or a connection, is drawn
from one `random.Random(seed)`; each time it has an effect it counts. A lever that was set and never had an effect
has tested nothing, so `chaos_relay` fails at its end if there is one.

What is said passes these stations, and leaves at the first that keeps it:

    EVENT of a client    drop, false ok, ok then hang up, (ok then drop: remembered), alter, truncate
    OK of the relay      drop, truncate
    EVENT of the relay   (ok then drop), drop, stale, alter, truncate;
                         before it unknown subscription, wrong filter
    EOSE of the relay    no eose, early eose
    all to the client    after it auth loop, notice flood, event flood

EVENT and OK that got so far are duplicated, and each is reordered or delayed; everything else passes at once.
`half-open` and `mute` are drawn once for a connection, when it begins; `mute` also when the lever is set.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from parts.proxy import Proxy, loop_of_its_own
from parts.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    END_OF_HEAD,
    TEXT,
    copy_bytes,
    first_end,
    frame_of,
    is_switch,
    read_frame,
    without_extensions,
)

Json = dict[str, Any]
Direction = Literal["to relay", "to client"]
_Where = tuple[Direction, int, "Json | None"]
What = Literal[
    # It never arrives. With `kinds` or `p` only some do not.
    "drop",
    # It arrives twice.
    "duplicate",
    # It arrives after the next one, or a second later.
    "reorder",
    # It arrives later, by `seconds`.
    "delay",
    # The connection is open, and nothing is ever said on it after the handshake.
    "mute",
    # The connection is accepted, and its handshake never answered.
    "half-open",
    # Half of a frame, then the end of the connection.
    "truncate",
    # Another content under the same id and signature.
    "alter",
    # OK true, and the relay never sees the event.
    "false ok",
    # The relay takes the event and says so; nobody is ever served it.
    "ok then drop",
    # OK true, then the end of the connection; the relay never sees the event.
    "ok then hang up",
    # With something that was asked for comes something that was not.
    "wrong filter",
    # An older version of a replaceable event in the place of the newest.
    "stale",
    # The end of what is stored is never said.
    "no eose",
    # It is said before anything stored is served.
    "early eose",
    # Each event comes under a subscription that nobody opened, too.
    "unknown subscription",
    # After each message a challenge; who answers it gets another one.
    "auth loop",
    # After each message `times` notices.
    "notice flood",
    # After each message `times` events of nobody, whose signatures are wrong, for an open subscription.
    "event flood",
]
# The lies: what a relay says that is not so, or does that it must not.
LIES: tuple[What, ...] = get_args(What)[4:]

_TO_RELAY_ONLY = ("false ok", "ok then drop", "ok then hang up")
# What is held back to come after the next message comes after this long without one.
HELD_S = 1.0
# How many events are remembered, to be served when nobody asked for them or when they are old.
REMEMBERED = 500
# What a client sends must be masked; zeros are a mask that changes nothing.
_MASK = bytes(4)


@dataclass(frozen=True)
class Lever:
    """Something that goes wrong: how often, and for which messages. What is not said does not matter."""

    what: What
    chance: float = 1.0
    # None: both ways for drop, duplicate, reorder, delay and truncate, otherwise the only one that makes sense.
    direction: Direction | None = None
    # Connections are numbered from 1, as they came.
    connection: int | None = None
    # Only events of these kinds, and their OKs.
    kinds: Sequence[int] = ()
    # Only events for one of these keys (`p`), and their OKs.
    p: Sequence[str] = ()
    # Of `delay`.
    seconds: tuple[float, float] = (0.0, 2.0)
    # Of the floods.
    times: int = 20

    def __post_init__(self) -> None:
        assert self.what in get_args(What), self.what
        assert 0 < self.chance <= 1, "a lever that is never pulled tests nothing"
        if self.what == "alter" and self.direction is None:
            # Set on the way to the relay it makes the relay refuse it.
            object.__setattr__(self, "direction", "to client")


class _Gone(OSError):
    """The connection was ended on purpose; what was written before goes out."""


@dataclass
class _Link:
    """One connection of a client and, behind it, one to the relay."""

    number: int
    to_client: asyncio.StreamWriter
    to_relay: asyncio.StreamWriter
    mute: bool
    subscriptions: dict[str, list[Json]] = field(default_factory=dict)
    # What was published here: OKs say no kind and no receiver.
    published: dict[str, Json] = field(default_factory=dict)
    held: dict[Direction, list[bytes]] = field(default_factory=lambda: {"to relay": [], "to client": []})
    # Challenges of our own, and subscriptions whose end was said too early.
    challenges: set[str] = field(default_factory=set)
    told_early: set[str] = field(default_factory=set)

    def writer(self, direction: Direction) -> asyncio.StreamWriter:
        return self.to_client if direction == "to client" else self.to_relay


class ChaosRelay(Proxy):
    """A running chaos relay. Its levers work from the moment that they are set."""

    def __init__(self, relay_url: str, loop: asyncio.AbstractEventLoop, *, seed: int | str) -> None:
        self.seed = seed
        self._random = random.Random(seed)
        self._levers: list[Lever] = []
        self._pulled: Counter[What] = Counter()
        # By id, the newest last.
        self._seen: dict[str, Json] = {}
        # By kind, author and `d`: what was replaced.
        self._versions: dict[tuple[int, str, str], list[Json]] = {}
        self._withheld: set[str] = set()
        self._links: dict[int, _Link] = {}
        # What went wrong in a way that was not planned.
        self.defects: list[Exception] = []
        super().__init__(relay_url, loop)

    def set(self, *levers: Lever) -> None:
        """Sets levers; those that are set already stay."""
        self._do(self._set(levers))

    def clear(self) -> None:
        """No lever is set any more; connections that are mute or half-open stay so. The counters stay."""
        self._do(self._clear())

    def counters(self) -> dict[str, int]:
        """How often each lever that was ever set had an effect."""
        return {str(what): count for what, count in self._pulled.items()}

    def check(self) -> None:
        """Fails if a lever was set and never had an effect, or if the chaos was not of the planned kind."""
        assert not self.defects, self.defects
        idle = [what for what, count in self.counters().items() if count == 0]
        assert not idle, f"seed {self.seed!r}: levers without any effect: {idle}; {self.counters()}"

    def say(self, *message: Any) -> None:
        """Says something to every client, as if the relay had."""
        self._do(self._say(json.dumps(message)))

    async def _set(self, levers: Sequence[Lever]) -> None:
        self._levers += levers
        self._pulled.update({lever.what: 0 for lever in levers})
        if any(lever.what == "mute" for lever in levers):
            for link in self._links.values():
                link.mute = link.mute or self._lever("mute", None, link.number) is not None

    async def _clear(self) -> None:
        self._levers.clear()

    async def _say(self, text: str) -> None:
        for link in self._links.values():
            self._write(link, "to client", text)

    def _lever(
        self, what: What, direction: Direction | None, connection: int, event: Json | None = None
    ) -> Lever | None:
        """The lever that is pulled here, if one is; it counts."""
        for lever in self._levers:
            if (
                lever.what == what
                and lever.connection in (None, connection)
                and (lever.direction is None or lever.direction == direction)
                and (not lever.kinds or (event is not None and event["kind"] in lever.kinds))
                and (not lever.p or (event is not None and not set(lever.p).isdisjoint(_values(event, "p"))))
                and self._random.random() < lever.chance
            ):
                self._pulled[what] += 1
                return lever
        return None

    async def _pass_on(
        self,
        number: int,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        writers: list[asyncio.StreamWriter],
    ) -> None:
        request = await client.readuntil(END_OF_HEAD)
        if self._lever("half-open", None, number):
            # Until the client goes, or is cut.
            while await client.read(65_536):
                pass
            return
        relay, to_relay = await asyncio.open_connection(*self._relay)
        writers.append(to_relay)
        to_relay.write(without_extensions(request))
        answer = await relay.readuntil(END_OF_HEAD)
        to_client.write(answer)
        if not is_switch(answer):
            await first_end(copy_bytes(client, to_relay), copy_bytes(relay, to_client))
            return
        link = _Link(number, to_client, to_relay, mute=self._lever("mute", None, number) is not None)
        self._links[number] = link
        try:
            await first_end(self._messages(link, "to relay", client), self._messages(link, "to client", relay))
        finally:
            del self._links[number]

    async def _messages(self, link: _Link, direction: Direction, reader: asyncio.StreamReader) -> None:
        """Reads messages in one direction, for as long as there are any, and does with them what the levers say."""
        message, kind = bytearray(), BINARY
        writer = link.writer(direction)
        while True:
            frame = await read_frame(reader)
            if direction == "to client" and link.mute:
                continue
            if frame.opcode not in (CONTINUATION, TEXT, BINARY):
                writer.write(frame.raw)
                await writer.drain()
                if frame.opcode == CLOSE:
                    return
                continue
            if frame.opcode != CONTINUATION:
                message, kind = bytearray(), frame.opcode
            message += frame.payload
            if frame.is_last:
                assert kind == TEXT, "NIP-01 speaks text"
                self._handle(link, direction, message.decode())
                await writer.drain()

    def _handle(self, link: _Link, direction: Direction, text: str) -> None:
        try:
            (self._from_client if direction == "to relay" else self._from_relay)(link, text)
        except _Gone:
            raise
        except Exception as defect:
            self.defects.append(defect)
            raise

    def _from_client(self, link: _Link, text: str) -> None:
        said = json.loads(text)
        if said[0] == "EVENT":
            self._published(link, said[1])
            return
        if said[0] == "AUTH" and not link.challenges.isdisjoint(_values(said[1], "challenge")):
            self._answer(link, "OK", said[1]["id"], True, "")
            return
        if said[0] == "REQ":
            link.subscriptions[said[1]] = said[2:]
            link.told_early.discard(said[1])
            if self._lever("early eose", None, link.number):
                link.told_early.add(said[1])
                self._answer(link, "EOSE", said[1])
        elif said[0] == "CLOSE":
            link.subscriptions.pop(said[1], None)
        self._write(link, "to relay", text)

    def _published(self, link: _Link, event: Json) -> None:
        self._remember(event)
        link.published[event["id"]] = event
        where: _Where = ("to relay", link.number, event)
        if self._lever("drop", *where):
            return
        if self._lever("false ok", *where):
            self._answer(link, "OK", event["id"], True, "")
            return
        if self._lever("ok then hang up", *where):
            self._answer(link, "OK", event["id"], True, "")
            raise _Gone
        if event["id"] not in self._withheld and self._lever("ok then drop", *where):
            self._withheld.add(event["id"])
        if self._lever("alter", *where):
            event = self._altered(event)
        self._transit(link, "to relay", ["EVENT", event], event)

    def _from_relay(self, link: _Link, text: str) -> None:
        said = json.loads(text)
        if said[0] == "EVENT":
            self._served(link, said[1], said[2])
        elif said[0] == "OK":
            event = link.published.get(said[1])
            if not self._lever("drop", "to client", link.number, event):
                self._transit(link, "to client", said, event)
                self._flood(link)
        elif said[0] == "EOSE" and (said[1] in link.told_early or self._lever("no eose", None, link.number)):
            pass
        else:
            self._answer(link, *said)

    def _served(self, link: _Link, subscription: str, event: Json) -> None:
        self._remember(event)
        if event["id"] in self._withheld or self._lever("drop", "to client", link.number, event):
            return
        where: _Where = ("to client", link.number, event)
        if self._lever("unknown subscription", *where):
            self._write(link, "to client", json.dumps(["EVENT", f"unknown-{self._random.random()}", event]))
        asked = link.subscriptions.get(subscription, [])
        if strangers := [other for other in self._seen.values() if not any(_matches(other, one) for one in asked)]:
            stranger = self._random.choice(strangers)
            if stranger["id"] not in self._withheld and self._lever("wrong filter", *where):
                self._write(link, "to client", json.dumps(["EVENT", subscription, stranger]))
        if (older := self._older(event)) and self._lever("stale", *where):
            event = self._random.choice(older)
        if self._lever("alter", *where):
            event = self._altered(event)
        self._transit(link, "to client", ["EVENT", subscription, event], event)
        self._flood(link)

    def _answer(self, link: _Link, *message: Any) -> None:
        """Says something to the client at once, and what floods follow."""
        self._write(link, "to client", json.dumps(message))
        self._flood(link)

    def _flood(self, link: _Link) -> None:
        if self._lever("auth loop", None, link.number):
            challenge = f"{self._random.getrandbits(128):032x}"
            link.challenges.add(challenge)
            self._write(link, "to client", json.dumps(["AUTH", challenge]))
        if lever := self._lever("notice flood", None, link.number):
            for number in range(lever.times):
                self._write(link, "to client", json.dumps(["NOTICE", f"notice {number}: \x1b[31mall is well\x07"]))
        if link.subscriptions and (lever := self._lever("event flood", None, link.number)):
            for _ in range(lever.times):
                subscription = self._random.choice(list(link.subscriptions))
                event = self._forged(link.subscriptions[subscription])
                self._write(link, "to client", json.dumps(["EVENT", subscription, event]))

    def _transit(self, link: _Link, direction: Direction, message: list[Any], event: Json | None) -> None:
        """An EVENT or OK on its way: cut in two, or duplicated, delayed and reordered."""
        where: _Where = (direction, link.number, event)
        frame = self._frame(direction, json.dumps(message))
        if self._lever("truncate", *where):
            link.writer(direction).write(frame[: len(frame) // 2])
            raise _Gone
        for _ in range(2 if self._lever("duplicate", *where) else 1):
            if self._lever("reorder", *where):
                link.held[direction].append(frame)
                self._loop.call_later(HELD_S, self._release, link, direction)
            elif lever := self._lever("delay", *where):
                self._loop.call_later(self._random.uniform(*lever.seconds), self._write_frame, link, direction, frame)
            else:
                self._write_frame(link, direction, frame)

    def _write(self, link: _Link, direction: Direction, text: str) -> None:
        self._write_frame(link, direction, self._frame(direction, text))

    def _frame(self, direction: Direction, text: str) -> bytes:
        return frame_of(text.encode(), mask=_MASK if direction == "to relay" else None)

    def _write_frame(self, link: _Link, direction: Direction, frame: bytes) -> None:
        """Writes a whole frame, and after it what was held back for this moment."""
        writer = link.writer(direction)
        if writer.is_closing() or (direction == "to client" and link.mute):
            return
        writer.write(frame)
        self._release(link, direction)

    def _release(self, link: _Link, direction: Direction) -> None:
        held, link.held[direction] = link.held[direction], []
        writer = link.writer(direction)
        if not writer.is_closing():
            writer.writelines(held)

    def _remember(self, event: Json) -> None:
        self._seen.setdefault(event["id"], event)
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if _is_replaceable(event["kind"]):
            versions = self._versions.setdefault(_address(event), [])
            if event not in versions:
                versions.append(event)

    def _older(self, event: Json) -> list[Json]:
        versions = self._versions.get(_address(event), [])
        return [version for version in versions if version["created_at"] < event["created_at"]]

    def _altered(self, event: Json) -> Json:
        content = event["content"]
        at = self._random.randrange(len(content)) if content else 0
        other = "A" if content[at : at + 1] != "A" else "B"
        return {**event, "content": content[:at] + other + content[at + 1 :]}

    def _forged(self, filters: Sequence[Json]) -> Json:
        """An event that the filters ask for, and nobody signed."""
        asked = self._random.choice(filters)
        return {
            "id": f"{self._random.getrandbits(256):064x}",
            "pubkey": f"{self._random.getrandbits(256):064x}",
            "created_at": max(asked.get("since", 0), 1_800_000_000),
            "kind": self._random.choice(asked.get("kinds", [1])),
            "tags": [[name[1:], values[0]] for name, values in asked.items() if name.startswith("#") and values],
            "content": "flood",
            "sig": f"{self._random.getrandbits(512):0128x}",
        }


def _values(event: Json, name: str) -> list[str]:
    return [tag[1] for tag in event["tags"] if len(tag) > 1 and tag[0] == name]


def _is_replaceable(kind: int) -> bool:
    return kind in (0, 3) or 10_000 <= kind < 20_000 or 30_000 <= kind < 40_000


def _address(event: Json) -> tuple[int, str, str]:
    return event["kind"], event["pubkey"], next(iter(_values(event, "d")), "")


def _matches(event: Json, asked: Json) -> bool:
    """Whether a filter (NIP-01) asks for an event."""
    if not asked.get("since", 0) <= event["created_at"] <= asked.get("until", event["created_at"]):
        return False
    for member, key in (("ids", "id"), ("authors", "pubkey"), ("kinds", "kind")):
        if member in asked and event[key] not in asked[member]:
            return False
    tags = {name[1:]: values for name, values in asked.items() if name.startswith("#")}
    return all(not set(values).isdisjoint(_values(event, name)) for name, values in tags.items())


@contextmanager
def chaos_relay(relay_url: str, *levers: Lever, seed: int | str, one_of_many: bool = False) -> Iterator[ChaosRelay]:
    """Runs a chaos relay in front of a relay, on any free port; says its seed and what its levers did.

    Unless something else failed first, fails at the end if a lever had no effect. Of `one_of_many`, whose levers are
    pulled seldom, the test itself has to `check_all`.
    """
    with loop_of_its_own("chaos relay") as loop:
        chaos = ChaosRelay(relay_url, loop, seed=seed)
        try:
            chaos.set(*levers)
            yield chaos
            if not one_of_many:
                chaos.check()
        finally:
            chaos.end()
            report(f"chaos relay, seed {seed!r}: {chaos.counters()}")


def check_all(relays: Sequence[ChaosRelay]) -> None:
    """Fails if a lever was set and had no effect at any of the relays, or if one of them broke."""
    total: Counter[str] = Counter()
    for relay in relays:
        assert not relay.defects, relay.defects
        total.update(relay.counters())
    assert total
    assert all(total.values()), f"levers without any effect: {total}"


def report(line: str) -> None:
    """Says something that pytest shows when a test fails, and always with `-rA` or `-s`."""
    print(line)  # noqa: T201  (a seed that nobody can read is of no use)
