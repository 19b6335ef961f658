"""Faults of processes: killed at any moment, stopped for a while, started many times at once."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parts.chaos import report
from parts.exchange import FULL, NORMAL, Plan, exchange, pass_time
from parts.fixtures import NewHome
from parts.process import is_alive, wait_until
from parts.steps import meet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at by way of /proc")

# Promised: 2 s. Several builds may share the machine with the tests.
READY_AGAIN_S = 5.0
# Promised: 5 s, and the start of a command.
NAMED_AS_STOPPED_S = 6.0
# Twenty programs are loaded first.
LEAVES_S = 5.0


@pytest.mark.parametrize(
    ("seed", "kills", "plan"),
    [(1, 6, NORMAL), *(pytest.param(seed, 30, FULL, marks=pytest.mark.soak) for seed in range(2, 6))],
)
def test_sigkill_of_either_daemon_at_random_moments(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, seed: int, kills: int, plan: Plan
) -> None:
    own = random.Random(seed)
    with exchange(*meet(new_home, three_relays), tmp_path, seed=seed, plan=plan) as it:
        it.connect()
        for moment in it.moments(kills):
            it.when(moment, own.choice(it.sides).kill)
        it.start()
        it.finish(within=60)
        assert sum(side.kills for side in it.sides) >= kills // 2, "most kills met a daemon that ran"
        assert max(seconds for side in it.sides for seconds in side.revivals) < READY_AGAIN_S


@pytest.mark.parametrize(
    ("seconds", "plan"), [(0.0, NORMAL), pytest.param(60.0, FULL, marks=pytest.mark.soak)], ids=["briefly", "a minute"]
)
def test_a_daemon_that_is_stopped_is_named_soon_and_goes_on_where_it_was(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, seconds: float, plan: Plan
) -> None:
    with exchange(*meet(new_home, three_relays), tmp_path, seed=1, plan=plan) as it:
        it.connect()
        pid = it.bob.home.daemon_pid()
        it.when(it.size // 4, lambda: os.kill(pid, signal.SIGSTOP))
        it.start()
        wait_until(lambda: is_stopped(pid), "the moment to stop")
        stopped_at = time.monotonic()
        try:
            it.bob.home.fails("daemon-not-responding", "status", exit=3, timeout=15)
            named_s = time.monotonic() - stopped_at
            report(f"named as stopped after {named_s:.1f} s")
            assert named_s < NAMED_AS_STOPPED_S
            pass_time(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        it.finish(within=15)
        assert it.bob.home.daemon_pid() == pid


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("before", ["a new home", "a home that was in use"])
def test_of_twenty_daemons_started_at_once_one_lives_whatever_lies_around(
    three_relays: list[str], new_home: NewHome, before: str
) -> None:
    home = new_home("twenty", *three_relays)
    if before == "a home that was in use":
        home.kill_daemon()
    dead = subprocess.Popen(["true"])
    dead.wait()
    home.state.mkdir(mode=0o700, exist_ok=True)
    # A socket that nobody listens to, and a lock of a process that is gone.
    path = home.state / "daemon.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as stale:
        directory = os.open(home.state, os.O_RDONLY)
        # By way of the open folder, since the path may be too long for a socket.
        stale.bind(f"/proc/self/fd/{directory}/daemon.sock")
        os.close(directory)
    (home.state / "daemon.lock").write_text(json.dumps({"pid": dead.pid, "socket": str(path)}))

    began = time.monotonic()
    daemons = [home.popen("--json", "daemon", "run", new_session=True) for _ in range(20)]
    try:
        wait_until(lambda: sum(daemon.poll() is None for daemon in daemons) == 1, "all but one to leave")
        left_s = time.monotonic() - began
        pid = home.daemon_pid()
        (alive,) = [daemon for daemon in daemons if daemon.poll() is None]
        assert alive.pid == pid
        identity = home.identity_file.read_bytes()
        assert home.ok("status")["agent"]["pubkey"] == json.loads(identity)["publicKey"]
        report(f"19 of 20 had left after {left_s:.2f} s")
        assert left_s < LEAVES_S
        for daemon in daemons:
            if daemon is not alive:
                out, err = daemon.communicate(timeout=10)
                assert (daemon.returncode, err) == (1, "")
                assert "another process" in json.loads(out)["error"]["message"]
        home.stop()
        wait_until(lambda: not is_alive(pid), "the last one to leave")
        assert home.identity_file.read_bytes() == identity
    finally:
        for daemon in daemons:
            daemon.kill()
            daemon.communicate()
