"""The examples run as they are. Their notebooks run here cell by cell; `make frameworks` has them in a real kernel."""

from __future__ import annotations

import ast
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parts.relays import CONSOLE_SCRIPT

EXAMPLES = Path(__file__).parents[2] / "examples"


def lines(name: str, *words: str) -> list[str]:
    """What an example prints."""
    command = [sys.executable, str(EXAMPLES / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("where", ["a relay of its own", "relays that are named"])
def test_a_task_is_delegated(where: str, embedded_relay: str) -> None:
    found, report = lines("delegate.py", *(["--relays", embedded_relay] if where == "relays that are named" else []))
    assert found == "found worker"
    name, _, counted = report.partition(" ")
    assert name == "report.json"
    assert json.loads(counted) == {"file": "letter.txt", "words": 11, "most frequent": ["the", 3]}


PANEL = [
    "cost: Yes. The new host is cheaper.",
    "risk: No. Nobody has rehearsed it.",
    "cost, having heard the other: Then wait a month: the old host costs 90 EUR.",
    "risk, having heard the other: A month is fine: then there is time to rehearse.",
    "a panel with cost: 4 messages",
    "a panel with risk: 4 messages",
]


def test_a_panel_of_three() -> None:
    assert lines("panel.py") == PANEL


def test_a_panel_of_three_on_relays_that_are_named(embedded_relay: str) -> None:
    assert lines("panel.py", "--relays", embedded_relay) == PANEL


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        ("yes", ["the owner agrees", "the seller says: Ordered, thank you."]),
        ("no", ["the owner does not agree: no"]),
    ],
)
def test_a_human_decides_by_a_program(answer: str, printed: list[str], embedded_relay: str, tmp_path: Path) -> None:
    """The program is asked in the agent's words, and its answer counts."""
    program = tmp_path / "owner"
    program.write_text(f'#!/bin/sh\ncat > "{tmp_path}/asked"\necho \'{{"answer": "{answer}"}}\'\n')
    program.chmod(0o755)
    assert lines("human_in_the_loop.py", "--owner", f"exec:{program}", "--relays", embedded_relay) == printed
    asked = json.loads((tmp_path / "asked").read_text())
    assert (asked["question"], asked["options"]) == ("Spend 40 EUR on a licence?", ["yes", "no"])


def test_a_human_decides_at_a_terminal() -> None:
    example = subprocess.Popen(
        [sys.executable, "-u", EXAMPLES / "human_in_the_loop.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ours, theirs = pty.openpty()
    try:
        assert example.stdout is not None
        asks, _, command = example.stdout.readline().strip().partition(" Answer: ")
        assert asks == "Spend 40 EUR on a licence?"
        program, *words = command.split()
        assert program == "p2p-comm"
        answered = subprocess.run([CONSOLE_SCRIPT, *words], stdin=theirs, stdout=theirs, stderr=theirs, timeout=60)
        assert answered.returncode == 0
        out, err = example.communicate(timeout=60)
        assert (example.returncode, err) == (0, "")
        assert out.splitlines() == ["the owner agrees", "the seller says: Ordered, thank you."]
    finally:
        example.kill()
        example.communicate()
        os.close(ours)
        os.close(theirs)


class Display:
    """What IPython puts into a notebook's names."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def __call__(self, value: Any, *, display_id: bool = False) -> Display:
        self.shown.append(value)
        return self

    def update(self, value: Any) -> None:
        self.shown.append(value)


def code(name: str) -> list[Any]:
    """The cells of a notebook that are run."""
    cells = json.loads((EXAMPLES / name).read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


async def run(name: str, names: dict[str, Any]) -> list[Any]:
    """Runs the cells as a kernel does: in a running loop, `await` allowed. Returns the value of each last line."""
    values = []
    for cell in code(name):
        assert cell["outputs"] == [], "a notebook is kept without its outputs"
        tree = ast.parse("".join(cell["source"]))
        if isinstance(tree.body[-1], ast.Expr):
            last = tree.body[-1]
            tree.body[-1] = ast.Assign([ast.Name("_", ast.Store())], last.value)
            ast.fix_missing_locations(tree)
        names["_"] = None
        running = eval(compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if running is not None:
            await running
        values.append(names["_"])
    return values


async def test_two_agents_talk_in_a_notebook() -> None:
    values = await run("two_agents_talk.ipynb", {})
    states = [value for value in values if isinstance(value, str)]
    assert states == ["delivered", "The <b>second</b> one."]
    html = next(value for value in values if type(value).__name__ == "Transcript").to_html()
    assert "The &lt;b&gt;second&lt;/b&gt; one." in html


async def test_a_task_is_delegated_in_a_notebook() -> None:
    display = Display()
    values = await run("delegating_a_task.ipynb", {"display": display})
    assert any(isinstance(value, str) and len(value) == 64 for value in values)
    steps = [progress.done for progress in display.shown]
    assert steps == sorted(steps)
    assert steps[-1] == 3 << 20
    assert '<progress value="3145728" max="3145728">' in display.shown[-1]._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_has_what_its_format_asks_for(notebook: Path) -> None:
    content = json.loads(notebook.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
