"""Mail without a call, between our command line and NIP-17 clients that nobody here wrote."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parts.fixtures import NewHome
from parts.home import Home
from parts.nip17 import CLIENTS, Mail, Nip17Client
from parts.shapes import MESSAGE, check

Json = dict[str, Any]

UNICODE = "Grüße an 你好 🦞👩‍👩‍👧 “quoted” ‖ \\n is not a line break\nthis was one"


@pytest.fixture(params=sorted(CLIENTS))
def client(request: pytest.FixtureRequest, relay_url: str, tmp_path: Path) -> Iterator[Nip17Client]:
    with CLIENTS[request.param](tmp_path / "client", relay_url) as client:
        yield client


@pytest.fixture
def home(relay_url: str, new_home: NewHome) -> Home:
    home = new_home("ours", relay_url)
    home.ok("status")
    return home


def pubkey(home: Home) -> str:
    return str(home.ok("status")["agent"]["pubkey"])


def received_until(client: Nip17Client, last: str) -> list[Mail]:
    """Everything that comes until this text does, and with it."""
    received = client.receive()
    while last not in [mail.text for mail in received]:
        received += client.receive()
    return received


def next_mail(home: Home) -> Json:
    """Waits for the next message that we receive: one without a call."""
    event = home.event("message.received")
    assert event["call"] is None
    message: Json = event["message"]
    return message


def without_a_call(home: Home) -> list[Json]:
    listed = home.ok("messages", "--limit", "100")["messages"]
    return [message for message in listed if message["call"] is None]


def test_our_inbox_is_where_a_client_looks_for_it(home: Home, client: Nip17Client, relay_url: str) -> None:
    assert [url.rstrip("/") for url in client.inbox_of(pubkey(home))] == [relay_url]


def test_our_text_reaches_a_client_as_an_ordinary_direct_message(home: Home, client: Nip17Client) -> None:
    sent = home.ok("send", UNICODE, "--to", client.npub, "--wait=relayed")
    check(sent, MESSAGE)
    assert (sent["state"], sent["call"], sent["from"], sent["kind"]) == ("relayed", None, "me", "text")
    assert (sent["peer"], sent["text"]) == (client.pubkey, UNICODE)
    (mail,) = client.receive()
    assert (mail.sender, mail.kind, mail.text) == (pubkey(home), 14, UNICODE)
    assert mail.tag("p") == client.pubkey
    assert mail.tag("p2p-id") == sent["message"]
    assert mail.tag("p2p-call") is None
    assert [(message["from"], message["text"]) for message in without_a_call(home)] == [("me", UNICODE)]


def test_a_text_of_a_client_is_read_without_a_call(home: Home, client: Nip17Client) -> None:
    client.send(pubkey(home), UNICODE)
    message = next_mail(home)
    check(message, MESSAGE)
    assert (message["call"], message["from"], message["peer"]) == (None, "peer", client.pubkey)
    assert (message["kind"], message["text"], message["state"]) == ("text", UNICODE, "received")
    assert [(listed["message"], listed["from"], listed["peer"], listed["text"]) for listed in without_a_call(home)] == [
        (message["message"], "peer", client.pubkey, UNICODE)
    ]


def test_our_reply_reaches_the_client(home: Home, client: Nip17Client) -> None:
    client.send(pubkey(home), "are you there?")
    assert next_mail(home)["text"] == "are you there?"
    assert home.ok("send", "I am", "--to", client.npub, "--wait=relayed")["state"] == "relayed"
    (mail,) = client.receive()
    assert (mail.sender, mail.kind, mail.text) == (pubkey(home), 14, "I am")
    assert [(message["from"], message["text"]) for message in without_a_call(home)] == [
        ("peer", "are you there?"),
        ("me", "I am"),
    ]


def test_a_text_that_is_sent_again_with_its_id_reaches_the_client_once(home: Home, client: Nip17Client) -> None:
    message_id = uuid.uuid4().hex
    for _ in range(2):
        sent = home.ok("send", "once", "--to", client.npub, "--id", message_id, "--wait=relayed")
        assert sent["message"] == message_id
    home.ok("send", "and then this", "--to", client.npub, "--wait=relayed")
    assert sorted(mail.text for mail in received_until(client, "and then this")) == ["and then this", "once"]


def test_what_came_while_we_were_away_is_read_once_and_in_full(home: Home, client: Nip17Client) -> None:
    texts = [f"while you were away: {number}" for number in range(3)]
    key = pubkey(home)
    # A stranger's mail comes through three times an hour.
    home.ok("contacts", "add", "client", client.npub)
    client.inbox_of(key)
    home.stop()
    for text in texts:
        client.send(key, text)
    # They may come in any order: a wrap says nothing of its time.
    assert sorted(next_mail(home)["text"] for _ in texts) == texts
    home.stop()
    client.send(key, "the last one")
    # The next start reads the wraps of two days again, and shows only what is new.
    assert next_mail(home)["text"] == "the last one"
    assert sorted(message["text"] for message in without_a_call(home)) == ["the last one", *texts]


def test_two_clients_are_two_peers(home: Home, relay_url: str, tmp_path: Path) -> None:
    with (
        CLIENTS["nostr-tools"](tmp_path / "tools", relay_url) as tools,
        CLIENTS["nostr-sdk"](tmp_path / "sdk", relay_url) as sdk,
    ):
        for client in (tools, sdk):
            client.send(pubkey(home), f"from {client.label}")
        received = {message["text"]: message["peer"] for message in (next_mail(home), next_mail(home))}
        assert received == {"from nostr-tools": tools.pubkey, "from nostr-sdk": sdk.pubkey}
        home.ok("send", "to you alone", "--to", sdk.npub, "--wait=relayed")
        home.ok("send", "and to you", "--to", tools.npub, "--wait=relayed")
        assert [mail.text for mail in sdk.receive()] == ["to you alone"]
        assert [mail.text for mail in tools.receive()] == ["and to you"]
