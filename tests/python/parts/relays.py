"""Relays to run tests against: our embedded one, and two that nobody here wrote.

Each is a context manager that yields a `Relay`, ready to be connected to, and ends it. `port` 0 means any
free port; to start a relay again where one has stopped, give the port and the folder of the first.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sysconfig
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from parts.installing import installed
from parts.process import GRACE_S, clean_environment, end, last_words, start, wait_until

CONSOLE_SCRIPT = Path(sysconfig.get_path("scripts")) / "p2p-comm"

PARTS = Path(__file__).parent

# A port that was free a moment ago may be taken when the relay binds it.
BIND_ATTEMPTS = 5

# The relays' own limits are raised to what public relays allow: large events, and wraps dated back by days.
LARGEST_EVENT = 65_536

_PYPI_CONFIGURATION = """\
DEBUG: false
relay_name: {name}
storage:
  sqlalchemy.url: sqlite+aiosqlite:///{folder}/nostr.sqlite3
  num_concurrent_reqs: 10
  num_concurrent_adds: 2
  validators:
    - nostr_relay.validators.is_not_too_large
    - nostr_relay.validators.is_signed
    - nostr_relay.validators.is_recent
    - nostr_relay.validators.is_not_hellthread
verification:
  nip05_verification: disabled
gunicorn:
  bind: 127.0.0.1:{port}
  workers: 1
  loglevel: info
  reload: false
authentication:
  enabled: {authentication}
  authenticator_class: {authenticator}
  relay_urls:
    - ws://127.0.0.1:{port}
    - ws://127.0.0.1:{port}/
message_timeout: 1800
subscription_limit: 32
max_limit: 6000
hellthread_limit: 100
max_event_size: {largest}
oldest_event: 31536000
"""

_PYPI_LIMITS = """\
rate_limits:
  global:
    EVENT: {events}
"""

_RS_CONFIGURATION = """\
[info]
relay_url = "ws://127.0.0.1:{port}/"
name = "{name}"
[database]
engine = "sqlite"
data_directory = "{folder}"
[network]
address = "127.0.0.1"
port = {port}
[options]
reject_future_seconds = 1800
[limits]
max_event_bytes = {largest}
max_ws_message_bytes = 262144
max_ws_frame_bytes = 262144
"""


@dataclass(frozen=True)
class Relay:
    """A running relay."""

    url: str
    port: int
    folder: Path


@contextmanager
def embedded_relay(
    folder: Path, *, port: int = 0, under: Sequence[str | Path] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Relay]:
    """Our own, as `p2p-comm relay` starts it: its first line of output says where it listens.

    `under` is the program, with its arguments, that starts it.
    """
    words = [*under, CONSOLE_SCRIPT, "--json", "relay", "--port", str(port), "--memory"]
    process = start(words, folder=folder, environment={**clean_environment(folder), **(environment or {})}, talks=True)
    try:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        assert first_line, f"the embedded relay did not start: {last_words(folder)}"
        url = str(json.loads(first_line)["url"]).rstrip("/")
        yield Relay(url, int(url.rpartition(":")[2]), folder)
    finally:
        end(process)


@contextmanager
def pypi_relay(
    folder: Path,
    *,
    port: int = 0,
    authentication: bool | Literal["as shipped"] = False,
    events: str | None = None,
) -> Iterator[Relay]:
    """`nostr-relay` of the Python package registry, which shares no code with us or with nostr-sdk.

    With `authentication` (NIP-42) only who has authenticated may publish, and kinds 4 and 1059 are served to their
    receiver only; "as shipped" it asks everybody, says OK to nobody's answer, and lets everybody in all the same.
    `events` is what it takes from all clients together before it says "rate-limited:", such as "10/s,60/minute".
    """
    program = str(installed("install-nostr-relay.sh"))
    authenticator = "parts.nip42.Authenticator" if authentication is True else "nostr_relay.auth.Authenticator"

    def command(settings: Mapping[str, object]) -> list[str]:
        configuration = folder / "config.yaml"
        asks = {"authentication": str(bool(authentication)).lower(), "authenticator": authenticator}
        words = _PYPI_CONFIGURATION.format_map({**settings, **asks})
        configuration.write_text(words + (_PYPI_LIMITS.format(events=events) if events else ""))
        return [program, "-c", str(configuration), "serve"]

    with _listening(command, folder, port) as relay:
        yield relay


@contextmanager
def rs_relay(folder: Path, *, port: int = 0) -> Iterator[Relay]:
    """The crate `nostr-rs-relay`, for `make soak`: its build takes 17 CPU minutes."""
    program = str(installed("install-nostr-rs-relay.sh"))

    def command(settings: Mapping[str, object]) -> list[str]:
        configuration = folder / "config.toml"
        configuration.write_text(_RS_CONFIGURATION.format_map(settings))
        return [program, "--config", str(configuration), "--db", str(folder)]

    with _listening(command, folder, port) as relay:
        yield relay


@contextmanager
def _listening(command: Callable[[Mapping[str, object]], list[str]], folder: Path, port: int) -> Iterator[Relay]:
    """Runs the command on `port`, or on a free one, and yields once the relay answers there by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(1 if port else BIND_ATTEMPTS):
        chosen = port or _free_port()
        name = f"test relay {uuid.uuid4()}"
        words = command({"name": name, "port": chosen, "folder": folder, "largest": LARGEST_EVENT})
        # Where the relay finds the extension that we give it.
        environment = {**clean_environment(folder), "PYTHONPATH": str(PARTS.parent)}
        process = start(words, folder=folder, environment=environment)
        try:
            wait_until(partial(_ended_or_answers, process, name, chosen), "the relay to answer")
            if process.poll() is None:
                yield Relay(f"ws://127.0.0.1:{chosen}", chosen, folder)
                return
        finally:
            end(process)
    raise AssertionError(f"the relay did not start; its last words: {last_words(folder)}")


def _ended_or_answers(process: subprocess.Popen[str], name: str, port: int) -> bool:
    return process.poll() is not None or _name_of_relay(port) == name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _name_of_relay(port: int) -> str | None:
    """What the relay on this port calls itself (NIP-11); None while nobody answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Accept": "application/nostr+json"})
    try:
        with urllib.request.urlopen(request, timeout=GRACE_S) as answer:
            return str(json.load(answer).get("name"))
    except (OSError, http.client.HTTPException, ValueError):
        return None
