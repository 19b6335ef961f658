"""Faults of relays: gone for a while, mute, lossy, lying; none in common; a mailbox that fills while one is away."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from parts import relays
from parts.chaos import LIES, ChaosRelay, Lever, What, chaos_relay, check_all, report
from parts.engine import Engine
from parts.exchange import FULL, NORMAL, Plan, exchange, pass_time
from parts.fixtures import NewHome
from parts.home import Home
from parts.process import wait_until
from parts.steps import connect, meet

# Enough to show what one relay of three can spoil.
SHORT = Plan(texts=20, files=1, file_bytes=100 * 1024)
NOISE = (
    Lever("drop", 0.3),
    Lever("duplicate", 0.1),
    Lever("reorder", 0.2),
    Lever("delay", seconds=(0.0, 2.0)),
)
NOW_AND_THEN = (
    Lever("truncate", 0.005),
    Lever("alter", 0.1),
    Lever("false ok", 0.1),
    Lever("ok then drop", 0.1),
    Lever("ok then hang up", 0.03),
    Lever("wrong filter", 0.1),
    Lever("unknown subscription", 0.1),
    Lever("auth loop", 0.05),
    Lever("notice flood", 0.1),
    Lever("event flood", 0.1),
)
# What other programs on the machine may cost.
SLACK_S = 0.1
# Promised: 20 s, and a command of a busy machine to see it.
MARKED_S = 25.0
# How soon a sender is told that there is no way to the receiver.
TOLD_S = 10.0

Chaos = Callable[..., ChaosRelay]


@pytest.fixture
def chaos() -> Iterator[Chaos]:
    """Puts a chaos relay in front of a relay. At the end, a lever without effect fails the test."""
    with ExitStack() as stack:

        def make(url: str, *levers: Lever, seed: int | str, one_of_many: bool = False) -> ChaosRelay:
            return stack.enter_context(chaos_relay(url, *levers, seed=seed, one_of_many=one_of_many))

        yield make


@pytest.mark.parametrize(
    ("seconds", "plan"),
    [(1.0, NORMAL), pytest.param(60.0, FULL, marks=pytest.mark.soak)],
    ids=["1 s", "60 s"],
)
def test_the_only_relay_may_be_restarted(new_home: NewHome, tmp_path: Path, seconds: float, plan: Plan) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        relay = first.enter_context(relays.embedded_relay(tmp_path / "relay"))
        it = stack.enter_context(exchange(*meet(new_home, [relay.url]), tmp_path, seed=1, plan=plan))
        it.connect()
        it.when(it.size // 4, first.close)
        it.start()
        wait_until(lambda: it.progress >= it.size // 4, "the moment to restart")
        pass_time(seconds)
        stack.enter_context(relays.embedded_relay(tmp_path / "relay", port=relay.port))
        it.finish(within=15)


@pytest.mark.parametrize("when", ["from the beginning", "in the middle"])
def test_one_of_three_relays_is_mute(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, chaos: Chaos, when: str
) -> None:
    mute = chaos(three_relays[0], seed=1)
    if when == "from the beginning":
        mute.set(Lever("mute"))
    with exchange(*meet(new_home, [mute.url, *three_relays[1:]]), tmp_path, seed=1) as it:
        it.connect()
        if when == "in the middle":
            it.when(it.size // 4, lambda: mute.set(Lever("mute")))
        it.start()
        it.finish(within=30)


def test_a_mute_relay_costs_no_time_and_is_shown(three_relays: list[str], new_home: NewHome, chaos: Chaos) -> None:
    healthy = said_one_by_one(*meet(new_home, three_relays))
    mute = chaos(three_relays[0], seed=1)
    alice, bob = meet(new_home, [mute.url, *three_relays[1:]])
    mute.set(Lever("mute"))
    began = time.monotonic()
    with_a_mute_one = said_one_by_one(alice, bob)
    wait_until(lambda: is_degraded(alice, mute.url), "the mute relay to be shown as such", timeout=60)
    shown = time.monotonic() - began
    report(f"send, delivery (p99, s): {healthy} healthy, {with_a_mute_one} with a mute one, shown after {shown:.1f} s")
    assert with_a_mute_one[0] < 0.05 + SLACK_S
    assert with_a_mute_one[1] < 1.25 * healthy[1] + SLACK_S
    assert shown < MARKED_S


def said_one_by_one(alice: Home, bob: Home, count: int = 100) -> tuple[float, float]:
    """The 99th percentiles, in seconds, of how long `send` takes and of how long until Bob has it."""
    outgoing, _ = connect(alice, bob)
    sender, receiver = Engine(alice), Engine(bob)
    sends, deliveries = [], []
    cursor = 0
    try:
        for number in range(count):
            began = time.monotonic()
            sender.ask("send", text=str(number), call=outgoing)
            sends.append(time.monotonic() - began)
            text = None
            while text != str(number):
                found = receiver.ask("wait", after=cursor, timeout_s=10, kinds=["message.received"])
                assert found["event"] is not None, f"{number} did not come"
                cursor, text = found["cursor"], found["event"]["message"]["text"]
            deliveries.append(time.monotonic() - began)
    finally:
        sender.close()
        receiver.close()
    return sorted(sends)[count * 99 // 100], sorted(deliveries)[count * 99 // 100]


def is_degraded(home: Home, url: str) -> bool:
    """Whether `status` shows that something is wrong with a relay."""
    (relay,) = [relay for relay in home.ok("status")["relays"] if relay["url"].rstrip("/") == url]
    session = relay["session"]
    return not relay["connected"] or bool(relay["error"]) or (session is not None and bool(session["error"]))


@pytest.mark.parametrize(
    ("seed", "plan"), [(1, NORMAL), *(pytest.param(seed, FULL, marks=pytest.mark.soak) for seed in range(2, 6))]
)
def test_every_relay_drops_repeats_reorders_and_delays(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, chaos: Chaos, seed: int, plan: Plan
) -> None:
    noisy = [chaos(url, seed=f"{seed}.{number}") for number, url in enumerate(three_relays)]
    with exchange(*meet(new_home, [one.url for one in noisy]), tmp_path, seed=seed, plan=plan) as it:
        it.connect()
        for one in noisy:
            one.set(*NOISE)
        it.start()
        it.finish(within=120)


@pytest.mark.parametrize("lie", LIES)
def test_one_of_three_relays_lies(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, chaos: Chaos, lie: What
) -> None:
    # It is the first one, which carries every frame.
    liar = chaos(three_relays[0], Lever(lie), seed=lie)
    alice, bob = meet(new_home, [liar.url, *three_relays[1:]])
    if lie == "stale":
        # Something newer than what may be served in its place.
        for home in (alice, bob):
            home.ok("config", "set", "name", f"renamed {uuid.uuid4()}")
    with exchange(alice, bob, tmp_path, seed=lie, plan=SHORT) as it:
        it.connect()
        it.start()
        it.finish(within=60)


@pytest.mark.parametrize(
    "kinds", [(1059,), (21059,), (30078, 5), (10050,), (1059, 21059)], ids=lambda kinds: " and ".join(map(str, kinds))
)
def test_one_of_three_relays_drops_some_kinds(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, chaos: Chaos, kinds: tuple[int, ...]
) -> None:
    picky = chaos(three_relays[0], Lever("drop", kinds=kinds), seed=str(kinds))
    with exchange(*meet(new_home, [picky.url, *three_relays[1:]]), tmp_path, seed=str(kinds), plan=SHORT) as it:
        it.connect()
        it.start()
        it.finish(within=60)


@pytest.mark.parametrize(
    ("seed", "plan"), [(1, SHORT), *(pytest.param(seed, FULL, marks=pytest.mark.soak) for seed in range(2, 6))]
)
def test_every_relay_does_everything_wrong_now_and_then(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, chaos: Chaos, seed: int, plan: Plan
) -> None:
    liars = [chaos(url, seed=f"{seed}.{number}", one_of_many=True) for number, url in enumerate(three_relays)]
    with exchange(*meet(new_home, [liar.url for liar in liars]), tmp_path, seed=seed, plan=plan) as it:
        it.connect()
        for liar in liars:
            liar.set(*NOISE, *NOW_AND_THEN)
        it.start()
        it.finish(within=120)
    check_all(liars)


@pytest.mark.parametrize("lie", ["false ok", "ok then drop"])
def test_nothing_is_shown_as_delivered_while_all_relays_say_ok_and_drop_it(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, chaos: Chaos, lie: What
) -> None:
    liars = [chaos(url, seed=f"{lie}.{number}") for number, url in enumerate(three_relays)]
    with exchange(*meet(new_home, [liar.url for liar in liars]), tmp_path, seed=lie, plan=SHORT) as it:
        it.connect()
        for liar in liars:
            liar.set(Lever(lie))
        it.start()
        accepted = 2 * SHORT.texts + SHORT.files
        wait_until(lambda: sum(side.ledger.count("accepted") for side in it.sides) == accepted, "all to be accepted")
        # Long enough for everything to be sent twice.
        wait_until(lambda: sum(liar.counters()[lie] for liar in liars) > 20, "the liars to have lied")
        pass_time(3)
        for side in it.sides:
            states = {message["state"] for message in side.home.messages(str(side.call)) if message["from"] == "me"}
            assert states <= {"queued", "relayed"}
            assert side.ledger.count("told") == side.ledger.count("surfaced") == 0
        for liar in liars:
            liar.clear()
        it.finish(within=60)


def test_mail_that_every_relay_took_and_dropped_is_never_called_delivered(
    three_relays: list[str], new_home: NewHome, chaos: Chaos
) -> None:
    liars = [chaos(url, Lever("ok then drop", kinds=[1059]), seed=number) for number, url in enumerate(three_relays)]
    alice, bob = meet(new_home, [liar.url for liar in liars])
    sent = [alice.ok("send", "--to", str(bob.agent_id), f"mail {number}")["message"] for number in range(5)]
    wait_until(lambda: alice.ok("status")["outbox"]["queued"] == 0, "a relay to have said that it has them")
    pass_time(3)
    mail = {message["message"]: message["state"] for message in alice.ok("messages", "--limit", "100")["messages"]}
    assert mail == dict.fromkeys(sent, "relayed")
    assert bob.ok("messages", "--limit", "100")["messages"] == []


def test_without_a_relay_in_common_the_sender_is_told(three_relays: list[str], new_home: NewHome) -> None:
    alice, bob = new_home("alice", three_relays[0]), new_home("bob", three_relays[1])
    agent = bob.ok("status")["agent"]
    alice.ok("status")
    for name in (bob.agent_id, agent["pubkey"], agent["npub"]):
        for words in (("call", name), ("send", "--to", name, "hello")):
            began = time.monotonic()
            outcome = alice.run(*words)
            assert (outcome.exit, outcome.out["error"]["code"]) == (1, "unknown-agent"), outcome
            assert time.monotonic() - began < TOLD_S


def test_a_caller_is_told_when_no_relay_of_the_callee_can_be_reached(
    three_relays: list[str], new_home: NewHome, tmp_path: Path
) -> None:
    with relays.embedded_relay(tmp_path / "relay") as common:
        alice, bob = new_home("alice", three_relays[0], common.url), new_home("bob", three_relays[1], common.url)
        bob.ok("status")
        alice.sees(str(bob.agent_id))
    wait_until(lambda: not all(relay["connected"] for relay in alice.ok("status")["relays"]), "alice to notice")
    outcome = alice.run("call", str(bob.agent_id), "are you there?")
    if outcome.exit == 0:
        ended = alice.event("call.ended", call=outcome.out["call"], timeout=TOLD_S)
        assert ended["call_state"]["end_reason"] == "failed"


@pytest.mark.parametrize("count", [300, pytest.param(2_000, marks=pytest.mark.soak)])
def test_mail_that_waited_for_an_absent_receiver_is_shown_all_and_in_order(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, count: int
) -> None:
    with exchange(*meet(new_home, three_relays), tmp_path, seed=1, plan=Plan(texts=0, files=0)) as it:
        alice, bob = it.alice, it.bob
        bob.home.ok("contacts", "add", "alice", bob.peer)
        bob.home.stop()
        for number in range(count):
            alice.say(f"mail {number}", f"{number:032x}")
        wait_until(lambda: alice.home.ok("status")["outbox"]["queued"] == 0, "the relays to have it all", timeout=120)
        bob.home.ok("daemon", "start")
        began = time.monotonic()
        it.start()
        wait_until(lambda: bob.ledger.count("surfaced") >= count, "bob to have it all", timeout=60)
        report(f"{count} mails were shown {time.monotonic() - began:.1f} s after the start")
        it.check()
