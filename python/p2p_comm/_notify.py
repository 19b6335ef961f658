"""Tells a person something by PyPI apprise: what the daemon runs for a way to the owner that begins with `apprise:`.

Reads one JSON object from standard input, `{"url", "title", "body"}`: neither the URL, which holds the service's
secret, nor what is said stands on a command line. The exit code says how it went.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

TOLD = 0
NOT_INSTALLED = 3
UNKNOWN_URL = 4
NOT_TAKEN = 5


def main() -> int:
    """Returns the exit code."""
    job: dict[str, str] = json.load(sys.stdin)
    try:
        apprise: Any = importlib.import_module("apprise")
    except ImportError:
        return NOT_INSTALLED
    service = apprise.Apprise()
    if not service.add(job["url"]):
        return UNKNOWN_URL
    # Text, not Markdown or HTML: it holds what agents and peers wrote.
    told = service.notify(title=job["title"], body=job["body"], body_format=apprise.NotifyFormat.TEXT)
    return TOLD if told else NOT_TAKEN


if __name__ == "__main__":
    sys.exit(main())
