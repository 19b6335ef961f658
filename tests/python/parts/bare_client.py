"""A WebSocket client of a few lines, which chooses its frames itself and hides nothing."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from parts.process import DEADLINE_S
from parts.websocket import CONTINUATION, LAST, TEXT, frame_of


class BareClient:
    """One connection, over which requests and frames go out as they are given."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")

    def ask(self) -> None:
        """Asks for a WebSocket, and for compression, as many clients do."""
        lines = [
            "GET / HTTP/1.1",
            "Host: relay",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Extensions: permessage-deflate",
            "\r\n",
        ]
        self._connection.sendall("\r\n".join(lines).encode())

    def is_welcome(self) -> bool:
        """Reads the answer, which grants no compression."""
        lines = []
        while (line := self._stream.readline().strip()) != b"":
            lines.append(line.decode())
        assert not [line for line in lines if "permessage-deflate" in line]
        return lines[0].startswith("HTTP/1.1 101 ")

    def send(self, text: str, *, pieces: int = 1) -> None:
        """Sends a text in so many frames, each masked."""
        data = text.encode()
        size = -(-len(data) // pieces)
        for number in range(pieces):
            last = LAST if number == pieces - 1 else 0
            piece = data[number * size : (number + 1) * size]
            first = last | (CONTINUATION if number else TEXT)
            self._connection.sendall(frame_of(piece, first=first, mask=os.urandom(4)))

    def say(self, *message: Any) -> None:
        """Sends a message of NIP-01."""
        self.send(json.dumps(message))

    def receive(self) -> Any:
        """The next text message of the relay, in one frame, parsed."""
        while True:
            first, size = self._stream.read(2)
            if size > 125:
                size = int.from_bytes(self._stream.read({126: 2, 127: 8}[size]), "big")
            payload = self._stream.read(size)
            if first == LAST | TEXT:
                return json.loads(payload)

    def receive_until(self, *beginning: Any) -> list[Any]:
        """All messages up to and with the first that begins with these members."""
        received = [self.receive()]
        while received[-1][: len(beginning)] != list(beginning):
            received.append(self.receive())
        return received

    def rest(self) -> bytes:
        """All bytes to the end of the connection, however it ends."""
        rest = b""
        try:
            while piece := self._stream.read1():
                rest += piece
        except ConnectionResetError:
            pass
        return rest

    def is_dropped(self) -> bool:
        """Waits for the end of the stream."""
        try:
            return self._stream.read(1) == b""
        except ConnectionResetError:
            return True

    def hears_nothing(self, seconds: float) -> bool:
        """Whether nothing at all comes for so long. The connection is of no use afterwards."""
        self._connection.settimeout(seconds)
        try:
            self._stream.read1()
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        """Closes what reads; the socket is closed by who opened it."""
        self._stream.close()


@contextmanager
def connected(url: str, *, welcome: bool = True) -> Iterator[BareClient]:
    """Connects to a relay; with `welcome` the handshake is done."""
    port = urlsplit(url).port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as connection:
        client = BareClient(connection)
        try:
            client.ask()
            if welcome:
                assert client.is_welcome()
            yield client
        finally:
            client.close()
