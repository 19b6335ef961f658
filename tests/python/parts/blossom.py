"""A server of blobs (Blossom: BUD-01, 02, 06, 11), written from its documents, that can also be a hostile one."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from parts.nostr import id_of

Json = dict[str, Any]

# What an endless answer is made of.
PIECE = b"x" * 65_536


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str


@dataclass
class BlossomServer:
    """What is kept, who asked, and how it behaves: `mood` is a word from `_Handler`, or nothing."""

    url: str
    blobs: dict[str, bytes] = field(default_factory=dict)
    tokens: list[Json] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    mood: str = ""
    largest: int = 20 << 20
    # Set once a request of a mood that hangs is there.
    hangs: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)

    def count(self, method: str, path: str | None = None) -> int:
        """How often something was asked for."""
        return sum(asked.method == method and path in (None, asked.path) for asked in self.asked)


@contextmanager
def blossom_server() -> Iterator[BlossomServer]:
    """A server on a port of its own."""

    class Handler(_Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state = BlossomServer(f"http://127.0.0.1:{server.server_port}")
        Handler.state = state
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            state.let_go.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: BlossomServer

    def do_HEAD(self) -> None:
        self._note()
        if self.path == "/upload":
            self._probe()
        elif (blob := self.state.blobs.get(self.path[1:])) is not None and self.state.mood != "forgets":
            self._answer(200, {"Content-Length": str(len(blob))})
        else:
            self._answer(404)

    def _probe(self) -> None:
        if self.state.mood in ("402", "413"):
            self._answer(int(self.state.mood), {"X-Reason": "not for you"})
        elif self.state.mood == "hangs":
            self._hang()
        elif int(self.headers["X-Content-Length"]) > self.state.largest:
            self._answer(413)
        else:
            assert self.headers["X-Content-Type"] == "application/octet-stream"
            self._answer(200 if self._token(self.headers["X-SHA-256"]) else 401)

    def do_PUT(self) -> None:
        self._note()
        blob = self.rfile.read(int(self.headers["Content-Length"]))
        name = hashlib.sha256(blob).hexdigest()
        if self.path != "/upload" or not self._token(name):
            self._answer(401)
            return
        self.state.blobs[name] = blob
        if self.state.mood == "hangs after upload":
            self._hang()
            return
        told = "0" * 64 if self.state.mood == "lies" else name
        body = json.dumps({"url": f"{self.state.url}/{told}.bin", "sha256": told, "size": len(blob)}).encode()
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        self._answer(201, headers, body)

    def do_GET(self) -> None:
        self._note()
        blob, mood = self.state.blobs.get(self.path[1:]), self.state.mood
        if blob is None:
            self._answer(404)
        elif mood == "wrong":
            self._answer(200, {}, bytes(len(blob)))
        elif mood == "long":
            self._answer(200, {}, blob + bytes(PIECE))
        elif mood == "endless":
            self._answer(200)
            with suppress(OSError):
                while not self.state.let_go.is_set():
                    self.wfile.write(PIECE)
        elif mood == "cut":
            self._answer(200, {"Content-Length": str(len(blob))}, blob[: len(blob) // 2])
        elif mood == "hangs":
            self._hang()
        elif mood.startswith("http"):
            self._answer(302, {"Location": mood})
        else:
            self._answer(200, {"Content-Length": str(len(blob))}, blob)

    def _note(self) -> None:
        self.state.asked.append(Asked(self.command, self.path))

    def _token(self, blob: str) -> bool:
        """Whether the request is authorized for this blob; its signature is not looked at."""
        scheme, _, encoded = (self.headers["Authorization"] or "").partition(" ")
        if scheme != "Nostr":
            return False
        # As BUD-11 has it, or as some clients do.
        encoded = encoded.translate(str.maketrans("+/", "-_")).rstrip("=")
        event: Json = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        tags = {tag[0]: tag[1] for tag in event["tags"]}
        good = (
            event["kind"] == 24242
            and event["id"] == id_of(event)
            and event["created_at"] <= time.time() < int(tags["expiration"])
            and (tags["t"], tags["x"], tags.get("server", "127.0.0.1")) == ("upload", blob, "127.0.0.1")
        )
        if good:
            self.state.tokens.append(event)
        return good

    def _hang(self) -> None:
        self.state.hangs.set()
        self.state.let_go.wait()

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        with suppress(OSError):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
