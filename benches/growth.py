"""Draws what `cargo bench --bench growth` measured: docs/growth.svg.

`python benches/growth.py FILE [OUT]`: the last line of FILE is the JSON object that the benchmark prints. Only the
standard library; both axes are logarithmic, so what is in proportion climbs one decade a decade, and flat is flat.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 26, 34, 62
COLOURS = ("#1f5fa8", "#c2571a", "#3c7a3c", "#7a3c78")
STYLE = "font-family='sans-serif' font-size='11' fill='#333'"


class Line(NamedTuple):
    """A line of a panel: its name, and points."""

    name: str
    points: list[tuple[float, float]]


class Panel(NamedTuple):
    """A plot of its own."""

    title: str
    across: str
    lines: list[Line]


def panels(results: dict[str, list[dict[str, float]]]) -> list[Panel]:
    """What is drawn, as far as it was measured."""
    wanted = [
        ("list", "agents", "list: ms", "agents online", {"p50_ms": "from memory", "first_ms": "first look"}),
        (
            "history",
            "rows",
            "a message: ms",
            "messages in the call before",
            {"send_p50_ms": "send, durable", "round_p50_ms": "there and back", "status_ms": "status"},
        ),
        (
            "wait",
            "subscribers",
            "wait: ms",
            "who waits besides",
            {"others_p50_ms": "for something else"},
        ),
        (
            "calls",
            "calls",
            "calls up: ms",
            "calls up at once",
            {"p50_ms": "a message in one", "set_up_ms": "set-up of one more"},
        ),
    ]
    drawn = []
    for part, across, title, label, columns in wanted:
        rows = results.get(part, [])
        lines = [
            Line(name, [(row[across], row[column]) for row in rows if row[column] > 0])
            for column, name in columns.items()
        ]
        drawn.append(Panel(title, label, [line for line in lines if line.points]))
    return [panel for panel in drawn if panel.lines]


def decades(values: list[float]) -> tuple[int, int]:
    """The powers of ten around some values; at least one decade."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def shown(power: int) -> str:
    """A power of ten as a label."""
    if power >= 5:
        return f"{10 ** (power - 6)} M" if power >= 6 else "100 k"
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:.{-power}f}"


def draw(panel: Panel, left: int, top: int) -> list[str]:
    """One panel, with its corner there."""
    points = [point for line in panel.lines for point in line.points]
    (x_low, x_high), (y_low, y_high) = decades([x for x, _ in points]), decades([y for _, y in points])
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + LEFT + wide * (math.log10(x) - x_low) / (x_high - x_low),
            top + TOP + high * (1 - (math.log10(y) - y_low) / (y_high - y_low)),
        )

    parts = [f"<text x='{left + LEFT}' y='{top + 20}' {STYLE} font-weight='bold'>{panel.title}</text>"]
    for power in range(y_low, y_high + 1):
        x, y = at(10**x_low, 10.0**power)
        parts.append(f"<line x1='{x:.1f}' y1='{y:.1f}' x2='{x + wide:.1f}' y2='{y:.1f}' stroke='#ddd'/>")
        parts.append(f"<text x='{x - 6:.1f}' y='{y + 4:.1f}' {STYLE} text-anchor='end'>{shown(power)}</text>")
    for power in range(x_low, x_high + 1):
        x, y = at(10.0**power, 10.0**y_low)
        parts.append(f"<line x1='{x:.1f}' y1='{y:.1f}' x2='{x:.1f}' y2='{y - high:.1f}' stroke='#eee'/>")
        parts.append(f"<text x='{x:.1f}' y='{y + 15:.1f}' {STYLE} text-anchor='middle'>{shown(power)}</text>")
    middle, bottom = left + LEFT + wide / 2, top + HEIGHT - BOTTOM
    parts.append(f"<text x='{middle:.1f}' y='{bottom + 30}' {STYLE} text-anchor='middle'>{panel.across}</text>")
    key = left + LEFT
    for line, colour in zip(panel.lines, COLOURS, strict=False):
        places = [at(x, y) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in places]
        parts.append(f"<rect x='{key}' y='{bottom + 40}' width='10' height='3' fill='{colour}'/>")
        parts.append(f"<text x='{key + 14}' y='{bottom + 45}' {STYLE}>{line.name}</text>")
        key += 28 + 6.5 * len(line.name)
    return parts


def main(source: Path, out: Path) -> None:
    """Reads, and writes."""
    drawn = panels(json.loads(source.read_text().splitlines()[-1]))
    parts = []
    for number, panel in enumerate(drawn):
        parts += draw(panel, number % 2 * WIDTH, number // 2 * HEIGHT)
    width, height = 2 * WIDTH, math.ceil(len(drawn) / 2) * HEIGHT
    size = f"width='{width}' height='{height}' viewBox='0 0 {width} {height}'"
    body = "\n".join(["<rect width='100%' height='100%' fill='white'/>", *parts])
    out.write_text(f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img'>\n{body}\n</svg>\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("docs/growth.svg"))
