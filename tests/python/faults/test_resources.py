"""Faults of the machine: no descriptors left, a full disk, death at any moment at which something is made durable."""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from parts.chaos import report
from parts.debian import debian_part
from parts.engine import Engine, Lost, Refused
from parts.exchange import FULL, Exchange, Plan, Side, exchange
from parts.fixtures import NewHome
from parts.home import Home
from parts.process import LOG, end, is_alive, start, wait_until
from parts.relays import CONSOLE_SCRIPT
from parts.steps import connect, meet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strace, prlimit and tmpfs are Linux's")

# The promise: the process lives with so few.
DESCRIPTORS = 64
# How long a few texts take at most when nothing holds them up: they take milliseconds each.
UNIMPEDED_S = 4.0
# How often something is refused before there is room again.
REFUSALS = 20
DISK_BYTES = 8 * 1024 * 1024


@contextmanager
def silent_connections(home: Home) -> Iterator[None]:
    """More connections to a home's daemon than it has descriptors; they say nothing."""
    path = json.loads((home.state / "daemon.lock").read_text())["socket"]
    with ExitStack() as held:
        for _ in range(2 * DESCRIPTORS):
            one = held.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(path)
        yield


@contextmanager
def exhausted(home: Home) -> Iterator[None]:
    """Takes all descriptors from a home's daemon but those that it has open."""
    pid = home.daemon_pid()
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)

    def leaves_none() -> bool:
        held = {int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir()}
        first_free = next(number for number in itertools.count() if number not in held)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_free, before[1]))
        return set(range(first_free)) <= {int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir()}

    try:
        wait_until(leaves_none, "the descriptors to be gone")
        yield
        assert is_alive(pid)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_who_takes_all_connections_leaves_descriptors_for_the_rest(
    three_relays: list[str], new_home: NewHome, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        alice, bob = with_few_descriptors(new_home, three_relays, stack)
        it = stack.enter_context(exchange(alice, bob, tmp_path, seed=1, plan=Plan(files=2)))
        it.connect()
        it.bob.open()
        pid = bob.daemon_pid()
        with silent_connections(bob):
            it.start()
            it.finish(within=30)
        assert bob.daemon_pid() == pid
        assert "Too many open files" not in (bob.folder.parent / LOG).read_text()


def with_few_descriptors(new_home: NewHome, urls: list[str], stack: ExitStack) -> tuple[Home, Home]:
    """Alice and Bob, whose daemon may have few descriptors."""
    alice, bob = new_home("alice", *urls), new_home("bob", *urls)
    stack.callback(end, bob.run_under("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"))
    alice.sees(str(bob.agent_id))
    return alice, bob


def test_without_descriptors_the_daemon_lives_and_what_is_said_comes_through(
    three_relays: list[str], new_home: NewHome, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        alice, bob = with_few_descriptors(new_home, three_relays, stack)
        it = stack.enter_context(exchange(alice, bob, tmp_path, seed=1, plan=Plan(files=0)))
        it.connect()
        it.bob.open()
        pid = bob.daemon_pid()
        with exhausted(bob):
            it.start()
            it.finish(within=30)
        assert bob.daemon_pid() == pid


def test_a_file_that_came_while_there_were_no_descriptors_comes_later(
    three_relays: list[str], new_home: NewHome, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        alice, bob = with_few_descriptors(new_home, three_relays, stack)
        # Only Alice sends one: what cannot even be read is refused.
        it = stack.enter_context(exchange(alice, bob, tmp_path, seed=1, plan=Plan(files=1)))
        it.connect()
        it.bob.open()
        pid = bob.daemon_pid()
        with exhausted(bob):
            it.start()
            wait_until(lambda: it.alice.ledger.count("accepted") > it.plan.texts, "all to be handed in")
            wait_until(lambda: it.alice.ledger.count("surfaced") == it.plan.texts, "alice to have bob's texts")
        it.finish(within=30)
        assert bob.daemon_pid() == pid


def test_a_file_that_cannot_be_written_for_want_of_descriptors_does_not_hold_up_what_is_said(
    three_relays: list[str], new_home: NewHome, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        alice, bob = with_few_descriptors(new_home, three_relays, stack)
        outgoing, _ = connect(alice, bob)
        receiver = Engine(bob)
        stack.callback(receiver.close)
        receiver.ask("hello")
        file = tmp_path / "file"
        file.write_bytes(bytes(100_000))
        with exhausted(bob):
            alice.ok("sendfile", "--path", str(file), "--call", outgoing)
            began, cursor = time.monotonic(), 0
            # The file follows its offer when Bob has asked for it.
            for number in range(4):
                alice.ok("send", str(number), "--call", outgoing)
                found = receiver.ask("wait", after=cursor, timeout_s=10, kinds=["message.received"])
                assert found["event"] is not None, f"{number} did not come"
                cursor = found["cursor"]
            assert time.monotonic() - began < UNIMPEDED_S


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
        # More than fit into the log, which has its full size before the disk is full.
        it = stack.enter_context(exchange(alice, bob, tmp_path, seed=1, plan=Plan(texts=600, files=2)))
        it.connect()
        filler = small_disk / "filler"
        it.when(it.size // 8, lambda: fill(filler))
        it.start()
        wait_until(filler.exists, "the disk to be full")
        side = it.alice if bound is alice else it.bob
        wait_until(lambda: side.refused.get("disk-full", 0) >= REFUSALS, "what does not fit to be refused")
        assert is_alive(side.pid() or 0)
        filler.unlink()
        it.finish(within=60)


def fill(path: Path) -> None:
    """Writes until nothing fits any more."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 512, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


@pytest.fixture(scope="module")
def strace() -> str:
    """The path of strace."""
    return str(debian_part("strace", "strace"))


SYNCS = "fsync,fdatasync"


class Saboteur:
    """Attaches to a side's daemon whenever it starts, and does something at its k-th sync, for the next k each time.

    "k+" is the k-th and all after it.
    """

    def __init__(self, strace: str, side: Side, folder: Path, fault: str, counts: list[int | str]) -> None:
        self.traces: list[Path] = []
        self._strace, self._side, self._folder, self._fault = strace, side, folder, fault
        self._left = counts
        self._processes: list[subprocess.Popen[str]] = []
        side.started = self.attach

    def attach(self) -> None:
        """To the daemon that runs now; returns when it is watched."""
        if not self._left:
            return
        count = self._left.pop(0)
        trace = self._folder / f"trace-{len(self.traces)}"
        self.traces.append(trace)
        pid = self._side.pid()
        inject = f"inject={SYNCS}:{self._fault}:when={count}"
        words = [self._strace, "-f", "-qq", "-o", str(trace), "-e", f"trace={SYNCS}", "-e", inject, "-p", str(pid)]
        process = start(words, folder=self._folder, environment=os.environ)
        self._processes.append(process)
        wait_until(lambda: process.poll() is not None or is_traced(pid), "strace to be attached")

    def end(self) -> None:
        """Lets go of whatever it is attached to."""
        self._left.clear()
        for process in self._processes:
            end(process)


def is_traced(pid: int | None) -> bool:
    with suppress(FileNotFoundError):
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    return True


def sabotaged_exchange(it: Exchange, strace: str, folder: Path, *, fault: str, counts: list[int | str]) -> str:
    """An exchange in which Bob's daemon meets the fault at its k-th sync, for each k; returns what strace said."""
    it.connect()
    saboteur = Saboteur(strace, it.bob, folder, fault, counts)
    try:
        it.bob.open()
        saboteur.attach()
        it.start()
        it.finish(within=60)
    finally:
        saboteur.end()
    return "".join(trace.read_text() for trace in saboteur.traces if trace.exists())


@pytest.mark.parametrize("whose", [pytest.param("alice", marks=pytest.mark.soak), "bob"])
def test_death_at_the_k_th_sync_of_an_exchange(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, strace: str, whose: str
) -> None:
    first, second = meet(new_home, three_relays)
    pair = (first, second) if whose == "bob" else (second, first)
    first.sees(str(second.agent_id))
    second.sees(str(first.agent_id))
    with exchange(*pair, tmp_path, seed=whose, plan=Plan(texts=300, files=2)) as it:
        sabotaged_exchange(it, strace, tmp_path, fault="signal=SIGKILL", counts=[1, 2, 3, 5, 8, 13, 21])
        # Whether the last ones come depends on how many writes share a sync.
        assert len(it.bob.revivals) >= 5


@pytest.mark.soak
def test_death_at_every_sync_up_to_the_three_hundredth(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, strace: str
) -> None:
    counts = [*range(1, 301)]
    met: list[int] = []
    while counts:
        folder = tmp_path / str(len(met))
        folder.mkdir()
        with exchange(*meet(new_home, three_relays), folder, seed=len(met), plan=FULL) as it:
            sabotaged_exchange(it, strace, folder, fault="signal=SIGKILL", counts=list(counts))
            # The last one may not have come so far.
            died = len(it.bob.revivals)
        assert died
        met += counts[:died]
        del counts[:died]
    report(f"died at each of the first {len(met)} syncs")


@pytest.mark.parametrize("count", [1, 20, *(pytest.param(count, marks=pytest.mark.soak) for count in range(2, 20))])
def test_an_error_of_the_disk_at_the_k_th_sync_loses_nothing(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, strace: str, count: int
) -> None:
    with exchange(*meet(new_home, three_relays), tmp_path, seed=count) as it:
        # What could not be made durable is refused; a read may be, too.
        it.bob.passing.add("io-error")
        said = sabotaged_exchange(it, strace, tmp_path, fault="error=EIO", counts=[count])
        assert "EIO" in said
        assert "INJECTED" in said
        # Strace counts for each thread, and copies of files are synced on others than the engine's.
        assert it.bob.refused.get("io-error", 0) <= said.count("INJECTED")


def test_what_was_refused_because_its_sync_failed_does_not_come_back_with_a_crash(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, strace: str
) -> None:
    alice, bob = meet(new_home, three_relays)
    outgoing, _ = connect(alice, bob)
    # Nothing but what is accepted is to be synced.
    bob.kill_daemon()
    pid = alice.daemon_pid()
    engine = Engine(alice)
    accepted: list[str] = []
    refused: str | None = None
    while refused is None:
        words = [strace, "-f", "-qq", "-o", os.devnull, "-e", f"trace={SYNCS}"]
        inject = ["-e", f"inject={SYNCS}:error=EIO:when=1", "-p", str(pid)]
        process = start([*words, *inject], folder=tmp_path, environment=os.environ)
        try:
            wait_until(lambda: is_traced(pid), "strace to be attached")
            text = f"number {len(accepted)}"
            engine.ask("send", text=text, call=outgoing)
            # The error met something else.
            accepted.append(text)
        except Refused as refusal:
            refused = refusal.code
        finally:
            end(process)
    alice.kill_daemon()
    engine.close()
    assert refused == "io-error"
    assert alice.texts(outgoing, "me") == accepted


def test_nothing_is_acknowledged_while_the_disk_takes_nothing(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, strace: str
) -> None:
    with exchange(*meet(new_home, three_relays), tmp_path, seed=1, plan=Plan(texts=0, files=0)) as it:
        it.connect()
        it.bob.passing.add("io-error")
        # Each sync takes its time before it fails: what does not wait for it has left by then.
        saboteur = Saboteur(strace, it.bob, tmp_path, "error=EIO:delay_enter=300000", ["1+"])
        try:
            it.start()
            # When its receiver has taken it, nothing waits to be written there but what comes next.
            it.alice.say("before", f"{0:032x}")
            wait_until(lambda: it.alice.ledger.count("told read") == 1, "the first to be read")
            saboteur.attach()
            for number in range(1, 6):
                it.alice.say(f"number {number}", f"{number:032x}")
            wait_until(lambda: saboteur.traces[0].read_text().count("INJECTED") >= 3, "some commits to fail")
            acknowledged = it.alice.ledger.count("told delivered") - 1
            assert acknowledged == 0, f"{acknowledged} were acknowledged before they were committed"
        finally:
            saboteur.end()
        it.finish(within=60)


@pytest.mark.parametrize("home_is", ["new", "in use"])
def test_death_at_the_k_th_sync_of_a_start(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, strace: str, home_is: str
) -> None:
    home = new_home("home", *three_relays)
    pubkey = None
    cursor = 0
    if home_is == "in use":
        pubkey = home.ok("status")["agent"]["pubkey"]
        home.ok("contacts", "add", "somebody", pubkey_of_nobody())
        home.stop()
        cursor = newest(home)
    died = 0
    for count in itertools.count(1):
        if home_is == "new":
            home = new_home(f"home-{count}", *three_relays)
        inject = f"inject={SYNCS}:signal=SIGKILL:when={count}"
        words = [strace, "-f", "-qq", "-o", os.devnull, "-e", f"trace={SYNCS}", "-e", inject]
        process = start([*words, CONSOLE_SCRIPT, "daemon", "run"], folder=tmp_path, environment=home.environment)
        try:
            wait_until(partial(has_died_or_started, process, home, cursor), "the daemon to die or to be connected")
            alive = process.poll() is None
        finally:
            home.clear()
            end(process)
        identity = home.identity_file.read_bytes() if home.identity_file.exists() else None
        agent = home.ok("status")["agent"]
        assert pubkey in (None, agent["pubkey"])
        assert identity in (None, home.identity_file.read_bytes())
        if home_is == "in use":
            assert [contact["name"] for contact in home.ok("contacts", "list")["contacts"]] == ["somebody"]
        home.stop()
        if home_is == "in use":
            cursor = newest(home)
        if alive:
            break
        died = count
    print(f"{died} syncs in a start")  # noqa: T201
    assert died >= 1


def newest(home: Home) -> int:
    """The place of the newest event of a home whose daemon is stopped."""
    with closing(sqlite3.connect(f"file:{home.state / 'state.db'}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT max(cursor) FROM events").fetchone()[0])


def has_died_or_started(process: subprocess.Popen[str], home: Home, cursor: int) -> bool:
    """A start is over with the first event after it: it is told when it is durable, so that there was a sync."""
    if process.poll() is not None:
        return True
    engine = Engine(home)
    with suppress(Lost), closing(engine):
        return engine.ask("wait", after=cursor, kinds=["relay.up"], timeout_s=1)["event"] is not None
    return False


def pubkey_of_nobody() -> str:
    return "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


def test_everything_accepted_is_synced_before_the_reply(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, strace: str
) -> None:
    alice, bob = meet(new_home, three_relays)
    outgoing, _ = connect(alice, bob)
    # Nothing but what is accepted is to be synced.
    bob.kill_daemon()
    trace = tmp_path / "trace"
    pid = alice.daemon_pid()
    words = [strace, "-f", "-qq", "-s", "2000", "-o", str(trace), "-e", f"trace={SYNCS},write,sendto,sendmsg,writev"]
    process = start([*words, "-p", str(pid)], folder=tmp_path, environment=os.environ)
    engine = Engine(alice)
    try:
        wait_until(lambda: is_traced(pid), "strace to be attached")
        for number in range(20):
            engine.ask("send", text=f"number {number}", call=outgoing)
    finally:
        engine.close()
        end(process)
    synced, replies = 0, []
    for line in trace.read_text().splitlines():
        if re.search(r"\bf(data)?sync", line) and line.endswith("= 0"):
            synced += 1
        elif "result" in line and "number " in line:
            replies.append(synced)
            synced = 0
    assert len(replies) == 20
    assert all(replies), replies
