"""Programs and libraries of Debian that some faults need; they are installed where that is possible."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest

from parts.process import REPOSITORY


def debian_part(package: str, name: str) -> Path:
    """The path of a program or library; skips the test, with the reason, where it is missing and cannot be had."""
    path, why = _found(package, name)
    if path is None:
        pytest.skip(why)
    return path


@cache
def _found(package: str, name: str) -> tuple[Path | None, str]:
    script = REPOSITORY / "scripts" / "debian-part.sh"
    done = subprocess.run([script, package, name], capture_output=True, text=True, check=False)
    return (Path(done.stdout.strip()), "") if done.returncode == 0 else (None, done.stderr.strip())
