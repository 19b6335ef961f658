"""What a process takes: memory and time of the processor, as Linux says it."""

from __future__ import annotations

import os
from pathlib import Path


class Usage:
    """What a process has taken since this was made."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        # From here on its peak is counted anew (proc(5)).
        (self._folder / "clear_refs").write_text("5")
        self._resident = self._kib("VmRSS")
        self._cpu_s = self._cpu()

    def mib_more(self) -> float:
        """By how many MiB its memory has grown at most, resident."""
        return (self._kib("VmHWM") - self._resident) / 1_024

    def cpu_s(self) -> float:
        """How many seconds of the processor it took."""
        return self._cpu() - self._cpu_s

    def descriptors(self) -> int:
        """How many file descriptors it has open now."""
        return sum(1 for _ in (self._folder / "fd").iterdir())

    def _kib(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    def _cpu(self) -> float:
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
