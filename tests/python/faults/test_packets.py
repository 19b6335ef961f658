"""A network that loses packets."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from parts import relays
from parts.exchange import FULL, exchange
from parts.fixtures import NewHome
from parts.lossy import lossy_network
from parts.process import end

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="network namespaces and nftables are Linux's")

PERCENT = 30


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_a_network_that_loses_thirty_packets_of_a_hundred(new_home: NewHome, tmp_path: Path, seed: int) -> None:
    with ExitStack() as stack:
        network = stack.enter_context(lossy_network())
        urls = [
            stack.enter_context(relays.embedded_relay(tmp_path / f"relay-{number}", under=network.under)).url
            for number in range(3)
        ]
        alice, bob = new_home("alice", *urls), new_home("bob", *urls)
        for home in (alice, bob):
            stack.callback(end, home.run_under(*network.under))
        alice.sees(str(bob.agent_id))
        with exchange(alice, bob, tmp_path, seed=seed, plan=FULL) as it:
            it.connect()
            network.lose(PERCENT)
            it.start()
            it.finish(within=300)
        counters = network.counters()
        share = counters["dropped"] / (counters["dropped"] + counters["passed"])
        assert abs(share - PERCENT / 100) < 0.05, counters
        assert counters["dropped"] > 1_000
