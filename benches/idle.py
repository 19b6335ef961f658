"""What a daemon costs that has nothing to do: memory 20 seconds after its start, CPU and wake-ups in the minute after.

`python benches/idle.py BINARY`: one daemon started by the console script beside this interpreter, one by BINARY, each
connected to the same three embedded relays. Linux only: the figures are the kernel's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from support import CONSOLE_SCRIPT, daemon, environment_of, home, relays, show, tell

RELAYS = 3
SETTLE_S = 20
WATCH_S = 60


def memory(process: int) -> dict[str, int]:
    """Its memory in KiB: all that it has mapped in, and its share of what others have too."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    fields = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return {"rss_kib": fields["Rss"], "pss_kib": fields["Pss"], "private_kib": fields["Private_Dirty"]}


def activity(process: int) -> tuple[float, int]:
    """Its CPU time in milliseconds, and how often its threads gave the CPU back, since its start."""
    cpu = wakes = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        cpu += int((thread / "schedstat").read_text().split()[0])
        for line in (thread / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                wakes += int(line.split()[1])
    return cpu / 1e6, wakes


def main(binary: str) -> None:
    """Measures and prints."""
    with (
        relays(binary, RELAYS) as urls,
        home() as first,
        home() as second,
        daemon(CONSOLE_SCRIPT, environment_of(first, urls), RELAYS) as by_script,
        daemon(binary, environment_of(second, urls), RELAYS) as by_binary,
    ):
        processes = {"script": by_script, "binary": by_binary}
        time.sleep(SETTLE_S)
        results = {name: memory(process) for name, process in processes.items()}
        before = {name: activity(process) for name, process in processes.items()}
        time.sleep(WATCH_S)
        for name, process in processes.items():
            cpu, wakes = (now - then for now, then in zip(activity(process), before[name], strict=True))
            results[name] |= {
                "cpu_ms_per_minute": round(cpu * 60 / WATCH_S, 1),
                "wakes_per_minute": round(wakes * 60 / WATCH_S),
            }

    def row(name: str, key: str, shown: str = "{}", unit: float = 1) -> tuple[str, list[str]]:
        return name, [shown.format(results[starter][key] / unit) for starter in processes]

    rows = [
        row("memory, resident, MiB", "rss_kib", "{:.1f}", 1024),
        row("memory, proportional, MiB", "pss_kib", "{:.1f}", 1024),
        row("memory, written by it alone, MiB", "private_kib", "{:.1f}", 1024),
        row("CPU, ms a minute", "cpu_ms_per_minute", "{:.0f}"),
        row("wake-ups a minute", "wakes_per_minute", "{:.0f}"),
    ]
    show(f"idle daemon, {RELAYS} relays, started by", ["script", "binary"], rows)
    tell({"bench": "idle", "relays": RELAYS, **results})


if __name__ == "__main__":
    main(sys.argv[1])
