"""The example notebooks in a real kernel, and what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbclient
import nbformat

EXAMPLES = Path(__file__).parents[2] / "examples"


def shown(name: str) -> str:
    """Runs a notebook; returns all the HTML that it shows."""
    notebook: Any = nbformat.read(EXAMPLES / name, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not any(output.get("name") == "stderr" for output in outputs), outputs
    return "\n".join(output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {}))


def test_two_agents_talk() -> None:
    html = shown("two_agents_talk.ipynb")
    for caption in ("Agent, hosted here", "Peer", "Incoming call", "Transcript"):
        assert f"<caption>{caption}</caption>" in html
    assert "The &lt;b&gt;second&lt;/b&gt; one." in html


def test_a_task_is_delegated() -> None:
    html = shown("delegating_a_task.ipynb")
    for caption in ("Agent, hosted here", "Peer", "Outgoing call", "Transcript"):
        assert f"<caption>{caption}</caption>" in html
    assert '<progress value="3145728" max="3145728">' in html
