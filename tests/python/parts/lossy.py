"""A network of its own that loses packets: a network namespace whose loopback drops what nftables draws.

TCP repairs it, late and in bursts: what is above sees connections that stall for seconds, and handshakes that hang.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from parts.chaos import report
from parts.debian import debian_part

_TABLE = "faults"


class LossyNetwork:
    """A network namespace with a loopback of its own. What is started `under` it lives there; files are shared."""

    def __init__(self, ip: Path, nft: Path, name: str) -> None:
        self.under: list[str | Path] = [ip, "netns", "exec", name]
        self._nft = nft

    def lose(self, percent: int) -> None:
        """From now on each packet is dropped with this probability."""
        self._rule(f"add table inet {_TABLE}")
        self._rule(f"add chain inet {_TABLE} loss {{ type filter hook input priority 0; }}")
        self._rule(f"add rule inet {_TABLE} loss numgen random mod 100 < {percent} counter drop")
        self._rule(f"add rule inet {_TABLE} loss counter accept")

    def counters(self) -> dict[str, int]:
        """How many packets were dropped so far, and how many passed."""
        said = self._rule(f"list table inet {_TABLE}", "--json")
        found = {}
        for item in json.loads(said)["nftables"]:
            parts = {name: value for part in item.get("rule", {}).get("expr", []) for name, value in part.items()}
            if "counter" in parts:
                found["dropped" if "drop" in parts else "passed"] = int(parts["counter"]["packets"])
        return found

    def _rule(self, rule: str, *options: str) -> str:
        words = [*map(str, self.under), str(self._nft), *options, rule]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@contextmanager
def lossy_network() -> Iterator[LossyNetwork]:
    """Makes such a network; skips the test, with the reason, where that cannot be done.

    Everything in it must have ended before it does.
    """
    if os.geteuid() != 0:
        pytest.skip("a network namespace with rules of its own needs root")
    ip, nft = debian_part("iproute2", "ip"), debian_part("nftables", "nft")
    name = f"p2p-{uuid.uuid4().hex[:8]}"
    made = subprocess.run([ip, "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    try:
        network = LossyNetwork(ip, nft, name)
        subprocess.run([*network.under, ip, "link", "set", "lo", "up"], check=True)
        yield network
        report(f"packets: {network.counters()}")
    finally:
        subprocess.run([ip, "netns", "del", name], check=True)
