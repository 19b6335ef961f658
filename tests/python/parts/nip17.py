"""Clients of private direct messages (NIP-17) that nobody here wrote: on npm nostr-tools, and on PyPI nostr-sdk.

Both publish where their inbox is (kind 10050), look up that of others, and send kind 14 in gift wraps there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from parts.installing import installed
from parts.node import PROGRAMS, node
from parts.process import DEADLINE_S, clean_environment, end, start, wait_until
from parts.talker import Talker


@dataclass(frozen=True)
class Mail:
    """A message as the client unwrapped it."""

    sender: str
    kind: int
    text: str
    tags: list[list[str]]
    # Of the rumor.
    id: str

    def tag(self, name: str) -> str | None:
        """The value of the first tag of this name."""
        return next((tag[1] for tag in self.tags if tag[0] == name), None)


class Nip17Client(Talker):
    """A running client with a key of its own."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, label: str) -> None:
        super().__init__(process, folder, label)
        ready = self.event("ready")
        self.pubkey: str = ready["pubkey"]
        self.npub: str = ready["npub"]

    def inbox_of(self, pubkey: str) -> list[str]:
        """Where a key wants its messages; waits until it has said so."""
        return wait_until(lambda: list(self.do("inbox", of=pubkey)), f"{self.label} to find the inbox of {pubkey}")

    def send(self, to: str, text: str) -> None:
        """Sends a text to the inbox of a key (hex), once it has one; every relay there has taken it."""
        self.inbox_of(to)
        self.do("send", to=to, text=text)

    def open_file(self, mail: Mail, path: Path) -> dict[str, str]:
        """Fetches and opens the file that a message names, into `path`; its name and MIME type. nostr-tools only."""
        opened: dict[str, str] = self.do("open", url=mail.text, tags=mail.tags, path=str(path))
        return opened

    def send_file(self, to: str, path: Path, server: str, *, nonce: int = 12) -> str:
        """Encrypts a file, brings it to a server and names it in a message; its blob's name. nostr-tools only."""
        self.inbox_of(to)
        return str(self.do("sendFile", to=to, path=str(path), server=server, mime="image/png", nonce=nonce))

    def verifies(self, event: dict[str, object]) -> bool:
        """Whether an event is signed. nostr-tools only."""
        return bool(self.do("verify", event=event))

    def reply(self, to: Mail, text: str, *, receiver: str | None = None) -> None:
        """Replies to a message, as the client does it: the reply names it in an `e` tag. nostr-tools only."""
        self.do("send", to=receiver or to.sender, text=text, replyTo=to.id)

    def receive(self, *, timeout: float = DEADLINE_S) -> list[Mail]:
        """Waits for the next message, and returns all that are there then, as they came."""
        first = self.event("message", timeout=timeout)
        rest = [self.event("message") for _ in self.seen("message")]
        return [
            Mail(event["from"], event["kind"], event["text"], event["tags"], event["id"]) for event in [first, *rest]
        ]


@contextmanager
def nostr_tools(folder: Path, *relay_urls: str) -> Iterator[Nip17Client]:
    """A client on npm nostr-tools; the relays are its inbox, and where it looks up that of others."""
    with _client(folder, "nostr-tools", node(), PROGRAMS / "v2" / "nip17.mjs", *relay_urls) as client:
        yield client


@contextmanager
def nostr_sdk(folder: Path, *relay_urls: str) -> Iterator[Nip17Client]:
    """A client on PyPI nostr-sdk, in an environment of its own."""
    with _client(folder, "nostr-sdk", _python(), PROGRAMS / "v2" / "nip17_sdk.py", *relay_urls) as client:
        yield client


CLIENTS: dict[str, Callable[..., AbstractContextManager[Nip17Client]]] = {
    "nostr-tools": nostr_tools,
    "nostr-sdk": nostr_sdk,
}


@contextmanager
def _client(folder: Path, label: str, *words: str | Path) -> Iterator[Nip17Client]:
    process = start(words, folder=folder, environment=clean_environment(folder), talks=True)
    try:
        yield Nip17Client(process, folder, label)
    finally:
        end(process)


def _python() -> Path:
    return installed("install-nostr-sdk.sh")
