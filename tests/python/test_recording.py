"""The recording proxy itself: what it writes down, and what its levers do."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from parts.bare_client import connected
from parts.fixtures import NewHome
from parts.process import DEADLINE_S, wait_until
from parts.proxy import loop_of_its_own
from parts.recording import Message, RecordingProxy, recording_proxy


@pytest.fixture
def proxy(embedded_relay: str) -> Iterator[RecordingProxy]:
    with recording_proxy(embedded_relay) as proxy:
        yield proxy


def recorded(proxy: RecordingProxy, direction: str) -> list[str]:
    return [message.text for message in proxy.messages if message.direction == direction]


def req(name: str, **members: Any) -> str:
    return json.dumps(["REQ", name, {"kinds": [30078], "authors": ["ab" * 32], **members}])


def test_our_agent_is_written_down_in_both_directions(proxy: RecordingProxy, new_home: NewHome) -> None:
    home = new_home("home", proxy.url)
    wait_until(lambda: home.ok("status")["connected"], "the agent to be connected through the proxy")

    def presence() -> Message | None:
        events = [message for message in proxy.messages if message.text.startswith('["EVENT",')]
        return next((message for message in events if json.loads(message.text)[-1]["kind"] == 30078), None)

    published = wait_until(presence, "the presence to be published")
    assert published.direction == "to relay"
    event = json.loads(published.text)[1]
    assert event["pubkey"] == home.ok("status")["agent"]["pubkey"]

    def answer() -> list[str]:
        return [text for text in recorded(proxy, "to client") if json.loads(text)[:2] == ["OK", event["id"]]]

    assert json.loads(wait_until(answer, "the relay to take it")[0])[2] is True
    assert {json.loads(text)[0] for text in recorded(proxy, "to relay")} >= {"REQ", "EVENT"}
    assert 1 <= published.connection <= proxy.counts.accepted
    assert [message.at for message in proxy.messages] == sorted(message.at for message in proxy.messages)


def test_our_agent_comes_back_when_it_was_cut_off(proxy: RecordingProxy, new_home: NewHome) -> None:
    home = new_home("home", proxy.url)
    wait_until(lambda: home.ok("status")["connected"], "the agent to be connected through the proxy")
    before = proxy.counts.accepted
    proxy.close()
    proxy.cut()
    assert proxy.counts.cut >= 1
    wait_until(lambda: not home.ok("status")["connected"], "the agent to notice")
    assert proxy.counts.accepted == before
    proxy.open()
    wait_until(lambda: home.ok("status")["connected"], "the agent to be back")
    assert proxy.counts.accepted > before


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("ids", [0, 20, 2_000])
def test_a_message_is_written_down_whole_whatever_its_frames(proxy: RecordingProxy, pieces: int, ids: int) -> None:
    text = req("Grüße", ids=[f"{number:064x}" for number in range(ids)] or ["00" * 32])
    with connected(proxy.url) as client:
        client.send(text, pieces=pieces)
        wait_until(lambda: recorded(proxy, "to relay") == [text], "the message to be written down")


def test_connections_are_told_apart(proxy: RecordingProxy) -> None:
    with connected(proxy.url) as one, connected(proxy.url) as other:
        for client, name in ((other, "second"), (one, "first")):
            client.send(req(name))
            assert client.receive() == ["EOSE", name]
    by_number = {(message.connection, message.direction, message.text) for message in proxy.messages}
    assert by_number == {
        (1, "to relay", req("first")),
        (2, "to relay", req("second")),
        (1, "to client", '["EOSE","first"]'),
        (2, "to client", '["EOSE","second"]'),
    }
    assert proxy.counts.accepted == 2


def test_a_mute_relay_listens_and_says_nothing(proxy: RecordingProxy) -> None:
    with connected(proxy.url) as client:
        proxy.mute()
        client.send(req("unheard"))
        wait_until(lambda: proxy.counts.muted == 1, "the answer to be thrown away")
        with connected(proxy.url, welcome=False) as late:
            wait_until(lambda: proxy.counts.accepted == 2, "another one to be accepted")
            proxy.unmute()
            assert late.is_welcome()
        client.send(req("heard"))
        assert client.receive() == ["EOSE", "heard"]
    assert recorded(proxy, "to relay") == [req("unheard"), req("heard")]
    assert recorded(proxy, "to client") == ['["EOSE","heard"]']


def test_a_cut_drops_whoever_is_connected(proxy: RecordingProxy) -> None:
    with connected(proxy.url) as one, connected(proxy.url) as other:
        proxy.cut()
        assert one.is_dropped()
        assert other.is_dropped()
    assert proxy.counts.cut == 2
    with connected(proxy.url) as again:
        again.send(req("again"))
        assert again.receive() == ["EOSE", "again"]


def test_a_closed_proxy_refuses_connections_and_keeps_those_it_has(proxy: RecordingProxy) -> None:
    with connected(proxy.url) as client:
        proxy.close()
        with pytest.raises(ConnectionRefusedError), connected(proxy.url):
            pass
        client.send(req("still there"))
        assert client.receive() == ["EOSE", "still there"]
        proxy.open()
        with connected(proxy.url) as another:
            another.send(req("welcome"))
            assert another.receive() == ["EOSE", "welcome"]


def test_what_is_no_websocket_is_passed_on_too(proxy: RecordingProxy, embedded_relay: str) -> None:
    def description(url: str) -> Any:
        address = url.replace("ws://", "http://")
        request = urllib.request.Request(address, headers={"Accept": "application/nostr+json"})
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return json.load(answer)

    assert description(proxy.url) == description(embedded_relay)
    assert proxy.messages == []


def test_who_connects_in_the_moment_of_the_end_is_let_go(embedded_relay: str) -> None:
    is_blocked, goes_on = threading.Event(), threading.Event()

    def block() -> None:
        is_blocked.set()
        goes_on.wait(DEADLINE_S)

    with loop_of_its_own("proxy") as loop:
        proxy = RecordingProxy(embedded_relay, loop)
        loop.call_soon_threadsafe(block)
        assert is_blocked.wait(DEADLINE_S)
        # Both are there when the loop looks again.
        with socket.create_connection(("127.0.0.1", urlsplit(proxy.url).port or 0)):
            ending = asyncio.run_coroutine_threadsafe(proxy._end(), loop)
            goes_on.set()
            ending.result(DEADLINE_S)
    del proxy, ending
    # A socket that was left open is told of here, and fails the test.
    gc.collect()
