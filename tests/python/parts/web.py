"""A client of HTTP that sends the headers that it is told, as no browser would."""

from __future__ import annotations

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from parts.process import DEADLINE_S


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


def ask(url: str, *, method: str | None = None, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """Sends one request; a body is sent as JSON. `headers` count more than what is usual, `Host` too."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=DEADLINE_S)
    try:
        data = None if body is None else json.dumps(body)
        usual = {} if body is None else {"Content-Type": "application/json"}
        path = place.path or "/"
        connection.request(method or ("GET" if body is None else "POST"), path, data, {**usual, **(headers or {})})
        reply = connection.getresponse()
        return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read().decode())
    finally:
        connection.close()
