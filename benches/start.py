"""What it takes to begin: the wheel's size, the import, and the first `Agent` with a relay up.

`python benches/start.py BINARY WHEEL`, in the environment where p2p_comm is installed. Each run is an interpreter of
its own; times are taken inside of it, beginning before the import.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support import PYTHON, environment_of, home, quantile, relays, show, tell

RUNS = 30
IMPORT = "import time; begun = time.perf_counter(); import p2p_comm; print((time.perf_counter() - begun) * 1e3)"
# Ready: entered, and connected to the relay. The first run in a home makes its identity and its database.
READY = """
import time
begun = time.perf_counter()
import asyncio
from p2p_comm import Agent

async def main():
    async with Agent("alice") as agent:
        entered = time.perf_counter()
        status = await agent.status()
        while not status.connected:
            await asyncio.sleep(0.001)
            status = await agent.status()
        connected = time.perf_counter()
        print([(entered - begun) * 1e3, (connected - begun) * 1e3])

asyncio.run(main())
"""


def main(binary: str, wheel: str) -> None:
    """Measures and prints."""
    imports = [float(subprocess.check_output([PYTHON, "-c", IMPORT])) for _ in range(RUNS)]
    first, again = [], []
    with relays(binary, 1) as urls:
        for _ in range(RUNS):
            with home() as folder:
                environment = environment_of(folder, urls)
                for runs in (first, again):
                    runs.append(json.loads(subprocess.check_output([PYTHON, "-c", READY], env=environment)))
    results = {
        "wheel_mb": round(Path(wheel).stat().st_size / 1e6, 2),
        "import_ms": round(quantile(imports, 0.5), 2),
        "first_entered_ms": round(quantile([entered for entered, _ in first], 0.5), 1),
        "first_ready_ms": round(quantile([ready for _, ready in first], 0.5), 1),
        "again_ready_ms": round(quantile([ready for _, ready in again], 0.5), 1),
    }
    show("to begin", [""], [(name.replace("_", " "), [str(value)]) for name, value in results.items()])
    tell({"bench": "start", "runs": RUNS} | results)


if __name__ == "__main__":
    main(*sys.argv[1:])
