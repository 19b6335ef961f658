"""The parts of tests/interop that run on Node.js."""

from __future__ import annotations

from pathlib import Path

from parts.installing import installed
from parts.process import REPOSITORY

PROGRAMS = REPOSITORY / "tests" / "interop"


def node() -> Path:
    """A Node.js with the libraries of the parts in place."""
    return installed("install-node-parts.sh") / "node"
