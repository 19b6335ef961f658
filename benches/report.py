"""Writes what `make bench` found as the tables of docs/performance.md.

`python benches/report.py RESULTS` prints them; with a second argument, a page, they take the place of what stands there
between the two marks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

BEGIN = "<!-- written by benches/report.py from build/bench/results.json -->"
END = "<!-- end of what is written -->"


class Row(NamedTuple):
    """A row of the table: what is measured, what it must reach, what it has, and whether that is enough."""

    what: str
    target: str
    measured: str
    beside: str
    met: bool | None


def milliseconds(spread: dict[str, float]) -> str:
    """Of microseconds: p50 and p99."""
    return f"{spread['p50'] / 1e3:.2f} / {spread['p99'] / 1e3:.2f} ms"


def rows(results: dict[str, Any]) -> list[Row]:
    """The table."""
    table = results["table"]
    alone, stream, setup = table["alone_us"], table["stream_us"], table["setup_us"]
    arrived, taken, delivered = table["arrived_per_s"], table["taken_per_s"], table["delivered_per_s"]
    tools = table["alone_ratio_to_ours"]["nostr-tools"]
    rival = "slim, nodelay" if "slim, nodelay" in alone else "slim"
    beaten = table["alone_ratio_to_ours_os"][rival]
    shipped = table["alone_ratio_to_ours_os"]["slim"]
    share = table["share_of_raw"]

    def ms(name: str) -> float:
        return alone[name]["p50"] / 1e3

    return [
        Row(
            "one message, Python to Python, durable on both sides, unmodified relay: p50 / p99",
            "≤ 1.5 / 5 ms",
            milliseconds(alone["ours"]),
            f"embedded relay {milliseconds(alone['ours, embedded relay'])}; "
            f"{table['multiple_of_raw']['ours']:.1f} times a forwarded frame",
            ms("ours") <= 1.5 and alone["ours"]["p99"] <= 5_000,
        ),
        Row(
            "the same, against a nostr-tools pair in the legacy dialect",
            "≥ 12 times faster",
            f"{tools:.1f} times",
            f"nostr-tools {milliseconds(alone['nostr-tools'])}",
            tools >= 12,
        ),
        Row(
            '`durability = "os"`: p50',
            "≤ 0.8 ms",
            milliseconds(alone["ours, os"]),
            f"{table['multiple_of_raw']['ours, os']:.1f} times a forwarded frame",
            ms("ours, os") <= 0.8,
        ),
        Row(
            "the same, against slim-bindings with MLS" + (", TCP_NODELAY forced on it" if rival != "slim" else ""),
            "faster",
            f"{beaten:.2f} times",
            f"{rival} {milliseconds(alone[rival])}; as shipped {milliseconds(alone['slim'])}, {shipped:.2f} times",
            beaten > 1,
        ),
        Row(
            "one message every 2 ms, no answers, unmodified relay: p50 / p99",
            "≤ 2 / 10 ms",
            milliseconds(stream["ours"]),
            f"slim as shipped {milliseconds(stream['slim'])}",
            stream["ours"]["p50"] <= 2_000 and stream["ours"]["p99"] <= 10_000,
        ),
        Row(
            "many at once, gathered in Python, durable",
            "≥ 15,000 a second",
            f"{taken['ours']:,} committed, {delivered['ours']:,} acknowledged as committed by the peer, "
            f"{arrived['ours']:,} through its `async for`",
            f"{share['ours']:.3f} of what a forwarder passes on",
            taken["ours"] >= 15_000,
        ),
        Row(
            "many at once, commands through the engine in Rust",
            "≥ 50,000 a second",
            f"{taken['engine']:,} committed, {arrived['engine']:,} arrived",
            f"{share['engine']:.3f} of what a forwarder passes on",
            taken["engine"] >= 50_000,
        ),
        Row(
            "the same, Python, against slim-bindings with MLS",
            "≥ 4 times",
            f"{table['taken_times_slim']['ours']:.1f} committed, {table['arrived_times_slim']['ours']:.1f} arrived",
            f"{rival} {arrived[rival]:,}, as shipped {arrived['slim']:,}, nostr-tools {arrived['nostr-tools']:,}",
            table["taken_times_slim"]["ours"] >= 4,
        ),
        Row(
            "one caller that awaits each durable `send`",
            "≥ 1,000 a second",
            f"{table['awaited_per_s']['ours']:,}",
            f"in Rust {table['awaited_per_s']['engine']:,}",
            table["awaited_per_s"]["ours"] >= 1_000,
        ),
        Row(
            "call set-up, `call` to connected, auto-accept, `pow` 0: p50",
            "≤ 20 ms",
            milliseconds(setup["ours"]),
            f"embedded relay {milliseconds(setup['ours, embedded relay'])}",
            setup["ours"]["p50"] <= 20_000,
        ),
        *others(results),
    ]


def others(results: dict[str, Any]) -> list[Row]:
    """The rows of the other benchmarks, of those that were run."""
    found = []
    if "status" in results:
        above = results["status"]["differences_p50_ms"]["console script above python -c pass"]
        found.append(Row("`p2p-comm status`, above a bare interpreter", "≤ 20 ms", f"{above:.1f} ms", "", above <= 20))
    if "idle" in results:
        idle = results["idle"]["script"]
        cpu, rss = idle["cpu_ms_per_minute"] / 600, idle["rss_kib"] / 1e6 * 1024
        measured = f"{rss:.1f} MB, {cpu:.3f} %"
        target = "≤ 25 MB, ≤ 0.1 % of a core"
        found.append(Row("daemon, idle, three relays", target, measured, "", rss <= 25 and cpu <= 0.1))
    if "start" in results:
        begun = results["start"]
        size, importing, ready = begun["wheel_mb"], begun["import_ms"], begun["first_ready_ms"]
        beside = f"entered after {begun['first_entered_ms']:.0f} ms; in an old home {begun['again_ready_ms']:.0f} ms"
        what = "first `Agent` ready, relay up: import, new home, connected"
        found += [
            Row("wheel", "≤ 10 MB", f"{size:.1f} MB", "", size <= 10),
            Row("`import p2p_comm`", "≤ 10 ms", f"{importing:.1f} ms", "", importing <= 10),
            Row(what, "≤ 60 ms", f"{ready:.0f} ms", beside, ready <= 60),
        ]
    if "files_1" in results:
        found.append(file_row(results))
    return found


def file_row(results: dict[str, Any]) -> Row:
    """A file of 100 MiB."""
    files = results["files_1"]
    rate = sorted(files["mb_per_s"])[len(files["mb_per_s"]) // 2]
    grown = max(files["grown_kib"].values()) / 1024
    beside = f"over three relays {sorted(results['files_3']['mb_per_s'])[1]:.1f}" if "files_3" in results else ""
    return Row(
        "file of 100 MiB, one relay",
        "≥ 20 MB/s, memory flat",
        f"{rate:.1f} MB/s, + {grown:.1f} MiB",
        beside,
        rate >= 20,
    )


def markdown(results: dict[str, Any]) -> str:
    """All tables."""
    conditions = results["conditions"]
    disk = results["table"]["disk_us"]
    lines = [
        f"{conditions['processor']}, {conditions['cores']} cores, {conditions['system']}, Python "
        f"{conditions['python']}, commit {conditions['commit']}; others used {conditions['busy_before_percent']} % of "
        f"the machine before and {conditions['busy_after_percent']} % after. `fdatasync` of 4 KiB: "
        f"in place {milliseconds(disk['in_place'])}, "
        f"appended {milliseconds(disk['append'])}. A frame through the forwarder: "
        f"{milliseconds(results['table']['alone_us']['raw'])}.",
        "",
        "| what | must reach | measured | beside it | met |",
        "|---|---|---|---|---|",
    ]
    words = {True: "yes", False: "**no**", None: ""}
    lines += [f"| {it.what} | {it.target} | {it.measured} | {it.beside} | {words[it.met]} |" for it in rows(results)]
    lines += ["", "Where the time of one message goes, in Rust, in the same run (p50 / p99):", ""]
    lines += ["| stage | µs |", "|---|---|"]
    stages = results["table"]["stages_us"]
    lines += [f"| {name[3:]} | {it['p50']:.0f} / {it['p99']:.0f} |" for name, it in sorted(stages.items())]
    lines += [f"| together | {sum(it['p50'] for it in stages.values()):.0f} |"]
    lines += ["", "CPU time of both sides together, a message:", "", "| | alone, µs | at once, µs |", "|---|---|---|"]
    at_once = results["table"]["cpu_us_at_once"]
    lines += [f"| {name} | {cost} | {at_once[name]} |" for name, cost in results["table"]["cpu_us_alone"].items()]
    if "hot" in results:
        lines += [
            "",
            "Instructions of the hot functions, counted by callgrind:",
            "",
            "| what | instructions |",
            "|---|---|",
        ]
        lines += [f"| {name} | {count:,} |" for name, count in results["hot"]["instructions"].items()]
    return "\n".join(lines) + "\n"


def main(results: str, page: str | None = None) -> None:
    """Prints, or writes."""
    text = markdown(json.loads(Path(results).read_text()))
    if page is None:
        sys.stdout.write(text)
        return
    before, _, rest = Path(page).read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{page} lacks the marks")
    Path(page).write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


if __name__ == "__main__":
    main(*sys.argv[1:])
