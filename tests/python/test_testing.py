"""`LocalNetwork`: what users test with must itself leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from p2p_comm import Message, Unavailable
from p2p_comm.testing import LocalNetwork


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def listens(url: str) -> bool:
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_agents_of_a_network_see_and_call_each_other() -> None:
    async with LocalNetwork() as network:
        alice, bob, carol = await network.agents("alice", "bob", "carol")
        assert {peer.id for peer in await carol.list()} == {"alice", "bob"}
        calling = asyncio.create_task(alice.call("bob", wait=30))
        there = await (await bob.incoming().__anext__()).accept()
        here = await calling
        await here.send("hello")
        event = await there.events().__anext__()
        assert isinstance(event, Message)
        assert event.text == "hello"


def test_a_network_serves_code_without_await() -> None:
    with LocalNetwork() as network:
        alice, bob = network.sync_agents("alice", "bob")
        here = alice.call("bob", wait=0)
        there = next(bob.incoming()).accept()
        there.send("hello")
        event = here.events().next(timeout=30)
        while not isinstance(event, Message):
            event = here.events().next(timeout=30)
        assert event.text == "hello"
        assert here.end().message_count == 1


def test_a_network_leaves_nothing_behind() -> None:
    async def live() -> tuple[str, list[Path]]:
        async with LocalNetwork() as network:
            agents = await network.agents("alice", "bob")
            await agents[0].call("bob", wait=0)
            homes = [agent.home for agent in agents]
            assert all(home.is_dir() for home in homes)
            return network.relay, homes

    asyncio.run(live())
    before = open_files()
    url, homes = asyncio.run(live())
    assert not any(home.exists() for home in homes)
    assert not listens(url)
    assert open_files() <= before


async def test_the_same_id_again_is_the_same_home() -> None:
    async with LocalNetwork() as network:
        async with network.agent("alice") as alice:
            key, home = alice.pubkey, alice.home
        async with network.agent("alice") as again:
            assert (again.pubkey, again.home) == (key, home)


async def test_the_environment_of_the_user_does_not_reach_the_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "P2P_AGENT_ID": "somebody-else",
        "P2P_AGENT_NAME": "Somebody Else",
        "P2P_CAPABILITIES": "everything",
        "P2P_NOSTR_RELAYS": "ws://127.0.0.1:1",
        "P2P_OWNER_CHANNEL": "exec:false",
        "P2P_COMM_HOME": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    async with LocalNetwork() as network, network.agent("alice") as alice:
        status = await alice.status()
        assert (status.agent.id, status.agent.name, status.agent.capabilities) == ("alice", "alice", ())
        assert [relay.url.rstrip("/") for relay in status.relays] == [network.relay.rstrip("/")]
        assert (await alice.escalate("May I?")).state == "no-owner"


async def test_a_network_that_is_not_up_says_so() -> None:
    network = LocalNetwork()
    with pytest.raises(Unavailable, match="not up"):
        _ = network.relay
    with pytest.raises(Unavailable, match="not up"):
        network.agent("alice")
    async with network:
        with pytest.raises(RuntimeError, match="is up"):
            await network.__aenter__()


async def test_an_error_in_a_test_still_takes_the_network_down() -> None:
    network = LocalNetwork()

    async def fail() -> str:
        async with network:
            (alice,) = await network.agents("alice")
            urls.append(network.relay)
            homes.append(alice.home)
            raise ZeroDivisionError

    urls: list[str] = []
    homes: list[Path] = []
    with pytest.raises(ZeroDivisionError):
        await fail()
    assert not listens(urls[0])
    assert not homes[0].exists()
