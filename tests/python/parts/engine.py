"""A client of an engine's socket (docs/ipc.md) in a few lines, for what would take too many commands."""

from __future__ import annotations

import itertools
import json
import socket
from contextlib import suppress
from typing import Any

from parts.home import Home
from parts.process import DEADLINE_S

Json = dict[str, Any]


class Refused(Exception):
    """The engine said no."""

    def __init__(self, error: Json) -> None:
        super().__init__(f"{error['data']['code']}: {error['message']}")
        self.code: str = error["data"]["code"]


class Lost(Exception):
    """There is no engine, or it went away before it answered: what was asked may have been done or not."""


class Engine:
    """A connection to the engine of a home, opened when it is needed. One thread uses it at a time."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._numbers = itertools.count(1)
        self._connection: socket.socket | None = None
        self._buffer = b""

    def ask(self, method: str, *, timeout: float = DEADLINE_S, **params: Any) -> Any:
        """The result of a request; raises `Refused` or `Lost`. No answer for `timeout` seconds is `Lost` too."""
        number = next(self._numbers)
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        try:
            connection = self._connected()
            connection.settimeout(timeout)
            connection.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(self._line(connection))
        except (OSError, ValueError) as error:
            self.close()
            raise Lost(f"{method}: {error!r}") from error
        assert reply["id"] == number, reply
        if "error" in reply:
            if reply["error"]["data"]["code"] == "daemon-unreachable":
                self.close()
                raise Lost(f"{method}: {reply['error']}")
            raise Refused(reply["error"])
        return reply["result"]

    def close(self) -> None:
        """Closes the connection; the next request opens another one."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection, self._buffer = None, b""

    def _connected(self) -> socket.socket:
        if self._connection is None:
            path = json.loads((self._home.state / "daemon.lock").read_text())["socket"]
            if path is None:
                raise ConnectionRefusedError("the engine is about to start")
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(DEADLINE_S)
                connection.connect(path)
            except OSError:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _line(self, connection: socket.socket) -> bytes:
        while b"\n" not in self._buffer:
            piece = connection.recv(65_536)
            if not piece:
                raise ConnectionResetError("the engine closed the connection")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line
