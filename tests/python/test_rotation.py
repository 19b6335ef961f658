"""A key that is replaced, between daemons: peers follow, what was on its way arrives, and no crash loses a key."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from parts.fixtures import NewHome
from parts.home import Home
from parts.installing import Missing, installed
from parts.process import wait_until
from parts.relays import CONSOLE_SCRIPT
from parts.steps import connect, meet

# What makes a change of a file durable or visible.
STEPS = ("fsync", "link", "linkat", "rename", "renameat", "renameat2", "unlink")


@pytest.fixture(scope="module")
def relay_url(embedded_relay: str) -> str:
    return embedded_relay


def pubkey(home: Home) -> str:
    return str(home.ok("status")["agent"]["pubkey"])


def contact(home: Home, name: str) -> Any:
    return next(it for it in home.ok("contacts", "list")["contacts"] if it["name"] == name)


def rotate(home: Home) -> tuple[str, str]:
    """The key before and the key after."""
    rotated = home.ok("identity", "rotate")
    return rotated["old"]["pubkey"], rotated["pubkey"]


def test_a_peer_that_is_online_follows_and_is_told(relay_url: str, new_home: NewHome) -> None:
    alice, bob = meet(new_home, [relay_url])
    outgoing, _ = connect(alice, bob)
    alice.ok("end", "--call", outgoing)
    bob.ok("contacts", "add", "ally", pubkey(alice))
    old, new = rotate(alice)
    changed = bob.event("contact.key-changed")["key_changed"]
    assert changed == {"agent_id": alice.agent_id, "pinned": old, "claimed_by": new, "followed": True}
    assert contact(bob, "ally")["pubkey"] == new
    assert contact(bob, "ally")["agent_id"] == alice.agent_id
    ringing = bob.ok("call", "ally", "are you still you?")
    assert ringing["peer"] | {"name": "ally"} == ringing["peer"]
    assert (ringing["peer"]["pubkey"], ringing["peer"]["tier"]) == (new, "contact")
    alice.event("call.ringing", where=lambda event: event["call_state"]["topic"] == "are you still you?")


def announces(witness: Home, agent: Home, key: str) -> bool:
    lines = [line for line in witness.ok("list")["agents"] if line["id"] == agent.agent_id]
    return any(line["pubkey"] == key for line in lines)


def test_a_peer_that_was_away_finds_the_new_key_by_the_old_one(relay_url: str, new_home: NewHome) -> None:
    alice, bob = meet(new_home, [relay_url])
    first = pubkey(alice)
    bob.ok("contacts", "add", "ally", first)
    bob.stop()
    witness = new_home("carol", relay_url)
    new = first
    for _ in range(2):
        _, new = rotate(alice)
        wait_until(partial(announces, witness, alice, new), "it to be announced")
    # With her presence taken back only the statements that lie at the relay lead to her.
    alice.stop()
    assert bob.ok("call", first, "by the old key")["peer"]["pubkey"] == new
    assert contact(bob, "ally")["pubkey"] == new
    alice.event("call.ringing", "call.missed", where=lambda event: event["call_state"]["topic"] == "by the old key")


def test_mail_that_waited_for_the_old_key_is_received_after_the_rotation(relay_url: str, new_home: NewHome) -> None:
    alice, bob = meet(new_home, [relay_url])
    bob.sees(str(alice.agent_id))
    old = pubkey(alice)
    alice.stop()
    sent = [f"letter {number}" for number in range(3)]
    for words in sent:
        letter = bob.ok("send", "--to", old, words)
        assert letter["peer"] == old
    bob.event("message.relayed", where=lambda event: event["message"]["text"] == sent[-1])
    # It starts a daemon to see that no call is up; that one may take some of them, or none.
    before, new = rotate(alice)
    assert (before, pubkey(alice)) == (old, new)
    got = [alice.event("message.received")["message"] for _ in sent]
    assert [message["text"] for message in got] == sent
    assert {message["peer"] for message in got} == {pubkey(bob)}
    assert alice.run("wait", "--timeout", "0", "--after", "0", "--for", "message.failed").exit == 124


def test_while_a_call_is_up_the_key_stays(relay_url: str, new_home: NewHome) -> None:
    alice, bob = meet(new_home, [relay_url])
    outgoing, incoming = connect(alice, bob)
    before = alice.identity_file.read_bytes()
    error = alice.fails("invalid-value", "identity", "rotate")
    assert "p2p-comm end" in error["hint"]
    assert alice.identity_file.read_bytes() == before
    assert not (alice.state / "earlier-keys").exists()
    alice.ok("send", "still here", "--call", outgoing)
    assert bob.event("message.received", call=incoming)["message"]["text"] == "still here"


@pytest.fixture(scope="module")
def strace() -> str:
    """The path of strace, which is installed if need be."""
    try:
        return str(installed("install-strace.sh"))
    except Missing as missing:
        pytest.skip(f"no strace: {missing}")


def kept(home: Home) -> dict[str, bytes]:
    folder = home.state / "earlier-keys"
    return {path.stem: path.read_bytes() for path in folder.glob("*.json")} if folder.exists() else {}


@pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux's")
def test_death_between_any_two_steps_of_a_rotation_loses_no_key(relay_url: str, new_home: NewHome, strace: str) -> None:
    home = new_home("alice", relay_url)
    home.ok("status")
    deaths = {"before": 0, "after": 0}
    for step in STEPS:
        for count in range(1, 20):
            old = home.identity_file.read_bytes()
            old_key = json.loads(old)["publicKey"]
            inject = f"inject={step}:signal=SIGKILL:when={count}"
            words = [strace, "-qq", "-o", os.devnull, "-e", f"trace={step}", "-e", inject]
            died = subprocess.run(
                [*words, CONSOLE_SCRIPT, "--json", "identity", "rotate"],
                env=home.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            now = home.identity_file.read_bytes()
            assert stat.S_IMODE(home.identity_file.stat().st_mode) == 0o600
            if now == old:
                deaths["before"] += died.returncode != 0
            else:
                # The new one is whole, and the old one was put aside before.
                assert json.loads(now)["rotations"][-1]["old"] == old_key
                assert kept(home)[old_key] == old
                deaths["after"] += died.returncode != 0
            assert pubkey(home) == json.loads(now)["publicKey"]
            assert home.identity_file.read_bytes() == now
            if died.returncode == 0:
                break
        else:
            pytest.fail(f"a rotation has more than {count} times {step}")
    print(deaths)  # noqa: T201
    assert deaths["before"] >= 4
    assert deaths["after"] >= 1
    rotated = home.ok("identity", "rotate")
    assert Path(rotated["old"]["file"]).exists()
    # No piece of a key lies about that a killed rotation left.
    assert {path.name for path in home.folder.iterdir()} == {"p2p-identity.json", "p2p-comm"}
    assert all(path.suffix == ".json" and path.name[0] != "." for path in (home.state / "earlier-keys").iterdir())
