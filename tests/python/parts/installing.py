"""The set-up scripts of parts that others wrote: run once at a time, however many processes run tests."""

from __future__ import annotations

import fcntl
import functools
import subprocess
from pathlib import Path

from parts.process import REPOSITORY


class Missing(Exception):
    """A part is not there and cannot be had here."""


@functools.cache
def installed(script: str, *words: str) -> Path:
    """Runs `scripts/<script>`, which does nothing when all is in place; returns the path that it prints."""
    folder = REPOSITORY / "build"
    folder.mkdir(exist_ok=True)
    with (folder / ".installing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [str(REPOSITORY / "scripts" / script), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(done.stderr.strip())
    return Path(done.stdout.strip())
