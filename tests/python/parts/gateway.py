"""OpenClaw's gateway as far as its hooks go, written from its documents: what it was asked is kept, nothing is done."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hook-token-of-a-test"


@dataclass
class Asked:
    """One request that was let in."""

    path: str
    once: str | None
    body: dict[str, Any]


@dataclass
class Gateway:
    """A gateway; `status` is what it answers to whoever has the token."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    turned_away: int = 0
    status: int = 200


@contextmanager
def gateway() -> Iterator[Gateway]:
    """A gateway on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                state.turned_away += 1
                self._answer(401)
                return
            assert self.headers["Content-Type"].startswith("application/json")
            state.asked.append(Asked(self.path, self.headers["Idempotency-Key"], json.loads(body)))
            self._answer(state.status)

        def _answer(self, status: int) -> None:
            answer = json.dumps({"ok": status == 200}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state = Gateway(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
