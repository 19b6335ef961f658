"""Figures of an engine: read by the parser of Prometheus' own Python client, counted as things happen."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from p2p_comm.testing import LocalNetwork
from parts.fixtures import NewHome
from parts.home import Home
from parts.installing import installed
from parts.process import end, wait_until
from parts.steps import connect, meet
from parts.web import ask

# Reads the text of stdin, and fails on anything that Prometheus would not take.
PARSER = """
import json, sys
from prometheus_client.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(sys.stdin.read()))
print(json.dumps([
    [family.name, family.type, family.documentation, [[s.name, s.labels, s.value] for s in family.samples]]
    for family in families
]))
"""

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def python() -> Path:
    return installed("install-prometheus-client.sh")


def parsed(text: str) -> list[Any]:
    """What the text says, as a client of Prometheus reads it."""
    done = subprocess.run([python(), "-c", PARSER], input=text, capture_output=True, text=True, check=True)
    families: list[Any] = json.loads(done.stdout)
    return families


def figures(text: str) -> Figures:
    return {
        (name, tuple(sorted(labels.items()))): value
        for _, _, _, samples in parsed(text)
        for name, labels, value in samples
    }


@contextmanager
def serving(home: Home, *words: str) -> Iterator[str]:
    """A daemon that serves its figures; yields their address."""
    process = home.popen("--json", "daemon", "run", *words, stdin=subprocess.PIPE, new_session=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield json.loads(process.stdout.readline())["metrics"]
    finally:
        end(process)
        process.stderr.close()


def test_what_is_served_is_what_prometheus_reads(new_home: NewHome, embedded_relay: str) -> None:
    alice = new_home("alice", embedded_relay)
    with serving(alice, "--metrics", "0") as url:
        assert urlsplit(url).hostname == "127.0.0.1"
        answer = ask(url)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        families = parsed(answer.body)
        assert families
        for name, kind, documentation, samples in families:
            assert documentation.endswith("."), name
            assert name.startswith(("p2p_comm_", "process_")), name
            assert kind in ("counter", "gauge"), name
            assert all(sample[0].endswith("_total") == (kind == "counter") for sample in samples), name
        names = [name for name, *_ in families]
        assert names == sorted(names)
        assert len(set(names)) == len(names)
        seen = figures(answer.body)
        assert seen["process_resident_memory_bytes", ()] > 1_000_000
        assert seen["process_cpu_seconds_total", ()] > 0
        wait_until(
            lambda: figures(ask(url).body)["p2p_comm_relay_connected", (("relay", embedded_relay),)] == 1.0,
            "the relay to be connected",
        )
        assert ask(url.replace("/metrics", "/other")).status == 404
        # Neither a web page nor a name that was made to point here.
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}):
            assert ask(url, headers=headers).status == 403, headers


def test_messages_calls_and_what_was_missed_are_counted(new_home: NewHome, embedded_relay: str) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    outgoing, incoming = connect(alice, bob)
    for number in range(3):
        alice.ok("send", f"number {number}", "--call", outgoing)
    bob.event("message.received", call=incoming, where=lambda event: event["message"]["text"] == "number 2")
    bob.ok("send", "thanks", "--call", incoming)
    alice.event("message.received", call=outgoing)
    out = ("direction", "out")
    v2 = ("dialect", "v2")

    def counted(home: Home) -> Figures:
        return figures(home.ok("metrics", json=False))

    ours, theirs = counted(alice), counted(bob)
    assert (
        ours["p2p_comm_messages_total", (v2, out)] == theirs["p2p_comm_messages_total", (v2, ("direction", "in"))] == 3
    )
    assert ours["p2p_comm_messages_total", (v2, ("direction", "in"))] == 1
    assert ours["p2p_comm_calls", (("state", "connected"),)] == 1
    assert theirs["p2p_comm_journal_events_total", (("kind", "call.ringing"),)] == 1
    assert theirs["p2p_comm_unread_messages", ()] == 0
    alice.ok("send", "by mail", "--to", str(bob.agent_id))
    alice.ok("end")
    alice.ok("send", "by mail", "--to", str(bob.agent_id))
    after = counted(alice)
    assert after["p2p_comm_messages_total", (("dialect", "mail"), out)] == 1
    assert after["p2p_comm_messages_total", (v2, out)] == 4, "a call was up"
    assert after["p2p_comm_calls", (("state", "connected"),)] == 0
    assert all(after[figure] >= value for figure, value in ours.items() if figure[0].endswith("_total"))
    # Nothing that a peer has chosen is a label.
    labels = {value for _, pairs in after for _, value in pairs}
    assert not any(str(bob.agent_id) in value or "API design" in value for value in labels)


def test_a_port_that_is_taken_keeps_the_daemon_from_starting_and_says_so(
    new_home: NewHome, embedded_relay: str
) -> None:
    alice, bob = new_home("alice", embedded_relay), new_home("bob", embedded_relay)
    with serving(alice, "--metrics", "127.0.0.1:0") as url:
        port = str(urlsplit(url).port)
        bob.ok("config", "set", "metrics", port)
        error = bob.fails("invalid-value", "status")
        assert f"127.0.0.1:{port}" in error["message"]
        for odd in ("localhost:1", "70000", "nine"):
            bob.fails("invalid-value", "config", "set", "metrics", odd)
        bob.ok("config", "set", "metrics", "")
        bob.ok("status")


async def test_python_has_the_same_figures() -> None:
    async with LocalNetwork() as network:
        (agent,) = await network.agents("alice")
        metrics = {metric.name: metric for metric in await agent.metrics()}
    assert metrics["p2p_comm_messages_total"].kind == "counter"
    assert {sample.labels["dialect"] for sample in metrics["p2p_comm_messages_total"].samples} == {
        "v2",
        "legacy",
        "mail",
    }
    assert metrics["p2p_comm_uptime_seconds"].samples[0].value > 0


def test_logs_is_a_word_for_the_daemons_log(new_home: NewHome, embedded_relay: str) -> None:
    alice = new_home("alice", embedded_relay)
    alice.ok("status")
    wait_until(lambda: any("ready" in line for line in alice.ok("logs")["lines"]), "the log to be written")
    assert alice.ok("logs", "--lines", "1")["lines"] == alice.ok("daemon", "logs", "--lines", "1")["lines"]
