"""Calls in both directions between our command line and a peer of the deployed agents' dialect."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parts.fixtures import NewHome
from parts.home import Home
from parts.legacy import LegacyPeer
from parts.process import wait_until

NewLegacyPeer = Callable[[str], LegacyPeer]
Json = dict[str, Any]

UNICODE = "Grüße an 你好 🦞👩‍👩‍👧 “quoted” ‖ \\n is not a line break"
ALL_BYTES = bytes(range(256)) * 12
NEVER_OPENED = "6f1c2a52-7f10-4c0e-8f0d-2c6d6a7e1b11"


@pytest.fixture
def home(relay_url: str, new_home: NewHome) -> Home:
    home = new_home("ours", relay_url, P2P_CAPABILITIES="coding,research", P2P_AGENT_NAME="Our Agent")
    home.ok("status")
    return home


@pytest.fixture
def peer(new_legacy_peer: NewLegacyPeer) -> LegacyPeer:
    peer = new_legacy_peer("theirs")
    peer.do("presence", capabilities=["chat"])
    return peer


def pubkey(home: Home) -> str:
    return str(home.ok("status")["agent"]["pubkey"])


def ring_them(home: Home, peer: LegacyPeer, topic: str = "API design") -> tuple[str, str]:
    """We call; returns our id of the call, and the room."""
    home.sees(peer.agent_id)
    call = home.ok("call", peer.agent_id, topic)
    request = peer.payload("call_request", topic=topic)
    assert request["from"] == pubkey(home)
    return call["call"], request["roomId"]


def ring_us(home: Home, peer: LegacyPeer, topic: str = "API design") -> tuple[str, str]:
    """They call; returns our id of the call, and the room."""
    room = peer.do("call", to=pubkey(home), topic=topic)
    ringing = home.event("call.ringing", where=lambda event: event["call_state"]["topic"] == topic)
    return ringing["call"], room


def call_them(home: Home, peer: LegacyPeer) -> tuple[str, str]:
    call, room = ring_them(home, peer)
    peer.do("accept")
    home.event("call.connected", call=call)
    return call, room


def be_called(home: Home, peer: LegacyPeer) -> tuple[str, str]:
    call, room = ring_us(home, peer)
    home.ok("answer", "accept", "--call", call)
    peer.payload("call_accepted", room_id=room)
    return call, room


def state_of(home: Home, call: str) -> Json:
    calls: list[Json] = home.ok("calls", "--limit", "1000")["calls"]
    return next(listed for listed in calls if listed["call"] == call)


def when_all_is_handled(home: Home, forger: LegacyPeer) -> None:
    """Returns once `home` has handled all that `forger` sent before: a ring of his own comes after it."""
    ring_us(home, forger, topic=f"sentinel {len(home.ok('calls', '--limit', '1000')['calls'])}")


def test_each_sees_the_other(home: Home, peer: LegacyPeer, relay_url: str) -> None:
    line = home.sees(peer.agent_id)
    assert line["pubkey"] == peer.pubkey
    assert line["name"] == peer.name
    assert line["capabilities"] == ["chat"]
    assert line["protocol"] == "legacy"
    assert 0 <= line["last_seen_s"] <= 300

    def our_announcement() -> Json | None:
        return next((line for line in peer.do("list") if line["agentId"] == home.agent_id), None)

    ours = wait_until(our_announcement, "the legacy peer to see us")
    assert ours is not None
    assert ours["pubkey"] == pubkey(home)
    assert ours["name"] == "Our Agent"
    assert ours["capabilities"] == ["coding", "research"]
    assert isinstance(ours["timestamp"], int)
    assert ["d", home.agent_id] in ours["tags"]
    assert ["t", "openclaw-p2p"] in ours["tags"]
    # What the legacy peer has no use for.
    assert ["v", "2"] in ours["tags"]
    assert ours["p2p"] == {"v": [2], "inbox": [relay_url], "pow": 0}


def test_we_call_and_they_accept(home: Home, peer: LegacyPeer) -> None:
    call, room = ring_them(home, peer)
    assert state_of(home, call)["state"] == "ringing"
    assert peer.do("accept") == room
    connected = home.event("call.connected", call=call)["call_state"]
    assert connected["state"] == "connected"
    assert connected["direction"] == "out"
    assert connected["protocol"] == "legacy"
    assert connected["peer"]["pubkey"] == peer.pubkey


def test_they_call_and_we_accept(home: Home, peer: LegacyPeer) -> None:
    call, room = ring_us(home, peer, topic="Grüße")
    ringing = state_of(home, call)
    assert ringing["state"] == "ringing"
    assert ringing["direction"] == "in"
    assert ringing["topic"] == "Grüße"
    assert ringing["peer"]["pubkey"] == peer.pubkey
    assert [waiting["call"] for waiting in home.ok("inbox")["ringing"]] == [call]
    answered = home.ok("answer", "accept")
    assert (answered["call"], answered["state"], answered["already"]) == (call, "connected", False)
    accepted = peer.payload("call_accepted")
    assert accepted["roomId"] == room
    assert accepted["agentId"] == accepted["origin"] == home.agent_id
    assert accepted["agentName"] == "Our Agent"


def test_they_reject_with_a_reason(home: Home, peer: LegacyPeer) -> None:
    call, _ = ring_them(home, peer)
    peer.do("reject", reason="Später, bin beschäftigt")
    rejected = home.event("call.rejected", call=call)["call_state"]
    assert (rejected["state"], rejected["end_reason"]) == ("ended", "rejected")
    assert rejected["reason"] == "Später, bin beschäftigt"


def test_we_reject_with_a_reason(home: Home, peer: LegacyPeer) -> None:
    call, room = ring_us(home, peer)
    home.ok("answer", "reject", "I'm busy right now", "--call", call)
    rejected = peer.payload("call_rejected")
    assert rejected["roomId"] == room
    assert rejected["reason"] == "I'm busy right now"
    assert state_of(home, call)["end_reason"] == "rejected"


@pytest.mark.parametrize("connect", [call_them, be_called])
def test_messages_arrive_both_ways_as_they_were_written(
    home: Home, peer: LegacyPeer, connect: Callable[[Home, LegacyPeer], tuple[str, str]]
) -> None:
    call, room = connect(home, peer)
    ours = [f"{number}: {UNICODE}" for number in range(5)]
    for text in ours:
        sent = home.ok("send", text, "--call", call)
        assert sent["text"] == text
        assert sent["state"] in ("queued", "relayed")
    for text in ours:
        received = peer.payload("room_message")
        assert (received["content"], received["roomId"]) == (text, room)
        assert received["sender"] == "Our Agent"

    theirs = [f"{number}: {UNICODE}" for number in range(5)]
    for text in theirs:
        peer.do("message", text=text)
        message = home.event("message.received", call=call)["message"]
        assert message["text"] == text
        assert (message["from"], message["peer"], message["kind"]) == ("peer", peer.pubkey, "text")
    assert home.texts(call, "me") == ours
    assert home.texts(call, "peer") == theirs


def test_what_a_relay_took_is_relayed_and_never_called_delivered(home: Home, peer: LegacyPeer) -> None:
    call, _ = call_them(home, peer)
    sent = home.ok("send", "hello", "--call", call, "--wait=relayed")
    assert sent["state"] == "relayed"
    peer.payload("room_message")
    peer.do("message", text="got it")
    home.event("message.received", call=call)
    assert [message["state"] for message in home.messages(call) if message["from"] == "me"] == ["relayed"]


def test_our_file_reaches_them_byte_for_byte(home: Home, peer: LegacyPeer, tmp_path: Path) -> None:
    call, room = call_them(home, peer)
    as_argument = base64.b64encode(ALL_BYTES).decode()
    sent = home.ok("sendfile", "all-bytes.bin", as_argument, "application/x-test", "--call", call)
    assert sent["file"]["size"] == len(ALL_BYTES)
    assert sent["file"]["sha256"] == hashlib.sha256(ALL_BYTES).hexdigest()
    received = peer.payload("room_file")
    assert (received["filename"], received["mimeType"], received["roomId"]) == (
        "all-bytes.bin",
        "application/x-test",
        room,
    )
    assert base64.b64decode(received["content"], validate=True) == ALL_BYTES

    path = tmp_path / "Bericht “neu”.json"
    path.write_bytes(b'{"data": true}')
    home.ok("sendfile", "--path", str(path), "--call", call)
    received = peer.payload("room_file")
    assert received["filename"] == path.name
    assert base64.b64decode(received["content"], validate=True) == b'{"data": true}'


def test_their_file_reaches_us_byte_for_byte(home: Home, peer: LegacyPeer) -> None:
    call, _ = call_them(home, peer)
    content = base64.b64encode(ALL_BYTES).decode()
    peer.do("file", filename="all-bytes.bin", content=content, mimeType="application/x-test")
    file = home.event("file.received", call=call)["message"]["file"]
    assert (file["name"], file["mime"]) == ("all-bytes.bin", "application/x-test")
    assert file["size"] == len(ALL_BYTES)
    assert file["sha256"] == hashlib.sha256(ALL_BYTES).hexdigest()
    path = Path(file["path"])
    assert path.read_bytes() == ALL_BYTES
    assert home.state / "files" in path.parents
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "name", ["../../../escaped", "/absolute", ".hidden", "..", "", "a\x00b\x1b[31m", "x" * 500, "a/b\\c\n"]
)
def test_a_hostile_file_name_stays_in_its_folder(home: Home, peer: LegacyPeer, name: str) -> None:
    call, _ = be_called(home, peer)
    peer.do("file", filename=name, content=base64.b64encode(b"hello").decode(), mimeType="text/plain")
    path = Path(home.event("file.received", call=call)["message"]["file"]["path"])
    assert path.read_bytes() == b"hello"
    assert home.state / "files" in path.resolve().parents
    assert not path.name.startswith(".")
    assert 0 < len(path.name) <= 120
    assert all(unicodedata.category(character) != "Cc" for character in path.name)


def test_escalations_are_told_both_ways(home: Home, peer: LegacyPeer) -> None:
    call, room = call_them(home, peer)
    ticket = home.ok("escalate", "Need human decision on budget approval")
    assert ticket["state"] == "no-owner"
    told = peer.payload("escalate")
    assert (told["message"], told["fromAgent"], told["roomId"]) == (
        "Need human decision on budget approval",
        home.agent_id,
        room,
    )
    peer.do("escalate", message="Mein Mensch muss entscheiden")
    message = home.event("escalation.received", call=call)["message"]
    assert (message["kind"], message["from"], message["text"]) == (
        "escalation",
        "peer",
        "Mein Mensch muss entscheiden",
    )


def test_we_end_the_call_and_the_transcript_is_right(home: Home, peer: LegacyPeer) -> None:
    call, room = call_them(home, peer)
    home.ok("send", "first", "--call", call)
    peer.payload("room_message")
    peer.do("message", text="second")
    home.event("message.received", call=call)
    ended = home.ok("end")
    assert ended["already"] is False
    assert (ended["call"]["call"], ended["call"]["state"], ended["call"]["end_reason"]) == (
        call,
        "ended",
        "completed",
    )
    transcript = ended["transcript"]
    assert [(message["from"], message["text"]) for message in transcript["messages"]] == [
        ("me", "first"),
        ("peer", "second"),
    ]
    assert (transcript["topic"], transcript["message_count"]) == ("API design", 2)
    assert peer.payload("end_call", room_id=room)["reason"] == "ended_by_peer"
    assert peer.do("state")["call"] is None


def test_they_end_the_call_and_the_transcript_stays(home: Home, peer: LegacyPeer) -> None:
    call, _ = be_called(home, peer)
    peer.do("message", text="only one")
    home.event("message.received", call=call)
    peer.do("end")
    ended = home.event("call.ended", call=call)["call_state"]
    assert (ended["state"], ended["end_reason"]) == ("ended", "completed")
    transcript = home.ok("transcript", call, "--format", "json")
    assert [message["text"] for message in transcript["messages"]] == ["only one"]
    home.fails("no-active-call", "send", "too late")
    assert home.ok("end", "--call", call)["already"] is True


def test_one_call_at_a_time_is_placed_to_a_legacy_peer(home: Home, peer: LegacyPeer) -> None:
    ring_them(home, peer)
    home.fails("peer-busy", "call", peer.agent_id, "another topic")
    peer.do("accept")
    home.event("call.connected")
    home.fails("peer-busy", "call", peer.agent_id, "another topic")
    assert peer.payloads("call_request") == []


def test_a_late_acceptance_is_answered_by_the_end_of_the_call(home: Home, peer: LegacyPeer) -> None:
    call, room = ring_them(home, peer)
    home.ok("end", "--call", call)
    peer.payload("end_call", room_id=room)
    assert state_of(home, call)["end_reason"] == "cancelled"
    # A deployed callee keeps a request that was taken back, and takes the call all the same.
    assert peer.do("accept") == room
    peer.payload("end_call", room_id=room)
    assert peer.do("state")["call"] is None
    assert state_of(home, call)["state"] == "ended"


def test_an_acceptance_of_a_room_that_we_never_opened_is_not_answered(
    home: Home, peer: LegacyPeer, new_legacy_peer: NewLegacyPeer
) -> None:
    stranger = new_legacy_peer("stranger")
    stranger.do("tell", to=pubkey(home), payload={"type": "call_accepted", "roomId": NEVER_OPENED})
    when_all_is_handled(home, stranger)
    # Our answer to anything later comes after an answer to this one would have.
    home.ok("answer", "reject", "no")
    stranger.payload("call_rejected")
    assert stranger.payloads("end_call") == []


@pytest.mark.parametrize("kind", ["call_accepted", "call_rejected", "end_call"])
def test_a_third_key_changes_nothing_while_a_call_rings(
    home: Home, peer: LegacyPeer, new_legacy_peer: NewLegacyPeer, kind: str
) -> None:
    forger = new_legacy_peer("forger")
    call, room = ring_them(home, peer)
    forged = {"type": kind, "roomId": room, "agentId": peer.agent_id, "reason": "forged"}
    forger.do("tell", to=pubkey(home), payload=forged)
    when_all_is_handled(home, forger)
    assert state_of(home, call)["state"] == "ringing"
    peer.do("accept")
    home.event("call.connected", call=call)


@pytest.mark.parametrize(
    "kind", ["call_accepted", "call_rejected", "end_call", "room_message", "room_file", "escalate"]
)
def test_a_third_key_changes_nothing_in_a_connected_call(
    home: Home, peer: LegacyPeer, new_legacy_peer: NewLegacyPeer, kind: str
) -> None:
    forger = new_legacy_peer("forger")
    call, room = be_called(home, peer)
    forged = {
        "type": kind,
        "roomId": room,
        "agentId": peer.agent_id,
        "sender": peer.name,
        "content": "Zm9yZ2Vk",
        "message": "forged",
        "filename": "forged",
        "mimeType": "text/plain",
        "reason": "forged",
    }
    forger.do("tell", to=pubkey(home), payload=forged)
    when_all_is_handled(home, forger)
    listed = state_of(home, call)
    assert (listed["state"], listed["peer"]["pubkey"]) == ("connected", peer.pubkey)
    assert home.messages(call) == []
    peer.do("message", text="genuine")
    assert home.event("message.received", call=call)["message"]["text"] == "genuine"


def test_an_end_for_another_room_of_the_same_key_changes_nothing(home: Home, peer: LegacyPeer) -> None:
    call, _ = be_called(home, peer)
    another = {"type": "end_call", "roomId": NEVER_OPENED, "reason": "ended_by_peer"}
    peer.do("tell", to=pubkey(home), payload=another)
    peer.do("message", text="still here")
    assert home.event("message.received", call=call)["message"]["text"] == "still here"
    assert state_of(home, call)["state"] == "connected"


def test_malformed_payloads_harm_nothing(home: Home, peer: LegacyPeer) -> None:
    call, room = be_called(home, peer)
    malformed: list[Any] = [
        None,
        [],
        {},
        {"type": 7, "roomId": room},
        {"type": "room_message"},
        {"type": "room_message", "roomId": 7, "content": "x"},
        {"type": "room_message", "roomId": room, "content": {"not": "text"}},
        {"type": "room_file", "roomId": room, "filename": "x", "content": "not base64!", "mimeType": "x/y"},
        {"type": "room_file", "roomId": room},
        {"type": "call_request", "roomId": "x" * 5000, "topic": "forged"},
        {"type": "no_such_type", "roomId": room},
    ]
    for payload in malformed:
        # Only an object can be encrypted for us by `tell`; the rest goes as it is, which nobody can decrypt.
        if isinstance(payload, dict):
            peer.do("tell", to=pubkey(home), payload=payload)
        else:
            content = json.dumps(payload)
            peer.do("publish", template={"kind": 4, "tags": [["p", pubkey(home)]], "content": content})
    peer.do("message", text="still here")
    assert home.event("message.received", call=call)["message"]["text"] == "still here"
    assert home.texts(call, "peer") == ["still here"]
    assert [listed["call"] for listed in home.ok("calls")["calls"]] == [call]


def test_a_malformed_announcement_harms_no_other_line(
    home: Home, peer: LegacyPeer, new_legacy_peer: NewLegacyPeer
) -> None:
    good = {"agentId": "x", "name": "x", "capabilities": [], "timestamp": 1}
    contents = [
        "",
        "not json {",
        "null",
        "[]",
        '"text"',
        json.dumps({}),
        json.dumps(good | {"capabilities": "chat"}),
        json.dumps(good | {"capabilities": None}),
        json.dumps(good | {"capabilities": [1, None, {"a": []}]}),
        json.dumps(good | {"agentId": 7}),
        json.dumps(good | {"agentId": ""}),
        json.dumps(good | {"name": {"toString": "x"}}),
        json.dumps(good | {"agentId": peer.agent_id + "-look-alike", "name": "x" * 60 * 1024}),
        json.dumps(good | {"agentId": "\x1b[2J\n\u202eevil", "name": "\r\nforged-line"}),
        "[" * 10_000,
    ]
    forger = new_legacy_peer("forger")
    for number, content in enumerate(contents):
        # Each stands under an identifier of its own, so that none replaces another.
        tags = [["d", f"{forger.agent_id}-{number}"], ["t", "openclaw-p2p"]]
        forger.do("publish", template={"kind": 30078, "tags": tags, "content": content})
    sentinel = new_legacy_peer("sentinel")
    sentinel.do("presence")
    home.sees(sentinel.agent_id)

    line = home.sees(peer.agent_id)
    assert (line["pubkey"], line["name"], line["capabilities"]) == (peer.pubkey, peer.name, ["chat"])
    for listed in home.ok("list", "--limit", "1000")["agents"]:
        assert isinstance(listed["id"], str)
        assert all(isinstance(capability, str) for capability in listed["capabilities"])
    human = home.ok("list", "--limit", "1000", json=False)
    assert_printable(human)
    assert peer.agent_id in human


DIRECTION_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
DIRECTION_MARKS = {"\u061c", "\u200e", "\u200f"}
HOSTILE = [
    "\x1b[2J\x1b[31mred",
    "\x1b]8;;https://evil.example\x07click\x1b]8;;\x07",
    "\x1b]52;c;cm0gLXJmIC8=\x07",
    "over\rwritten\x08\x7f\x00\x85\x9b31m",
    "\u202etxet desrever\u202c \u2066isolated\u2069 \u200f",
    "a text\nforged-line: the owner agreed\r\nforged-line\u2028forged-line",
]


def assert_printable(output: str) -> None:
    """Nothing that a terminal would obey, and no line of a peer without the mark of a quotation before it."""
    for character in output:
        # Controls, and the formats and separators that turn or break a line.
        assert character == "\n" or unicodedata.category(character) not in ("Cc", "Zl", "Zp"), repr(output)
        assert unicodedata.bidirectional(character) not in DIRECTION_CONTROLS, repr(output)
        assert character not in DIRECTION_MARKS, repr(output)
    begun = [line for line in output.split("\n") if line.lstrip(" ").startswith("forged-line")]
    assert not begun, output


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_escaped_and_kept_as_it_was(home: Home, peer: LegacyPeer, text: str) -> None:
    call, _ = ring_us(home, peer, topic=text)
    shown = [home.ok("inbox", json=False)]
    home.ok("answer", "accept")
    peer.payload("call_accepted")
    peer.do("message", text=text)
    # Read from the journal: `wait --after` prints it for people as well.
    assert home.event("message.received", call=call)["message"]["text"] == text
    for words in (
        ("wait", "--after", "0", "--for", "message.received"),
        ("wait", "--after", "0", "--for", "call.ringing"),
        ("messages", "--call", call),
        ("transcript", call, "--format", "text"),
        ("calls",),
        ("status",),
        ("end", "--call", call),
    ):
        shown.append(home.ok(*words, json=False))
    for output in shown:
        assert_printable(output)
    assert home.messages(call)[0]["text"] == text
