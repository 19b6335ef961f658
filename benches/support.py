"""What the benchmarks in Python share: processes that end with the benchmark, times, and a table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PYTHON = sys.executable
CONSOLE_SCRIPT = str(Path(sys.executable).with_name("p2p-comm"))
# Longer than anything takes to start on a busy machine.
PATIENCE_S = 60


class Usage(NamedTuple):
    """What one run of a program took, in milliseconds."""

    wall: float
    cpu: float


def run_once(command: Sequence[str], environment: dict[str, str]) -> Usage:
    """Runs a program to its end, its output thrown away."""
    null = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    begun = time.perf_counter()
    process = os.posix_spawn(command[0], command, environment, file_actions=null)
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - begun
    if status != 0:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return Usage(wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3)


@contextmanager
def relays(binary: str, count: int) -> Iterator[list[str]]:
    """So many embedded relays, each a process of its own; their addresses."""
    with ExitStack() as stack:
        urls = []
        for _ in range(count):
            process = stack.enter_context(
                subprocess.Popen([binary, "relay", "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.terminate)
            urls.append(json.loads(process.stdout.readline())["url"])
        yield urls


@contextmanager
def home() -> Iterator[Path]:
    """A folder for an agent, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="p2p-") as folder:
        yield Path(folder)


def environment_of(folder: Path, urls: list[str]) -> dict[str, str]:
    """The environment of an agent."""
    return {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "P2P_COMM_HOME": str(folder),
        "P2P_NOSTR_RELAYS": ",".join(urls),
    }


@contextmanager
def daemon(program: str, environment: dict[str, str], connected_to: int) -> Iterator[int]:
    """A daemon that is connected to so many relays; its process id."""

    def ask(*words: str) -> str:
        command = [program, *words]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    ask("daemon", "start")
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            status = json.loads(ask("status", "--json"))
            if sum(relay["connected"] for relay in status["relays"]) >= connected_to:
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"not connected: {status['relays']}")
            time.sleep(0.1)
        yield status["daemon"]["pid"]
    finally:
        ask("daemon", "stop")


def quantile(samples: Sequence[float], part: float) -> float:
    """The sample below which this part of them lies."""
    ordered = sorted(samples)
    return ordered[round((len(ordered) - 1) * part)]


def show(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Prints a table."""
    for name, figures in [(title, columns), *rows]:
        sys.stdout.write(f"{name:<48}" + "".join(f"{figure:>12}" for figure in figures) + "\n")


def tell(results: dict[str, object]) -> None:
    """Prints the last line: everything as one JSON object."""
    sys.stdout.write(json.dumps(results) + "\n")
