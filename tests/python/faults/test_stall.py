"""A database that stalls while much comes in."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from parts.bare_client import connected
from parts.chaos import report
from parts.debian import debian_part
from parts.engine import Engine
from parts.fixtures import NewHome
from parts.forging import forged
from parts.nostr import Key
from parts.process import end, start, wait_until
from parts.usage import Usage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux's")

STALL_S = 5
MORE_MIB = 64


@pytest.mark.parametrize("count", [1_500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_what_comes_while_the_database_stalls_comes_through_all_of_it(
    embedded_relay: str, new_home: NewHome, tmp_path: Path, count: int
) -> None:
    strace = debian_part("strace", "strace")
    bob = new_home("bob", embedded_relay, P2P_COMM_LOG="info,p2p_comm::transport::link=debug")
    me, friend = bob.ok("status")["agent"]["pubkey"], Key()
    bob.ok("contacts", "add", "friend", friend.pubkey)
    mails = [one.event for one in forged("mail", me, str(count), f"{friend.secret:064x}")]
    pid = bob.daemon_pid()
    engine = Engine(bob)
    engine.ask("hello")
    trace = tmp_path / "trace"
    inject = f"inject=fsync,fdatasync:delay_enter={STALL_S}s:when=1"
    words = [strace, "-f", "-qq", "-o", trace, "-e", "trace=fsync,fdatasync", "-e", inject, "-p", str(pid)]
    tracer = start(words, folder=tmp_path, environment=os.environ)
    try:
        wait_until(lambda: is_traced(pid), "strace to be attached")
        usage = Usage(pid)
        published = threading.Thread(target=publish, args=(embedded_relay, mails))
        began = time.monotonic()
        published.start()
        # The first mail is committed, and meets the stall.
        wait_until(lambda: "DELAYED" in trace.read_text() or "INJECTED" in trace.read_text(), "the stall to be over")
        stalled_s = time.monotonic() - began
        end(tracer)
        published.join()
        wait_until(lambda: received(engine) >= count, "all of it to be there", timeout=120)
        there_s = time.monotonic() - began
    finally:
        end(tracer)
    texts = [event["message"]["text"] for event in events_of(engine)]
    engine.close()
    lags = (bob.state / "daemon.log").read_text().count("events were left unread")
    report(
        f"{count} mails: stalled {stalled_s:.1f} s, all there after {there_s:.1f} s, "
        f"+ {usage.mib_more():.1f} MiB, lag noticed {lags} times"
    )
    assert stalled_s > STALL_S
    assert sorted(texts) == sorted(f"mail {number}" for number in range(count))
    assert lags > 0
    assert usage.mib_more() < MORE_MIB
    assert bob.daemon_pid() == pid


def is_traced(pid: int) -> bool:
    """Whether strace has the process."""
    with suppress(FileNotFoundError):
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    return True


def publish(url: str, events: list[dict[str, object]]) -> None:
    """Publishes as fast as the relay takes it."""
    with connected(url) as client:
        for number, event in enumerate(events):
            client.say("EVENT", event)
            # Its answers fill the other direction.
            if number >= 100:
                client.receive()
        for _ in events[:100]:
            client.receive()


def received(engine: Engine) -> int:
    """How many messages are there and unread."""
    return int(engine.ask("status", timeout=60)["unread"])


def events_of(engine: Engine) -> list[dict[str, dict[str, str]]]:
    """Every message as the journal tells it."""
    found, cursor = [], 0
    while True:
        told = engine.ask("wait", after=cursor, timeout_s=0, kinds=["message.received"])
        if told["event"] is None:
            return found
        found.append(told["event"])
        cursor = told["cursor"]
