"""Whatever is cancelled, at whatever moment, no event is lost and none comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2p_comm import Agent, Call, CallInfo, Ended, IncomingCall, Message
from p2p_comm._wire import decode
from parts.fake_daemon import FakeDaemon, call, ended, message, ringing

ITEMS = 3_000
PATIENCE_S = 0.002


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
async def agent(daemon: FakeDaemon) -> AsyncIterator[Agent]:
    async with Agent(home=daemon.home) as agent:
        yield agent


def the_call(agent: Agent) -> Call:
    return Call(agent._session, decode(CallInfo, call()))


async def test_of_3000_items_read_with_a_timeout_of_2_ms_none_is_lost_and_none_comes_twice(
    daemon: FakeDaemon, agent: Agent
) -> None:
    timed_out = asyncio.Event()

    async def publish() -> None:
        for number in range(ITEMS):
            if number % 100 == 0:
                # However fast the machine is, some reads find nothing in time.
                timed_out.clear()
                await timed_out.wait()
            await asyncio.to_thread(daemon.publish, "message.received", message=message(str(number), id=number))
        await asyncio.to_thread(daemon.publish, "call.ended", call_state=ended())

    publishing = asyncio.create_task(publish())
    events = the_call(agent).events()
    texts: list[str] = []
    timeouts = 0
    while True:
        try:
            event = await asyncio.wait_for(events.__anext__(), PATIENCE_S)
        except asyncio.TimeoutError:
            timeouts += 1
            timed_out.set()
        except StopAsyncIteration:
            break
        else:
            if isinstance(event, Message):
                texts.append(event.text)
    await publishing
    assert texts == [str(number) for number in range(ITEMS)]
    assert timeouts >= ITEMS // 100
    await daemon.until(lambda: len(daemon.committed) == ITEMS + 1)
    assert daemon.committed == list(range(1, ITEMS + 2))


async def test_a_reader_that_is_cancelled_over_and_over_loses_nothing(daemon: FakeDaemon, agent: Agent) -> None:
    events = the_call(agent).events()
    texts: list[str] = []

    async def read() -> None:
        async for event in events:
            assert isinstance(event, Message)
            texts.append(event.text)

    for number in range(200):
        reader = asyncio.create_task(read())
        # From not yet begun to finished with it: every moment of a read gets its turn.
        for _ in range(number % 20):
            await asyncio.sleep(0)
        daemon.publish("message.received", message=message(str(number), id=number))
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    reader = asyncio.create_task(read())
    await daemon.until(lambda: len(daemon.committed) == 200)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    assert texts == [str(number) for number in range(200)]


async def test_what_was_peeked_and_not_handed_over_is_there_for_the_next_process(
    daemon: FakeDaemon,
) -> None:
    daemon.publish("message.received", message=message("kept"))
    async with Agent(home=daemon.home) as first:
        assert await the_call(first).events().peek()
    async with Agent(home=daemon.home) as second:
        event = await the_call(second).events().__anext__()
    assert isinstance(event, Message)
    assert event.text == "kept"


async def test_what_was_read_ahead_and_not_handed_over_is_there_for_the_next_process(daemon: FakeDaemon) -> None:
    for number in range(4):
        daemon.publish("message.received", message=message(str(number), id=number))
    texts: list[str] = []
    async with Agent(home=daemon.home) as first:
        stream = the_call(first).events()
        texts += [event.text for event in [await anext(stream), await anext(stream)] if isinstance(event, Message)]
        assert daemon.methods().count("wait") == 1
    async with Agent(home=daemon.home) as second:
        stream = the_call(second).events()
        texts += [event.text for event in [await anext(stream), await anext(stream)] if isinstance(event, Message)]
    assert texts == ["0", "1", "2", "3"]
    assert daemon.committed == [1, 2, 3, 4]


async def test_a_closed_stream_ends_and_the_next_one_goes_on(daemon: FakeDaemon, agent: Agent) -> None:
    conversation = the_call(agent)
    stream = conversation.events()
    reading = asyncio.create_task(stream.__anext__())
    await daemon.until(lambda: daemon.methods().count("wait") == 2)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await reading
    daemon.publish("message.received", message=message("later"))
    event = await conversation.events().__anext__()
    assert isinstance(event, Message)
    assert event.text == "later"


async def test_the_stream_of_a_call_ends_with_its_end_and_stays_ended(daemon: FakeDaemon, agent: Agent) -> None:
    daemon.publish("message.received", message=message("bye"))
    daemon.publish("call.ended", call_state=ended(end_reason="lost", reason="gone"))
    conversation = the_call(agent)
    first, last = [event async for event in conversation]
    assert isinstance(first, Message)
    assert isinstance(last, Ended)
    assert (last.reason, last.words) == ("lost", "gone")
    daemon.replies["await-call"] = ended()
    assert [event async for event in conversation] == []


async def test_two_tasks_cannot_read_one_stream(daemon: FakeDaemon, agent: Agent) -> None:
    stream = agent.incoming()
    reading = asyncio.create_task(stream.__anext__())
    await daemon.until(lambda: "wait" in daemon.methods())
    with pytest.raises(RuntimeError, match="another task"):
        await stream.__anext__()
    daemon.publish("call.ringing", call_state=ringing())
    assert isinstance(await reading, IncomingCall)


async def test_what_rings_and_each_call_has_one_stream_at_a_time(daemon: FakeDaemon, agent: Agent) -> None:
    rings = agent.incoming()
    assert agent.incoming() is rings
    await rings.aclose()
    assert agent.incoming() is not rings
    daemon.replies["calls"] = {"calls": [call()]}
    one, same = (await agent.calls())[0], (await agent.calls())[0]
    assert one.events() is same.events()
    await one.events().aclose()
    assert one.events() is same.events()


async def test_a_ring_that_is_over_is_passed_over(daemon: FakeDaemon, agent: Agent) -> None:
    daemon.publish("call.ringing", call_state=ended("00000000000000c1", direction="in", end_reason="cancelled"))
    daemon.publish("call.ringing", call_state=ringing("00000000000000c2"))
    ring = await agent.incoming().__anext__()
    assert ring.id == "00000000000000c2"
    await daemon.until(lambda: daemon.committed == [1, 2])


async def test_the_events_of_another_call_wait_for_their_own_reader(daemon: FakeDaemon, agent: Agent) -> None:
    daemon.publish("message.received", message=message("for another", call="00000000000000c2"))
    daemon.publish("message.received", message=message("for this"))
    mine, other = the_call(agent), Call(agent._session, decode(CallInfo, call("00000000000000c2")))
    here, there = await mine.events().__anext__(), await other.events().__anext__()
    assert isinstance(here, Message)
    assert isinstance(there, Message)
    assert (here.text, there.text) == ("for this", "for another")


async def test_a_caller_that_is_cancelled_while_it_rings_takes_the_ring_back(daemon: FakeDaemon, agent: Agent) -> None:
    daemon.replies["call"] = ringing(direction="out") | {"already": False}
    calling = asyncio.create_task(agent.call("bob"))
    daemon.replies["await-call"] = lambda params: ringing(direction="out")
    await daemon.until(lambda: "await-call" in daemon.methods())
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await daemon.until(lambda: "end" in daemon.methods())


async def test_a_caller_that_is_cancelled_before_its_ring_has_an_id_takes_it_back_too(
    daemon: FakeDaemon, agent: Agent
) -> None:
    daemon.replies["call"] = ringing(direction="out") | {"already": False}
    calling = asyncio.create_task(agent.call("bob"))
    await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await daemon.until(lambda: "end" in daemon.methods())
    assert daemon.methods()[-2:] == ["call", "end"]


async def test_a_stream_that_is_closed_gives_its_wait_up_at_the_engine(daemon: FakeDaemon, agent: Agent) -> None:
    stream = agent.incoming()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(stream.__anext__(), 0.05)
    assert daemon.given_up == []
    await stream.aclose()
    await daemon.until(lambda: len(daemon.given_up) == 1)


async def test_a_command_that_is_cancelled_is_given_up_at_the_engine(daemon: FakeDaemon, agent: Agent) -> None:
    waiting = asyncio.create_task(agent.events(kinds=["call.missed"]).peek())
    commanding = asyncio.create_task(agent._session.request("wait", kinds=[], after=0, timeout_s=30.0))
    await daemon.until(lambda: daemon.methods().count("wait") == 2)
    commanding.cancel()
    await daemon.until(lambda: len(daemon.given_up) == 1)
    assert not waiting.done()
    waiting.cancel()


async def test_sends_that_are_gathered_keep_their_order(daemon: FakeDaemon, agent: Agent) -> None:
    conversation = the_call(agent)
    await asyncio.gather(*(conversation.send(str(number)) for number in range(2_000)))
    sent = [params["text"] for method, params in daemon.asked if method == "send"]
    assert sent == [str(number) for number in range(2_000)]
