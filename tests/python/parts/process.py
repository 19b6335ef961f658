"""Processes that tests start, and end by their id; conditions that tests wait for, with a deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

REPOSITORY = Path(__file__).resolve().parents[3]

# Generous, because several builds may share the machine; what holds holds much sooner.
DEADLINE_S = 30.0
PAUSE_S = 0.05
# After this long a process that was asked to leave is made to.
GRACE_S = 10.0

LOG = "output.log"

Value = TypeVar("Value")
_pause = threading.Event()


def wait_until(condition: Callable[[], Value | None], what: str, *, timeout: float = DEADLINE_S) -> Value:
    """Returns the first truthy value of `condition`; fails, naming `what`, when there is none in time."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}; the last value was {value!r}")
        _pause.wait(PAUSE_S)


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of a user who has set nothing of ours, with `home` as the home folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("P2P_", "OPENCLAW_"))}
    for name in ("NO_COLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        kept.pop(name, None)
    return {**kept, "HOME": str(home)}


def start(
    arguments: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str], talks: bool = False
) -> subprocess.Popen[str]:
    """Starts a program in a process group of its own, in `folder`.

    What it prints goes to `folder`/output.log; of one that `talks`, stdin and stdout are pipes instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a") as log:
        return subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else log,
            stderr=log,
            text=True,
            encoding="utf-8",
            bufsize=1,
            start_new_session=True,
        )


def last_words(folder: Path) -> str:
    """The end of what a process of this folder printed, for the message of a failure."""
    return (folder / LOG).read_text(errors="replace")[-2000:]


def end(process: subprocess.Popen[str]) -> None:
    """Ends the process and everything in its group; closes its pipes."""
    _signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    _signal_group(process, signal.SIGKILL)
    process.wait(GRACE_S)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # what was written to it last, and not read
                pipe.close()


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def is_alive(pid: int) -> bool:
    """Whether a process of this id runs; one that has died and was not yet waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        # The state stands behind the command's name, which is in brackets and may contain anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not Path("/proc/self").exists()


def command_line(pid: int) -> str:
    """The words that a process was started with; empty when it is gone."""
    listing = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listing.stdout.strip()
