"""The NIP-17 clients themselves, against each other: what the tests of our mailbox stand on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from parts.nip17 import Nip17Client, nostr_sdk, nostr_tools

UNICODE = "Grüße an 你好 🦞👩‍👩‍👧 “quoted”\nsecond line"


@pytest.fixture
def clients(relay_url: str, tmp_path: Path) -> Iterator[dict[str, Nip17Client]]:
    with ExitStack() as after:
        yield {
            "nostr-tools": after.enter_context(nostr_tools(tmp_path / "tools", relay_url)),
            "nostr-sdk": after.enter_context(nostr_sdk(tmp_path / "sdk", relay_url)),
        }


@pytest.mark.parametrize(("sender", "receiver"), [("nostr-tools", "nostr-sdk"), ("nostr-sdk", "nostr-tools")])
def test_each_reads_what_the_other_wrote(clients: dict[str, Nip17Client], sender: str, receiver: str) -> None:
    one, other = clients[sender], clients[receiver]
    texts = [f"{number}: {UNICODE}" for number in range(3)]
    for text in texts:
        one.send(other.pubkey, text)
    received = other.receive()
    while len(received) < len(texts):
        received += other.receive()
    # Wraps are dated back at random, so they may come in any order.
    assert sorted(mail.text for mail in received) == texts
    assert {(mail.sender, mail.kind, mail.tag("p")) for mail in received} == {(one.pubkey, 14, other.pubkey)}


def test_each_finds_the_inbox_of_the_other(clients: dict[str, Nip17Client], relay_url: str) -> None:
    tools, sdk = clients["nostr-tools"], clients["nostr-sdk"]
    assert [url.rstrip("/") for url in tools.inbox_of(sdk.pubkey)] == [relay_url]
    assert [url.rstrip("/") for url in sdk.inbox_of(tools.pubkey)] == [relay_url]


@pytest.mark.parametrize("name", ["nostr-tools", "nostr-sdk"])
def test_nothing_is_sent_to_a_key_without_an_inbox(clients: dict[str, Nip17Client], name: str) -> None:
    # The x coordinate of secp256k1's generator: a valid key, which nobody uses.
    nobody = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    assert clients[name].refuses("send", to=nobody, text="hello") == "no inbox"
