"""`p2p_comm.sync`: the same names without `await`, from any thread, beside any event loop."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2p_comm import Ended, InvalidRequest, Message, Unavailable, sync
from p2p_comm import agent as agent_module
from p2p_comm import call as call_module
from parts.fake_daemon import FakeDaemon, call, ended, message, ringing, transcript


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def agent(daemon: FakeDaemon) -> Iterator[sync.Agent]:
    with sync.Agent(home=daemon.home) as agent:
        yield agent


def the_call(daemon: FakeDaemon, agent: sync.Agent) -> sync.Call:
    daemon.replies["calls"] = {"calls": [call()]}
    return agent.calls()[0]


PAIRS = [
    (agent_module.Agent, sync.Agent),
    (call_module.Call, sync.Call),
    (call_module.IncomingCall, sync.IncomingCall),
    (call_module.Receipt, sync.Receipt),
]

RENAMED = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__"}


def public(cls: type) -> dict[str, Any]:
    special = {*RENAMED, *RENAMED.values(), "__init__", "_repr_mimebundle_"}
    return {name: member for name, member in vars(cls).items() if not name.startswith("_") or name in special}


@pytest.mark.parametrize(("asynchronous", "synchronous"), PAIRS, ids=lambda cls: cls.__name__)
def test_every_name_is_there_with_the_same_parameters(asynchronous: type, synchronous: type) -> None:
    there, here = public(asynchronous), public(synchronous)
    assert {RENAMED.get(name, name) for name in there} == set(here) - {"of"}
    for name, member in there.items():
        twin = here[RENAMED.get(name, name)]
        assert isinstance(twin, property) == isinstance(member, property), name
        if isinstance(member, property) or (name == "__init__" and asynchronous is not agent_module.Agent):
            continue
        parameters = [
            [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]
            for function in (member, twin)
        ]
        assert parameters[0] == parameters[1], name


def test_a_conversation_without_await(daemon: FakeDaemon, agent: sync.Agent) -> None:
    daemon.publish("call.ringing", call_state=ringing())
    daemon.replies["answer"] = call() | {"already": False}
    daemon.publish("message.received", message=message("hi"))
    daemon.publish("call.ended", call_state=ended())
    for ring in agent.incoming():
        assert (ring.tier, ring.topic, ring.peer.id) == ("known", "API design", "bob")
        conversation = ring.accept()
        break
    assert conversation.send("hello").state == "queued"
    first, last = conversation
    assert isinstance(first, Message)
    assert isinstance(last, Ended)
    daemon.replies["end"] = {"call": ended(), "already": True, "transcript": transcript(message("hi"))}
    assert [each.text for each in conversation.end().messages] == ["hi"]
    assert daemon.committed == [1, 2, 3]


async def test_it_works_in_a_notebook_cell_while_its_loop_runs(daemon: FakeDaemon) -> None:
    assert asyncio.get_running_loop().is_running()
    with sync.Agent(home=daemon.home) as agent:
        assert agent.status().agent.id == "alice"


def test_any_thread_may_use_any_agent(daemon: FakeDaemon, agent: sync.Agent) -> None:
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(agent.status().agent.id)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == ["alice"] * 20


def interrupt_when(daemon: FakeDaemon, method: str) -> threading.Thread:
    """Presses Ctrl-C once the daemon was asked for `method`."""

    def press() -> None:
        asyncio.run(daemon.until(lambda: method in daemon.methods()))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def test_control_c_interrupts_a_stream_and_what_comes_later_is_not_lost(daemon: FakeDaemon, agent: sync.Agent) -> None:
    rings = agent.incoming()
    pressing = interrupt_when(daemon, "wait")
    with pytest.raises(KeyboardInterrupt):
        next(rings)
    pressing.join()
    daemon.publish("call.ringing", call_state=ringing())
    assert next(rings).topic == "API design"
    assert daemon.methods()[-1] == "commit" or daemon.committed == []


def test_control_c_takes_a_ring_back(daemon: FakeDaemon, agent: sync.Agent) -> None:
    daemon.replies["call"] = ringing(direction="out")
    daemon.replies["await-call"] = lambda params: ringing(direction="out")
    pressing = interrupt_when(daemon, "await-call")
    with pytest.raises(KeyboardInterrupt):
        agent.call("bob")
    pressing.join()
    asyncio.run(daemon.until(lambda: "end" in daemon.methods()))


def test_next_with_a_timeout_says_when_nothing_came(daemon: FakeDaemon, agent: sync.Agent) -> None:
    events = the_call(daemon, agent).events()
    with pytest.raises(TimeoutError):
        events.next(timeout=0.02)
    daemon.publish("message.received", message=message("hi"))
    assert isinstance(events.next(timeout=20), Message)
    events.close()
    assert events.next(timeout=20) is None


def test_leaving_the_for_early_loses_nothing(daemon: FakeDaemon, agent: sync.Agent) -> None:
    conversation = the_call(daemon, agent)
    for number in range(3):
        daemon.publish("message.received", message=message(str(number), id=number))
    texts = []
    for _ in range(3):
        for event in conversation:
            assert isinstance(event, Message)
            texts.append(event.text)
            break
    assert texts == ["0", "1", "2"]


def test_waiting_for_itself_is_refused(daemon: FakeDaemon, agent: sync.Agent) -> None:
    async def wait_for_itself() -> None:
        agent.status()

    with pytest.raises(RuntimeError, match="wait for itself"):
        sync.run(wait_for_itself())


def test_a_closed_agent_says_so(daemon: FakeDaemon) -> None:
    agent = sync.Agent(home=daemon.home)
    with pytest.raises(Unavailable, match="closed"):
        agent.status()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what they warn about is what is tried here
def test_a_forked_child_is_told_so(daemon: FakeDaemon, agent: sync.Agent) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            agent.status()
        except InvalidRequest as error:
            os.write(write, error.message.encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert "forked" in os.read(read, 4096).decode()
    os.close(read)
    assert agent.status().agent.id == "alice"


def test_annotations_can_be_read_at_run_time() -> None:
    for cls in (sync.Call, sync.IncomingCall, sync.Receipt):
        for name, member in public(cls).items():
            if inspect.isfunction(member) and not name.startswith("__"):
                assert typing.get_type_hints(member), name
