"""The parts of tests/interop that run on Node.js."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from parts.process import REPOSITORY

PROGRAMS = REPOSITORY / "tests" / "interop"


@functools.cache
def node() -> Path:
    """A Node.js with the libraries of the parts in place; the set-up script does nothing when they are."""
    script = REPOSITORY / "scripts" / "install-node-parts.sh"
    done = subprocess.run([script], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip()) / "node"
