"""Programs and libraries of Debian that some faults need; they are installed where that is possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from parts.installing import Missing, installed


def debian_part(package: str, name: str) -> Path:
    """The path of a program or library; skips the test, with the reason, where it is missing and cannot be had."""
    try:
        return installed("debian-part.sh", package, name)
    except Missing as missing:
        pytest.skip(str(missing))
