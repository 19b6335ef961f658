"""A program that sits in front of a terminal, as a person's would."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from parts.home import Home
from parts.process import DEADLINE_S, end
from parts.relays import CONSOLE_SCRIPT


class Terminal:
    """What stands on it."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.shown = ""

    def find(self, pattern: str, *, timeout: float = DEADLINE_S) -> str:
        """Waits until something like this is shown, and returns it."""
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self.shown)):
            left = deadline - time.monotonic()
            assert left > 0, f"the terminal never showed {pattern}: {self.shown}"
            if select.select([self._number], [], [], left)[0]:
                with suppress(OSError):
                    self.shown += os.read(self._number, 65_536).decode(errors="replace")
        return found.group()


@contextmanager
def at_a_terminal(home: Home, *words: str) -> Iterator[Terminal]:
    """Runs a command of a home in front of a terminal of its own; it is ended afterwards."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [CONSOLE_SCRIPT, *words],
            env=home.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            text=True,
            start_new_session=True,
        )
        try:
            yield Terminal(ours)
        finally:
            end(process)
    finally:
        os.close(theirs)
        os.close(ours)
