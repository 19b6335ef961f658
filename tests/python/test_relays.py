"""The flow over several relays at once: independent ones, one that asks who we are (NIP-42), one or none in common."""

from __future__ import annotations

import base64
import os
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from parts import relays
from parts.fixtures import NewHome
from parts.home import Home
from parts.process import LOG, wait_until
from parts.steps import connect

Json = dict[str, Any]

# To be told that somebody cannot be found; the promise is "10 s or so".
NOT_FOUND_S = 15.0
# By how much a command that waits for its message to be delivered may take longer than one that does not: far below
# what an acknowledgement may be put off.
WITHOUT_DELAY_S = 0.25


@pytest.fixture(scope="module")
def asking_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an independent relay that lets in only who has authenticated."""
    with relays.pypi_relay(tmp_path_factory.mktemp("asking"), authentication=True) as relay:
        yield relay.url


def pair(new_home: NewHome, *relay_urls: str) -> tuple[Home, Home]:
    """Alice and Bob on the same relays, each of whom sees the other."""
    alice, bob = new_home("alice", *relay_urls), new_home("bob", *relay_urls)
    for home in (alice, bob):
        home.ok("status")
    alice.sees(str(bob.agent_id))
    bob.sees(str(alice.agent_id))
    return alice, bob


def relay_of(home: Home, url: str) -> Json:
    """What `status` says of a relay."""
    (line,) = [line for line in home.ok("status")["relays"] if line["url"].rstrip("/") == url]
    return dict(line)


def hold_a_conversation(alice: Home, bob: Home, folder: Path) -> None:
    """Call, answer, texts both ways, two files, an escalation, the end; both transcripts tell the same."""
    outgoing, incoming = connect(alice, bob)
    for number in range(3):
        alice.ok("send", f"question {number}", "--call", outgoing, "--wait=delivered")
        assert bob.event("message.received", call=incoming)["message"]["text"] == f"question {number}"
        bob.ok("send", f"answer {number}", "--call", incoming, "--wait=delivered")
        assert alice.event("message.received", call=outgoing)["message"]["text"] == f"answer {number}"
    alice.ok("sendfile", "report.json", base64.b64encode(b'{"data": true}').decode(), "--call", outgoing)
    file = bob.event("file.received", call=incoming)["message"]["file"]
    assert (file["name"], Path(file["path"]).read_bytes()) == ("report.json", b'{"data": true}')
    large = folder / "large.bin"
    large.write_bytes(os.urandom(300_000))
    bob.ok("sendfile", "--path", str(large), "--call", incoming)
    file = alice.event("file.received", call=outgoing)["message"]["file"]
    assert Path(file["path"]).read_bytes() == large.read_bytes()
    assert alice.ok("escalate", "May I?", "--call", outgoing)["state"] == "no-owner"
    bob.event("escalation.received", call=incoming)

    ended = alice.ok("end", "--call", outgoing)
    assert bob.event("call.ended", call=incoming)["call_state"]["end_reason"] == "completed"
    other = bob.ok("transcript", incoming, "--format", "json")
    swapped = {"me": "peer", "peer": "me"}
    told_by_alice = [(line["from"], line["kind"], line["text"]) for line in ended["transcript"]["messages"]]
    told_by_bob = [(swapped[line["from"]], line["kind"], line["text"]) for line in other["messages"]]
    assert told_by_alice == told_by_bob
    assert [kind for _, kind, _ in told_by_alice] == ["text"] * 6 + ["file", "file", "escalation"]


def test_the_flow_over_two_relays_of_which_one_asks_who_we_are(
    embedded_relay: str, asking_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    alice, bob = pair(new_home, embedded_relay, asking_relay)
    hold_a_conversation(alice, bob, tmp_path)
    for home in (alice, bob):

        def all_is_told(home: Home = home) -> bool:
            lines = [relay_of(home, url) for url in (embedded_relay, asking_relay)]
            return all(line["accepted"] and line["rtt_ms"] and line["session"]["echo_ms"] for line in lines)

        wait_until(all_is_told, "both relays to be known in full")
        # The embedded one asks who reads gift wraps, and nobody else.
        for url, auth in ((embedded_relay, "none"), (asking_relay, "done")):
            line = relay_of(home, url)
            assert (line["connected"], line["auth"], line["error"], line["refusal"]) == (True, "done", None, None)
            assert line["refused"] == 0
            session = line["session"]
            assert (session["connected"], session["auth"], session["error"]) == (True, auth, None)


def test_only_the_connection_of_an_identity_says_who_that_is(new_home: NewHome, tmp_path: Path) -> None:
    with relays.pypi_relay(tmp_path / "relay", authentication=True) as relay:
        alice, bob = pair(new_home, relay.url)
        hold_a_conversation(alice, bob, tmp_path)
        identities = [home.ok("status")["agent"]["pubkey"] for home in (alice, bob)]
        believed = re.findall(r"Authenticated ([0-9a-f]{64})", (relay.folder / LOG).read_text())
    # Two connections each: the one of the identity, and the one of its sessions.
    assert len(believed) == len(set(believed)) == 4
    assert set(identities) <= set(believed)


def test_a_relay_that_asks_who_we_are_and_is_restarted_is_told_again(new_home: NewHome, tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    with relays.pypi_relay(folder, authentication=True) as relay:
        alice, bob = pair(new_home, relay.url)
        outgoing, incoming = connect(alice, bob)
        alice.ok("send", "before", "--call", outgoing, "--wait=delivered")
    wait_until(lambda: not alice.ok("status")["connected"], "alice to notice that the relay is gone")
    alice.ok("send", "meanwhile", "--call", outgoing)
    with relays.pypi_relay(folder, port=relay.port, authentication=True):
        # Reconnection backs off to a minute.
        alice.ok("send", "after", "--call", outgoing, "--wait=delivered", "--timeout", "90", timeout=100)
        assert bob.texts(incoming, "peer") == ["before", "meanwhile", "after"]
        for home in (alice, bob):

            def is_known(home: Home = home) -> bool:
                line = relay_of(home, relay.url)
                return line["connected"] and line["auth"] == "done"

            wait_until(is_known, "the relay to know who it is", timeout=90)
        hold_a_conversation(bob, alice, tmp_path)


def test_the_flow_over_a_relay_that_never_says_whether_it_believed_us(new_home: NewHome, tmp_path: Path) -> None:
    with relays.pypi_relay(tmp_path / "relay", authentication="as shipped") as relay:
        hold_a_conversation(*pair(new_home, relay.url), tmp_path)


def test_mail_that_only_the_relay_that_asks_has_is_read(tmp_path: Path, asking_relay: str, new_home: NewHome) -> None:
    with relays.embedded_relay(tmp_path / "relay") as other:
        alice, bob = pair(new_home, other.url, asking_relay)
        key = bob.ok("status")["agent"]["npub"]
        bob.stop()
    wait_until(lambda: not relay_of(alice, other.url)["connected"], "alice to notice that the other relay is gone")
    texts = [f"mail {number}" for number in range(3)]
    for text in texts:
        assert alice.ok("send", text, "--to", key, "--wait=relayed")["state"] == "relayed"
    bob.ok("daemon", "start")
    received = [bob.event("message.received")["message"] for _ in texts]
    assert sorted(message["text"] for message in received) == texts
    assert {message["call"] for message in received} == {None}
    assert relay_of(bob, asking_relay)["auth"] == "done"


def test_the_flow_where_each_agent_has_three_relays_and_one_in_common(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    with ExitStack() as running:
        private = [
            running.enter_context(relays.embedded_relay(tmp_path / f"relay {number}")).url for number in range(4)
        ]
        # In another place of each list.
        alice = new_home("alice", private[0], private[1], embedded_relay)
        bob = new_home("bob", embedded_relay, private[2], private[3])
        for home in (alice, bob):
            home.ok("status")
        alice.sees(str(bob.agent_id))
        bob.sees(str(alice.agent_id))
        hold_a_conversation(alice, bob, tmp_path)
        # And in the other direction, with mail.
        hold_a_conversation(bob, alice, tmp_path)
        alice.ok("send", "mail", "--to", str(bob.agent_id), "--wait=relayed")
        assert bob.event("message.received", where=lambda event: event["call"] is None)["message"]["text"] == "mail"
        for home in (alice, bob):
            for line in home.ok("status")["relays"]:
                assert (line["connected"], line["error"]) == (True, None), line


def test_a_relay_that_takes_little_slows_nothing_while_another_takes_all(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    with relays.pypi_relay(tmp_path / "relay", events="60/minute") as relay:
        alice, bob = pair(new_home, relay.url, embedded_relay)
        outgoing, incoming = connect(alice, bob)

        def send(text: str) -> None:
            alice.ok("send", text, "--call", outgoing, "--wait=delivered")

        def is_limited() -> bool:
            send("until it is enough")
            errors = [relay_of(home, relay.url)["session"]["error"] or "" for home in (alice, bob)]
            return all("rate-limited" in error for error in errors)

        wait_until(is_limited, "the relay to have refused something of each", timeout=60)
        # In turn, so that a busy machine slows both alike.
        differences = []
        for number in range(20):
            began = time.monotonic()
            alice.ok("status")
            asked = time.monotonic()
            send(f"text {number}")
            differences.append((time.monotonic() - asked) - (asked - began))
        assert statistics.median(differences) < WITHOUT_DELAY_S, differences
        assert bob.texts(incoming, "peer")[-20:] == [f"text {number}" for number in range(20)]


def test_who_has_no_relay_in_common_with_us_is_not_found_and_we_are_told_soon(
    embedded_relay: str, pypi_relay: str, new_home: NewHome
) -> None:
    alice, bob = new_home("alice", embedded_relay), new_home("bob", pypi_relay)
    key = bob.ok("status")["agent"]["npub"]
    alice.ok("status")
    for words in (("call", key), ("send", "mail", "--to", key)):
        began = time.monotonic()
        error = alice.fails("unknown-agent", *words, timeout=NOT_FOUND_S)
        assert time.monotonic() - began < NOT_FOUND_S
        assert "relays" in error["hint"]
    assert alice.ok("status")["outbox"]["queued"] == 0
    assert alice.ok("calls")["calls"] == []
