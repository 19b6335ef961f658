"""Files on a server of blobs, between our command line and nostr-tools with the WebCrypto of Node.js."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from parts.blossom import BlossomServer, blossom_server
from parts.fixtures import NewHome
from parts.home import Home
from parts.nip17 import Nip17Client, nostr_tools

SIZE = 100_003


@pytest.fixture
def server() -> Iterator[BlossomServer]:
    with blossom_server() as server:
        yield server


@pytest.fixture
def client(embedded_relay: str, tmp_path: Path) -> Iterator[Nip17Client]:
    with nostr_tools(tmp_path / "client", embedded_relay) as client:
        yield client


@pytest.fixture
def home(embedded_relay: str, new_home: NewHome, server: BlossomServer) -> Home:
    home = new_home("ours", embedded_relay)
    home.ok("config", "set", "blossom", server.url)
    home.ok("status")
    return home


def test_a_client_reads_our_file_and_finds_our_token_signed(
    home: Home, client: Nip17Client, server: BlossomServer, tmp_path: Path
) -> None:
    path, opened = tmp_path / "cat.png", tmp_path / "opened"
    data = random.Random(1).randbytes(SIZE)
    path.write_bytes(data)
    sent = home.ok("sendfile", "--path", str(path), "--to", client.npub, "--wait=relayed")
    assert (sent["state"], sent["via"]) == ("relayed", "mailbox")
    (mail,) = client.receive()
    assert (mail.kind, mail.sender) == (15, home.ok("status")["agent"]["pubkey"])
    assert mail.text == f"{server.url}/{mail.tag('x')}"
    assert client.open_file(mail, opened) == {"name": "cat.png", "mime": "image/png"}
    assert opened.read_bytes() == data
    # The probe's, and the upload's.
    assert [client.verifies(token) for token in server.tokens] == [True, True]
    assert not client.verifies({**server.tokens[0], "content": "another"})


def test_we_read_a_file_of_a_client_with_a_nonce_of_either_length(
    home: Home, client: Nip17Client, server: BlossomServer, tmp_path: Path
) -> None:
    home.ok("contacts", "add", "client", client.npub)
    key = home.ok("status")["agent"]["pubkey"]
    for nonce in (12, 16):
        path = tmp_path / f"{nonce}.png"
        data = random.Random(nonce).randbytes(SIZE)
        path.write_bytes(data)
        blob = client.send_file(key, path, server.url, nonce=nonce)
        received = home.event("file.received", "file.failed")["message"]
        assert (received["state"], received["peer"], received["call"]) == ("received", client.pubkey, None)
        assert received["file"]["mime"] == "image/png"
        assert Path(received["file"]["path"]).read_bytes() == data
        assert server.count("GET", f"/{blob}") == 1
