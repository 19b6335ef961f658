"""The documented flow between two homes by shell commands alone, and what no crash may do to it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from parts import relays
from parts.fixtures import NewHome
from parts.home import Home
from parts.process import is_alive, wait_until
from parts.relays import CONSOLE_SCRIPT
from parts.steps import connect, ring

Agents = tuple[Home, Home]

NOON = "Mahlzeit 🦞 “12:00”"


def test_the_demo_shows_a_whole_call_and_leaves_nothing_behind(new_home: NewHome, tmp_path: Path) -> None:
    home, folder = new_home("home"), tmp_path / "temporary"
    folder.mkdir()
    shown = home.run("demo", json=False, env={"TMPDIR": str(folder)}, timeout=120)
    assert shown.exit == 0, shown
    assert "FAILED" not in shown.err
    assert "both: transcript    the same words on both sides" in shown.err
    assert "16 steps" in shown.out
    assert list(folder.iterdir()) == []
    assert not home.identity_file.exists()


def test_two_agents_hold_a_whole_conversation_by_shell_commands(agents: Agents, tmp_path: Path) -> None:
    alice, bob = agents
    status = alice.ok("status")
    assert status["agent"]["id"] == alice.agent_id
    assert status["connected"] is True
    assert bob.agent_id in [line["id"] for line in alice.ok("list")["agents"]]
    assert alice.agent_id not in [line["id"] for line in alice.ok("list")["agents"]]

    placed = alice.ok("call", str(bob.agent_id), "API design")
    assert (placed["state"], placed["direction"], placed["already"]) == ("ringing", "out", False)
    ringing = bob.event("call.ringing")["call_state"]
    assert (ringing["topic"], ringing["peer"]["id"]) == ("API design", alice.agent_id)
    assert [call["call"] for call in bob.ok("inbox")["ringing"]] == [ringing["call"]]
    assert bob.ok("answer", "accept")["state"] == "connected"
    assert alice.event("call.connected", call=placed["call"])["call_state"]["peer"]["id"] == bob.agent_id

    # Without quotes the words are joined by spaces.
    said = alice.ok("send", "Hello,", "I", "have", "a", "question", "--wait=delivered")
    assert said["state"] == "delivered"
    assert bob.event("message.received")["message"]["text"] == "Hello, I have a question"
    bob.ok("send", NOON)
    assert alice.event("message.received")["message"]["text"] == NOON

    alice.ok("sendfile", "report.json", base64.b64encode(b'{"data": true}').decode())
    file = bob.event("file.received")["message"]["file"]
    assert file["name"] == "report.json"
    assert Path(file["path"]).read_bytes() == b'{"data": true}'
    picture = tmp_path / "bild.bin"
    picture.write_bytes(os.urandom(20_000))
    bob.ok("sendfile", "--path", str(picture))
    file = alice.event("file.received")["message"]["file"]
    assert Path(file["path"]).read_bytes() == picture.read_bytes()
    assert file["sha256"] == hashlib.sha256(picture.read_bytes()).hexdigest()

    assert alice.ok("escalate", "Need human decision on budget approval")["state"] == "no-owner"
    told = bob.event("escalation.received")["message"]
    assert told["text"] == "Need human decision on budget approval"

    nothing = bob.run("wait", "--timeout", "1", "--for", "call.missed")
    assert nothing.exit == 124
    assert (nothing.out["event"], nothing.out["timeout"]) == (None, True)

    ended = alice.ok("end")
    assert ended["call"]["end_reason"] == "completed"
    over = bob.event("call.ended", call=ringing["call"])["call_state"]
    assert (over["state"], over["end_reason"]) == ("ended", "completed")
    other = bob.ok("transcript", ringing["call"], "--format", "json")
    swapped = {"me": "peer", "peer": "me"}
    told_by_alice = [(line["from"], line["kind"], line["text"]) for line in ended["transcript"]["messages"]]
    told_by_bob = [(swapped[line["from"]], line["kind"], line["text"]) for line in other["messages"]]
    assert told_by_alice == told_by_bob
    assert [kind for _, kind, _ in told_by_alice] == ["text", "text", "file", "file", "escalation"]
    for transcript in (ended["transcript"], other):
        assert (transcript["caller"], transcript["callee"]) == (alice.agent_id, bob.agent_id)
        assert transcript["message_count"] == 5
    assert bob.ok("end", "--call", ringing["call"])["already"] is True

    alice.fails("no-active-call", "send", "too late")
    assert alice.ok("end")["already"] is True
    alice.fails("no-ringing-call", "answer", "accept")
    alice.fails("usage", "answer", "perhaps", exit=2)


def test_a_rejection_reaches_the_caller_with_its_reason(agents: Agents) -> None:
    alice, bob = agents
    outgoing, incoming = ring(alice, bob)
    bob.ok("answer", "reject", "I'm busy right now", "--call", incoming)
    rejected = alice.event("call.rejected", call=outgoing)["call_state"]
    assert (rejected["end_reason"], rejected["reason"]) == ("rejected", "I'm busy right now")


def test_a_ring_that_is_taken_back_is_a_missed_call(agents: Agents) -> None:
    alice, bob = agents
    outgoing, incoming = ring(alice, bob)
    assert alice.ok("end", "--call", outgoing)["call"]["end_reason"] == "cancelled"
    bob.event("call.missed", call=incoming)
    inbox = bob.ok("inbox")
    assert inbox["ringing"] == []
    assert [call["call"] for call in inbox["missed"]] == [incoming]


@pytest.mark.soak
def test_a_ring_that_nobody_answers_ends_after_a_minute(agents: Agents) -> None:
    alice, bob = agents
    alice.fails("no-answer", "call", str(bob.agent_id), "API design", "--wait=90", timeout=100)
    bob.event("call.missed")


def test_several_calls_are_up_at_once(relay_url: str, new_home: NewHome) -> None:
    alice, bob, carol = (new_home(label, relay_url) for label in ("alice", "bob", "carol"))
    for callee in (bob, carol):
        callee.ok("status")
        alice.sees(str(callee.agent_id))
    with_bob, at_bob = connect(alice, bob)
    at_carol, with_carol = connect(carol, alice)
    error = alice.fails("ambiguous-call", "send", "to whom?")
    assert with_bob in str(error)
    assert with_carol in str(error)
    alice.ok("send", "to bob", "--call", with_bob)
    alice.ok("send", "to carol", "--call", with_carol)
    assert bob.event("message.received", call=at_bob)["message"]["text"] == "to bob"
    assert carol.event("message.received", call=at_carol)["message"]["text"] == "to carol"
    alice.ok("end", "--call", with_bob)
    assert [call["call"] for call in alice.ok("status")["calls"]] == [with_carol]


@pytest.mark.parametrize("victim", ["sender", "receiver"])
def test_kill_9_in_the_middle_loses_nothing_and_repeats_nothing(agents: Agents, victim: str) -> None:
    sender, receiver = agents
    outgoing, incoming = connect(sender, receiver)
    texts = [f"message {number}" for number in range(15)]
    killed = sender if victim == "sender" else receiver

    for number, text in enumerate(texts):
        if number % 5 == 2:
            # Just after a message was accepted, and with others on their way.
            killed.kill_daemon()
        assert sender.ok("send", text, "--call", outgoing)["state"] in ("queued", "relayed")
    replies = [f"reply {number}" for number in range(5)]
    for text in replies:
        receiver.ok("send", text, "--call", incoming)

    # Whatever would come twice has come when a last message has.
    sender.ok("send", "the last", "--call", outgoing)
    receiver.ok("send", "the last", "--call", incoming)
    wait_until(lambda: "the last" in receiver.texts(incoming, "peer"), "the receiver to have all")
    wait_until(lambda: "the last" in sender.texts(outgoing, "peer"), "the sender to have all")
    assert receiver.texts(incoming, "peer") == [*texts, "the last"]
    assert sender.texts(outgoing, "me") == [*texts, "the last"]
    assert sender.texts(outgoing, "peer") == [*replies, "the last"]

    ended = sender.ok("end", "--call", outgoing)
    assert ended["call"]["end_reason"] == "completed"
    receiver.event("call.ended", call=incoming)


def test_kill_9_while_it_rings_rings_once_and_connects(agents: Agents) -> None:
    alice, bob = agents
    outgoing, incoming = ring(alice, bob)
    alice.kill_daemon()
    bob.kill_daemon()
    assert [call["call"] for call in bob.ok("inbox")["ringing"]] == [incoming]
    bob.ok("answer", "accept", "--call", incoming)
    alice.event("call.connected", call=outgoing)
    assert len(bob.ok("calls")["calls"]) == len(alice.ok("calls")["calls"]) == 1


def test_what_was_sent_while_a_daemon_was_down_is_there_after_its_start(agents: Agents) -> None:
    alice, bob = agents
    outgoing, incoming = connect(alice, bob)
    bob.stop()
    texts = [f"while you were away {number}" for number in range(5)]
    for text in texts:
        assert alice.ok("send", text, "--call", outgoing)["state"] == "queued"
    bob.ok("daemon", "start")
    for text in texts:
        assert bob.event("message.received", call=incoming)["message"]["text"] == text
    assert bob.texts(incoming, "peer") == texts
    wait_until(lambda: alice.ok("status")["outbox"]["queued"] == 0, "alice to know that bob has all")


def test_a_ring_while_the_daemon_was_down_is_told_after_its_start(agents: Agents) -> None:
    alice, bob = agents
    bob.kill_daemon()
    alice.ok("call", str(bob.agent_id), "are you there?")
    bob.ok("status")
    told = bob.event("call.ringing", "call.missed")["call_state"]
    assert told["topic"] == "are you there?"


def test_with_every_relay_down_a_message_is_queued_and_goes_out_later(tmp_path: Path, new_home: NewHome) -> None:
    folder = tmp_path / "relay"
    with relays.pypi_relay(folder) as relay:
        alice, bob = new_home("alice", relay.url), new_home("bob", relay.url)
        bob.ok("status")
        alice.sees(str(bob.agent_id))
        outgoing, incoming = connect(alice, bob)
    wait_until(lambda: not alice.ok("status")["connected"], "alice to notice that the relay is gone")
    assert alice.ok("send", "into the dark", "--call", outgoing)["state"] == "queued"
    assert alice.ok("status")["outbox"]["queued"] >= 1
    alice.fails("relays-unreachable", "list", exit=3)
    alice.fails("relays-unreachable", "call", str(bob.agent_id), exit=3)
    with relays.pypi_relay(folder, port=relay.port):
        # Reconnection backs off to a minute.
        received = bob.event("message.received", call=incoming, timeout=90)["message"]
        assert received["text"] == "into the dark"
        wait_until(lambda: alice.ok("status")["outbox"]["queued"] == 0, "the outbox to be empty")


def test_ten_commands_at_once_start_one_daemon(relay_url: str, new_home: NewHome) -> None:
    home = new_home("ten", relay_url)
    commands = [home.popen("status", "--json") for _ in range(10)]
    statuses = []
    for command in commands:
        out, err = command.communicate(timeout=60)
        assert command.returncode == 0, out + err
        statuses.append(json.loads(out))
    assert len({status["daemon"]["pid"] for status in statuses}) == 1
    assert len({status["agent"]["pubkey"] for status in statuses}) == 1
    assert home.daemon_pid() == statuses[0]["daemon"]["pid"]


def test_the_daemon_outlives_the_process_group_that_started_it(relay_url: str, new_home: NewHome) -> None:
    home = new_home("orphan", relay_url)
    script = f'"{CONSOLE_SCRIPT}" status >/dev/null && echo started && cat'
    shell = subprocess.Popen(
        ["/bin/sh", "-c", script],
        env=home.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert shell.stdout is not None
    assert shell.stdin is not None
    assert shell.stdout.readline() == "started\n"
    pid = home.daemon_pid()
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    shell.stdin.close()
    shell.stdout.close()
    assert home.daemon_pid() == pid


def test_the_daemon_stops_cleanly_and_starts_again(relay_url: str, new_home: NewHome) -> None:
    home = new_home("again", relay_url)
    first = home.daemon_pid()
    key = home.ok("status")["agent"]["pubkey"]
    home.stop()
    wait_until(lambda: not is_alive(first), "the daemon to be gone")
    home.ok("daemon", "start")
    second = home.daemon_pid()
    assert second != first
    assert home.ok("status")["agent"]["pubkey"] == key
    # One that runs is left as it is.
    home.ok("daemon", "start")
    assert home.daemon_pid() == second


def test_a_stopped_agent_is_no_longer_listed(agents: Agents) -> None:
    alice, bob = agents
    bob.stop()
    wait_until(lambda: alice.line_of(str(bob.agent_id)) is None, "bob to be off the list")


def test_a_daemon_that_hangs_is_named_soon(relay_url: str, new_home: NewHome) -> None:
    home = new_home("stopped", relay_url)
    pid = home.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        home.fails("daemon-not-responding", "status", exit=3, timeout=15)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert home.daemon_pid() == pid
