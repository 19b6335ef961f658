"""Calls of the v2 dialect: rings that cross, several at once, nobody there, too many; and kills in the middle."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from parts.fixtures import NewHome
from parts.home import Home
from parts.process import is_alive, wait_until
from parts.recording import RecordingProxy, recording_proxy
from parts.steps import connect, ring

Agents = tuple[Home, Home]
Json = dict[str, Any]

ROUNDS = 5
TEXTS = 50
# The shortest that the setting allows.
RING_TIME_S = 5
# Of a transfer that was interrupted, with what it takes to notice and to begin again.
TRANSFER_S = 120.0
# A peer is away after 180 s of silence.
AWAY_S = 240.0


def live(home: Home) -> list[Json]:
    calls: list[Json] = home.ok("status")["calls"]
    return calls


def journal(home: Home, *kinds: str) -> list[str]:
    """What the journal has of these kinds."""
    found: list[str] = []
    cursor = "0"
    while True:
        outcome = home.run("wait", "--timeout", "1", "--after", cursor, "--for", ",".join(kinds))
        if outcome.out["event"] is None:
            return found
        found.append(outcome.out["event"]["kind"])
        cursor = str(outcome.out["cursor"])


def the_only_call(home: Home) -> str:
    """The id of the only live call, once there is exactly one and it is connected."""

    def call() -> str | None:
        calls = live(home)
        return calls[0]["call"] if [listed["state"] for listed in calls] == ["connected"] else None

    return wait_until(call, f"{home.agent_id} to have one call, connected")


def pubkey(home: Home) -> str:
    return str(home.ok("status")["agent"]["pubkey"])


def talk_both_ways(one: Home, other: Home, here: str, there: str, label: str) -> None:
    assert one.ok("send", f"{label}, from one", "--call", here, "--wait=delivered")["state"] == "delivered"
    assert other.ok("send", f"{label}, from other", "--call", there, "--wait=delivered")["state"] == "delivered"
    assert other.texts(there, "peer")[-1] == f"{label}, from one"
    assert one.texts(here, "peer")[-1] == f"{label}, from other"


def hang_up(one: Home, other: Home) -> None:
    one.ok("end")
    for home in (one, other):
        wait_until(lambda home=home: not live(home), "no call to be up")  # type: ignore[misc]


def test_two_that_call_each_other_at_once_are_in_one_call(agents: Agents) -> None:
    alice, bob = agents
    for number in range(ROUNDS):
        calling = [
            one.popen("--json", "call", str(other.agent_id), f"round {number}, {one.agent_id} calls")
            for one, other in ((alice, bob), (bob, alice))
        ]
        for command in calling:
            out, err = command.communicate(timeout=60)
            assert command.returncode == 0, out + err
            assert json.loads(out)["protocol"] == "v2"
        talk_both_ways(alice, bob, the_only_call(alice), the_only_call(bob), f"round {number}")
        hang_up(alice, bob)


@pytest.mark.parametrize("first", ["lower", "higher"])
def test_who_calls_somebody_that_rings_there_already_is_in_one_call(agents: Agents, first: str) -> None:
    lower, higher = sorted(agents, key=pubkey)
    caller, callee = (lower, higher) if first == "lower" else (higher, lower)
    ring(caller, callee)
    callee.ok("call", str(caller.agent_id), "you first")
    talk_both_ways(caller, callee, the_only_call(caller), the_only_call(callee), "glare")
    hang_up(caller, callee)


def test_two_calls_with_the_same_peer_are_two_calls(agents: Agents) -> None:
    alice, bob = agents
    first_out, first_in = connect(alice, bob, "first")
    second_out, second_in = connect(alice, bob, "second")
    third_out, third_in = connect(bob, alice, "third, the other way")
    pairs = [(first_out, first_in), (second_out, second_in), (third_in, third_out)]
    assert {call["call"] for call in live(alice)} == {here for here, _ in pairs}
    assert {call["call"] for call in live(bob)} == {there for _, there in pairs}
    alice.fails("ambiguous-call", "send", "in which?")
    for number, (here, there) in enumerate(pairs):
        talk_both_ways(alice, bob, here, there, f"call {number}")
    for number, (here, there) in enumerate(pairs):
        assert alice.texts(here, "peer") == [f"call {number}, from other"]
        assert bob.texts(there, "peer") == [f"call {number}, from one"]
    alice.ok("end", "--call", first_out)
    bob.event("call.ended", call=first_in)
    for here, there in pairs[1:]:
        talk_both_ways(alice, bob, here, there, "still up")
    bob.ok("end", "--call", second_in)
    alice.event("call.ended", call=second_out)
    talk_both_ways(alice, bob, third_in, third_out, "the last")
    hang_up(alice, bob)


def test_the_newest_call_is_listed_first(agents: Agents) -> None:
    alice, bob = agents
    for number in range(8):
        # In quick succession and either way: a ring bears the time of its sender.
        caller, callee = (alice, bob) if number % 2 else (bob, alice)
        outgoing, incoming = connect(caller, callee, f"call {number}")
        assert [call["call"] for call in caller.ok("calls", "--limit", "1")["calls"]] == [outgoing]
        assert [call["call"] for call in callee.ok("calls", "--limit", "1")["calls"]] == [incoming]
        hang_up(caller, callee)


@pytest.mark.parametrize("absence", ["killed", "stopped"])
def test_a_call_to_who_is_not_there_is_missed_and_called_back(
    embedded_relay: str, new_home: NewHome, absence: str
) -> None:
    alice, bob = new_home("alice", embedded_relay), new_home("bob", embedded_relay)
    alice.ok("config", "set", "ring_time_s", str(RING_TIME_S))
    name = bob.ok("status")["agent"]["npub"]
    alice.sees(str(bob.agent_id))
    bob.sees(str(alice.agent_id))
    if absence == "killed":
        bob.kill_daemon()
    else:
        bob.stop()
    alice.fails("no-answer", "call", name, "the budget of May", "--wait=30")
    (call,) = alice.ok("calls")["calls"]
    assert (call["state"], call["end_reason"], call["protocol"]) == ("ended", "no-answer", "v2")

    bob.ok("daemon", "start")
    missed = bob.event("call.missed")["call_state"]
    assert (missed["topic"], missed["peer"]["id"], missed["state"]) == ("the budget of May", alice.agent_id, "ended")
    inbox = bob.ok("inbox")
    assert [waiting["topic"] for waiting in inbox["missed"]] == ["the budget of May"]
    assert inbox["ringing"] == []
    back, there = connect(bob, alice, "you called")
    talk_both_ways(bob, alice, back, there, "called back")


def test_with_all_calls_taken_the_next_caller_hears_busy(relay_url: str, new_home: NewHome) -> None:
    alice, bob, carol = (new_home(label, relay_url) for label in ("alice", "bob", "carol"))
    bob.ok("config", "set", "max_calls", "1")
    bob.ok("status")
    for caller in (alice, carol):
        caller.sees(str(bob.agent_id))
    here, there = connect(alice, bob)
    carol.fails("peer-busy", "call", str(bob.agent_id), "me too", "--wait=30")
    (call,) = carol.ok("calls")["calls"]
    assert (call["state"], call["end_reason"]) == ("ended", "busy")
    assert [call["call"] for call in live(bob)] == [there]
    talk_both_ways(alice, bob, here, there, "undisturbed")
    hang_up(alice, bob)
    talk_both_ways(carol, bob, *connect(carol, bob, "now"), "at last")


def test_both_daemons_are_killed_again_and_again_and_everything_arrives_once_and_in_order(agents: Agents) -> None:
    alice, bob = agents
    calls = dict(zip(("alice", "bob"), connect(alice, bob), strict=True))

    def talk(label: str, home: Home, kills: set[int]) -> None:
        for number in range(TEXTS):
            assert home.ok("send", f"{label} {number}", "--call", calls[label])["state"] in ("queued", "relayed")
            if number in kills:
                home.kill_daemon()

    with ThreadPoolExecutor() as threads:
        talking = [
            threads.submit(talk, "alice", alice, {7, 20, 21, 44}),
            threads.submit(talk, "bob", bob, {13, 20, 35, 49}),
        ]
        for one in talking:
            one.result()
    for home in (alice, bob):
        home.ok("daemon", "start")
    for home, label in ((alice, "alice"), (bob, "bob")):
        # Whatever would come twice has come when a last message has.
        home.ok("send", "the last", "--call", calls[label], "--wait=delivered", "--timeout", "60", timeout=90)
    for home, label, other in ((alice, "alice", "bob"), (bob, "bob", "alice")):
        assert home.texts(calls[label], "peer") == [*(f"{other} {number}" for number in range(TEXTS)), "the last"]
        mine = [message for message in home.messages(calls[label]) if message["from"] == "me"]
        assert {message["state"] for message in mine} <= {"delivered", "read"}
        assert live(home)[0]["state"] == "connected"
    hang_up(alice, bob)


@pytest.mark.parametrize("when", ["before the answer", "after the answer"])
@pytest.mark.parametrize("victims", ["caller", "callee", "both"])
def test_kills_around_the_answer_leave_one_call_and_it_connects(agents: Agents, when: str, victims: str) -> None:
    alice, bob = agents
    killed = {"caller": (alice,), "callee": (bob,), "both": (alice, bob)}[victims]
    here, there = ring(alice, bob)
    if when == "before the answer":
        for home in killed:
            home.kill_daemon()
    # Bob's daemon, if it was killed, starts with this; Alice's is still away.
    bob.ok("answer", "accept", "--call", there)
    if when == "after the answer":
        for home in killed:
            home.kill_daemon()
    for home in (alice, bob):
        home.ok("daemon", "start")
    assert (the_only_call(alice), the_only_call(bob)) == (here, there)
    talk_both_ways(alice, bob, here, there, "after all")
    assert len(alice.ok("calls")["calls"]) == len(bob.ok("calls")["calls"]) == 1
    hang_up(alice, bob)


def test_a_call_outlives_an_orderly_stop_of_either_side(agents: Agents) -> None:
    alice, bob = agents
    here, there = connect(alice, bob)
    for number, home in enumerate((alice, bob, alice)):
        home.stop()
        home.ok("daemon", "start")
        assert [call["state"] for call in live(home)] == ["connected"]
        talk_both_ways(alice, bob, here, there, f"after stop {number}")
    alice.stop()
    bob.stop()
    bob.ok("daemon", "start")
    talk_both_ways(alice, bob, here, there, "after both")
    hang_up(alice, bob)


def file_of(home: Home, call: str) -> Json:
    (message,) = [message for message in home.messages(call) if message["kind"] == "file"]
    return message


def heard_by_clients(proxy: RecordingProxy) -> int:
    """How many characters came to the clients so far."""
    return sum(len(message.text) for message in proxy.messages if message.direction == "to client")


@pytest.mark.parametrize("victim", ["receiver", "sender"])
def test_a_file_under_way_outlives_a_kill(embedded_relay: str, new_home: NewHome, tmp_path: Path, victim: str) -> None:
    with recording_proxy(embedded_relay) as proxy:
        outlive_a_kill(proxy, new_home("alice", proxy.url), new_home("bob", proxy.url), tmp_path / "large.bin", victim)


def outlive_a_kill(proxy: RecordingProxy, alice: Home, bob: Home, path: Path, victim: str) -> None:
    bob.ok("status")
    alice.sees(str(bob.agent_id))
    here, there = connect(alice, bob)
    path.write_bytes(os.urandom(10 * 1024 * 1024))
    alice.ok("sendfile", "--path", str(path), "--call", here)
    # The file is where it was no more: what is sent was kept when it was accepted.
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.unlink()
    pid = (bob if victim == "receiver" else alice).daemon_pid()
    wait_until(lambda: heard_by_clients(proxy) > 3_000_000, "a part of the file to have come")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the killed daemon to be gone")
    assert not bob.run("wait", "--after", "0", "--for", "file.received", "--timeout", "0").out["event"], "too late"
    assert file_of(alice, here)["state"] in ("queued", "relayed")

    received = bob.event("file.received", call=there, timeout=TRANSFER_S)["message"]["file"]
    assert (received["size"], received["sha256"]) == (10 * 1024 * 1024, digest)
    assert hashlib.sha256(Path(received["path"]).read_bytes()).hexdigest() == digest
    # What `event` printed is read.
    wait_until(lambda: file_of(alice, here)["state"] in ("delivered", "read"), "the sender to know")
    talk_both_ways(alice, bob, here, there, "after the file")


def test_a_file_is_told_of_while_it_comes(embedded_relay: str, new_home: NewHome, tmp_path: Path) -> None:
    alice, bob = new_home("alice", embedded_relay), new_home("bob", embedded_relay)
    bob.ok("status")
    alice.sees(str(bob.agent_id))
    here, there = connect(alice, bob)
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(5 * 1024 * 1024))
    sent = alice.ok("sendfile", "--path", str(path), "--call", here)
    bob.event("file.received", call=there)
    # By now they have happened, if they ever do.
    for kind in ("file.offered", "file.progress"):
        told = bob.event(kind, call=there, timeout=5)["message"]
        assert (told["message"], told["file"]["name"], told["file"]["path"]) == (sent["message"], "large.bin", None)


def test_what_was_said_before_the_end_arrives_before_the_end(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    alice, bob = new_home("alice", embedded_relay), new_home("bob", embedded_relay)
    bob.ok("status")
    alice.sees(str(bob.agent_id))
    here, there = connect(alice, bob)
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(5 * 1024 * 1024))
    alice.ok("send", "before the file", "--call", here)
    alice.ok("sendfile", "--path", str(path), "--call", here)
    for number in range(5):
        alice.ok("send", f"after the file {number}", "--call", here)
    assert alice.ok("end", "--call", here)["call"]["end_reason"] == "completed"

    seen: list[Json] = []
    while not seen or seen[-1]["kind"] != "call.ended":
        seen.append(bob.event("message.received", "file.received", "file.failed", "call.ended", call=there))
    said = [event["message"]["text"] for event in seen if event["kind"] == "message.received"]
    assert said == ["before the file", *(f"after the file {number}" for number in range(5))]
    (file,) = [event["message"]["file"] for event in seen if event["kind"].startswith("file.")]
    assert Path(file["path"]).read_bytes() == path.read_bytes()
    assert seen[-1]["call_state"]["end_reason"] == "completed"
    wait_until(lambda: not live(alice), "alice's call to be over")
    assert {message["state"] for message in alice.messages(here)} <= {"delivered", "read"}


@pytest.mark.soak
def test_a_peer_that_is_silent_for_minutes_is_away_and_then_back(agents: Agents, tmp_path: Path) -> None:
    alice, bob = agents
    path = tmp_path / "meanwhile.bin"
    path.write_bytes(os.urandom(3 << 20))
    here, there = connect(alice, bob)
    talk_both_ways(alice, bob, here, there, "before")
    pid = bob.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        alice.event("peer.away", call=here, timeout=AWAY_S)
        assert [call["state"] for call in live(alice)] == ["connected"]
        assert alice.ok("send", "while you were away", "--call", here)["state"] == "queued"
        # It waits here, and whoever sends it is told so.
        sent = alice.ok("sendfile", "--path", str(path), "--call", here)
        assert (sent["state"], sent["reason"]) == ("queued", "the peer is away; it is sent when it is back in the call")
    finally:
        os.kill(pid, signal.SIGCONT)
    alice.event("peer.back", call=here, timeout=30)
    wait_until(lambda: "while you were away" in bob.texts(there, "peer"), "what was said meanwhile to arrive")
    received = bob.event("file.received", "file.failed", call=there, timeout=AWAY_S)["message"]["file"]
    assert Path(received["path"]).read_bytes() == path.read_bytes()
    delivered = [message for message in alice.messages(here) if message["message"] == sent["message"]]
    assert [message["reason"] for message in delivered] == [None]
    talk_both_ways(alice, bob, here, there, "after")
    assert bob.texts(there, "peer") == ["before, from one", "while you were away", "after, from one"]
    # Told once, not with every frame that is missing.
    assert journal(alice, "peer.away", "peer.back") == ["peer.away", "peer.back"]


def test_a_message_is_read_when_it_was_printed_and_not_when_it_was_looked_at(agents: Agents) -> None:
    alice, bob = agents
    here, there = connect(alice, bob)
    for text in ("first", "second"):
        alice.ok("send", text, "--call", here, "--wait=delivered")
    assert [message["text"] for message in bob.ok("inbox")["unread"]] == ["first", "second"]
    bob.ok("messages", "--call", there)
    bob.ok("transcript", there)
    # Came after whatever the looking could have told her.
    bob.ok("send", "I only looked", "--call", there, "--wait=delivered")
    states = [message["state"] for message in alice.messages(here) if message["from"] == "me"]
    assert states == ["delivered", "delivered"]

    unread = bob.ok("messages", "--unread", "--call", there)["messages"]
    assert [message["text"] for message in unread] == ["first", "second"]
    read = {alice.event("message.read", call=here)["message"]["text"] for _ in unread}
    assert read == {"first", "second"}
    states = [message["state"] for message in alice.messages(here) if message["from"] == "me"]
    assert states == ["read", "read"]
    assert bob.ok("inbox")["unread"] == []
    # What `wait` printed counts as read as well.
    sent = alice.ok("send", "third", "--call", here, "--wait=delivered")
    bob.event("message.received", call=there, where=lambda event: event["message"]["text"] == "third")
    alice.event("message.read", call=here, where=lambda event: event["message"]["message"] == sent["message"])


@pytest.mark.parametrize("absence", ["killed", "stopped"])
def test_what_the_peer_missed_of_a_call_that_ended_meanwhile_is_there_when_it_comes_back(
    agents: Agents, absence: str
) -> None:
    alice, bob = agents
    here, there = connect(alice, bob)
    alice.ok("send", "you hear this", "--call", here, "--wait=delivered")
    if absence == "killed":
        bob.kill_daemon()
    else:
        bob.stop()
    texts = [f"you will hear this {number}" for number in range(3)]
    for text in texts:
        alice.ok("send", text, "--call", here)
    assert alice.ok("end", "--call", here)["call"]["end_reason"] == "completed"
    wait_until(lambda: alice.ok("status")["outbox"]["queued"] == 0, "a relay to have all")
    bob.ok("daemon", "start")
    bob.event("call.ended", call=there)
    wait_until(lambda: len(bob.texts(there, "peer")) == 4, "bob to have all")
    assert bob.texts(there, "peer") == ["you hear this", *texts]
    assert live(bob) == []
    # Nothing stands in the way of the next call.
    talk_both_ways(alice, bob, *connect(alice, bob, "again"), "again")


def test_what_no_mailbox_holds_has_failed_when_the_call_is_over(agents: Agents, tmp_path: Path) -> None:
    alice, bob = agents
    here, there = connect(alice, bob)
    bob.kill_daemon()
    small, large = tmp_path / "small.bin", tmp_path / "large.bin"
    small.write_bytes(os.urandom(15_000))
    large.write_bytes(os.urandom(1_000_000))
    sent = {
        "text": alice.ok("send", "a text", "--call", here),
        "small file": alice.ok("sendfile", "--path", str(small), "--call", here),
        "large file": alice.ok("sendfile", "--path", str(large), "--call", here),
        "long text": alice.ok("send", "-", "--call", here, stdin="x" * 500_000),
    }
    alice.ok("end", "--call", here)
    failed = {alice.event("message.failed", call=here)["message"]["message"] for _ in range(2)}
    assert failed == {sent["large file"]["message"], sent["long text"]["message"]}
    wait_until(lambda: alice.ok("status")["outbox"]["queued"] == 0, "a relay to have the rest")
    states = {message["message"]: (message["state"], message["reason"]) for message in alice.messages(here)}
    for what in ("large file", "long text"):
        state, reason = states[sent[what]["message"]]
        assert state == "failed"
        assert reason
    for what in ("text", "small file"):
        assert states[sent[what]["message"]] == ("relayed", None)

    bob.ok("daemon", "start")
    wait_until(lambda: len(bob.messages(there)) == 2, "bob to have what a mailbox holds")
    text, file = bob.messages(there)
    assert (text["text"], file["file"]["name"]) == ("a text", "small.bin")
    assert Path(file["file"]["path"]).read_bytes() == small.read_bytes()
    assert live(bob) == []


@pytest.mark.parametrize("victim", ["who ends", "the other"])
def test_an_end_outlives_a_kill_right_after_it(agents: Agents, victim: str) -> None:
    alice, bob = agents
    here, there = connect(alice, bob)
    texts = [f"text {number}" for number in range(20)]
    for text in texts:
        alice.ok("send", text, "--call", here)
    alice.ok("end", "--call", here)
    killed = alice if victim == "who ends" else bob
    killed.kill_daemon()
    killed.ok("daemon", "start")
    bob.event("call.ended", call=there)
    wait_until(lambda: len(bob.texts(there, "peer")) == len(texts), "bob to have all")
    assert bob.texts(there, "peer") == texts
    for home in (alice, bob):
        assert live(home) == []
    states = {message["state"] for message in alice.messages(here)}
    assert states <= {"relayed", "delivered", "read"}
