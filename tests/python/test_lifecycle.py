"""From import to exit: lazy, one runtime, nothing that hangs, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2p_comm import (
    Agent,
    CallBusy,
    CallEnded,
    CallRejected,
    CallTimeout,
    IncomingCall,
    InvalidRequest,
    P2PError,
    SetupError,
    Unavailable,
)
from p2p_comm.testing import LocalNetwork
from parts.fake_daemon import FakeDaemon, Refusal, ended, message, ringing

EXITS = 25
"""How often a busy interpreter is ended: a runtime that is not stopped died in 1 of 10."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as daemon:
        yield daemon


def python(program: str, *arguments: object) -> Any:
    """Runs a program in a new interpreter, which must end well; returns the JSON that it prints."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), f"exit {ran.returncode}\n{ran.stderr}"
    return json.loads(ran.stdout) if ran.stdout else None


def test_importing_the_package_loads_neither_asyncio_nor_the_native_module() -> None:
    program = """
        import json, sys
        before = set(sys.modules)
        import p2p_comm
        print(json.dumps(sorted(set(sys.modules) - before)))
    """
    loaded = set(python(program))
    assert "p2p_comm" in loaded
    assert not loaded & {"asyncio", "dataclasses", "inspect"}
    assert {name for name in loaded if name.startswith("p2p_comm.")} == set()


def test_every_public_name_is_there_and_nothing_else_is_found() -> None:
    import p2p_comm

    for name in p2p_comm.__all__:
        assert getattr(p2p_comm, name) is not None
        assert name in dir(p2p_comm)
    with pytest.raises(AttributeError, match="no_such_name"):
        p2p_comm.no_such_name  # type: ignore[attr-defined]  # noqa: B018  (the access is the test)


def test_the_console_script_loads_the_native_module_and_nothing_else_of_the_package() -> None:
    program = """
        import contextlib, json, os, sys
        from p2p_comm.__main__ import main
        sys.argv = ["p2p-comm", "--version"]
        stdout = os.dup(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = main()
        os.dup2(stdout, 1)
        ours = [name for name in sys.modules if name.startswith("p2p_comm") or name == "asyncio"]
        print(json.dumps([code, sorted(ours)]))
    """
    code, loaded = python(program)
    assert code == 0
    assert set(loaded) == {"p2p_comm", "p2p_comm.__main__", "p2p_comm._native"}


BUSY = """
    import asyncio, sys
    from p2p_comm import Agent

    async def main():
        agent = await Agent(home=sys.argv[1]).start()
        stream = agent.incoming()
        reading = asyncio.create_task(stream.__anext__())
        asking = [asyncio.create_task(agent.status()) for _ in range(50)]
        await asking[0]
        {leave}

    {run}
"""


@pytest.mark.parametrize(
    ("leave", "run"),
    [
        ("return", "asyncio.run(main())"),
        ("sys.exit()", "asyncio.run(main())"),
        (
            "return",
            "loop = asyncio.new_event_loop(); loop.run_until_complete(main()); keep = loop, asyncio.all_tasks(loop)",
        ),
    ],
    ids=["returning", "exiting", "leaving the loop as it is"],
)
def test_an_interpreter_with_live_agents_exits_cleanly(daemon: FakeDaemon, leave: str, run: str) -> None:
    program = textwrap.dedent(BUSY).format(leave=leave, run=run)
    command = [sys.executable, "-W", "ignore", "-c", program, str(daemon.home)]
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True)) for _ in range(EXITS)
        ]
        ended = [(process.communicate(timeout=60)[1], process.returncode) for process in running]
    for stderr, exit_code in ended:
        # Tasks that a program leaves behind are asyncio's to complain about.
        ours = [line for line in stderr.splitlines() if "panick" in line or "Fatal" in line or "p2p-comm" in line]
        assert (exit_code, ours) == (0, []), stderr


def test_a_forked_child_is_told_so_and_ends_well(daemon: FakeDaemon) -> None:
    program = """
        import asyncio, gc, json, os, sys
        from p2p_comm import Agent, P2PError

        async def read(stream):
            try:
                await asyncio.wait_for(stream.__anext__(), 0.05)
            except asyncio.TimeoutError:
                pass

        async def use(agent):
            errors = []
            for use in (agent.status, agent.incoming().__anext__, Agent(home=sys.argv[1]).start, agent.aclose):
                try:
                    await use()
                except P2PError as error:
                    errors.append([error.kind, error.message])
            return errors

        async def who(agent):
            return (await agent.status()).agent.id

        agent = asyncio.run(Agent(home=sys.argv[1]).start())
        stream = agent.incoming()
        asyncio.run(read(stream))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, json.dumps(asyncio.run(use(agent))).encode())
            del agent, stream
            gc.collect()
            sys.exit(7)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        errors = json.loads(os.read(reader, 65536))
        print(json.dumps([errors, os.waitstatus_to_exitcode(status), asyncio.run(who(agent))]))
    """
    errors, exit_code, alive = python(program, daemon.home)
    assert [kind for kind, _ in errors] == ["invalid-value"] * 4
    assert all("forked" in message for _, message in errors)
    assert exit_code == 7
    assert alive == "alice"


def test_a_child_forked_before_the_first_use_works(daemon: FakeDaemon) -> None:
    program = """
        import asyncio, os, sys
        import p2p_comm.agent

        async def main():
            async with p2p_comm.agent.Agent(home=sys.argv[1]) as agent:
                assert agent.id == "alice"

        child = os.fork()
        asyncio.run(main())
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """
    python(program, daemon.home)


def test_one_agent_serves_one_event_loop_after_the_other(daemon: FakeDaemon) -> None:
    agent = Agent(home=daemon.home)
    asyncio.run(agent.start())
    stream = agent.incoming()

    async def hear_nothing() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.__anext__(), 0.01)

    asyncio.run(hear_nothing())
    daemon.publish("call.ringing", call_state=ringing())

    async def hear() -> IncomingCall:
        return await stream.__anext__()

    assert asyncio.run(hear()).topic == "API design"
    asyncio.run(agent.aclose())


async def test_every_method_is_a_coroutine_as_frameworks_want_it(daemon: FakeDaemon) -> None:
    async with Agent(home=daemon.home) as agent:
        task = asyncio.create_task(agent.status())
        assert asyncio.iscoroutine(coroutine := agent.status())
        assert (await asyncio.gather(coroutine, task))[0].agent.id == "alice"
    for owner in (Agent, IncomingCall):
        for name, member in vars(owner).items():
            if name in ("accept", "reject", "status", "list", "call", "send", "end", "start", "aclose"):
                assert asyncio.iscoroutinefunction(member), name


async def test_an_agent_that_is_closed_or_was_never_started_says_so(daemon: FakeDaemon) -> None:
    agent = Agent(home=daemon.home)
    for use in (agent.status, agent.inbox, agent.incoming().__anext__):
        with pytest.raises(Unavailable, match="closed"):
            await use()
    with pytest.raises(Unavailable, match="not started"):
        _ = agent.id
    await agent.start()
    await agent.aclose()
    await agent.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await agent.status()
    await agent.start()
    assert (await agent.status()).agent.id == "alice"
    await agent.aclose()


async def test_closing_ends_the_streams_that_are_read(daemon: FakeDaemon) -> None:
    async with Agent(home=daemon.home) as agent:

        async def read() -> list[IncomingCall]:
            return [ring async for ring in agent.incoming()]

        reading = asyncio.create_task(read())
        await daemon.until(lambda: "wait" in daemon.methods())
    assert await reading == []


async def test_leaving_ends_the_calls_that_were_opened_and_no_others(daemon: FakeDaemon) -> None:
    first, second, third = ("0000000000000001", "0000000000000002", "0000000000000003")
    daemon.replies["call"] = ringing(first, direction="out")
    daemon.replies["await-call"] = ringing(first, direction="out") | {
        "state": "connected",
        "connected_at": message()["at"],
    }
    daemon.replies["answer"] = lambda params: ringing(params["call"]) | {"state": "connected"}
    daemon.publish("call.ringing", call_state=ringing(second))
    daemon.publish("call.ringing", call_state=ringing(third))
    async with Agent(home=daemon.home) as agent:
        await agent.call("bob")
        rings = agent.incoming()
        accepted = await (await rings.__anext__()).accept()
        await (await rings.__anext__()).accept()
        await accepted.end()
        daemon.asked.clear()
    assert sorted(params["call"] for method, params in daemon.asked if method == "end") == [first, third]


async def test_an_error_in_the_body_still_leaves_in_order(daemon: FakeDaemon) -> None:
    daemon.replies["call"] = ringing(direction="out")

    async def fail() -> None:
        async with Agent(home=daemon.home) as agent:
            await agent.call("bob", wait=0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert daemon.methods()[-1] == "end"


@pytest.mark.parametrize(
    ("outcome", "error", "words"),
    [
        (ended(connected_at=None, end_reason="rejected", reason="at lunch"), CallRejected, "at lunch"),
        (ended(connected_at=None, end_reason="busy"), CallBusy, "busy"),
        (ended(connected_at=None, end_reason="no-answer"), CallTimeout, "did not answer"),
        (ended(connected_at=None, end_reason="cancelled"), CallEnded, "cancelled"),
        (ended(connected_at=None, end_reason="failed"), Unavailable, "could not be placed"),
    ],
)
async def test_what_comes_of_a_ring_is_an_exception_of_its_own(
    daemon: FakeDaemon, outcome: dict[str, Any], error: type[P2PError], words: str
) -> None:
    daemon.replies["call"] = ringing(direction="out")
    daemon.replies["await-call"] = outcome
    async with Agent(home=daemon.home) as agent:
        with pytest.raises(error, match=words):
            await agent.call("bob")
    assert "end" not in daemon.methods()


async def test_a_ring_that_nobody_answers_in_time_is_taken_back(daemon: FakeDaemon) -> None:
    daemon.replies["call"] = ringing(direction="out")
    daemon.replies["await-call"] = ringing(direction="out") | {"timeout": True}
    async with Agent(home=daemon.home) as agent:
        with pytest.raises(CallTimeout):
            await agent.call("bob", wait=0.1)
        assert daemon.methods()[-3:] == ["call", "await-call", "end"]


async def test_a_refusal_of_the_engine_is_an_exception_with_its_kind_and_hint(daemon: FakeDaemon) -> None:
    def refuse(params: dict[str, Any]) -> dict[str, Any]:
        raise Refusal("too-large", "70,000 bytes do not fit", "send it as a file")

    daemon.replies["send"] = refuse
    async with Agent(home=daemon.home) as agent:
        with pytest.raises(InvalidRequest) as raised:
            await agent.send("much")
    assert (raised.value.kind, raised.value.hint) == ("too-large", "send it as a file")


async def test_a_daemon_that_goes_away_is_noticed_by_whoever_waits(tmp_path: Path) -> None:
    with FakeDaemon(tmp_path) as daemon:
        agent = await Agent(home=tmp_path).start()
        reading = asyncio.create_task(agent.incoming().__anext__())
        await daemon.until(lambda: "wait" in daemon.methods())
    with pytest.raises(Unavailable):
        await reading
    await agent.aclose()


async def test_an_id_other_than_the_homes_own_is_refused() -> None:
    async with LocalNetwork() as network:
        async with network.agent("alice") as alice:
            home = alice.home
        with pytest.raises(SetupError) as raised:
            await Agent("mallory", home=home, relays=[network.relay]).start()
        assert raised.value.kind == "agent-id-mismatch"


async def test_a_second_agent_of_a_home_uses_the_engine_of_the_first_and_its_relays() -> None:
    async with LocalNetwork() as network, network.agent("alice") as first:
        assert first.hosted
        async with Agent(home=first.home) as second:
            assert not second.hosted
            assert (second.id, second.pubkey) == ("alice", first.pubkey)
        with pytest.raises(SetupError) as raised:
            await Agent(home=first.home, relays=["ws://127.0.0.1:1"]).start()
        assert raised.value.kind == "settings-mismatch"
        assert (await first.status()).agent.id == "alice"


def test_an_interpreter_that_hosts_an_engine_exits_cleanly_and_leaves_the_home_free(tmp_path: Path) -> None:
    program = """
        import asyncio, json, sys
        from p2p_comm import Agent

        async def main():
            agent = await Agent("alice", home=sys.argv[1], relays=["ws://127.0.0.1:1"]).start()
            print(json.dumps([agent.hosted, agent.pubkey]))

        asyncio.run(main())
    """
    first, second = python(program, tmp_path), python(program, tmp_path)
    assert first == second
    assert first[0] is True
