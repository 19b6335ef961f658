"""The embedded relay's surface, from outside: by a client that shares no code with it and signs in plain Python."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from parts import relays
from parts.bare_client import BareClient, connected
from parts.nostr import Json, Key
from parts.process import DEADLINE_S, clean_environment, end, wait_until
from parts.relays import CONSOLE_SCRIPT

WRAP = 1059
# So many handshakes may be under way; src/relay/limits.rs.
HALF_OPEN = 128


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def publish(client: BareClient, event: Json) -> tuple[bool, str]:
    client.say("EVENT", event)
    _, _, accepted, words = client.receive_until("OK", event["id"])[-1]
    return accepted, words


def ask_for(client: BareClient, *filters: Json) -> list[Any]:
    """What the relay says to a request, to its end: events, EOSE or CLOSED, AUTH."""
    client.say("REQ", "s", *filters)
    said = [client.receive()]
    while said[-1][0] not in ("EOSE", "CLOSED", "NOTICE"):
        said.append(client.receive())
    return said


def authenticate(client: BareClient, key: Key, url: str) -> bool:
    said = ask_for(client, {"kinds": [WRAP], "#p": [key.pubkey]})
    assert [message[0] for message in said] == ["AUTH", "CLOSED"], said
    client.say("AUTH", key.event(22242, "", [["relay", url], ["challenge", said[0][1]]]))
    return bool(client.receive()[2])


@contextmanager
def listening_for(client: BareClient, filter_: Json) -> Iterator[None]:
    client.say("REQ", "live", filter_)
    assert client.receive() == ["EOSE", "live"]
    yield
    client.say("CLOSE", "live")


def test_a_wrap_is_served_to_the_key_that_it_is_for_and_to_nobody_else(embedded_relay: str) -> None:
    receiver, thief, author = Key(), Key(), Key()
    stored, live = (author.event(WRAP, text, [["p", receiver.pubkey]]) for text in ("stored", "live"))
    with ExitStack() as stack:
        sender, reader, other = (stack.enter_context(connected(embedded_relay)) for _ in range(3))
        assert publish(sender, stored) == (True, "")
        assert authenticate(reader, receiver, embedded_relay)
        assert authenticate(other, thief, embedded_relay)
        own = {"kinds": [WRAP], "#p": [receiver.pubkey]}
        assert ask_for(reader, own) == [["EVENT", "s", stored], ["EOSE", "s"]]
        for filter_ in (
            {},
            {"ids": [stored["id"]]},
            {"authors": [author.pubkey]},
            {"#p": [receiver.pubkey]},
            {"kinds": []},
            {"kinds": [], "ids": [stored["id"]]},
            {"kinds": [WRAP]},
            {"kinds": [WRAP], "ids": [stored["id"]]},
            {"kinds": [1, WRAP], "authors": [author.pubkey]},
            own,
            {"kinds": [WRAP], "#p": [thief.pubkey, receiver.pubkey]},
        ):
            said = ask_for(other, filter_)
            # What has all that it was asked for is closed after its end.
            if said[-1][0] == "EOSE" and "ids" in filter_:
                said.append(other.receive())
            assert not [one for one in said if one[0] == "EVENT" and one[2]["kind"] == WRAP], filter_
            other.say("CLOSE", "s")
        other.say("COUNT", "s", own)
        assert other.receive()[0] == "CLOSED"
        other.say("NEG-OPEN", "s", own, "6100000200")
        assert other.receive()[0] == "NOTICE"

        note = author.event(1, "to everybody")
        with listening_for(other, {"kinds": [1], "authors": [author.pubkey]}):
            publish(sender, live)
            publish(sender, note)
            assert other.receive() == ["EVENT", "live", note]
        assert reader.receive() == ["EVENT", "s", live]


def test_who_signs_for_a_relay_elsewhere_is_not_believed(embedded_relay: str) -> None:
    with connected(embedded_relay) as client:
        assert not authenticate(client, Key(), "wss://relay.example")
    with connected(embedded_relay) as client:
        assert not authenticate(client, Key(), "ws://127.0.0.1.example")
    with connected(embedded_relay) as client:
        assert authenticate(client, Key(), f"ws://localhost:{port_of(embedded_relay)}/")


def answer(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(url), timeout=DEADLINE_S)
    connection.request("GET", "/", headers=headers)
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", ""])
def test_a_web_page_gets_neither_a_socket_nor_the_document(embedded_relay: str, origin: str) -> None:
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    for headers in (upgrade, {"Accept": "application/nostr+json"}, {}):
        assert answer(embedded_relay, {**headers, "Origin": origin}).status == 403
    assert answer(embedded_relay, {"Accept": "application/nostr+json"}).status == 200


def test_it_listens_on_loopback_only(embedded_relay: str) -> None:
    port = f":{port_of(embedded_relay):04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    local = [line.split()[1] for line in lines[1:] if len(line.split()) > 3 and line.split()[3] == "0A"]
    assert [address for address in local if address.endswith(port)] == [f"0100007F{port}"]


def test_no_option_opens_it_to_other_machines(tmp_path: Path) -> None:
    for words in (["--host", "0.0.0.0"], ["--bind", "0.0.0.0:0"], ["--address", "0.0.0.0"]):
        done = subprocess.run(
            [CONSOLE_SCRIPT, "relay", "--port", "0", *words],
            env=clean_environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 2, words


def test_behind_a_proxy_it_has_the_name_that_it_is_given(tmp_path: Path) -> None:
    environment = clean_environment(tmp_path)
    words: list[str | Path] = [CONSOLE_SCRIPT, "relay", "--port", "0", "--public-url", "wss://relay.example"]
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with connected(url) as client:
            assert authenticate(client, Key(), "wss://relay.example/")
        with connected(url) as client:
            assert not authenticate(client, Key(), "wss://relay.example.org/")
    finally:
        end(process)
        assert process.stdout is not None
        process.stdout.close()
    bad = subprocess.run([*words[:-1], "https://x"], env=environment, capture_output=True, text=True, check=False)
    assert (bad.returncode, "is no address of a relay" in bad.stderr) == (1, True), bad.stderr


def test_500_silent_sockets_keep_nobody_out_and_do_not_stay(embedded_relay: str) -> None:
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(embedded_relay)), DEADLINE_S))
            for _ in range(500)
        ]
        with connected(embedded_relay) as client:
            assert publish(client, Key().event(1, "through"))[0]
        # All but the newest have made room already; the rest goes when its time is over.
        for gone in silent[: 500 - HALF_OPEN]:
            assert is_closed(gone)
        assert is_closed(silent[-1])


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_one_client_publishes_as_much_as_it_likes_and_all_of_it_is_taken(embedded_relay: str) -> None:
    # The limit of the crate that the relay stands on served 60 of 200.
    key = Key()
    events = [key.event(1, str(number)) for number in range(200)]
    with connected(embedded_relay) as client:
        for event in events:
            client.say("EVENT", event)
        answers = [client.receive() for _ in events]
    assert answers == [["OK", event["id"], True, ""] for event in events]


def test_what_is_too_much_is_refused_in_words_or_ends_its_own_connection_only(embedded_relay: str) -> None:
    key = Key()
    with connected(embedded_relay) as client, connected(embedded_relay) as other:
        assert publish(client, key.event(1, "x" * 65_537))[1].startswith("invalid: content")
        assert publish(client, key.event(1, "", [["x"]] * 2_001))[1].startswith("invalid: more than")
        assert ask_for(client, *[{"kinds": [1]}] * 11)[0][2].startswith("restricted: ")
        assert ask_for(client, {"kinds": [1], "#t": [str(number) for number in range(2_001)]})[0][0] == "CLOSED"
        for number in range(64):
            client.say("REQ", str(number), {"kinds": [9]})
            assert client.receive() == ["EOSE", str(number)]
        client.say("REQ", "one too many", {"kinds": [9]})
        assert client.receive()[:2] == ["CLOSED", "one too many"]
        client.send("[" * (256 * 1024 + 1))
        assert client.rest()[:1] in (b"", b"\x88")
        assert publish(other, key.event(1, "still here"))[0]


def test_a_reader_that_does_not_read_is_cut_and_the_others_are_served(tmp_path: Path) -> None:
    with relays.embedded_relay(tmp_path / "relay") as relay, connected(relay.url) as slow:
        slow.say("REQ", "s", {"kinds": [1]})
        assert slow.receive() == ["EOSE", "s"]
        key, body = Key(), "x" * 60_000
        with connected(relay.url) as writer, connected(relay.url) as reader:
            reader.say("REQ", "s", {"kinds": [1]})
            assert reader.receive() == ["EOSE", "s"]
            # 18 MB: more than the sockets hold.
            for number in range(300):
                event = key.event(1, f"{number} {body}")
                assert publish(writer, event)[0]
                assert reader.receive() == ["EVENT", "s", event]

            def is_cut() -> bool:
                return served(relay.port) == 2

            wait_until(is_cut, "the slow reader to be cut", timeout=60)
            assert publish(writer, key.event(1, "afterwards"))[0]


def served(port: int) -> int:
    """Connections that are up on the relay's side. On the client's, one that is not read from looks up for good."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == "01" and row[1].endswith(f":{port:04X}") for row in rows)
