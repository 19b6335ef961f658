"""Puts the last lines of all benchmarks into one file, with the conditions under which they ran.

`python benches/collect.py busy` prints how much of the machine others use, in per cent, looking for three seconds.
`python benches/collect.py FOLDER BUSY` reads FOLDER/*.txt and writes FOLDER/results.json; BUSY is what the other
printed before the first benchmark.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

LOOK_S = 3


def processor() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def busy() -> float:
    """How much of the machine is in use, in per cent: all CPU time but the idle, and what the host took for others."""

    def ticks() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return sum(fields[:8]), fields[3]

    (total, idle), _, (total_later, idle_later) = ticks(), time.sleep(LOOK_S), ticks()
    return round(100 * (1 - (idle_later - idle) / (total_later - total)), 1)


def main(folder: Path, busy_before: float) -> None:
    """Reads, and writes."""
    results = [json.loads(path.read_text().splitlines()[-1]) for path in sorted(folder.glob("*.txt"))]
    conditions = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip(),
        # By others, so both should be near 0.
        "busy_before_percent": busy_before,
        "busy_after_percent": busy(),
    }
    results = {"conditions": conditions} | {result.pop("bench"): result for result in results}
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    for name, value in conditions.items():
        sys.stdout.write(f"{name.replace('_', ' '):<24}{value}\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["busy"]:
            sys.stdout.write(f"{busy()}\n")
        case [folder, busy_before]:
            main(Path(folder), float(busy_before))
