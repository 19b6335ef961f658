"""A clock that is off, one that steps, and a machine that sleeps."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from parts import relays
from parts.chaos import ChaosRelay, Lever, chaos_relay, report
from parts.clock import FakedClock
from parts.exchange import FULL, NORMAL, Plan, exchange
from parts.fixtures import NewHome
from parts.home import Home
from parts.process import is_alive, wait_until
from parts.steps import connect

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="libfaketime is loaded as on Linux")

MINUTE, HOUR, DAY = 60, 3_600, 86_400
OFFSETS = [61, -61, 10 * MINUTE, -10 * MINUTE, DAY, -DAY]
# What a relay's `Date` header cannot tell: it has whole seconds, and a handshake takes a while.
TOLD_WITHIN_S = 3.0
# Promised: 2 s. Several builds may share the machine.
NOTICED_S = 2.0
SLACK_S = 2.0


def knows_its_offset(home: Home, offset: float) -> bool:
    """Whether a home's daemon says that its clock is ahead by so much, which shows that the clock was faked, too."""
    said = home.ok("status")["clock_offset_s"]
    return said is not None and abs(said + offset) < TOLD_WITHIN_S


@pytest.mark.parametrize("whose", ["the caller's", "the callee's"])
@pytest.mark.parametrize(
    "offset", [pytest.param(each, marks=() if abs(each) == DAY else pytest.mark.soak) for each in OFFSETS]
)
def test_a_clock_that_is_off_is_set_right_by_the_relays(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, offset: int, whose: str
) -> None:
    clock = FakedClock(tmp_path / "clock")
    clock.set(offset)
    other, off = new_home("other", *three_relays), new_home("off", *three_relays, **clock.environment)
    for home, peer in ((off, other), (other, off)):
        peer.ok("status")
        home.sees(str(peer.agent_id))
    wait_until(lambda: knows_its_offset(off, offset), "the offset to be known")
    pair = (off, other) if whose == "the caller's" else (other, off)
    with exchange(*pair, tmp_path, seed=f"{offset} {whose}") as it:
        it.connect()
        it.start()
        it.finish(within=60)
    assert knows_its_offset(off, offset)


@pytest.mark.parametrize("plan", [NORMAL, pytest.param(FULL, marks=pytest.mark.soak)], ids=["short", "full"])
def test_a_clock_that_steps_to_and_fro_loses_nothing(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, plan: Plan
) -> None:
    clock = FakedClock(tmp_path / "clock")
    alice, bob = new_home("alice", *three_relays), new_home("bob", *three_relays, **clock.environment)
    bob.ok("status")
    alice.sees(str(bob.agent_id))
    steps: list[int] = []

    def step(offset: int) -> None:
        clock.set(offset)
        steps.append(offset)

    with exchange(alice, bob, tmp_path, seed="steps", plan=plan) as it:
        it.connect()
        for moment, offset in zip(it.moments(len(OFFSETS)), OFFSETS, strict=True):
            it.when(moment, partial(step, offset))
        it.start()
        it.finish(within=120)
        assert steps == OFFSETS
        wait_until(lambda: knows_its_offset(bob, OFFSETS[-1]), "the last step to be known")
        report(f"steps: {steps}")


def test_after_a_sleep_of_eight_hours_links_are_dialled_anew_and_mail_is_there(
    new_home: NewHome, tmp_path: Path
) -> None:
    # Everybody's wall clock: eight hours pass for all, and only Bob sleeps. No monotonic clock moves.
    clock = FakedClock(tmp_path / "clock")
    with ExitStack() as stack:
        urls = [
            stack.enter_context(relays.embedded_relay(tmp_path / f"relay-{number}", environment=clock.environment)).url
            for number in range(2)
        ]
        ways = [stack.enter_context(chaos_relay(url, seed=number)) for number, url in enumerate(urls)]
        alice, bob = (new_home(name, *(way.url for way in ways), **clock.environment) for name in ("alice", "bob"))
        for home, peer in ((bob, alice), (alice, bob)):
            peer.ok("status")
            home.sees(str(peer.agent_id))
        outgoing, incoming = connect(alice, bob)
        bob.ok("contacts", "add", "alice", alice.ok("status")["agent"]["pubkey"])
        pid = bob.daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        # The connections of a machine that slept are dead, and nobody says so.
        for way in ways:
            way.set(Lever("mute"))
            way.clear()
        alice.ok("send", "while you slept", "--call", outgoing)
        before = dialled(ways)
        clock.set(8 * HOUR)
        wait_until(lambda: is_all_dialled(ways, before), "alice, who did not sleep, to dial anew, too")
        alice.ok("send", "good morning", "--call", outgoing)
        alice.ok("send", "--to", str(bob.agent_id), "are you up?")
        before = dialled(ways)
        awake_at = time.monotonic()
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: is_all_dialled(ways, before), "bob to dial anew")
        dialled_s = time.monotonic() - awake_at
        texts = {"while you slept", "good morning", "are you up?"}
        wait_until(lambda: texts <= said(bob), "bob to have all of it")
        there_s = time.monotonic() - awake_at
        report(f"dialled anew {dialled_s:.1f} s after waking, all there after {there_s:.1f} s")
        assert is_alive(pid)
        assert dialled_s < NOTICED_S + SLACK_S
        assert there_s < 15
        assert bob.texts(incoming, "peer").count("while you slept") == 1


def dialled(ways: list[ChaosRelay]) -> list[int]:
    """How many connections each relay has seen."""
    return [way.counts.accepted for way in ways]


def is_all_dialled(ways: list[ChaosRelay], before: list[int]) -> bool:
    """Whether an agent has dialled all relays since: one connection for its identity, and one for sessions."""
    return all(now >= count + 2 for now, count in zip(dialled(ways), before, strict=True))


def said(home: Home) -> set[str]:
    """All texts that a home knows."""
    return {message["text"] for message in home.ok("messages", "--limit", "1000")["messages"]}
