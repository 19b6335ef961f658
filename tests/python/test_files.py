"""Files of any size, over several relays, through kills; refused, cancelled, followed; and what their sender sees."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2p_comm import Progress, ReceivedFile
from p2p_comm.testing import LocalNetwork
from parts import relays
from parts.chaos import Lever, chaos_relay, report
from parts.exchange import connect
from parts.fixtures import NewHome
from parts.home import Home, Json
from parts.process import is_alive, wait_until
from parts.recording import RecordingProxy, recording_proxy

MIB = 1 << 20
# What a frame with a piece of a file has at least, and no other frame has: the piece in base64.
FRAME_OF_A_PIECE = 40_000
PIECE = 32_640
# What is under way in one file at most, and so what a kill or a lost relay can make go out again.
UNDER_WAY = MIB
# A file of some megabytes on a busy machine.
ARRIVAL_S = 240.0
DISK_BYTES = 8 * MIB
SOAK_S = 3_600.0
# What is under way, what waits for sockets, and what an interpreter's allocator keeps.
MEMORY = 32 * MIB


def write_file(path: Path, size: int, seed: int = 1) -> str:
    """Writes a file of random bytes piece by piece; returns its SHA-256."""
    dice, digest = random.Random(seed), hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            piece = dice.randbytes(min(MIB, size - start))
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def digest_of(path: str) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


def met(alice: Home, bob: Home) -> tuple[str, str]:
    """A call between them, by its id on each side."""
    bob.ok("status")
    alice.sees(str(bob.agent_id))
    return connect(alice, bob)


@pytest.fixture
def pair(embedded_relay: str, new_home: NewHome) -> tuple[Home, Home, str, str]:
    """Two agents in a call over one relay."""
    alice, bob = new_home("alice", embedded_relay), new_home("bob", embedded_relay)
    return alice, bob, *met(alice, bob)


@pytest.fixture
def far_pair(embedded_relay: str, new_home: NewHome) -> Iterator[tuple[Home, Home, str, str]]:
    """Two agents in a call over a relay that is far away: a file of some megabytes is under way for seconds."""
    with chaos_relay(embedded_relay, Lever("delay", seconds=(0.3, 0.3)), seed="far") as relay:
        alice, bob = new_home("alice", relay.url), new_home("bob", relay.url)
        yield alice, bob, *met(alice, bob)


@dataclass
class Counting:
    """Counts the pieces of files that were handed to a relay, without keeping them."""

    proxy: RecordingProxy

    @property
    def pieces(self) -> int:
        return sum(
            1
            for message in self.proxy.messages
            if message.direction == "to relay" and len(message.text) >= FRAME_OF_A_PIECE
        )


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Counting]]:
    """Three embedded relays, each behind a proxy that counts."""
    with ExitStack() as running:
        urls = [running.enter_context(relays.embedded_relay(tmp_path / f"relay {number}")).url for number in range(3)]
        yield [Counting(running.enter_context(recording_proxy(url))) for url in urls]


def is_on_all(home: Home) -> bool:
    """Whether it is connected to all of its relays, for sessions too."""
    return all(
        relay["connected"] and relay["session"] and relay["session"]["connected"]
        for relay in home.ok("status")["relays"]
    )


def kill(home: Home) -> None:
    """Ends a daemon as a power cut would, and starts another."""
    pid = home.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the killed daemon to be gone")
    home.ok("daemon", "start")


def test_a_file_over_three_relays_survives_kills_and_a_lost_relay_and_what_is_there_is_not_sent_again(
    three: list[Counting], new_home: NewHome, tmp_path: Path
) -> None:
    urls = [it.proxy.url for it in three]
    alice, bob = new_home("alice", *urls), new_home("bob", *urls)
    here, there = met(alice, bob)
    wait_until(lambda: is_on_all(alice) and is_on_all(bob), "all relays")
    size = 24 * MIB
    digest = write_file(tmp_path / "large.bin", size)
    pieces = -(-size // PIECE)

    def sent() -> int:
        return sum(it.pieces for it in three)

    alice.ok("sendfile", "--path", str(tmp_path / "large.bin"), "--call", here)
    wait_until(lambda: sent() >= pieces // 5, "a fifth to be sent", timeout=ARRIVAL_S)
    kill(bob)
    wait_until(lambda: sent() >= pieces * 2 // 5, "two fifths to be sent", timeout=ARRIVAL_S)
    kill(alice)
    wait_until(lambda: sent() >= pieces * 3 // 5, "three fifths to be sent", timeout=ARRIVAL_S)
    three[1].proxy.cut()
    received = bob.event("file.received", "file.failed", call=there, timeout=ARRIVAL_S)
    assert received["kind"] == "file.received", received
    assert digest_of(received["message"]["file"]["path"]) == digest
    each = [it.pieces for it in three]
    # Every relay has carried some, and no piece went over two of them as a matter of course.
    assert all(each), each
    assert sum(each) <= pieces + 3 * UNDER_WAY // PIECE, (pieces, each)


def test_text_overtakes_a_file(far_pair: tuple[Home, Home, str, str], tmp_path: Path) -> None:
    alice, bob, here, there = far_pair
    write_file(tmp_path / "large.bin", 12 * MIB)
    alice.ok("sendfile", "--path", str(tmp_path / "large.bin"), "--call", here)
    bob.event("file.progress", call=there)
    alice.ok("send", "first", "--call", here)
    kinds = ("message.received", "file.received", "file.failed")
    told = [bob.event(*kinds, call=there, timeout=ARRIVAL_S)["kind"] for _ in range(2)]
    assert told == ["message.received", "file.received"]


def test_several_files_at_once_arrive_as_they_were(pair: tuple[Home, Home, str, str], tmp_path: Path) -> None:
    alice, bob, here, there = pair
    digests = {write_file(tmp_path / f"{number}.bin", number * 700_000, seed=number) for number in range(4)}
    for number in range(4):
        alice.ok("sendfile", "--path", str(tmp_path / f"{number}.bin"), "--call", here)
    arrived = [bob.event("file.received", call=there, timeout=ARRIVAL_S)["message"]["file"] for _ in range(4)]
    assert {digest_of(file["path"]) for file in arrived} == digests


def test_the_daemon_answers_while_a_file_is_copied_hashed_and_looked_through(
    pair: tuple[Home, Home, str, str], tmp_path: Path
) -> None:
    alice, _, here, _ = pair
    with (tmp_path / "huge.bin").open("wb") as file:
        file.truncate(200 * MIB)
    sending = alice.popen("--json", "sendfile", "--path", str(tmp_path / "huge.bin"), "--call", here)
    outgoing = alice.state / "outgoing"
    wait_until(lambda: outgoing.is_dir() and any(outgoing.iterdir()), "the copy to be begun")
    alice.ok("status")
    alice.ok("send", "meanwhile", "--call", here)
    assert sending.poll() is None, "too late"
    # Who asked has gone: nothing stays behind.
    sending.kill()
    sending.communicate()
    wait_until(lambda: not any(outgoing.iterdir()), "the copy to be gone")
    assert [message["kind"] for message in alice.messages(here)] == ["text"]


@pytest.mark.parametrize("limit", ["1", "0"])
def test_a_file_that_the_peer_does_not_take_has_failed_with_its_reason(
    pair: tuple[Home, Home, str, str], tmp_path: Path, limit: str
) -> None:
    alice, bob, here, there = pair
    bob.ok("config", "set", "file_limit_others_mib", limit)
    write_file(tmp_path / "large.bin", MIB + 1)
    sent = alice.ok("sendfile", "--path", str(tmp_path / "large.bin"), "--call", here)
    failed = alice.event("message.failed", call=here)["message"]
    assert failed["message"] == sent["message"]
    assert "(too-large)" in failed["reason"], failed
    assert not any((alice.state / "outgoing").iterdir())
    # It stands in the way of nothing.
    bob.ok("config", "set", "file_limit_others_mib", "2")
    alice.ok("sendfile", "--path", str(tmp_path / "large.bin"), "--call", here)
    assert bob.event("file.received", "file.failed", call=there, timeout=ARRIVAL_S)["kind"] == "file.received"


def test_a_contact_may_send_what_others_may_not(pair: tuple[Home, Home, str, str], tmp_path: Path) -> None:
    alice, bob, here, there = pair
    bob.ok("config", "set", "file_limit_others_mib", "0")
    bob.ok("contacts", "add", "friend", alice.ok("status")["agent"]["npub"])
    digest = write_file(tmp_path / "file.bin", 100_000)
    alice.ok("sendfile", "--path", str(tmp_path / "file.bin"), "--call", here)
    received = bob.event("file.received", call=there)["message"]["file"]
    assert digest_of(received["path"]) == digest


@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_a_file_is_cancelled_from_either_side_and_both_are_told(
    far_pair: tuple[Home, Home, str, str], tmp_path: Path, who: str
) -> None:
    alice, bob, here, there = far_pair
    write_file(tmp_path / "large.bin", 24 * MIB)
    message = alice.ok("sendfile", "--path", str(tmp_path / "large.bin"), "--call", here)["message"]
    bob.event("file.progress", call=there)
    cancelled = (alice if who == "sender" else bob).ok("sendfile", "--cancel", message)
    assert (cancelled["message"], cancelled["state"]) == (message, "failed")
    for home, kind, call in ((alice, "message.failed", here), (bob, "file.failed", there)):
        told = home.event(kind, call=call)["message"]
        assert told["message"] == message
        assert "(cancelled)" in told["reason"], told
    folders = (alice.state / "outgoing", bob.state / "incoming")
    wait_until(lambda: not any(any(folder.iterdir()) for folder in folders), "nothing to be left")
    alice.fails("invalid-value", "sendfile", "--cancel", message)
    alice.ok("send", "and go on", "--call", here, "--wait=delivered")


def test_who_waits_for_a_file_sees_how_far_it_is(pair: tuple[Home, Home, str, str], tmp_path: Path) -> None:
    alice, _, here, _ = pair
    size = 12 * MIB
    write_file(tmp_path / "large.bin", size)
    outcome = alice.run(
        "sendfile", "--path", str(tmp_path / "large.bin"), "--call", here, "--wait=delivered", timeout=ARRIVAL_S
    )
    assert (outcome.exit, outcome.out["state"]) == (0, "delivered")
    lines: list[Json] = [json.loads(line)["progress"] for line in outcome.err.splitlines()]
    assert lines, outcome
    for line in lines:
        assert set(line) == {"message", "done", "size", "bytes_per_s", "left_s"}
        assert line["message"] == outcome.out["message"]
        assert 0 < line["done"] <= line["size"] == size
        assert line["bytes_per_s"] > 0


def test_a_file_that_no_disk_holds_is_refused_and_nothing_of_it_stays(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "none", str(disk)]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        alice, bob = new_home("alice", embedded_relay), new_home("bob", embedded_relay)
        alice = Home(disk / "home", f"{alice.agent_id}-small", [embedded_relay])
        try:
            here, there = met(alice, bob)
            write_file(tmp_path / "large.bin", 2 * DISK_BYTES)
            alice.fails("disk-full", "sendfile", "--path", str(tmp_path / "large.bin"), "--call", here)
            assert not list((alice.state / "outgoing").glob("*"))
            # The receiver looks before it takes anything.
            refused = bob.ok("sendfile", "--path", str(tmp_path / "large.bin"), "--call", there)["message"]
            failed = bob.event("message.failed", call=there)["message"]
            assert failed["message"] == refused
            assert "(no-space)" in failed["reason"], failed
            alice.ok("send", "and go on", "--call", here, "--wait=delivered")
        finally:
            alice.clear()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_folder_arrives_as_a_folder(pair: tuple[Home, Home, str, str], tmp_path: Path) -> None:
    alice, bob, here, there = pair
    folder = tmp_path / "report"
    (folder / "data" / "empty").mkdir(parents=True)
    (folder / "read me.txt").write_text("hello")
    (folder / "data" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "data" / "run.sh").chmod(0o4755)
    write_file(folder / "data" / "large.bin", 2 * MIB)
    alice.ok("sendfile", "--path", str(folder), "--call", here)
    received = bob.event("file.received", "file.failed", call=there, timeout=ARRIVAL_S)
    assert received["kind"] == "file.received", received
    there_it_is = Path(received["message"]["file"]["path"])
    assert (there_it_is.name, there_it_is.parent.parent) == ("report", bob.state / "files")

    def content(root: Path) -> dict[str, bytes | None]:
        return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}

    assert content(there_it_is) == content(folder)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in there_it_is.rglob("*")}
    assert modes == {"data": 0o700, "empty": 0o700, "read me.txt": 0o600, "run.sh": 0o700, "large.bin": 0o600}
    # A second one does not get in its way.
    alice.ok("sendfile", "--path", str(folder), "--call", here)
    again = bob.event("file.received", "file.failed", call=there, timeout=ARRIVAL_S)["message"]["file"]["path"]
    assert Path(again).name == "report-2"
    (folder / "link").symlink_to("/etc/passwd")
    alice.fails("not-sendable", "sendfile", "--path", str(folder), "--call", here)
    alice.fails("not-sendable", "sendfile", "--path", str(alice.folder), "--call", here)


@pytest.mark.parametrize("what", ["out", "absolute", "link", "device"])
def test_a_folder_with_something_harmful_in_it_is_refused_as_a_whole(
    pair: tuple[Home, Home, str, str], tmp_path: Path, what: str
) -> None:
    alice, bob, here, there = pair
    path = tmp_path / "folder.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        fine = tarfile.TarInfo("fine.txt")
        tar.addfile(fine)
        entry = tarfile.TarInfo({"out": "../../climbed.txt", "absolute": "/tmp/climbed.txt"}.get(what, "odd"))
        entry.type = {"link": tarfile.SYMTYPE, "device": tarfile.CHRTYPE}.get(what, tarfile.REGTYPE)
        entry.linkname = "/etc/passwd" if what == "link" else ""
        tar.addfile(entry)
    content = base64.b64encode(path.read_bytes()).decode()
    alice.ok("sendfile", "folder", content, "application/vnd.p2p-comm.folder+tar", "--call", here)
    told = bob.event("file.received", "file.failed", call=there)
    assert told["kind"] == "file.failed", told
    assert "(unsafe)" in alice.event("message.failed", call=here)["message"]["reason"]
    assert not [path for path in (bob.state / "files").rglob("*") if path.is_file()]
    wait_until(lambda: not any((bob.state / "incoming").iterdir()), "nothing to be left")


async def test_a_program_follows_a_file_and_sends_what_it_does_not_hold(tmp_path: Path) -> None:
    async with LocalNetwork() as network:
        alice, bob = await network.agents("alice", "bob")
        calling = asyncio.create_task(alice.call(bob.id, wait=60))
        there = await (await anext(bob.incoming())).accept()
        here = await calling
        digest = write_file(tmp_path / "large.bin", 6 * MIB)
        told: list[Progress] = []
        # A pipe: it has no size, and can be read once.
        reading, writing = os.pipe()

        def pump() -> None:
            with (tmp_path / "large.bin").open("rb") as source, os.fdopen(writing, "wb") as sink:
                while piece := source.read(MIB):
                    sink.write(piece)

        thread = threading.Thread(target=pump)
        thread.start()
        with os.fdopen(reading, "rb") as stream:
            receipt = await here.send_file(stream, name="piped.bin", progress=told.append)
        thread.join()
        await receipt.delivered(timeout=ARRIVAL_S)
        async for event in there:
            assert isinstance(event, ReceivedFile)
            assert digest_of(str(event.path)) == digest
            break
        assert told
        assert all(progress.size == 6 * MIB and 0 < progress.done <= progress.size for progress in told)
        assert [progress.done for progress in told] == sorted(progress.done for progress in told)


def resident(pid: int) -> int:
    """Resident memory in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no memory")


@pytest.mark.soak
def test_a_gigabyte_over_three_relays_survives_three_kills_with_flat_memory(tmp_path: Path, new_home: NewHome) -> None:
    with ExitStack() as running:
        urls = [running.enter_context(relays.embedded_relay(tmp_path / f"relay {number}")).url for number in range(3)]
        alice, bob = new_home("alice", *urls), new_home("bob", *urls)
        here, there = met(alice, bob)
        bob.ok("config", "set", "file_limit_others_mib", "1024")
        size = 1024 * MIB
        digest = write_file(tmp_path / "huge.bin", size)
        before = {home.agent_id: resident(home.daemon_pid()) for home in (alice, bob)}
        grown = 0

        def there_already() -> int:
            """Bytes that Bob has; looks at the memory, too."""
            nonlocal grown
            for home in (alice, bob):
                grown = max(grown, resident(home.daemon_pid()) - before[home.agent_id])
            told = bob.run("wait", "--after", cursor, "--for", "file.progress", "--timeout", "5").out["event"]
            return int(told["progress"]["done"]) if told else 0

        cursor = str(bob.ok("messages", "--limit", "0")["cursor"])
        alice.ok("sendfile", "--path", str(tmp_path / "huge.bin"), "--call", here, timeout=SOAK_S)
        for part, victim in ((0.25, bob), (0.5, alice), (0.75, bob)):

            def has(part: float = part) -> bool:
                nonlocal cursor
                done = there_already()
                cursor = str(bob.ok("messages", "--limit", "0")["cursor"])
                return done >= size * part

            wait_until(has, f"{part} of it to be there", timeout=SOAK_S)
            kill(victim)
        received = bob.event("file.received", "file.failed", call=there, timeout=SOAK_S)
        there_already()
        assert received["kind"] == "file.received", received
        assert digest_of(received["message"]["file"]["path"]) == digest
        report(f"a gigabyte: memory grew by {grown / MIB:.1f} MiB at most")
        assert grown < MEMORY
