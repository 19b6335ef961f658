"""Records of a hosted engine under Python's logger `p2p_comm`."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from parts.process import clean_environment

# Sets up what a test asks for, hosts two agents, and says what the handlers got.
PROGRAM = """
import asyncio, json, logging, os, sys, threading
from pathlib import Path
from p2p_comm.testing import LocalNetwork

records = []

class Keep(logging.Handler):
    def emit(self, record):
        records.append([record.name, record.levelno, record.getMessage(), threading.current_thread().name])

{setup}

async def main():
    async with LocalNetwork() as network:
        alice, bob = await network.agents("alice", "bob")
        {body}

asyncio.run(main())
{after}
print(json.dumps(records))
"""


def run(folder: Path, *, setup: str, body: str = "pass", after: str = "") -> list[Any]:
    program = PROGRAM.format(setup=setup, body=textwrap.indent(body, " " * 8).lstrip(), after=after)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    records: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return records


KEEP = "logging.getLogger('p2p_comm').addHandler(Keep())\nlogging.getLogger('p2p_comm').setLevel({level})"


def test_records_come_under_the_loggers_of_their_modules_at_the_level_that_was_asked_for(tmp_path: Path) -> None:
    records = run(tmp_path, setup=KEEP.format(level="logging.INFO"))
    names = {name for name, *_ in records}
    assert any(name.startswith("p2p_comm.engine") for name in names), names
    assert {level for _, level, *_ in records} <= {20, 30, 40}
    assert any("connected" in message for _, _, message, _ in records)


def test_a_logger_below_may_ask_for_more(tmp_path: Path) -> None:
    setup = KEEP.format(level="logging.WARNING") + "\nlogging.getLogger('p2p_comm.transport').setLevel(logging.DEBUG)"
    records = run(tmp_path, setup=setup)
    assert {name.split(".")[1] for name, level, *_ in records if level == 10} == {"transport"}


def test_without_being_asked_nothing_is_printed_or_passed_on(tmp_path: Path) -> None:
    assert run(tmp_path, setup="") == []
    # Not even made: the level of the whole tree is above it.
    assert run(tmp_path, setup=KEEP.format(level="logging.CRITICAL + 1")) == []


def test_no_secret_is_in_any_record(tmp_path: Path) -> None:
    setup = KEEP.format(level="5")
    body = """
call = await alice.call(bob.pubkey, topic="top", wait=0)
ring = await bob.incoming().__anext__()
other = await ring.accept()
await (await other.send("the words")).delivered(timeout=30)
secrets = [json.loads((agent.home / "p2p-identity.json").read_text())["privateKeyHex"] for agent in (alice, bob)]
"""
    after = """
assert records
joined = json.dumps(records)
"""
    # The secrets are compared where they are known.
    body += "globals()['secrets'] = secrets\n"
    after += "assert not any(secret in joined for secret in secrets), 'a key is in a record'\n"
    records = run(tmp_path, setup=setup, body=body, after=after)
    assert len(records) > 10


def test_a_handler_that_uses_an_agent_and_one_that_blocks_hold_nothing_up(tmp_path: Path) -> None:
    setup = """
from p2p_comm import sync
late = threading.Event()

class Busy(Keep):
    def emit(self, record):
        super().emit(record)
        # Takes a reply of the engine that has logged this.
        if agents and record.levelno >= 10 and len(records) < 200:
            sync.Agent.of(agents[0]).status()

agents = []
logging.getLogger('p2p_comm').addHandler(Busy())
logging.getLogger('p2p_comm').setLevel(logging.DEBUG)
"""
    body = """
agents.append(alice)
for _ in range(20):
    await alice.status()
    await bob.list()
agents.clear()
"""
    records = run(tmp_path, setup=setup, body=body)
    assert {thread for *_, thread in records}


def test_a_handler_that_does_not_return_holds_up_no_engine(tmp_path: Path) -> None:
    setup = """
released = threading.Event()

class Stuck(Keep):
    def emit(self, record):
        super().emit(record)
        released.wait()

logging.getLogger('p2p_comm').addHandler(Stuck())
logging.getLogger('p2p_comm').setLevel(5)
"""
    body = """
call = await alice.call(bob.pubkey, topic="top", wait=0)
ring = await bob.incoming().__anext__()
other = await ring.accept()
for number in range(50):
    await other.send(f"number {number}")
await (await other.send("last")).delivered(timeout=30)
"""
    # Python's own logging waits for its handlers when the interpreter exits.
    after = "assert len(records) == 1, records\nreleased.set()"
    assert run(tmp_path, setup=setup, body=body, after=after)


def test_a_failing_handler_is_told_as_logging_tells_it(tmp_path: Path) -> None:
    setup = """
logging.raiseExceptions = False

class Broken(Keep):
    def emit(self, record):
        try:
            raise ValueError("no")
        except ValueError:
            self.handleError(record)
        super().emit(record)

logging.getLogger('p2p_comm').addHandler(Broken())
logging.getLogger('p2p_comm').setLevel(logging.INFO)
"""
    assert run(tmp_path, setup=setup)
