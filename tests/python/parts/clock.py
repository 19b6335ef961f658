"""A wall clock of one's own, by libfaketime: it is off by so much, and steps when it is told.

The monotonic clock runs on as it is.
"""

from __future__ import annotations

from pathlib import Path

from parts.debian import debian_part


class FakedClock:
    """What is started with its `environment` reads this clock."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(debian_part("libfaketime", "libfaketimeMT.so.1")),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # A step is seen at once, and ages of files are true.
            "FAKETIME_NO_CACHE": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, seconds: float) -> None:
        """The clock is ahead by so much from now on, behind if it is negative."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+f}\n")
        new.replace(self._file)
