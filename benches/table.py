"""Measures the table of docs/performance.md: p2p-comm and others, at the same work on the same machine.

`python benches/table.py BINARY MESSAGES RELAY NODE MODULES SLIM [TIMES]`, in the environment where p2p_comm is
installed: the command line and the benchmark `messages` (both release builds), the program `nostr-rs-relay`, the folder
of Node.js and one that has node_modules with nostr-tools, and the Python that has slim-bindings.

All contenders run from the start. They are measured in turn, in blocks of some hundred milliseconds, so that a busy
moment of the machine hits all of them alike; each block brings one figure of each, and what is compared is compared
within its block. The median of the blocks counts.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import PATIENCE_S, PYTHON, quantile, relays, show, tell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
# Blocks of each measurement, and what is in one.
BLOCKS = 12
ALONE = 60
STREAM, STREAM_US = 500, 2_000
AWAITED = 500
AT_ONCE = 4_000
AT_ONCE_LEGACY = 100
SETUPS = 5

RELAY_CONFIGURATION = """\
[info]
relay_url = "ws://127.0.0.1:{port}/"
name = "unmodified"
[database]
engine = "sqlite"
data_directory = "{folder}"
[network]
address = "127.0.0.1"
port = {port}
"""


class Contender:
    """A process that measures when it is told to."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=sys.stderr, text=True, env=os.environ | environment
        )

    def reply(self) -> dict[str, Any]:
        """Its next line."""
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"a contender has ended early: {self.process.args}")

    def ask(self, *words: object) -> dict[str, Any]:
        """Measures."""
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.reply()

    def cpu_ns(self) -> int:
        """What it and its children have used of the processors."""
        family, used = [self.process.pid], 0
        for process in family:
            for task in Path(f"/proc/{process}/task").iterdir():
                used += int((task / "schedstat").read_text().split()[0])
                family += map(int, (task / "children").read_text().split())
        return used

    def stop(self) -> None:
        """Lets it end."""
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()


@contextmanager
def unmodified(program: str, folder: str) -> Iterator[str]:
    """The crate nostr-rs-relay as it is; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = Path(folder) / "config.toml"
    config.write_text(RELAY_CONFIGURATION.format(port=port, folder=folder))
    environment = {"RUST_LOG": "error", "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        [program, "--config", str(config), "--db", folder],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit("nostr-rs-relay does not start") from None
                time.sleep(0.05)
        try:
            yield f"ws://127.0.0.1:{port}"
        finally:
            process.terminate()


def microseconds(blocks: list[list[int]]) -> dict[str, float]:
    """Of samples in nanoseconds, in blocks: of all of them p50 and p99, and the median of the blocks' medians."""
    samples = [sample for block in blocks for sample in block]
    medians = sorted(quantile(block, 0.5) for block in blocks)
    figures = {"p50": quantile(samples, 0.5), "p99": quantile(samples, 0.99), "block_p50": quantile(medians, 0.5)}
    return {name: round(figure / 1e3, 1) for name, figure in figures.items()}


def ratio(mine: list[list[int]], other: list[list[int]]) -> float:
    """How many times longer the other takes: the median over the blocks of the ratio of their medians."""
    pairs = zip(mine, other, strict=True)
    return round(quantile([quantile(them, 0.5) / quantile(us, 0.5) for us, them in pairs], 0.5), 2)


def times(mine: list[float], other: list[float]) -> float:
    """How many times more than the other we do: the median over the blocks."""
    return round(quantile([us / them for us, them in zip(mine, other, strict=True)], 0.5), 2)


def median(rates: list[float]) -> int:
    """Of rates."""
    return round(quantile(rates, 0.5))


def main(arguments: list[str]) -> None:
    """Measures and prints."""
    binary, messages, relay, node, modules, slim, *blocks = arguments
    count = int(blocks[0]) if blocks else BLOCKS
    shim = Path(slim).parent.parent / "nodelay.so"
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-"))
        url = stack.enter_context(unmodified(relay, folder))
        [own] = stack.enter_context(relays(binary, 1))
        commands: dict[str, tuple[list[str], dict[str, str]]] = {
            "raw": ([messages, "raw"], {}),
            "ours": ([PYTHON, str(HERE / "ours.py"), url, "full"], {}),
            "ours, embedded relay": ([PYTHON, str(HERE / "ours.py"), own, "full"], {}),
            "ours, os": ([PYTHON, str(HERE / "ours.py"), url, "os"], {}),
            "engine": ([messages, "engine", url, "full"], {}),
            "engine, os": ([messages, "engine", url, "os"], {}),
            "nostr-tools": ([str(Path(node) / "node"), str(HERE / "legacy.mjs"), modules, url], {}),
            "slim": ([slim, str(HERE / "slim.py")], {}),
        }
        if shim.exists():
            commands["slim, nodelay"] = ([slim, str(HERE / "slim.py")], {"LD_PRELOAD": str(shim)})
        contenders = {}
        for name, (command, environment) in commands.items():
            contenders[name] = Contender(command, environment)
            stack.callback(contenders[name].stop)
        for contender in contenders.values():
            contender.reply()

        def blocks_of(names: Sequence[str], *words: object, rounds: int = count) -> dict[str, list[dict[str, Any]]]:
            """So many blocks of each, in turn. A first one brings everything into memory."""
            measured: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for turn in range(rounds + 1):
                for name in names:
                    before = contenders[name].cpu_ns()
                    reply = contenders[name].ask(*words)
                    reply["cpu_us"] = (contenders[name].cpu_ns() - before) / 1e3 / int(words[1])
                    if turn > 0:
                        measured[name].append(reply)
            return measured

        def pick(measured: dict[str, list[dict[str, Any]]], key: str) -> dict[str, list[Any]]:
            return {name: [block[key] for block in found] for name, found in measured.items()}

        singly = blocks_of(list(contenders), "alone", ALONE)
        alone = pick(singly, "arrived")
        disk = blocks_of(["raw"], "disk", ALONE)["raw"]
        stages = blocks_of(["engine"], "stages", ALONE)["engine"]
        streamers = [name for name in contenders if name not in ("raw", "engine", "engine, os", "nostr-tools")]
        streams = pick(blocks_of(streamers, "stream", STREAM, STREAM_US, rounds=max(1, count // 3)), "arrived")
        senders = ["ours", "ours, os", "ours, embedded relay", "engine"]
        awaited = pick(blocks_of(senders, "awaited", AWAITED, rounds=max(1, count // 2)), "per_s")
        ours = [name for name in contenders if name.startswith(("ours", "engine"))]
        theirs = [name for name in contenders if name.startswith("slim")]
        bursts = blocks_of([*ours, *theirs, "raw"], "burst", AT_ONCE, rounds=max(1, count // 2))
        bursts |= blocks_of(["nostr-tools"], "burst", AT_ONCE_LEGACY, rounds=max(1, count // 3))
        taken, arrived = pick(bursts, "taken_per_s"), pick(bursts, "arrived_per_s")
        delivered = pick(
            blocks_of(
                [name for name in ours if name.startswith("ours")], "delivered", AT_ONCE, rounds=max(1, count // 2)
            ),
            "delivered_per_s",
        )
        setups = pick(
            blocks_of(["ours", "ours, embedded relay"], "setup", SETUPS, rounds=max(1, count // 2)), "connected"
        )

    latencies = {name: microseconds(samples) for name, samples in alone.items()}
    rivals = {name: ratio(alone["ours"], samples) for name, samples in alone.items() if name != "ours"}
    results: dict[str, Any] = {
        "bench": "table",
        "blocks": count,
        "alone_us": latencies,
        "alone_ratio_to_ours": rivals,
        "alone_ratio_to_ours_os": {name: ratio(alone["ours, os"], alone[name]) for name in alone if name != "ours, os"},
        "multiple_of_raw": {name: ratio(alone["raw"], samples) for name, samples in alone.items()},
        "disk_us": {key: microseconds([block[key] for block in disk]) for key in ("append", "in_place")},
        "stages_us": {name: microseconds([block[name] for block in stages]) for name in stages[0] if name != "cpu_us"},
        "stream_us": {name: microseconds(samples) for name, samples in streams.items()},
        "awaited_per_s": {name: median(rates) for name, rates in awaited.items()},
        "taken_per_s": {name: median(rates) for name, rates in taken.items()},
        "arrived_per_s": {name: median(rates) for name, rates in arrived.items()},
        "delivered_per_s": {name: median(rates) for name, rates in delivered.items()},
        "taken_times_slim": {name: times(taken[name], arrived[theirs[-1]]) for name in ours},
        "arrived_times_slim": {name: times(arrived[name], arrived[theirs[-1]]) for name in ours},
        "share_of_raw": {name: round(1 / times(arrived["raw"], arrived[name]), 3) for name in [*ours, *theirs]},
        "cpu_us_alone": {name: median(costs) for name, costs in pick(singly, "cpu_us").items()},
        "cpu_us_at_once": {name: median(costs) for name, costs in pick(bursts, "cpu_us").items()},
        "setup_us": {name: microseconds(samples) for name, samples in setups.items()},
    }
    report(results)
    tell(results)


def report(results: dict[str, Any]) -> None:
    """The tables for people."""

    def latencies(title: str, key: str) -> None:
        rows = [(name, [f"{it['p50']:.0f}", f"{it['p99']:.0f}"]) for name, it in results[key].items()]
        show(title, ["p50 µs", "p99 µs"], rows)

    latencies("one message alone", "alone_us")
    latencies("one every 2 ms", "stream_us")
    latencies("call to connected", "setup_us")
    latencies("stages of a message, engine", "stages_us")
    latencies("fdatasync of 4 KiB", "disk_us")
    rows = [
        (
            name,
            [
                str(results["awaited_per_s"].get(name, "")),
                str(rate),
                str(results["arrived_per_s"][name]),
                str(results["delivered_per_s"].get(name, "")),
            ],
        )
        for name, rate in results["taken_per_s"].items()
    ]
    show("a second", ["awaited", "taken", "arrived", "delivered"], rows)
    rows = [(name, [str(cost), str(results["cpu_us_at_once"][name])]) for name, cost in results["cpu_us_alone"].items()]
    show("CPU of both sides a message, µs", ["alone", "at once"], rows)
    for key in ("alone_ratio_to_ours", "alone_ratio_to_ours_os", "multiple_of_raw", "arrived_times_slim"):
        show(key.replace("_", " "), ["times"], [(name, [f"{it:.2f}"]) for name, it in results[key].items()])


if __name__ == "__main__":
    main(sys.argv[1:])
