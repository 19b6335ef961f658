"""What a peer writes to do harm: names of files, and texts that would command a terminal or forge a line."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parts.bare_client import connected
from parts.engine import Engine, Refused
from parts.fixtures import NewHome
from parts.home import Home
from parts.hostile import file_names, raw_in, texts
from parts.legacy import LegacyPeer
from parts.nostr import Key
from parts.process import wait_until
from parts.steps import connect, meet

NAMES, TEXTS = 200, 300


@pytest.fixture(scope="module")
def relay_url(embedded_relay: str) -> str:
    return embedded_relay


def tree(folder: Path) -> dict[str, str]:
    """Everything below a folder, with the hash of its bytes or where it points to."""
    return {
        str(path.relative_to(folder)): os.readlink(path)  # noqa: PTH115  (as it stands, followed nowhere)
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
        if not path.is_socket() and not path.is_fifo()
    }


def contents(number: int) -> bytes:
    return f"file {number}".encode()


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Something outside of the home that must stay as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("precious")
    return outside


def plant(folder: Path, outside: Path) -> None:
    """Links and worse under names that will be sent."""
    (folder / "link.txt").symlink_to(outside / "precious.txt")
    (folder / "dangling.txt").symlink_to(outside / "new.txt")
    (folder / "up.txt").symlink_to("../../../p2p-identity.json")
    (folder / "folder-link.txt").symlink_to(outside)
    (folder / "folder.txt").mkdir()
    os.mkfifo(folder / "pipe.txt")


def climbing(outside: Path) -> list[str]:
    """Names that would lead out of the folder of a call, and no further than to what belongs to the test.

    They are sent first: where one of them gets out, the others are not sent.
    """
    return ["../climbed.txt", "../../../climbed.txt", f"{outside}/absolute.txt"]


PLANTED = ["link.txt", "dangling.txt", "up.txt", "folder-link.txt", "folder.txt", "pipe.txt"]


def test_hostile_names_of_files_in_a_call(
    embedded_relay: str, new_home: NewHome, tmp_path: Path, planted: Path
) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    outgoing, incoming = connect(alice, bob)
    sender = Engine(alice)
    sent: list[bytes] = []

    def send(name: str) -> None:
        content = contents(len(sent))

        def is_taken() -> bool:
            try:
                sender.ask("send-file", name=name, content=base64.b64encode(content).decode(), call=outgoing)
            except Refused as refusal:
                # Only so many wait at once.
                if refusal.code != "too-fast":
                    raise
                return False
            return True

        wait_until(is_taken, "the file to be taken")
        sent.append(content)

    send("first.txt")
    first = bob.event("file.received", call=incoming)["message"]["file"]
    folder = Path(first["path"]).parent
    plant(folder, planted)
    before = tree(tmp_path)
    for name in climbing(planted):
        send(name)
    wait_until(lambda: len(received_files(bob, incoming)) == len(sent), "the first files to be there")
    check_received(bob, folder, sent, received_files(bob, incoming))
    for name in [*PLANTED, *file_names(NAMES)]:
        send(name)
    sender.close()
    wait_until(lambda: len(received_files(bob, incoming)) == len(sent), "all files to be there", timeout=90)
    check_received(bob, folder, sent, received_files(bob, incoming))
    check_nothing_else(bob, tmp_path, folder, before)


def test_hostile_names_of_files_from_a_peer_who_sends_what_it_likes(
    relay_url: str,
    new_home: NewHome,
    new_legacy_peer: Callable[[str], LegacyPeer],
    tmp_path: Path,
    planted: Path,
) -> None:
    peer, bob = new_legacy_peer("mallory"), new_home("bob", relay_url)
    pubkey = bob.ok("status")["agent"]["pubkey"]
    peer.do("presence")
    peer.do("call", to=pubkey, topic="files")
    incoming = bob.event("call.ringing")["call"]
    bob.ok("answer", "accept")
    peer.payload("call_accepted")
    sent: list[bytes] = []

    def send(name: str) -> None:
        content = contents(len(sent))
        peer.do("file", filename=name, content=base64.b64encode(content).decode(), mimeType="text/plain")
        sent.append(content)

    send("first.txt")
    first = bob.event("file.received", call=incoming)["message"]["file"]
    folder = Path(first["path"]).parent
    plant(folder, planted)
    before = tree(tmp_path)
    for name in climbing(planted):
        send(name)
    wait_until(lambda: len(received_files(bob, incoming)) == len(sent), "the first files to be there")
    check_received(bob, folder, sent, received_files(bob, incoming))
    for name in [*PLANTED, *file_names(NAMES)]:
        send(name)
    wait_until(lambda: len(received_files(bob, incoming)) == len(sent), "all files to be there", timeout=90)
    check_received(bob, folder, sent, received_files(bob, incoming))
    check_nothing_else(bob, tmp_path, folder, before)


def received_files(home: Home, call: str) -> list[Path]:
    """Where the files of the peer are, as the home says."""
    return [
        Path(message["file"]["path"])
        for message in home.messages(call)
        if message["kind"] == "file" and message["from"] == "peer" and message["file"]["path"] is not None
    ]


def check_received(home: Home, folder: Path, sent: list[bytes], paths: list[Path]) -> None:
    """Every file is there, with its bytes, private, and right in the folder."""
    assert sorted(path.read_bytes() for path in paths) == sorted(sent)
    for path in paths:
        assert path.parent == folder, path
        found = path.lstat()
        assert stat.S_ISREG(found.st_mode), path
        assert stat.S_IMODE(found.st_mode) == 0o600, path
        assert raw_in(path.name) == [], path
        assert not path.name.startswith((".", "-", "~")), path
    assert len(set(paths)) == len(paths)
    assert folder.parent == home.state / "files"


def check_nothing_else(home: Home, around: Path, folder: Path, before: dict[str, str]) -> None:
    """Nothing but files in the folder came, and nothing but what the engine writes has changed."""
    state = home.state.relative_to(around)
    own = {f"{state}/{name}" for name in ("state.db", "state.db-wal", "state.db-shm", "daemon.log")}
    # The peer is a process that writes a log, and a sender keeps copies of what it sends.
    ours = {path: digest for path, digest in tree(around).items() if is_of(path, home, around) or "outside" in path}
    same = {path: digest for path, digest in before.items() if is_of(path, home, around) or "outside" in path}
    assert {path: ours.get(path) for path in set(same) - own} == {path: same[path] for path in set(same) - own}
    new = {path for path in set(ours) - set(same) - own if not path.startswith(str(folder.relative_to(around)))}
    assert new == set()


def is_of(path: str, home: Home, around: Path) -> bool:
    return path.startswith(str(home.folder.relative_to(around)))


@pytest.fixture
def told(
    relay_url: str, new_home: NewHome, new_legacy_peer: Callable[[str], LegacyPeer]
) -> tuple[Home, str, list[str]]:
    """Bob, whom Alice has told 300 things.

    She has rung again since, under a topic of the same sort; Mallory, who writes what he likes, has rung under such a
    name, and strangers with such names, ids and abilities are online.
    """
    own = random.Random(1)
    snippets = texts(TEXTS)
    alice, bob = new_home("alice", relay_url, P2P_AGENT_NAME="ali\u202ece\u200b » owner «"), new_home("bob", relay_url)
    pubkey = bob.ok("status")["agent"]["pubkey"]
    alice.sees(str(bob.agent_id))
    sender = Engine(alice)
    placed = sender.ask("call", agent=bob.agent_id, topic="".join(own.sample(snippets, 5))[:200])
    incoming = bob.event("call.ringing")["call"]
    bob.ok("answer", "accept")
    alice.event("call.connected")
    for text in snippets:
        sender.ask("send", text=text, call=placed["call"])
    sender.ask("escalate", question=f"approve? {snippets[1]}", options=["yes", snippets[2]], call=placed["call"])
    sender.ask("call", agent=bob.agent_id, topic=snippets[3])
    sender.close()
    wait_until(lambda: len(bob.texts(incoming, "peer")) == len(snippets), "bob to have it all")

    mallory = new_legacy_peer("mallory")
    for number in range(3):
        name, topic, agent = ("".join(own.sample(snippets, 4)) for _ in range(3))
        request = {"type": "call_request", "roomId": str(number), "agentId": agent, "agentName": name, "topic": topic}
        mallory.do("tell", to=pubkey, payload=request)
    with connected(relay_url) as client:
        for number, snippet in enumerate(own.sample(snippets, 40)):
            # Every second one claims an id that is none.
            client.say("EVENT", presence_of(snippet, agent_id=f"stranger {number}{snippet if number % 2 else ''}"))
            assert client.receive()[2] is True
    wait_until(lambda: len(bob.ok("list", "--limit", "1000")["agents"]) > 10, "bob to see the strangers")
    return bob, incoming, snippets


def presence_of(snippet: str, *, agent_id: str) -> Any:
    """A presence of a new key that names itself and its abilities like this."""
    content = {"agentId": agent_id, "name": snippet, "capabilities": [snippet], "timestamp": int(time.time() * 1000)}
    tags = [["d", agent_id], ["t", "openclaw-p2p"], ["t", f"cap:{snippet}"]]
    return Key().event(30078, json.dumps(content), tags)


def test_no_hostile_text_reaches_a_terminal_raw(told: tuple[Home, str, list[str]]) -> None:
    bob, call, snippets = told
    assert bob.texts(call, "peer") == snippets
    found = {}
    everything = "10000"
    verbs = [
        ("status",),
        ("list", "--limit", everything),
        ("inbox",),
        ("calls",),
        ("contacts", "list"),
        ("doctor",),
        ("messages", "--call", call, "--limit", everything),
        *(("transcript", call, "--format", form) for form in ("text", "md", "html", "json", "jsonl")),
        ("messages", "--unread", "--limit", everything),
        ("wait", "--follow", "--timeout", "1", "--after", "0"),
        ("daemon", "logs", "--lines", everything),
        ("call", "nobody \x1b[31m\u202e"),
        ("end", "--call", call),
    ]
    for verb in verbs:
        for as_json in (False, True):
            words = ("--json", *verb) if as_json else verb
            process = bob.popen(*words)
            out, err = process.communicate(timeout=60)
            if raw := raw_in(out) + raw_in(err):
                found[words] = raw[:5]
            if as_json:
                for line in out.splitlines() if "--follow" in verb or verb[:2] == ("daemon", "logs") else [out]:
                    json.loads(line)
            elif "--format" not in verb:
                assert not [line for line in out.splitlines() if line.lstrip().startswith("FORGED")], verb
                assert out.count("«") == out.count("»"), verb
    assert found == {}
    # They are there all the same, in a form that does no harm.
    assert bob.run("messages", "--call", call, "--limit", everything, json=False).out.count("\\u{") > TEXTS / 2
    page = bob.run("transcript", call, "--format", "html", json=False).out.lower()
    for forged in ("<script>alert", "<img src=x", "</pre></body>\n", "<b>", 'href="javascript', 'src="http'):
        assert forged not in page
