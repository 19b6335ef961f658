"""Faults of the machine: no descriptors left, a full disk, death at any moment at which something is made durable."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from parts.exchange import Plan, exchange
from parts.fixtures import NewHome
from parts.home import Home
from parts.process import LOG, end, is_alive, start, wait_until
from parts.relays import CONSOLE_SCRIPT

# The promise: the process lives with so few.
DESCRIPTORS = 64
DISK_BYTES = 8 * 1024 * 1024


def run_under(home: Home, *prefix: str | Path) -> subprocess.Popen[str]:
    """Starts the daemon of a home by way of another program, and waits until it serves."""
    process = start([*prefix, CONSOLE_SCRIPT, "daemon", "run"], folder=home.folder.parent, environment=home.environment)

    def serves() -> bool:
        assert process.poll() is None, (home.folder.parent / LOG).read_text()[-2000:]
        with suppress(OSError, ValueError):
            return bool(json.loads((home.state / "daemon.lock").read_text())["socket"])
        return False

    wait_until(serves, "the daemon to serve")
    return process


def test_without_descriptors_the_daemon_lives_and_calls_go_on(
    three_relays: list[str], new_home: NewHome, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        alice, bob = new_home("alice", *three_relays), new_home("bob", *three_relays)
        process = run_under(bob, "prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}")
        stack.callback(end, process)
        alice.sees(str(bob.agent_id))
        plan = Plan(texts=100, files=0)
        it = stack.enter_context(exchange(alice, bob, tmp_path, seed=1, plan=plan))
        it.connect()
        it.start()
        wait_until(lambda: it.progress > 0, "the exchange to begin")
        held = stack.enter_context(ExitStack())
        pid = bob.daemon_pid()
        path = json.loads((bob.state / "daemon.lock").read_text())["socket"]
        for _ in range(2 * DESCRIPTORS):
            one = held.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(path)
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= DESCRIPTORS - 1, "the descriptors to be gone")
        it.finish(within=30)
        assert len(os.listdir(f"/proc/{pid}/fd")) >= DESCRIPTORS - 1
        held.close()
        wait_until(lambda: bob.run("status").exit == 0, "bob to answer again")
        assert bob.daemon_pid() == pid


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "none", str(folder)]
    mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a daemon that is about to end may still be in it.
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("whose", ["the sender's", "the receiver's"])
def test_a_full_disk_refuses_and_does_not_lose(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, small_disk: Path, whose: str
) -> None:
    with ExitStack() as stack:
        bound = Home(small_disk / "home", f"bound-{tmp_path.name[-8:]}", list(three_relays))
        stack.callback(bound.clear)
        other = new_home("other", *three_relays)
        alice, bob = (bound, other) if whose == "the sender's" else (other, bound)
        bob.ok("status")
        alice.sees(str(bob.agent_id))
        it = stack.enter_context(exchange(alice, bob, tmp_path, seed=1, plan=Plan(texts=200, files=2)))
        it.connect()
        filler = small_disk / "filler"
        it.when(it.size // 4, lambda: fill(filler))
        it.start()
        wait_until(filler.exists, "the disk to be full")
        side = it.alice if bound is alice else it.bob
        wait_until(lambda: side.refused.get("disk-full"), "what does not fit to be refused")
        surfaced = side.ledger.count("surfaced")
        assert is_alive(side.pid() or 0)
        filler.unlink()
        it.finish(within=60)
        print(f"refused {side.refused}, {surfaced} surfaced before there was room again")  # noqa: T201


def fill(path: Path) -> None:
    """Writes until nothing fits any more."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 512, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
