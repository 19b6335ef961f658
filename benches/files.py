"""What a file costs: how fast it moves from one daemon to another, and what both of them hold in memory meanwhile.

`python benches/files.py BINARY [MIB [RELAYS]]`: two daemons started by BINARY, a call between them over so many
embedded relays without a rate limit, or over those at the addresses given (separated by commas), one file of random
bytes. The time is taken from the command that sends it, its copy included, to the event that it has arrived, hash
verified. Memory is what the kernel says is resident, looked at ten times a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from support import PATIENCE_S, daemon, environment_of, home, relays, show, tell

MIB = 100
LOOK_S = 0.1
RUNS = 3


def resident(process: int) -> int:
    """Its resident memory in KiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit(f"process {process} is gone")


def processor_s(process: int) -> float:
    """The CPU time that it has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch(threading.Thread):
    """Looks at the memory of processes until it is told to stop."""

    def __init__(self, processes: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self.before = {name: resident(process) for name, process in processes.items()}
        self.most = dict(self.before)
        self._processes = processes
        self._over = threading.Event()

    def run(self) -> None:
        """Looks."""
        while not self._over.wait(LOOK_S):
            for name, process in self._processes.items():
                self.most[name] = max(self.most[name], resident(process))

    def stop(self) -> dict[str, int]:
        """How much each has grown at most, in KiB."""
        self._over.set()
        self.join()
        return {name: self.most[name] - self.before[name] for name in self.before}


def main(binary: str, mib: int, over: str) -> None:
    """Measures and prints."""
    addresses = [] if over.isdecimal() else over.split(",")
    count = len(addresses) or int(over)

    def ask(environment: dict[str, str], *words: str) -> dict[str, object]:
        command = [binary, "--json", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{words}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    embedded = relays(binary, 0 if addresses else count)
    with embedded as started, home() as one, home() as two, tempfile.TemporaryDirectory() as folder:
        urls = started or addresses
        alice = environment_of(one, urls) | {"P2P_AGENT_ID": "alice"}
        bob = environment_of(two, urls) | {"P2P_AGENT_ID": "bob"}
        with daemon(binary, alice, count) as sender, daemon(binary, bob, count) as receiver:
            ask(bob, "config", "set", "file_limit_others_mib", str(mib + 1))
            deadline = time.monotonic() + PATIENCE_S
            while not any(agent["id"] == "bob" for agent in ask(alice, "list")["agents"]):
                if time.monotonic() > deadline:
                    raise SystemExit("alice does not see bob")
            ask(alice, "call", "bob")
            ringing = ask(bob, "wait", "--for", "call.ringing", "--timeout", "30", "--after", "0")
            ask(bob, "answer", "accept", "--call", ringing["event"]["call"])
            ask(alice, "wait", "--for", "call.connected", "--timeout", "30", "--after", "0")
            path = Path(folder) / "file"
            digest = hashlib.sha256()
            with path.open("wb") as file:
                for _ in range(mib):
                    piece = os.urandom(1 << 20)
                    digest.update(piece)
                    file.write(piece)
            processes = {"sender": sender, "receiver": receiver}
            rates, copies, grown = [], [], {}
            cursor = "0"
            cpu_before = {name: processor_s(process) for name, process in processes.items()}
            for _ in range(RUNS):
                watch = Watch(processes)
                watch.start()
                begun = time.perf_counter()
                ask(alice, "sendfile", "--path", str(path))
                copies.append(time.perf_counter() - begun)
                arrived = ask(bob, "wait", "--for", "file.received,file.failed", "--timeout", "600", "--after", cursor)
                taken = time.perf_counter() - begun
                grown = {name: max(grown.get(name, 0), more) for name, more in watch.stop().items()}
                event = arrived["event"]
                if event is None or event["kind"] != "file.received":
                    raise SystemExit(f"it did not arrive: {arrived}")
                if event["message"]["file"]["sha256"] != digest.hexdigest():
                    raise SystemExit("another file arrived")
                cursor = str(arrived["cursor"])
                rates.append(mib * 1.048576 / taken)
            cpu = {name: processor_s(process) - cpu_before[name] for name, process in processes.items()}
    rows = [
        ("MB a second, best / median", [f"{max(rates):.1f}", f"{sorted(rates)[len(rates) // 2]:.1f}"]),
        ("of that, s until `sendfile` returns", [f"{min(copies):.2f}", f"{sorted(copies)[len(copies) // 2]:.2f}"]),
        ("CPU, s for 100 MB, sender / receiver", [f"{cpu[it] / (RUNS * mib * 1.048576) * 100:.2f}" for it in cpu]),
        ("memory grown, MiB, sender / receiver", [f"{grown[it] / 1024:.1f}" for it in processes]),
    ]
    show(f"a file of {mib} MiB, {count} relay{'s' if count > 1 else ''}", ["", ""], rows)
    tell(
        {
            "bench": f"files_{count}",
            "mib": mib,
            "relays": count,
            "mb_per_s": [round(rate, 2) for rate in rates],
            "copy_s": [round(copy, 3) for copy in copies],
            "cpu_s": {name: round(spent, 2) for name, spent in cpu.items()},
            "grown_kib": grown,
        }
    )


if __name__ == "__main__":
    main(sys.argv[1], int((sys.argv[2:3] or [MIB])[0]), (sys.argv[3:4] or ["1"])[0])
