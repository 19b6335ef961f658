"""Two agents on three relays: one says nothing, one goes away in the middle and comes back, and nothing is lost."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from p2p_comm import Agent, Call, Message
from parts import relays
from parts.process import PAUSE_S
from parts.recording import RecordingProxy, recording_proxy

# At a time, each way.
BATCH = 50
# To notice and to name a relay that says nothing; the promise is "20 s".
TROUBLE_S = 25.0
# For everything else: several builds may share the machine.
ALL_S = 300.0

Failing = Literal["cut", "restarted"]


@dataclass
class Network:
    """Three relays, and what makes the second one go away and come back."""

    mute: RecordingProxy
    failing_url: str
    healthy_url: str
    go_away: Callable[[], None]
    come_back: Callable[[], None]

    @property
    def urls(self) -> list[str]:
        """The relay that says nothing comes first: what is tried in this order meets it at once."""
        return [self.mute.url, self.failing_url, self.healthy_url]


@pytest.fixture
def cut_network(tmp_path: Path) -> Iterator[Network]:
    """Three embedded relays; the failing one drops its connections and refuses new ones."""
    with ExitStack() as running:
        urls = [running.enter_context(relays.embedded_relay(tmp_path / f"relay {number}")).url for number in range(3)]
        mute, failing = (running.enter_context(recording_proxy(url)) for url in urls[:2])

        def go_away() -> None:
            failing.close()
            failing.cut()

        yield Network(mute, failing.url, urls[2], go_away, failing.open)


@pytest.fixture
def restarted_network(tmp_path: Path) -> Iterator[Network]:
    """An independent relay that is really stopped and started again, between two embedded ones."""
    with ExitStack() as running:
        urls = [running.enter_context(relays.embedded_relay(tmp_path / f"relay {number}")).url for number in range(2)]
        mute = running.enter_context(recording_proxy(urls[0]))
        failing = ExitStack()
        running.callback(failing.close)
        relay = failing.enter_context(relays.pypi_relay(tmp_path / "failing"))

        def come_back() -> None:
            failing.enter_context(relays.pypi_relay(relay.folder, port=relay.port))

        yield Network(mute, relay.url, urls[1], failing.close, come_back)


@asynccontextmanager
async def two_agents(network: Network, folder: Path) -> AsyncIterator[tuple[Agent, Agent]]:
    def agent(label: str) -> Agent:
        home = folder / label
        home.mkdir(mode=0o700)
        return Agent(label, name=label, relays=network.urls, home=home, owner="")

    async with agent("alice") as alice, agent("bob") as bob:
        for one, other in ((alice, bob), (bob, alice)):

            async def sees(one: Agent = one, other: Agent = other) -> bool:
                return other.id in {peer.id for peer in await one.list()}

            await until(sees, "the other to be seen")
        yield alice, bob


async def until(condition: Callable[[], Awaitable[bool]], what: str, *, timeout: float = 60) -> None:
    async def holds() -> None:
        while not await condition():  # noqa: ASYNC110
            # Lets others run; an answer of the engine takes about as long.
            await asyncio.sleep(PAUSE_S)

    try:
        await asyncio.wait_for(holds(), timeout)
    except asyncio.TimeoutError:
        raise AssertionError(f"waited {timeout:g} s for {what}") from None


async def connect(caller: Agent, callee: Agent) -> tuple[Call, Call]:
    calling = asyncio.create_task(caller.call(callee.id, topic="three relays", wait=60))
    ring = await asyncio.wait_for(callee.incoming().__anext__(), 60)
    accepted = await ring.accept()
    return await calling, accepted


async def is_named(agent: Agent, url: str) -> bool:
    """Whether `status` has words for what is wrong with a relay."""
    (relay,) = [relay for relay in (await agent.status()).relays if relay.url.rstrip("/") == url]
    return relay.error is not None


async def trouble_of(agent: Agent, url: str) -> str | None:
    """What `status` says is wrong with a relay."""
    (relay,) = [relay for relay in (await agent.status()).relays if relay.url.rstrip("/") == url]
    return relay.error or (None if relay.connected else "not connected")


async def is_in_trouble(agent: Agent, url: str) -> bool:
    return await trouble_of(agent, url) is not None


async def listen(call: Call, count: int) -> list[str]:
    heard: list[str] = []
    async for event in call:
        if isinstance(event, Message):
            heard.append(event.text)
        if len(heard) == count:
            break
    return heard


async def exchange(network: Network, alice: Agent, bob: Agent, count: int) -> None:
    """So many messages each way; a relay goes away after a third of them and comes back after two thirds."""
    here, there = await connect(alice, bob)
    # One more each way: whatever would come twice has come when a last message has.
    listening = [asyncio.create_task(listen(call, count + 1)) for call in (here, there)]
    receipts = []
    texts = [[f"{label} {number}" for number in range(count)] for label in ("from alice", "from bob")]
    for begin in range(0, count, BATCH):
        batch = slice(begin, begin + BATCH)
        sending = [call.send(text) for call, said in zip((here, there), texts, strict=True) for text in said[batch]]
        receipts += await asyncio.gather(*sending)
        if begin <= count // 3 < begin + BATCH:
            # With what was sent still on its way.
            await asyncio.to_thread(network.go_away)
            for agent in (alice, bob):
                await until(lambda agent=agent: is_in_trouble(agent, network.failing_url), "the cut to be noticed")  # type: ignore[misc]
        if begin <= 2 * count // 3 < begin + BATCH:
            # What was sent before has arrived without it.
            await asyncio.gather(*(receipt.delivered(timeout=ALL_S) for receipt in receipts))
            await asyncio.to_thread(network.come_back)
    receipts += await asyncio.gather(here.send("the last"), there.send("the last"))
    delivered = await asyncio.gather(*(receipt.delivered(timeout=ALL_S) for receipt in receipts))
    assert {message.state for message in delivered} <= {"delivered", "read"}
    heard_here, heard_there = await asyncio.wait_for(asyncio.gather(*listening), ALL_S)
    assert heard_there == [*texts[0], "the last"]
    assert heard_here == [*texts[1], "the last"]
    for agent, call in ((alice, here), (bob, there)):
        messages = await agent.messages(call=call, limit=10_000)
        assert len(messages) == 2 * (count + 1)
        assert len({message.message for message in messages}) == len(messages)
        mine = [message for message in messages if message.sender == "me"]
        assert {message.state for message in mine} <= {"delivered", "read"}
        assert (await agent.status()).outbox.queued == 0

        async def is_well(agent: Agent = agent) -> bool:
            return await trouble_of(agent, network.failing_url) is None

        await until(is_well, "the relay that came back to be well", timeout=90)
        assert await trouble_of(agent, network.healthy_url) is None
    await here.end()


async def run(network: Network, folder: Path, count: int, *, mute: Literal["before", "after"]) -> float:
    """The whole exchange; returns how long it took from the call on."""
    if mute == "before":
        network.mute.mute()
    began_mute = time.monotonic()
    async with two_agents(network, folder) as (alice, bob):
        if mute == "after":

            async def is_well(agent: Agent = alice) -> bool:
                return await trouble_of(agent, network.mute.url) is None

            await until(is_well, "the relay to be well")
            network.mute.mute()
            began_mute = time.monotonic()

        async def named(agent: Agent) -> None:
            left = TROUBLE_S - (time.monotonic() - began_mute)
            what = f"{agent.id} to say that a relay is mute"
            await until(lambda: is_named(agent, network.mute.url), what, timeout=left)

        began = time.monotonic()
        naming = asyncio.gather(named(alice), named(bob))
        await exchange(network, alice, bob, count)
        took = time.monotonic() - began
        await naming
        return took


@pytest.mark.parametrize("mute", ["before", "after"])
async def test_with_one_relay_mute_and_one_cut_all_arrives_once_and_in_order(
    cut_network: Network, tmp_path: Path, mute: Literal["before", "after"]
) -> None:
    await run(cut_network, tmp_path, 150, mute=mute)
    assert mute == "before" or cut_network.mute.counts.muted > 0


@pytest.mark.soak
@pytest.mark.parametrize("failing", ["cut", "restarted"])
async def test_a_thousand_messages_each_way_arrive_over_one_mute_and_one_restarted_relay(
    request: pytest.FixtureRequest, tmp_path: Path, failing: Failing, capsys: pytest.CaptureFixture[str]
) -> None:
    network: Network = request.getfixturevalue(f"{failing}_network")
    took = await run(network, tmp_path, 1_000, mute="before")
    with capsys.disabled():
        sys.stdout.write(f"\n1,000 messages each way, one relay mute, one {failing}: {took:.1f} s\n")
