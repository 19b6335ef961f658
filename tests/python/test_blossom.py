"""Files for agents that are away, by a server of blobs: where they go, who pays for a lie, and what a kill costs."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from parts.blossom import BlossomServer, blossom_server
from parts.fixtures import NewHome
from parts.home import Home, Json
from parts.process import is_alive, wait_until
from parts.shapes import MESSAGE, check
from parts.steps import connect

# More than a letter takes, and not a round number.
SIZE = 300_001
MESSAGE_BY_MAIL = MESSAGE | {"via": {"mailbox"}}
# A peer is away after 180 s of silence.
AWAY_S = 240.0


@pytest.fixture
def server() -> Iterator[BlossomServer]:
    with blossom_server() as server:
        yield server


def met(new_home: NewHome, relay: str, server: BlossomServer) -> tuple[Home, Home]:
    """Two agents that know each other and the server. No call is up."""
    alice, bob = new_home("alice", relay), new_home("bob", relay)
    for home in (alice, bob):
        home.ok("config", "set", "blossom", server.url)
        home.ok("status")
    alice.sees(str(bob.agent_id))
    bob.ok("contacts", "add", "alice", alice.ok("status")["agent"]["pubkey"])
    alice.ok("contacts", "add", "bob", bob.ok("status")["agent"]["pubkey"])
    return alice, bob


@pytest.fixture
def pair(embedded_relay: str, new_home: NewHome, server: BlossomServer) -> tuple[Home, Home]:
    return met(new_home, embedded_relay, server)


def write(path: Path, size: int = SIZE) -> bytes:
    data = random.Random(path.name).randbytes(size)
    path.write_bytes(data)
    return data


def kill(home: Home) -> None:
    pid = home.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the killed daemon to be gone")


def files_of(home: Home, sender: str) -> list[Json]:
    """All files by mail that one side has sent."""
    listed = home.ok("messages", "--limit", "100")["messages"]
    return [message for message in listed if message["kind"] == "file" and message["from"] == sender]


def on_disk(home: Home) -> list[str]:
    """What lies in the folder of received files."""
    return sorted(path.name for path in (home.state / "files").rglob("*") if path.is_file())


def test_a_file_to_an_agent_that_is_away_is_there_once_when_it_is_back(
    pair: tuple[Home, Home], server: BlossomServer, tmp_path: Path
) -> None:
    alice, bob = pair
    bob.stop()
    data = write(tmp_path / "report.bin")
    sent = alice.ok("sendfile", "--path", str(tmp_path / "report.bin"), "--to", "bob", "--wait=relayed")
    check(sent, MESSAGE_BY_MAIL)
    assert (sent["state"], sent["via"], sent["call"], sent["reason"]) == ("relayed", "mailbox", None, None)
    # The server has bytes of nobody that it knows.
    ((name, blob),) = server.blobs.items()
    assert name == hashlib.sha256(blob).hexdigest()
    assert len(blob) == SIZE + 16
    assert data[:64] not in blob
    keys = {token["pubkey"] for token in server.tokens}
    assert len(keys) == len(server.tokens) == 2
    assert alice.ok("status")["agent"]["pubkey"] not in keys

    offered = bob.event("file.offered")["message"]
    assert (offered["message"], offered["file"]["size"]) == (sent["message"], SIZE)
    received = bob.event("file.received")["message"]
    check(received, MESSAGE)
    assert (received["message"], received["file"]["name"], received["call"]) == (sent["message"], "report.bin", None)
    assert received["file"]["sha256"] == hashlib.sha256(data).hexdigest() == sent["file"]["sha256"]
    assert Path(received["file"]["path"]).read_bytes() == data
    # Neither side does it again after a restart.
    for home in (alice, bob):
        kill(home)
        home.ok("status")
    alice.ok("send", "that was all", "--to", "bob", "--wait=relayed")
    assert bob.event("message.received")["message"]["text"] == "that was all"
    assert len(files_of(bob, "peer")) == 1
    assert on_disk(bob) == ["report.bin"]
    assert (server.count("PUT"), server.count("GET")) == (1, 1)
    assert not list((bob.state / "incoming").iterdir())


def test_a_small_file_needs_no_server_and_a_large_one_without_it_is_refused_before_it_is_sent(
    embedded_relay: str, new_home: NewHome, server: BlossomServer, tmp_path: Path
) -> None:
    alice, bob = met(new_home, embedded_relay, server)
    data = write(tmp_path / "small.bin", 20_000)
    sent = alice.ok("sendfile", "--path", str(tmp_path / "small.bin"), "--to", "bob", "--wait=relayed")
    assert (sent["state"], sent["via"]) == ("relayed", "mailbox")
    assert Path(bob.event("file.received")["message"]["file"]["path"]).read_bytes() == data
    assert not server.asked
    alice.ok("config", "set", "blossom", "")
    write(tmp_path / "large.bin")
    error = alice.fails("too-large", "sendfile", "--path", str(tmp_path / "large.bin"), "--to", "bob")
    assert "config set blossom" in error["hint"]
    alice.ok("config", "set", "blossom", server.url)
    write(tmp_path / "huge.bin", (16 << 20) + 1)
    alice.fails("too-large", "sendfile", "--path", str(tmp_path / "huge.bin"), "--to", "bob")
    assert not server.asked
    assert len(list((alice.state / "outgoing").iterdir())) == 1, "the small one's copy, which is swept away later"
    for address in ("http://blobs.example", "ftp://127.0.0.1", "https://", "https://blobs.example/x"):
        alice.fails("invalid-value", "config", "set", "blossom", address)


def test_a_file_that_no_server_takes_waits_and_says_why_and_goes_when_one_does(
    pair: tuple[Home, Home], server: BlossomServer, tmp_path: Path
) -> None:
    alice, bob = pair
    data = write(tmp_path / "a.bin")
    server.mood = "402"
    sent = alice.ok("sendfile", "--path", str(tmp_path / "a.bin"), "--to", "bob")
    check(sent, MESSAGE_BY_MAIL)
    assert sent["state"] == "queued", sent
    assert "answered 402: not for you" in sent["reason"], sent
    # What a probe said is remembered, and a server that did not pass is left alone for a while.
    alice.ok("sendfile", "--path", str(tmp_path / "a.bin"), "--to", "bob")
    assert server.count("HEAD", "/upload") == 1
    assert server.count("PUT") == 0
    second = files_of(alice, "me")[-1]
    cancelled = alice.ok("sendfile", "--cancel", second["message"])
    assert (cancelled["state"], "cancelled" in cancelled["reason"]) == ("failed", True)
    server.mood = ""
    kill(alice)
    alice.ok("status")
    received = bob.event("file.received")["message"]
    assert (received["message"], Path(received["file"]["path"]).read_bytes()) == (sent["message"], data)
    assert alice.event("message.relayed")["message"]["message"] == sent["message"]
    assert len(files_of(bob, "peer")) == 1


def test_a_server_that_lies_or_forgets_after_an_upload_has_not_taken_it(
    pair: tuple[Home, Home], server: BlossomServer, tmp_path: Path
) -> None:
    alice, bob = pair
    write(tmp_path / "a.bin")
    for mood, words in (("lies", "something else than what it was sent"), ("forgets", "does not have it")):
        server.mood = mood
        sent = alice.ok("sendfile", "--path", str(tmp_path / "a.bin"), "--to", "bob")

        def problem(message: str = sent["message"]) -> str | None:
            (listed,) = [listed for listed in files_of(alice, "me") if listed["message"] == message]
            assert listed["state"] == "queued"
            reason: str | None = listed["reason"]
            return reason

        assert words in wait_until(problem, f"alice to say what is wrong with a server that {mood}")
    assert not files_of(bob, "peer")


def test_a_lie_of_a_server_is_never_shown_as_a_file_and_never_leads_inside(
    pair: tuple[Home, Home], server: BlossomServer, tmp_path: Path
) -> None:
    alice, bob = pair
    with blossom_server() as inside:
        for mood, words in (
            ("wrong", "altered"),
            ("long", "more than the"),
            ("endless", "more than the"),
            (inside.url + "/latest", "is not asked"),
            ("http://169.254.169.254/latest", "is not asked"),
            ("https://127.0.0.1:1/latest", "is not asked"),
        ):
            server.mood = mood
            path = tmp_path / "a.bin"
            write(path)
            sent = alice.ok("sendfile", "--path", str(path), "--to", "bob", "--wait=relayed")
            failed = bob.event("file.received", "file.failed")
            assert (failed["kind"], failed["message"]["message"]) == ("file.failed", sent["message"]), mood
            assert words in failed["message"]["reason"], failed
        assert not inside.asked
    assert not on_disk(bob)
    assert not list((bob.state / "incoming").glob("*"))


def test_what_breaks_off_or_hangs_is_fetched_again_also_after_a_kill(
    pair: tuple[Home, Home], server: BlossomServer, tmp_path: Path
) -> None:
    alice, bob = pair
    data = write(tmp_path / "a.bin")
    server.mood = "cut"
    alice.ok("sendfile", "--path", str(tmp_path / "a.bin"), "--to", "bob", "--wait=relayed")
    wait_until(lambda: server.count("GET") or None, "bob to fetch it")
    server.mood = "hangs"
    assert server.hangs.wait(60), "bob tries again"
    kill(bob)
    server.mood = ""
    received = bob.event("file.received", "file.failed")
    assert received["kind"] == "file.received"
    assert Path(received["message"]["file"]["path"]).read_bytes() == data
    assert len(files_of(bob, "peer")) == 1
    assert on_disk(bob) == ["a.bin"]


def test_a_sender_that_is_killed_during_the_upload_sends_the_same_blob_and_one_letter(
    pair: tuple[Home, Home], server: BlossomServer, tmp_path: Path
) -> None:
    alice, bob = pair
    data = write(tmp_path / "a.bin")
    server.mood = "hangs after upload"
    sent = alice.ok("sendfile", "--path", str(tmp_path / "a.bin"), "--to", "bob")
    assert (sent["state"], sent["via"], sent["reason"]) == ("queued", "mailbox", None)
    assert server.hangs.wait(60)
    kill(alice)
    server.mood = ""
    alice.ok("status")
    received = bob.event("file.received", "file.failed")["message"]
    assert (received["message"], Path(received["file"]["path"]).read_bytes()) == (sent["message"], data)
    assert (server.count("PUT"), len(server.blobs)) == (2, 1), "the key was settled before"
    alice.ok("send", "that was all", "--to", "bob", "--wait=relayed")
    assert bob.event("message.received")["message"]["text"] == "that was all"
    assert len(files_of(bob, "peer")) == 1


def test_nothing_is_fetched_for_strangers_or_beyond_the_limits_or_from_inside(
    embedded_relay: str, new_home: NewHome, server: BlossomServer, tmp_path: Path
) -> None:
    alice, bob = new_home("alice", embedded_relay), new_home("bob", embedded_relay)
    alice.ok("config", "set", "blossom", server.url)
    bob.ok("config", "set", "strangers", "queue")
    for home in (alice, bob):
        home.ok("status")
    alice.ok("contacts", "add", "bob", bob.ok("status")["agent"]["pubkey"])
    write(tmp_path / "a.bin")
    words = ("sendfile", "--path", str(tmp_path / "a.bin"), "--to", "bob", "--wait=relayed")
    alice.ok(*words)
    (waiting,) = wait_until(lambda: bob.ok("inbox")["mail"] or None, "the file to wait")
    check(waiting, MESSAGE)
    assert (waiting["kind"], waiting["file"]["name"], waiting["file"]["size"]) == ("file", "a.bin", SIZE)
    assert server.count("GET") == 0
    # Let in; but the server is on this machine, and bob has not named it.
    bob.ok("contacts", "add", "alice", alice.ok("status")["agent"]["pubkey"])
    failed = bob.event("file.failed")["message"]
    assert "is not asked" in failed["reason"], failed
    assert server.count("GET") == 0
    bob.ok("config", "set", "blossom", server.url)
    bob.ok("config", "set", "file_limit_mib", "0")
    alice.ok(*words)
    assert "too-large" in bob.event("file.failed")["message"]["reason"]
    assert server.count("GET") == 0
    bob.ok("config", "set", "file_limit_mib", "1")
    alice.ok(*words)
    assert bob.event("file.received")["message"]["file"]["name"] == "a.bin"


def test_a_folder_goes_the_same_way(pair: tuple[Home, Home], tmp_path: Path) -> None:
    alice, bob = pair
    folder = tmp_path / "report"
    folder.mkdir()
    data = write(folder / "a.bin")
    alice.ok("sendfile", "--path", str(folder), "--to", "bob", "--wait=relayed")
    received = bob.event("file.received", "file.failed")["message"]
    assert (Path(received["file"]["path"]) / "a.bin").read_bytes() == data


@pytest.mark.soak
def test_a_file_in_a_call_whose_peer_is_away_goes_to_its_mailbox_and_into_the_transcript(
    pair: tuple[Home, Home], server: BlossomServer, tmp_path: Path
) -> None:
    alice, bob = pair
    data = write(tmp_path / "a.bin")
    here, there = connect(alice, bob)
    pid = bob.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        alice.event("peer.away", call=here, timeout=AWAY_S)
        words = ("sendfile", "--path", str(tmp_path / "a.bin"), "--call", here)
        server.mood = "413"
        queued = alice.ok(*words)
        assert "via" not in queued, queued
        assert "answered 413" in queued["reason"], queued
        alice.ok("sendfile", "--cancel", queued["message"])
        server.mood = ""
        # A server that did not pass is left alone for a minute; a smaller file may fit.
        (tmp_path / "a.bin").write_bytes(data[:-1])
        sent = alice.ok(*words, "--wait=relayed")
        assert (sent["state"], sent["via"], sent["call"]) == ("relayed", "mailbox", here)
    finally:
        os.kill(pid, signal.SIGCONT)
    received = bob.event("file.received", "file.failed", call=there)["message"]
    assert (received["message"], Path(received["file"]["path"]).read_bytes()) == (sent["message"], data[:-1])
    # The peer is back, and says that it is there.
    delivered = alice.event("message.delivered", call=here, where=lambda event: event["message"]["kind"] == "file")
    assert delivered["message"]["message"] == sent["message"]
    alice.ok("send", "and on", "--call", here, "--wait=delivered")
    assert [message["kind"] for message in bob.messages(there) if message["from"] == "peer"] == ["file", "text"]


@pytest.mark.soak
def test_a_file_that_a_call_did_not_carry_to_its_end_follows_by_mail(
    pair: tuple[Home, Home], server: BlossomServer, tmp_path: Path
) -> None:
    alice, bob = pair
    data = write(tmp_path / "a.bin")
    here, there = connect(alice, bob)
    kill(bob)
    sent = alice.ok("sendfile", "--path", str(tmp_path / "a.bin"), "--call", here)
    assert "via" not in sent
    assert not server.asked
    alice.ok("end", "--call", here)
    relayed = alice.event("message.relayed", "message.failed", timeout=60)["message"]
    assert (relayed["message"], relayed["state"], relayed["via"]) == (sent["message"], "relayed", "mailbox")
    received = bob.event("file.received", "file.failed", call=there)["message"]
    assert (received["message"], Path(received["file"]["path"]).read_bytes()) == (sent["message"], data)
    assert [message["kind"] for message in bob.messages(there)] == ["file"]
