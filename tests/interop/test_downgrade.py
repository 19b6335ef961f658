"""A key that has shown v2 is held to it, and both dialects are told apart wherever a peer or a call is shown."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from p2p_comm import Agent, CallBusy, InvalidRequest
from parts.fixtures import NewHome
from parts.home import Home
from parts.legacy import LegacyPeer
from parts.process import wait_until
from parts.steps import connect

NewLegacyPeer = Callable[[str], LegacyPeer]
Json = dict[str, Any]

WRAP = 1059
# Of a legacy call, in bytes.
LARGEST_FILE = 36_000


@pytest.fixture
def home(relay_url: str, new_home: NewHome) -> Home:
    home = new_home("ours", relay_url)
    home.ok("status")
    return home


@pytest.fixture
def peer(new_legacy_peer: NewLegacyPeer) -> LegacyPeer:
    return new_legacy_peer("theirs")


@pytest.fixture
def gone_back(home: Home, peer: LegacyPeer, relay_url: str) -> LegacyPeer:
    """A peer that announced v2 to us, and announces itself as the deployed agents do by now."""
    announce_v2(peer, relay_url)
    assert home.sees(peer.agent_id)["protocol"] == "v2"
    announce_legacy(home, peer, "Gone Back")
    return peer


def announce_v2(peer: LegacyPeer, relay_url: str) -> None:
    peer.do("presence", fields={"p2p": {"v": [2], "inbox": [relay_url], "pow": 0}}, tags=[["v", "2"]])


def announce_legacy(home: Home, peer: LegacyPeer, name: str) -> None:
    """Announces itself with this name, and waits until we have taken it."""
    peer.do("presence", fields={"name": name})

    def is_seen() -> bool:
        line = home.line_of(peer.agent_id)
        return line is not None and line["name"] == name

    wait_until(is_seen, "the newer announcement to be seen")


def pubkey(home: Home) -> str:
    return str(home.ok("status")["agent"]["pubkey"])


def wraps_to(peer: LegacyPeer) -> list[str]:
    """The ids of the gift wraps for a peer that the relay has."""
    return [event["id"] for event in peer.do("stored", filter={"kinds": [WRAP], "#p": [peer.pubkey]})]


def call_in_v2(home: Home, peer: LegacyPeer) -> None:
    """Calls, and takes the call back once its wrap is at the relay."""
    before = set(wraps_to(peer))
    placed = home.ok("call", peer.agent_id, "in v2")
    assert (placed["protocol"], placed["state"]) == ("v2", "ringing")
    wait_until(lambda: set(wraps_to(peer)) - before, "the wrap to be at the relay")
    home.ok("end", "--call", placed["call"])


def legacy_call(home: Home, peer: LegacyPeer) -> str:
    peer.do("presence")
    home.sees(peer.agent_id)
    placed = home.ok("call", peer.agent_id, "in legacy")
    peer.payload("call_request", topic="in legacy")
    peer.do("accept")
    home.event("call.connected", call=placed["call"])
    return str(placed["call"])


def test_a_key_that_has_shown_v2_is_called_in_v2_until_its_owner_is_believed(
    home: Home, gone_back: LegacyPeer, relay_url: str
) -> None:
    call_in_v2(home, gone_back)
    home.kill_daemon()
    home.sees(gone_back.agent_id)
    call_in_v2(home, gone_back)
    # An announcement of its own, after the restart as well.
    announce_legacy(home, gone_back, "Still Gone Back")
    call_in_v2(home, gone_back)

    contacts = home.ok("contacts", "allow-legacy", gone_back.pubkey)["contacts"]
    assert [line["allow_legacy"] for line in contacts if line["pubkey"] == gone_back.pubkey] == [True]
    placed = home.ok("call", gone_back.agent_id, "by permission")
    assert placed["protocol"] == "legacy"
    # The first and only one: a request for any call before would have come before it.
    assert gone_back.event("payload")["payload"]["topic"] == "by permission"
    gone_back.do("accept")
    assert home.event("call.connected", call=placed["call"])["call_state"]["protocol"] == "legacy"
    home.ok("end", "--call", placed["call"])
    gone_back.payload("end_call")

    # The permission is no wish: what speaks v2 is called in v2.
    announce_v2(gone_back, relay_url)
    wait_until(lambda: home.sees(gone_back.agent_id)["protocol"] == "v2", "the announcement of v2 to be seen")
    call_in_v2(home, gone_back)


def test_a_legacy_call_from_a_key_known_for_v2_rings_and_says_what_it_is(home: Home, gone_back: LegacyPeer) -> None:
    gone_back.do("call", to=pubkey(home), topic="the old way")
    ringing = home.event("call.ringing")["call_state"]
    assert (ringing["topic"], ringing["protocol"], ringing["direction"]) == ("the old way", "legacy", "in")
    assert home.ok("answer", "accept")["protocol"] == "legacy"
    gone_back.payload("call_accepted")
    gone_back.do("message", text="hello")
    assert home.event("message.received", call=ringing["call"])["message"]["text"] == "hello"
    home.ok("send", "hello yourself", "--call", ringing["call"])
    assert gone_back.payload("room_message")["content"] == "hello yourself"
    # Having been called is no permission to call.
    home.ok("end", "--call", ringing["call"])
    gone_back.payload("end_call")
    call_in_v2(home, gone_back)
    assert gone_back.payloads("call_request") == []


def test_v2_and_legacy_are_told_apart_everywhere(
    home: Home, peer: LegacyPeer, new_home: NewHome, relay_url: str
) -> None:
    other = new_home("bob", relay_url)
    other.ok("status")
    assert home.sees(str(other.agent_id))["protocol"] == "v2"
    in_v2, _ = connect(home, other)
    in_legacy = legacy_call(home, peer)
    assert home.line_of(peer.agent_id)["protocol"] == "legacy"  # type: ignore[index]

    wanted = {in_v2: "v2", in_legacy: "legacy"}
    assert protocols(home.ok("status")["calls"]) == wanted
    assert protocols(home.ok("calls")["calls"]) == wanted
    assert protocols(seen_by_wait(home, "call.connected")) == wanted
    home.ok("end", "--call", in_v2)
    home.ok("end", "--call", in_legacy)
    assert protocols(home.ok("calls")["calls"]) == wanted


def protocols(calls: list[Json]) -> dict[str, str]:
    return {call["call"]: call["protocol"] for call in calls}


def seen_by_wait(home: Home, kind: str) -> list[Json]:
    """The calls of all events of a kind so far."""
    calls, cursor = [], 0
    while True:
        seen = home.run("wait", "--timeout", "0", "--after", str(cursor), "--for", kind).out
        if seen["event"] is None:
            return calls
        calls.append(seen["event"]["call_state"])
        cursor = seen["cursor"]


@asynccontextmanager
async def agent_of(home: Home) -> AsyncIterator[Agent]:
    """The running daemon's agent, in Python. What the test placed by command is not ended by it."""
    async with Agent(home=home.folder) as agent:
        assert not agent.hosted
        yield agent


async def test_v2_and_legacy_are_told_apart_in_python(
    home: Home, peer: LegacyPeer, new_home: NewHome, relay_url: str
) -> None:
    other = new_home("bob", relay_url)
    other.ok("status")
    home.sees(str(other.agent_id))
    in_v2, _ = connect(home, other)
    in_legacy = legacy_call(home, peer)
    async with agent_of(home) as agent:
        shown = {line.pubkey: line.protocol for line in await agent.list()}
        assert (shown[pubkey(other)], shown[peer.pubkey]) == ("v2", "legacy")
        assert {call.id: call.info.protocol for call in await agent.calls()} == {in_v2: "v2", in_legacy: "legacy"}
        assert {call.call: call.protocol for call in (await agent.status()).calls} == {
            in_v2: "v2",
            in_legacy: "legacy",
        }


def test_a_legacy_call_cannot_tell_of_delivery(home: Home, peer: LegacyPeer) -> None:
    call = legacy_call(home, peer)
    for state in ("delivered", "read"):
        home.fails("invalid-value", "send", "hello", f"--wait={state}", "--call", call)
    # Refused before anything was said.
    home.ok("send", "this was said", "--call", call)
    assert peer.payload("room_message")["content"] == "this was said"
    assert home.texts(call, "me") == ["this was said"]


async def test_a_receipt_of_a_legacy_call_knows_that_it_cannot_tell_of_delivery(home: Home, peer: LegacyPeer) -> None:
    legacy_call(home, peer)
    async with agent_of(home) as agent:
        receipt = await agent.send("hello")
        assert (await receipt.relayed(timeout=30)).state == "relayed"
        for wait in (receipt.delivered, receipt.read):
            with pytest.raises(InvalidRequest) as refused:
                await wait(timeout=30)
            assert refused.value.kind == "invalid-value"


async def test_a_second_call_to_a_legacy_peer_is_refused(home: Home, peer: LegacyPeer) -> None:
    legacy_call(home, peer)
    home.fails("peer-busy", "call", peer.agent_id, "another")
    async with agent_of(home) as agent:
        with pytest.raises(CallBusy):
            await agent.call(peer.agent_id, topic="another", wait=0)
    assert peer.payloads("call_request") == []


def test_what_no_event_of_a_legacy_call_could_carry_is_refused(home: Home, peer: LegacyPeer) -> None:
    call = legacy_call(home, peer)
    content = bytes(range(256)) * (LARGEST_FILE // 256) + bytes(LARGEST_FILE % 256)
    largest, larger = home.folder / "largest.bin", home.folder / "larger.bin"
    largest.write_bytes(content)
    larger.write_bytes(content + b"x")
    home.fails("too-large", "sendfile", "--path", str(larger), "--call", call)
    home.fails("too-large", "send", "-", "--call", call, stdin="x" * 60_000)
    home.ok("sendfile", "--path", str(largest), "--call", call)
    assert base64.b64decode(peer.payload("room_file")["content"], validate=True) == content
    assert peer.payloads("room_message") == []
    assert [message["kind"] for message in home.messages(call)] == ["file"]
