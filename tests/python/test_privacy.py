"""What a relay learns of a call, and what somebody can read of it who later takes both identities' keys.

One long call over a relay that writes everything down, and then every message of the record.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from p2p_comm import Agent, Call, Ended, Escalation, Message, ReceivedFile
from parts import privacy, recording
from parts.decoder import try_record
from parts.privacy import EPHEMERAL, FRAME_PREFIX, Said
from parts.recording import recording_proxy

TEXTS = 1_000
FILE_SIZES = (40, 500, 5_000, 20_000, 36_000)
LABELS = ("id of alice", "id of bob", "name of alice", "name of bob", "topic", "text", "file name", "file", "question")
# For everything: several builds may share the machine.
CALL_S = 240.0

Json = dict[str, Any]
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Side:
    """One agent, as the test knows it."""

    pubkey: str
    npub: str
    secret: str


@dataclass(frozen=True)
class Held:
    """A call that was held, and all that the relay heard and said meanwhile."""

    record: list[Said]
    sides: tuple[Side, Side]
    # What nobody else is to read, by what it is.
    words: dict[str, str]
    heard: Counter[str]

    @property
    def keys(self) -> list[str]:
        """Both identities, in both spellings."""
        return [spelling for side in self.sides for spelling in (side.pubkey, side.npub)]

    @property
    def texts(self) -> list[str]:
        """Every message as it was."""
        return [said.message.text for said in self.record]


def word(label: str) -> str:
    """A word that is found nowhere else; long enough for its base64 to be its own, too."""
    return f"{label}-{secrets.token_hex(12)}"


@pytest.fixture(scope="module")
def held(embedded_relay: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    with recording_proxy(embedded_relay) as proxy:
        sides, words, heard = asyncio.run(hold_a_call(proxy.url, tmp_path_factory.mktemp("homes")))
        yield Held(privacy.parsed(proxy.messages), sides, words, heard)


async def until(look: Callable[[], Awaitable[Seen]], enough: Callable[[Seen], bool]) -> None:
    async def see() -> None:
        while not enough(await look()):
            pass

    await asyncio.wait_for(see(), 30)


async def hold_a_call(relay: str, folder: Path) -> tuple[tuple[Side, Side], dict[str, str], Counter[str]]:
    """Two agents find and call each other, say a thousand things, send files, ask an owner, and end the call."""
    labels = (
        "id of alice",
        "id of bob",
        "name of alice",
        "name of bob",
        "topic",
        "text",
        "file name",
        "file",
        "question",
    )
    words = {label: word(label.replace(" ", "-")) for label in labels}

    def agent(label: str) -> Agent:
        home = folder / label
        home.mkdir(mode=0o700)
        return Agent(words[f"id of {label}"], name=words[f"name of {label}"], relays=[relay], home=home, owner="")

    alice, bob = agent("alice"), agent("bob")
    async with alice, bob:
        for one, other in ((alice, bob), (bob, alice)):
            await until(one.list, lambda peers, other=other: other.id in {peer.id for peer in peers})  # type: ignore[misc]
        here, there = await connect(alice, bob, words["topic"])
        listening = asyncio.gather(listen(here), listen(there))
        await talk(here, there, words)
        transcript = await here.end()
        heard = sum(await asyncio.wait_for(listening, CALL_S), Counter[str]())
        assert transcript.message_count == TEXTS + len(FILE_SIZES) + 1
    sides = tuple(side(one, folder / label) for one, label in ((alice, "alice"), (bob, "bob")))
    return (sides[0], sides[1]), words, heard


def side(agent: Agent, home: Path) -> Side:
    """An agent's keys; the secret one from where a thief would take it."""
    stored = json.loads((home / "p2p-identity.json").read_text())
    assert stored["publicKey"] == agent.pubkey
    return Side(agent.pubkey, agent.npub, stored["privateKeyHex"])


async def connect(caller: Agent, callee: Agent, topic: str) -> tuple[Call, Call]:
    calling = asyncio.create_task(caller.call(callee.id, topic=topic, wait=60))
    ring = await asyncio.wait_for(callee.incoming().__anext__(), 60)
    accepted = await ring.accept()
    call = await calling
    assert (call.info.protocol, accepted.info.protocol) == ("v2", "v2")
    return call, accepted


async def talk(here: Call, there: Call, words: dict[str, str]) -> None:
    """Both at once; returns when all has been delivered."""
    lengths = [(number * number) % 700 for number in range(TEXTS)]
    texts = [f"{number} {words['text']} {'x' * length}" for number, length in enumerate(lengths)]
    sending = [(here if number % 3 else there).send(text) for number, text in enumerate(texts)]
    receipts = await asyncio.gather(*sending)
    for number, size in enumerate(FILE_SIZES):
        content = (words["file"].encode() * (size // len(words["file"]) + 1))[:size]
        receipts.append(await (here, there)[number % 2].send_file(content, name=f"{number}-{words['file name']}.txt"))
    await asyncio.gather(*(receipt.delivered(timeout=CALL_S) for receipt in receipts))
    decision = await here.escalate(words["question"], options=["yes", "no"], wait=30)
    assert decision.state == "no-owner"


async def listen(call: Call) -> Counter[str]:
    """What one side hears, by what it is, until the call is over."""
    heard: Counter[str] = Counter()
    async for event in call:
        heard[type(event).__name__] += 1
    return heard


def test_everything_that_was_said_was_heard(held: Held) -> None:
    assert held.heard[Message.__name__] == TEXTS
    assert held.heard[ReceivedFile.__name__] == len(FILE_SIZES)
    assert held.heard[Escalation.__name__] == 1
    # Who ends a call need not be told.
    assert held.heard[Ended.__name__] in (1, 2)


def test_identities_stand_only_where_agents_name_themselves_and_are_called(held: Held) -> None:
    assert privacy.identities_out_of_place(held.record, held.keys) == []
    seen = Counter(said.event["kind"] for said in held.record if said.event is not None)
    assert seen[privacy.PRESENCE] >= 2
    assert seen[privacy.INBOX] >= 2
    assert seen[privacy.STORED_WRAP] >= 1
    assert seen[privacy.EPHEMERAL] > 10
    assert set(seen) <= {*privacy.PUBLIC, privacy.STORED_WRAP, privacy.EPHEMERAL}


def test_an_agent_is_not_named_on_its_connections_of_sessions(held: Held, tmp_path: Path) -> None:
    alice, bob = held.sides
    sessions = privacy.session_connections(held.record)
    # Whose is which: alice listens to the key in her invitation, which is read here with bob's.
    (session_key,) = {
        signal["key"] for signal in try_record(tmp_path, held.texts, [bob.secret])["signals"] if signal["t"] == "invite"
    }
    frames = privacy.frames(held.record)
    (other_key,) = {frame["pubkey"] for frame in frames} - {session_key}
    hers = privacy.connections_that_listen_to(held.record, session_key)
    his = privacy.connections_that_listen_to(held.record, other_key)
    assert hers
    assert his
    assert not hers & his
    assert hers | his <= sessions
    assert privacy.named_on(held.record, hers, [alice.pubkey, alice.npub]) == []
    assert privacy.named_on(held.record, his, [bob.pubkey, bob.npub]) == []
    for said in held.record:
        if said.message.connection in sessions and said.event is not None:
            answers = {privacy.INBOX} if said.message.direction == "to client" else {privacy.STORED_WRAP}
            assert said.event["kind"] in {privacy.EPHEMERAL, privacy.AUTHENTICATION, *answers}


def test_what_a_session_publishes_names_throw_away_keys_only(held: Held) -> None:
    events = privacy.ephemeral_events(held.record).values()
    frames = privacy.frames(held.record)
    assert len(frames) > 10
    for event in events:
        ((name, receiver),) = event["tags"]
        assert name == "p"
        assert not {event["pubkey"], receiver} & set(held.keys)
    # One key a side, for the whole call.
    assert len({event["pubkey"] for event in frames}) == 2
    assert {event["pubkey"] for event in frames} == {event["tags"][0][1] for event in frames}
    # Echoes go from a key to itself, and all look alike.
    all_events = [said.event for said in held.record if said.event is not None and said.event["kind"] == EPHEMERAL]
    echoes = [event for event in all_events if event["id"] not in privacy.ephemeral_events(held.record)]
    assert len({len(event["content"]) for event in echoes}) <= 1
    assert not {event["pubkey"] for event in echoes} & {event["pubkey"] for event in frames}


def test_sizes_tell_a_bucket_and_no_more(held: Held) -> None:
    events = privacy.ephemeral_events(held.record)
    assert privacy.sizes_out_of_their_bucket(events.values()) == []
    assert len({privacy.padded_size(event)[0] for event in events.values()}) > 1


def test_nothing_that_was_said_is_in_the_open(held: Held) -> None:
    public = {"id of alice", "id of bob", "name of alice", "name of bob"}
    assert privacy.words_in_the_open(held.record, held.words, public=public) == []
    # What may be public is there, so the search would have found the rest.
    for name in public:
        assert any(held.words[name] in text for text in held.texts)


def test_no_secret_key_ever_leaves(held: Held) -> None:
    keys = {side.pubkey: side.secret for side in held.sides}
    assert privacy.words_in_the_open(held.record, keys, public=()) == []


def test_who_takes_both_identities_later_reads_the_invitation_and_nothing_of_the_call(
    held: Held, tmp_path: Path
) -> None:
    found = try_record(tmp_path, held.texts, [side.secret for side in held.sides])
    # The attempt is real: everything that was wrapped to an identity is opened, and tells the topic.
    assert found["stored"]["recorded"] == found["stored"]["tried"] == found["stored"]["opened"] > 0
    (topic,) = {signal["topic"] for signal in found["signals"] if signal["t"] == "invite"}
    assert topic == held.words["topic"]
    # The accept was wrapped to a throw-away key, and the frames are under keys that nobody stored.
    assert found["ephemeral"]["tried"] > 0
    assert found["ephemeral"]["opened"] == 0
    frames = found["frames"]
    assert frames["recorded"] == frames["tried"] > 10
    assert frames["keys"] > 10
    assert frames["opened"] == 0


# The checks themselves: they can fail.

KEY = "ab" * 32
OTHER = "cd" * 32
SESSION = "ef" * 32


def said(*message: Any, connection: int = 1, direction: recording.Direction = "to relay") -> Said:
    (parsed,) = privacy.parsed([recording.Message(connection, direction, json.dumps(message), 0.0)])
    return parsed


def event(kind: int, **members: Any) -> Json:
    return {"id": "00" * 32, "kind": kind, "pubkey": SESSION, "tags": [["p", SESSION]], "content": "", **members}


FRAME = said("EVENT", event(21059), connection=2)


@pytest.mark.parametrize(
    "right",
    [
        said("EVENT", event(30078, pubkey=KEY)),
        said("EVENT", "sub", event(30078, pubkey=KEY), direction="to client"),
        said("AUTH", event(22242, pubkey=KEY)),
        said("REQ", "sub", {"kinds": [1059], "#p": [KEY]}),
        said("EVENT", event(1059, tags=[["p", KEY]])),
        said("EVENT", event(1059, tags=[["p", KEY]]), connection=2),
        said("EVENT", "sub", event(1059, tags=[["p", KEY]]), direction="to client"),
        said("EVENT", event(1), connection=2),
        said("REQ", "sub", {"kinds": [10050], "authors": [KEY]}, connection=2),
        said("EVENT", "sub", event(10050, pubkey=KEY), connection=2, direction="to client"),
    ],
)
def test_a_key_in_its_place_is_right(right: Said) -> None:
    assert privacy.identities_out_of_place([FRAME, right], [KEY, OTHER]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        said("EVENT", event(4, pubkey=KEY)),
        said("EVENT", event(1059, pubkey=KEY)),
        said("EVENT", event(1059, tags=[["p", OTHER], ["x", KEY]])),
        said("EVENT", event(1059, tags=[["p", OTHER, KEY]])),
        said("EVENT", "sub", event(1059, tags=[["p", KEY]]), connection=2, direction="to client"),
        said("EVENT", event(21059, pubkey=KEY)),
        said("EVENT", event(21059, tags=[["p", KEY]])),
        said("EVENT", event(21059, content=KEY)),
        said("EVENT", event(30078, pubkey=KEY), connection=2),
        said("AUTH", event(22242, pubkey=KEY), connection=2),
        said("REQ", "sub", {"kinds": [1059], "#p": [KEY]}, connection=2),
        said("REQ", "sub", {"kinds": [21059], "#p": [KEY]}),
        said("REQ", "sub", {"kinds": [10050]}, {"kinds": [30078], "authors": [KEY]}, connection=2),
        said("REQ", KEY, {"kinds": [10050], "authors": [KEY]}, connection=2),
        said("EVENT", event(10050, pubkey=KEY), connection=2),
        said("REQ", f"inbox-{KEY}", {"kinds": [1059]}),
        said("EOSE", f"inbox-{KEY}", direction="to client"),
        said("NOTICE", KEY, direction="to client"),
    ],
)
def test_a_key_out_of_place_is_found(wrong: Said) -> None:
    assert len(privacy.identities_out_of_place([FRAME, wrong], [KEY, OTHER])) == 1


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("write", [str, lambda text: text.encode().hex(), lambda text: b64(text)])
def test_a_word_in_the_open_is_found(before: str, write: Callable[[str], str]) -> None:
    found = said("EVENT", event(21059, content=write(f"{before}secret-topic and more")))
    assert len(privacy.words_in_the_open([found], {"topic": "secret-topic"}, public=())) == 1
    assert privacy.words_in_the_open([found], {"topic": "secret-topics"}, public=()) == []


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_public_word_is_right_in_a_presence_only() -> None:
    words = {"id": "alice-of-wonderland"}
    there = said("EVENT", event(30078, content="alice-of-wonderland"))
    elsewhere = said("EVENT", event(1059, content="alice-of-wonderland"))
    assert privacy.words_in_the_open([there], words, public=["id"]) == []
    assert len(privacy.words_in_the_open([there, elsewhere], words, public=["id"])) == 1


@pytest.mark.parametrize(
    ("size", "right"), [(256, True), (320, True), (40_960, True), (255, False), (300, False), (49_152, False)]
)
def test_a_size_that_is_no_bucket_is_found(size: int, right: bool) -> None:
    content = FRAME_PREFIX + b64("x" * (privacy.FRAME_HEADER + size + privacy.TAG))
    assert (privacy.sizes_out_of_their_bucket([event(21059, content=content)]) == []) is right
