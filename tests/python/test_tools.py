"""`agent.tools()`: what a language model sees of an agent, and what it cannot be made to do."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import subprocess
import sys
import typing
import unicodedata
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from p2p_comm import Agent, IncomingCall, Message, sync
from p2p_comm._text import compact, hides
from p2p_comm.testing import LocalNetwork
from p2p_comm.tools import MOST_AGENTS, MOST_CHARACTERS, MOST_EVENTS, Tool
from parts.fake_daemon import FakeDaemon, Refusal, call, ended, message, ringing

NAMES = [
    "p2p_list_agents",
    "p2p_call",
    "p2p_wait",
    "p2p_answer",
    "p2p_send",
    "p2p_send_file",
    "p2p_escalate",
    "p2p_end",
]


class Desk:
    """A model at work: tools by name, results read as JSON."""

    def __init__(self, agent: Agent, **options: Any) -> None:
        self._tools: dict[str, Tool] = {tool.__name__: tool for tool in agent.tools(**options)}
        self.cursor = ""

    async def use(self, name: str, *arguments: Any, **named: Any) -> Any:
        return json.loads(await self._tools[f"p2p_{name}"](*arguments, **named))

    async def wait(self, seconds: float = 30) -> Any:
        """As a model does that was told to hand the cursor back."""
        result = await self.use("wait", seconds, self.cursor)
        self.cursor = result["cursor"]
        return result


@pytest.fixture
async def network() -> AsyncIterator[LocalNetwork]:
    async with LocalNetwork() as network:
        yield network


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as daemon:
        daemon.replies["await-call"] = lambda params: call(params["call"])
        yield daemon


@pytest.fixture
async def desk(daemon: FakeDaemon) -> AsyncIterator[Desk]:
    async with Agent(home=daemon.home) as agent:
        yield Desk(agent)


def kinds(result: Any) -> list[str]:
    return [event["kind"] for event in result["events"]]


def texts(result: Any) -> list[str]:
    return [event["message"]["text"] for event in result["events"]]


def same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


# What a framework sees.


@pytest.mark.parametrize("cls", [Agent, sync.Agent], ids=["async", "sync"])
def test_they_are_plain_typed_functions_in_one_order(cls: type[Agent], tmp_path: Path) -> None:
    tools = cls(home=tmp_path).tools()
    assert [tool.__name__ for tool in tools] == NAMES
    for tool in tools:
        assert inspect.isfunction(tool)
        assert inspect.iscoroutinefunction(tool) == (cls is Agent)
        parameters = inspect.signature(tool).parameters
        hints = typing.get_type_hints(tool)
        assert hints.pop("return") is str
        assert set(hints) == set(parameters)
        assert set(hints.values()) <= {str, float}, tool.__name__
        # Not the texts of postponed annotations, which some frameworks do not read.
        assert all(isinstance(each.annotation, type) for each in parameters.values())


def test_each_argument_and_result_is_described(tmp_path: Path) -> None:
    for tool in Agent(home=tmp_path).tools():
        words = inspect.getdoc(tool) or ""
        _, _, described = words.partition("Args:\n")
        for name, parameter in inspect.signature(tool).parameters.items():
            assert re.search(rf"^    {name} \({parameter.annotation.__name__}\): .{{10,}}\.$", described, re.MULTILINE)
        assert "Returns:\n    JSON" in words
        assert len(words) < 1000, "frameworks send this with every request"


def test_signatures_are_the_contract(tmp_path: Path) -> None:
    signatures = [f"{tool.__name__}{inspect.signature(tool)}" for tool in Agent(home=tmp_path).tools()]
    assert signatures == [
        "p2p_list_agents(capability: str = '') -> str",
        "p2p_call(agent: str, topic: str) -> str",
        "p2p_wait(timeout_s: float = 45, cursor: str = '') -> str",
        "p2p_answer(decision: str, reason: str = '', call: str = '') -> str",
        "p2p_send(text: str, call: str = '') -> str",
        "p2p_send_file(path: str, call: str = '') -> str",
        "p2p_escalate(question: str, options: str = '') -> str",
        "p2p_end(call: str = '') -> str",
    ]


def test_the_mcp_server_has_the_same_tools(tmp_path: Path) -> None:
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    asked: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": client},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list"},
    ]
    command = [Path(sys.executable).with_name("p2p-comm"), "--home", tmp_path / "home", "mcp"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        for message in asked:
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        server.stdin.flush()
        listed = next(reply for reply in map(json.loads, server.stdout) if reply.get("id") == 2)["result"]["tools"]
        server.stdin.close()
    assert [tool["name"] for tool in listed] == NAMES
    for tool, here in zip(listed, Agent(home=tmp_path).tools(), strict=True):
        parameters = inspect.signature(here).parameters
        there = tool["inputSchema"]
        assert set(there.get("properties", {})) == set(parameters)
        needed = [name for name, each in parameters.items() if each.default is each.empty]
        assert sorted(there.get("required", [])) == sorted(needed)


# A conversation, for real.


async def test_two_models_find_call_and_answer_each_other(network: LocalNetwork, tmp_path: Path) -> None:
    alice, bob = map(Desk, await network.agents("alice", "bob"))
    listed = await alice.use("list_agents")
    assert [agent["id"] for agent in listed["agents"]] == ["bob"]
    placed = await alice.use("call", "bob", "API design")
    assert (placed["state"], placed["peer"]["id"]) == ("ringing", "bob")

    (ring,) = (await bob.wait())["events"]
    assert (ring["kind"], ring["call_state"]["topic"]) == ("call.ringing", "API design")
    assert ring["call_state"]["peer"]["tier"] == "stranger"
    assert (await bob.use("answer", "accept"))["state"] == "connected"
    assert kinds(await alice.wait()) == ["call.connected"]

    sent = await alice.use("send", "Which of the two schemas?")
    assert sent["state"] == "queued"
    (heard,) = (await bob.wait())["events"]
    assert heard["message"]["message"] == sent["message"]
    assert heard["message"]["text"] == "Which of the two schemas?"
    assert heard["sender"]["id"] == "alice"
    assert heard["sender"]["npub"].startswith("npub1")
    assert heard["sender"]["tier"] in ("known", "stranger")

    report = tmp_path / "report.json"
    report.write_text("{}")
    assert (await bob.use("send_file", str(report)))["file"]["name"] == "report.json"
    (came,) = (await alice.wait())["events"]
    assert came["kind"] == "file.received"
    assert same_bytes(Path(came["message"]["file"]["path"]), report)

    assert (await alice.use("escalate", "May I spend 40 EUR?", "yes, no"))["state"] == "no-owner"
    assert kinds(await bob.wait()) == ["escalation.received"]
    over = await alice.use("end")
    assert over["topic"] == "API design"
    assert "messages" not in over
    assert kinds(await bob.wait()) == ["call.ended"]


async def test_a_call_is_rejected_with_words(network: LocalNetwork) -> None:
    alice, bob = map(Desk, await network.agents("alice", "bob"))
    await alice.use("call", "bob", "API design")
    await bob.wait()
    assert (await bob.use("answer", "reject", "I am busy"))["end_reason"] == "rejected"
    (answer,) = (await alice.wait())["events"]
    assert (answer["kind"], answer["call_state"]["reason"]) == ("call.rejected", "I am busy")


async def test_calls_of_a_model_end_with_its_agent(network: LocalNetwork) -> None:
    alice, bob = await network.agents("alice", "bob")
    await Desk(alice).use("call", "bob", "API design")
    ring: IncomingCall = await asyncio.wait_for(bob.incoming().__anext__(), 30)
    await ring.accept()
    assert kinds(await Desk(alice).wait()) == ["call.connected"]
    await alice.aclose()
    async with network.agent("alice") as again:
        (call,) = await again.calls()
        assert (call.info.state, call.info.end_reason) == ("ended", "completed")


def test_the_tools_of_the_blocking_agent_wait_for_their_results() -> None:
    with LocalNetwork() as network:
        alice, bob = network.sync_agents("alice", "bob")
        tools = {tool.__name__: tool for tool in alice.tools()}
        assert json.loads(tools["p2p_call"]("bob", topic="API design"))["state"] == "ringing"
        conversation = bob.incoming().next(timeout=30)
        assert conversation is not None
        accepted = conversation.accept()
        assert kinds(json.loads(tools["p2p_wait"]())) == ["call.connected"]
        tools["p2p_send"](text="hello")
        event = accepted.events().next(timeout=30)
        assert isinstance(event, Message)
        assert event.text == "hello"


# Nothing is lost.


async def test_what_was_handed_over_is_taken_by_the_next_wait(daemon: FakeDaemon, desk: Desk) -> None:
    daemon.publish("message.received", message=message("one", id=1))
    daemon.publish("message.received", message=message("two", id=2))
    assert texts(await desk.wait()) == ["one", "two"]
    await desk.use("list_agents")
    assert daemon.committed == []
    daemon.publish("message.received", message=message("three", id=3))
    assert texts(await desk.wait()) == ["three"]
    assert daemon.committed == [1, 2]


async def test_a_result_that_never_reached_the_model_comes_again(daemon: FakeDaemon, desk: Desk) -> None:
    daemon.publish("message.received", message=message("one", id=1))
    await desk.wait()
    daemon.publish("message.received", message=message("two", id=2))
    # The framework threw this one away, so the model still names the cursor before it.
    assert texts(await desk.use("wait", 30, desk.cursor)) == ["two"]
    assert texts(await desk.wait()) == ["two"]
    assert daemon.committed == [1]


async def test_a_process_that_dies_sees_the_events_again(daemon: FakeDaemon) -> None:
    daemon.publish("message.received", message=message("one"))
    for _ in range(2):
        async with Agent(home=daemon.home) as agent:
            assert texts(await Desk(agent).wait()) == ["one"]
    assert daemon.committed == []


async def test_a_cursor_that_is_made_up_takes_nothing_unseen(daemon: FakeDaemon, desk: Desk) -> None:
    daemon.publish("message.received", message=message("one"))
    assert texts(await desk.use("wait", 30, "999999")) == ["one"]
    assert daemon.committed == []


async def test_a_cancelled_wait_takes_nothing(daemon: FakeDaemon, desk: Desk) -> None:
    waiting = asyncio.create_task(desk.wait())
    await daemon.until(lambda: "wait" in daemon.methods())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await daemon.until(lambda: bool(daemon.given_up))
    daemon.publish("message.received", message=message("one"))
    assert texts(await desk.wait()) == ["one"]
    assert daemon.committed == []


async def test_a_second_wait_at_the_same_time_does_not_share_the_events_out(daemon: FakeDaemon, desk: Desk) -> None:
    first = asyncio.create_task(desk.use("wait", 30))
    await daemon.until(lambda: "wait" in daemon.methods())
    second = await desk.use("wait", 30)
    assert (second["events"], second["timeout"]) == ([], True)
    daemon.publish("message.received", message=message("one"))
    assert texts(await first) == ["one"]


async def test_all_tools_of_an_agent_are_one_reader(daemon: FakeDaemon) -> None:
    async with Agent(home=daemon.home) as agent:
        daemon.publish("message.received", message=message("one", id=1))
        assert texts(await Desk(agent).use("wait", 30)) == ["one"]
        daemon.publish("message.received", message=message("two", id=2))
        assert texts(await Desk(agent).use("wait", 30)) == ["two"]


async def test_a_flood_comes_in_portions(daemon: FakeDaemon, desk: Desk) -> None:
    for number in range(MOST_EVENTS + 1):
        daemon.publish("message.received", message=message(str(number), id=number))
    assert texts(await desk.wait()) == [str(number) for number in range(MOST_EVENTS)]
    assert texts(await desk.wait()) == [str(MOST_EVENTS)]


async def test_long_texts_do_not_fill_a_context(daemon: FakeDaemon, desk: Desk) -> None:
    for number, letter in enumerate(("a", "\U000e0041", "b")):
        daemon.publish("message.received", message=message(letter * 1_000_000, id=number))
    for start in ("a", "\U000e0041", "b"):
        result = await desk.wait()
        (text,) = texts(result)
        assert text.startswith(start)
        assert text.endswith("[cut here, of 1000000 characters]")
        assert len(compact(result)) < MOST_CHARACTERS + 1000


async def test_a_crowd_does_not_fill_a_context_either(daemon: FakeDaemon, desk: Desk) -> None:
    peer = {"id": "bob", "name": "Bob", "pubkey": "ab" * 32, "npub": "npub1bob", "capabilities": [], "protocol": "v2"}
    peer |= {"last_seen_s": 1, "contact": None, "pinned": False, "duplicate_id": False}
    daemon.replies["list"] = lambda params: {"agents": [peer] * params["limit"]}
    result = await desk.use("list_agents")
    assert len(result["agents"]) == MOST_AGENTS
    assert "capability" in result["hint"]


# What is not worth waking a model for.


async def test_nothing_happened(daemon: FakeDaemon, desk: Desk) -> None:
    result = await desk.use("wait", 0)
    assert (result["events"], result["timeout"]) == ([], True)
    assert "p2p_wait again" in result["hint"]


async def test_it_waits_45_seconds_at_most(daemon: FakeDaemon, desk: Desk) -> None:
    daemon.replies["wait"] = {"cursor": 0, "event": None, "timeout": True}
    await desk.use("wait", 100_000)
    await desk.use("wait", -1)
    (longest, shortest) = [params["timeout_s"] for method, params in daemon.asked if method == "wait"]
    assert 44 < longest <= 45
    assert shortest == 0


async def test_a_ring_that_is_over_is_passed_over(daemon: FakeDaemon, desk: Desk) -> None:
    daemon.publish("call.ringing", call_state=ended(direction="in"))
    daemon.publish("call.missed", call_state=ended(direction="in"))
    assert kinds(await desk.wait()) == ["call.missed"]
    assert daemon.committed == [1]


async def test_who_accepted_is_not_told_so_but_an_automatic_answer_is(daemon: FakeDaemon, desk: Desk) -> None:
    daemon.publish("call.ringing", call_state=ringing())
    await desk.wait()
    daemon.replies["answer"] = call(direction="in") | {"already": False}
    await desk.use("answer", "accept")
    daemon.publish("call.connected", call_state=call(direction="in"))
    daemon.publish("call.connected", call_state=call("00000000000000c2", direction="in"))
    (event,) = (await desk.wait())["events"]
    assert event["call_state"]["call"] == "00000000000000c2"


async def test_receipts_and_progress_wake_nobody(daemon: FakeDaemon, desk: Desk) -> None:
    for kind in ("message.delivered", "message.read", "message.relayed", "file.progress", "relay.up", "file.offered"):
        daemon.publish(kind, message=message())
    daemon.publish("message.received", message=message("hi"))
    assert texts(await desk.wait()) == ["hi"]


# What peers write is data.


async def test_what_hides_in_a_text_is_escaped_and_stays_the_same_text(daemon: FakeDaemon) -> None:
    hostile = "pay\u202e\u200b\x1b[2J\U000e0041\u2028\x9b«»\u00ad\ufe0f ü 日本 🙂"
    daemon.publish("message.received", message=message(hostile))
    async with Agent(home=daemon.home) as agent:
        wait = next(tool for tool in agent.tools() if tool.__name__ == "p2p_wait")
        result = await wait()
    assert "\n" not in result
    assert not any(map(hides, result))
    assert "ü 日本 🙂" in result
    assert texts(json.loads(result)) == [hostile]


def test_every_character_that_unicode_calls_invisible_is_escaped() -> None:
    categories = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) in categories:
            assert hides(character), hex(code)
    assert compact("\ud800\x7f") == '"\\ud800\\u007f"'


async def test_a_call_that_is_forgotten_holds_up_no_event(daemon: FakeDaemon, desk: Desk) -> None:
    def forgotten(_: Any) -> Any:
        raise Refusal("unknown-call")

    daemon.replies["await-call"] = forgotten
    daemon.publish("message.received", message=message("hi"))
    (event,) = (await desk.wait())["events"]
    assert event["sender"] == {"pubkey": "ab" * 32, "tier": "known"}


async def test_mail_says_whose_it_is(daemon: FakeDaemon, desk: Desk) -> None:
    daemon.publish("message.received", message=message("hi", call=None))
    (event,) = (await desk.wait())["events"]
    assert event["sender"] == {"pubkey": "ab" * 32, "tier": "known"}


# Errors are results.


async def test_an_error_says_what_to_do(daemon: FakeDaemon, desk: Desk) -> None:
    def refuse(_: Any) -> Any:
        raise Refusal("no-active-call", "no call is up", "call an agent first")

    daemon.replies["send"] = refuse
    result = await desk.use("send", "hello")
    assert result == {"error": {"code": "no-active-call", "message": "no call is up", "hint": "call an agent first"}}


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("answer", ["maybe"], "invalid-value"),
        ("wait", ["soon"], "invalid-value"),
        ("wait", [float("nan")], "invalid-value"),
        ("wait", [1, "the last one"], "invalid-value"),
        ("send", ["\ud800"], "invalid-value"),
        ("call", ["bob", "\udfff"], "invalid-value"),
        ("escalate", ["\ud800"], "invalid-value"),
        ("escalate", ["May I?", "yes,\ud800"], "invalid-value"),
        ("send", ["hi", "\ud800"], "invalid-value"),
        ("answer", ["accept", "", "\ud800"], "invalid-value"),
        ("end", ["\ud800"], "invalid-value"),
        ("list_agents", ["\ud800"], "invalid-value"),
        ("send_file", ["a\0b"], "file-not-found"),
        ("send_file", ["~nobody-here/x"], "file-not-found"),
    ],
)
async def test_arguments_that_make_no_sense_reach_no_engine(
    daemon: FakeDaemon, desk: Desk, tool: str, arguments: list[Any], code: str
) -> None:
    result = await desk.use(tool, *arguments)
    assert result["error"]["code"] == code
    assert result["error"]["message"]
    assert daemon.methods() == ["status"]


async def test_an_agent_that_is_closed_is_an_error_too(tmp_path: Path) -> None:
    for name, *arguments in (("list_agents",), ("wait",), ("send", "hello"), ("end",)):
        result = await Desk(Agent(home=tmp_path)).use(name, *arguments)
        assert result["error"]["code"] == "daemon-unreachable"


async def test_files_come_from_the_folder_for_files_only(daemon: FakeDaemon, tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    folder.mkdir()
    (folder / "report.json").write_text("{}")
    (tmp_path / "secret").write_text("x")
    (folder / "link").symlink_to(tmp_path / "secret")
    daemon.replies["send-file"] = message("", kind="file", state="queued")
    async with Agent(home=daemon.home) as agent:
        desk = Desk(agent, files=folder)
        for path in (tmp_path / "secret", folder / "link", folder / ".." / "secret"):
            assert (await desk.use("send_file", str(path)))["error"]["code"] == "not-sendable"
        assert "send-file" not in daemon.methods()
        assert (await desk.use("send_file", str(folder / "report.json")))["state"] == "queued"
