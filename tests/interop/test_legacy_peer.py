"""The legacy peer itself, against a second one: what the other interop tests stand on.

It runs only on relays that nobody here wrote, so that a fault of ours cannot hide here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from parts.legacy import LegacyPeer
from parts.process import wait_until

NewLegacyPeer = Callable[[str], LegacyPeer]


@pytest.fixture(scope="module")
def relay_url(pypi_relay: str) -> str:
    return pypi_relay


@pytest.fixture
def pair(new_legacy_peer: NewLegacyPeer) -> tuple[LegacyPeer, LegacyPeer]:
    return new_legacy_peer("ann"), new_legacy_peer("ben")


def connect(ann: LegacyPeer, ben: LegacyPeer) -> str:
    room = ann.do("call", to=ben.pubkey, topic="API design")
    ben.payload("call_request", room_id=room)
    assert ben.do("accept") == room
    ann.payload("call_accepted", room_id=room)
    return str(room)


def test_two_legacy_peers_hold_a_whole_call(pair: tuple[LegacyPeer, LegacyPeer]) -> None:
    ann, ben = pair
    ann.do("presence")
    ben.do("presence", capabilities=["coding", "research"])
    seen = wait_until(lambda: [line for line in ann.do("list") if line["agentId"] == ben.agent_id], "ann to see ben")
    assert seen[0]["pubkey"] == ben.pubkey
    assert seen[0]["capabilities"] == ["coding", "research"]

    room = connect(ann, ben)
    ann.do("message", text="Grüße 🦞 “quoted”\nsecond line")
    received = ben.payload("room_message")
    assert received == {
        "type": "room_message",
        "roomId": room,
        "sender": ann.name,
        "content": "Grüße 🦞 “quoted”\nsecond line",
        "origin": ann.agent_id,
        "from": ann.pubkey,
        "event_id": received["event_id"],
    }
    content = base64.b64encode(bytes(range(256)) * 100).decode()
    ben.do("file", filename="all-bytes.bin", content=content, mimeType="application/octet-stream")
    assert ann.payload("room_file", filename="all-bytes.bin")["content"] == content
    ann.do("escalate", message="Need a decision")
    assert ben.payload("escalate")["fromAgent"] == ann.agent_id
    ben.do("end")
    assert ann.payload("end_call")["reason"] == "ended_by_peer"
    assert ann.do("state")["call"] is None


def test_a_rejection_carries_its_reason(pair: tuple[LegacyPeer, LegacyPeer]) -> None:
    ann, ben = pair
    room = ann.do("call", to=ben.pubkey)
    ben.payload("call_request")
    ben.do("reject", reason="I'm busy right now")
    assert ann.payload("call_rejected", room_id=room)["reason"] == "I'm busy right now"
    assert ann.do("state")["ringing"] is None


def test_a_second_call_request_overwrites_the_first(new_legacy_peer: NewLegacyPeer) -> None:
    ann, ben, cat = (new_legacy_peer(label) for label in ("ann", "ben", "cat"))
    ann.do("call", to=ben.pubkey)
    ben.payload("call_request")
    second = cat.do("call", to=ben.pubkey)
    ben.payload("call_request", room_id=second)
    assert ben.do("accept") == second
    cat.payload("call_accepted")
    assert ann.payloads() == []


def test_an_acceptance_by_anybody_at_any_time_connects(pair: tuple[LegacyPeer, LegacyPeer]) -> None:
    ann, ben = pair
    ben.do("tell", to=ann.pubkey, payload={"type": "call_accepted", "roomId": "never-opened"})
    ann.payload("call_accepted")
    assert ann.do("state")["call"] == {"room": "never-opened", "peer": ben.pubkey}


def test_the_end_of_a_call_checks_the_sender_but_not_the_room(new_legacy_peer: NewLegacyPeer) -> None:
    ann, ben, cat = (new_legacy_peer(label) for label in ("ann", "ben", "cat"))
    room = connect(ann, ben)
    cat.do("tell", to=ann.pubkey, payload={"type": "end_call", "roomId": room})
    ann.payload("end_call")
    assert ann.do("state")["call"] == {"room": room, "peer": ben.pubkey}
    ben.do("tell", to=ann.pubkey, payload={"type": "end_call", "roomId": "another"})
    ann.payload("end_call")
    assert ann.do("state")["call"] is None


def test_commands_that_fit_no_call_are_refused(new_legacy_peer: NewLegacyPeer) -> None:
    ann = new_legacy_peer("ann")
    assert ann.refuses("accept") == "no call request"
    assert ann.refuses("message", text="hello") == "no call"
