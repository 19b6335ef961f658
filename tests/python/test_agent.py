"""`Agent` and `Call` over a real relay, with real engines: the whole conversation, and what may go wrong in it."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from p2p_comm import (
    Agent,
    AgentNotFound,
    Call,
    CallRejected,
    CallTimeout,
    Ended,
    Escalation,
    InvalidRequest,
    Message,
    NoSuchCall,
    ReceivedFile,
)
from p2p_comm.testing import LocalNetwork

Pair = tuple[Agent, Agent]

# Fewer than the calls that a known peer may place in an hour.
PARTINGS = 5
Seen = TypeVar("Seen")


@pytest.fixture
async def network() -> AsyncIterator[LocalNetwork]:
    async with LocalNetwork() as network:
        yield network


@pytest.fixture
async def pair(network: LocalNetwork) -> Pair:
    alice, bob = await network.agents("alice", "bob")
    return alice, bob


async def connect(caller: Agent, callee: Agent, topic: str = "API design") -> tuple[Call, Call]:
    """A call between two agents, and both ends of it."""
    calling = asyncio.create_task(caller.call(callee.id, topic=topic, wait=30))
    ring = await asyncio.wait_for(callee.incoming().__anext__(), 30)
    accepted = await ring.accept()
    return await calling, accepted


async def until(look: Callable[[], Awaitable[Seen]], enough: Callable[[Seen], bool]) -> Seen:
    """Looks until it has seen enough: what an engine finds out by itself cannot be awaited."""

    async def see() -> Seen:
        while not enough(seen := await look()):
            pass
        return seen

    return await asyncio.wait_for(see(), 30)


async def heard(call: Call, count: int) -> list[object]:
    """The next `count` events of a call."""
    events = call.events()
    return [await asyncio.wait_for(events.__anext__(), 30) for _ in range(count)]


async def test_two_agents_find_call_and_answer_each_other(pair: Pair, tmp_path: Path) -> None:
    alice, bob = pair
    assert {peer.id for peer in await alice.list()} == {"bob"}
    calling = asyncio.create_task(alice.call("bob", topic="API design", wait=30))
    ring = await asyncio.wait_for(bob.incoming().__anext__(), 30)
    assert (ring.peer.id, ring.peer.pubkey, ring.topic, ring.tier) == ("alice", alice.pubkey, "API design", "stranger")
    there = await ring.accept()
    here = await calling
    assert (here.info.state, here.info.direction, here.peer.pubkey) == ("connected", "out", bob.pubkey)

    receipt = await here.send("Which of the two schemas?")
    assert receipt.state == "queued"
    assert (await receipt.delivered(timeout=30)).state == "delivered"
    (question,) = await heard(there, 1)
    assert isinstance(question, Message)
    assert (question.text, question.sender, question.peer) == ("Which of the two schemas?", "peer", alice.pubkey)

    report = tmp_path / "report.json"
    report.write_bytes(b'{"data": true}')
    await there.send_file(report)
    await there.send_file(b"\x00\x01", name="two.bin")
    await there.send_file(io.BytesIO(b"three"), name="three.txt", mime="text/plain")
    files = await heard(here, 3)
    for file, name, data in zip(
        files, ("report.json", "two.bin", "three.txt"), (report.read_bytes(), b"\x00\x01", b"three"), strict=True
    ):
        assert isinstance(file, ReceivedFile)
        assert (file.name, file.size, file.sha256) == (name, len(data), hashlib.sha256(data).hexdigest())
        assert file.path is not None
        assert file.path.read_bytes() == data

    decision = await here.escalate("May I spend 40 EUR?", options=["yes", "no"], wait=30)
    assert (decision.state, decision.answered) == ("no-owner", False)
    (told,) = await heard(there, 1)
    assert isinstance(told, Escalation)
    assert "40 EUR" in told.question

    transcript = await here.end()
    assert (transcript.caller, transcript.callee, transcript.topic) == ("alice", "bob", "API design")
    assert [message.kind for message in transcript.messages] == ["text", "file", "file", "file", "escalation"]
    assert transcript.to_dict()["message_count"] == 5
    (over,) = await heard(there, 1)
    assert isinstance(over, Ended)
    assert over.reason == "completed"
    assert [event async for event in there] == []
    assert (await there.transcript()).message_count == 5


async def test_gathered_sends_arrive_in_the_order_of_invocation(pair: Pair) -> None:
    here, there = await connect(*pair)
    texts = [f"message {number}" for number in range(200)]
    await asyncio.gather(*(here.send(text) for text in texts))
    arrived = await heard(there, len(texts))
    assert [event.text for event in arrived if isinstance(event, Message)] == texts


async def test_messages_read_with_a_short_patience_are_neither_lost_nor_doubled(pair: Pair) -> None:
    here, there = await connect(*pair)
    texts = [f"message {number}" for number in range(100)]
    sending = asyncio.gather(*(here.send(text) for text in texts))
    events, arrived = there.events(), []
    while len(arrived) < len(texts):
        try:
            event = await asyncio.wait_for(events.__anext__(), 0.002)
        except asyncio.TimeoutError:
            continue
        assert isinstance(event, Message)
        arrived.append(event.text)
    await sending
    assert arrived == texts


async def test_a_rejection_carries_its_words(pair: Pair) -> None:
    alice, bob = pair
    calling = asyncio.create_task(alice.call("bob", wait=30))
    ring = await asyncio.wait_for(bob.incoming().__anext__(), 30)
    await ring.reject("I'm busy right now")
    with pytest.raises(CallRejected, match="I'm busy right now"):
        await calling


async def test_a_ring_that_times_out_stops_ringing_there(pair: Pair) -> None:
    alice, bob = pair
    with pytest.raises(CallTimeout):
        await alice.call("bob", wait=0.2)
    assert (await alice.calls())[0].info.end_reason == "cancelled"
    over = bob.events(kinds=["call.ended", "call.missed"])
    await asyncio.wait_for(over.__anext__(), 30)
    assert (await bob.inbox()).ringing == ()


async def test_a_receipt_tells_when_the_peer_has_it_and_when_it_has_read_it(pair: Pair) -> None:
    here, there = await connect(*pair)
    receipt = await here.send("hello")
    assert (await receipt.delivered(timeout=30)).state in ("delivered", "read")
    with pytest.raises(TimeoutError):
        await receipt.read(timeout=0.2)
    await heard(there, 1)
    assert (await receipt.read(timeout=30)).state == "read"


async def test_a_message_without_a_call_reaches_the_agents_mailbox(pair: Pair) -> None:
    alice, bob = pair
    receipt = await alice.send("no call needed", to="bob")
    assert (await receipt.relayed(timeout=30)).state == "relayed"
    (mail,) = await until(bob.messages, lambda messages: len(messages) == 1)
    assert (mail.text, mail.sender, mail.call, mail.peer) == ("no call needed", "peer", None, alice.pubkey)
    with pytest.raises(InvalidRequest):
        await receipt.delivered(timeout=5)


async def test_what_cannot_be_done_is_refused_with_its_kind(pair: Pair, tmp_path: Path) -> None:
    alice, _ = pair
    with pytest.raises(AgentNotFound):
        await alice.call("nobody-of-this-name", wait=5)
    with pytest.raises(NoSuchCall):
        await alice.send("to nobody")
    here, _ = await connect(*pair)
    with pytest.raises(InvalidRequest) as raised:
        await here.send_file(tmp_path / "no-such-file")
    assert raised.value.kind == "file-not-found"
    with pytest.raises(InvalidRequest, match="no name"):
        await here.send_file(b"anonymous")


async def test_what_was_said_while_an_agent_was_away_is_there_when_it_is_back(network: LocalNetwork) -> None:
    alice, bob = await network.agents("alice", "bob")
    here, there = await connect(alice, bob)
    await there.send("before")
    (first,) = await heard(here, 1)
    call = there.id
    # As a crash does: nobody ends the calls that are up.
    bob._session.opened.clear()
    await bob.aclose()
    receipt = await here.send("while you were away")
    async with network.agent("bob") as back:
        (continued,) = [each for each in await back.calls() if each.id == call]
        assert continued.info.state == "connected"
        (event,) = await heard(continued, 1)
        assert isinstance(event, Message)
        assert event.text == "while you were away"
        await receipt.delivered(timeout=30)
        await continued.send("I am back")
        (answer,) = await heard(here, 1)
        assert isinstance(answer, Message)
        assert answer.text == "I am back"
    assert isinstance(first, Message)


async def test_who_leaves_right_after_it_has_spoken_is_heard_and_seen_to_leave(network: LocalNetwork) -> None:
    (bob,) = await network.agents("bob")
    for number in range(PARTINGS):
        async with network.agent("alice") as alice:
            await until(alice.list, lambda peers: [peer.id for peer in peers] == ["bob"])
            here, there = await connect(alice, bob)
            await here.send(f"number {number}, and goodbye")
        said, ended = await heard(there, 2)
        assert isinstance(said, Message)
        assert said.text == f"number {number}, and goodbye"
        assert isinstance(ended, Ended)


async def test_looking_marks_nothing_and_taking_marks_read(pair: Pair) -> None:
    here, there = await connect(*pair)
    _, bob = pair
    await here.send("one")
    await here.send("two")
    events = there.events()
    assert await asyncio.wait_for(events.peek(), 30)
    await until(lambda: bob.messages(unread=True), lambda unread: len(unread) == 2)
    events.take()
    unread = await bob.messages(unread=True)
    assert [message.text for message in unread] == ["two"]
    await bob.mark_read(unread)
    assert await bob.messages(unread=True) == ()
    assert [message.text for message in await bob.messages()] == ["one", "two"]


async def test_contacts_name_keys_and_can_be_called_by_their_name(pair: Pair) -> None:
    alice, bob = pair
    (contact,) = await alice.add_contact("bobby", bob.npub)
    assert (contact.name, contact.pubkey, contact.tier) == ("bobby", bob.pubkey, "contact")
    call = await alice.call("bobby", wait=0)
    assert (call.peer.pubkey, call.peer.tier) == (bob.pubkey, "contact")
    await call.end()
    assert (await alice.remove_contact("bobby")) != (contact,)


async def test_status_and_list_have_their_types(network: LocalNetwork) -> None:
    async with network.agent("alice", name="Alice", capabilities=["research"]) as alice:
        status = await alice.status()
        assert (status.agent.id, status.agent.name, status.agent.capabilities) == ("alice", "Alice", ("research",))
        assert [relay.url.rstrip("/") for relay in status.relays] == [network.relay.rstrip("/")]
        _, coder = await network.agents("bob"), network.agent("coder", capabilities=["coding"])
        async with coder:
            found = await until(lambda: alice.list(capability="coding"), lambda found: len(found) == 1)
            assert [peer.id for peer in found] == ["coder"]
            assert found[0].last_seen is not None
            assert found[0].protocol == "v2"
