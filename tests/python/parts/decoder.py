"""The decoder of tests/interop/v2: a reader of the v2 dialect that shares no code with ours, on Node.js."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from parts.node import PROGRAMS, node

PROGRAM = PROGRAMS / "v2" / "decoder.mjs"
# A record of a thousand messages takes seconds.
DECODER_S = 120.0

Json = dict[str, Any]


def check_vectors(folder: Path) -> dict[str, str]:
    """What the decoder makes of the vectors in a folder: "ok" or why not, by `file.json/section/number`."""
    done = _run("vectors", folder)
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    found = {verdict["vector"]: "ok" if verdict["ok"] else str(verdict["why"]) for verdict in verdicts}
    assert len(found) == len(verdicts), "two vectors have the same name"
    expected_exit = 0 if set(found.values()) == {"ok"} else 1
    assert done.returncode == expected_exit, (done.returncode, done.stderr)
    return found


def try_record(folder: Path, texts: Iterable[str], secrets: Iterable[str]) -> Json:
    """What somebody can read who has these messages of relays, and these secret keys (hex)."""
    record, keys = folder / "record.json", folder / "keys.json"
    record.write_text(json.dumps([{"text": text} for text in texts]))
    keys.write_text(json.dumps({"secrets": list(secrets)}))
    done = _run("try-record", record, keys)
    assert done.returncode == 0, done.stderr
    found: Json = json.loads(done.stdout)
    return found


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node(), PROGRAM, *words], capture_output=True, text=True, encoding="utf-8", check=False, timeout=DECODER_S
    )
