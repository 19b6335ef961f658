"""A disk that lies: bits that flipped, and files that were cut, in a database and its log."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from collections import Counter
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from parts import relays
from parts.chaos import report
from parts.engine import Engine, Lost, Refused
from parts.exchange import Plan, exchange
from parts.fixtures import NewHome
from parts.home import Home
from parts.process import wait_until
from parts.steps import meet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at by way of /proc")

PAGE = 4_096
DATABASE = "state.db"
PARTS = (DATABASE, "state.db-wal")
# What a daemon may say of a database that it cannot use.
SAID = ("database-damaged", "internal", "unknown-call")


@dataclass
class Found:
    """What came of it, over all cases."""

    cases: int = 0
    changed_bytes: int = 0
    # Databases that were kept aside.
    kept_aside: int = 0
    # Cases in which the daemon said that it cannot go on.
    refused: int = 0
    rows: int = 0
    shown: int = 0
    faults: Counter[str] = field(default_factory=Counter)


def damage(path: Path, own: random.Random, fault: str) -> int:
    """Damages a file; returns how many bytes are not what they were."""
    data = bytearray(path.read_bytes())
    before = bytes(data)
    if fault == "a bit":
        data[own.randrange(len(data))] ^= 1 << own.randrange(8)
    elif fault == "twenty bits":
        for _ in range(20):
            data[own.randrange(len(data))] ^= 1 << own.randrange(8)
    elif fault == "a page of zeros":
        page = own.randrange(len(data) // PAGE) * PAGE
        data[page : page + PAGE] = bytes(PAGE)
    elif fault == "a page twice":
        here, there = (own.randrange(len(data) // PAGE) * PAGE for _ in range(2))
        data[there : there + PAGE] = data[here : here + PAGE]
    else:
        assert fault == "cut"
        del data[own.randrange(len(data)) :]
    path.write_bytes(data)
    return len(before) - len(data) + sum(a != b for a, b in zip(before, data, strict=False))


FAULTS = ("a bit", "twenty bits", "a page of zeros", "a page twice", "cut")


@dataclass(frozen=True)
class Image:
    """A database with its log, as a daemon left it, and what is true of it."""

    files: dict[str, bytes]
    call: str
    # By id: from whom, and what.
    truth: dict[str, tuple[str, str]]

    def restore(self, home: Home) -> None:
        """Puts it back, with nothing else beside it."""
        for path in home.state.glob(f"{DATABASE}*"):
            path.unlink()
        for name, data in self.files.items():
            (home.state / name).write_bytes(data)
            (home.state / name).chmod(0o600)


def image_of(home: Home, call: str) -> Image:
    """Of a home whose daemon is killed now."""
    truth = {message["message"]: (message["from"], message["text"]) for message in home.messages(call)}
    home.kill_daemon()
    files = {name: (home.state / name).read_bytes() for name in PARTS if (home.state / name).exists()}
    return Image(files, call, truth)


@pytest.mark.parametrize("cases", [8, pytest.param(150, marks=pytest.mark.soak)])
def test_damaged_bits_and_cut_files_show_nothing_that_was_not_said(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, cases: int
) -> None:
    alice, bob = meet(new_home, three_relays)
    with exchange(alice, bob, tmp_path, seed="damage", plan=Plan(texts=150, files=1)) as it:
        it.connect()
        it.start()
        it.finish(within=60)
        call = str(it.bob.call)
    alice.stop()
    image = image_of(bob, call)
    assert set(image.files) == set(PARTS)
    identity = bob.identity_file.read_bytes()
    found = Found()
    for case in range(cases):
        own = random.Random(case)
        image.restore(bob)
        name, fault = PARTS[case % 2], own.choice(FAULTS)
        found.changed_bytes += damage(bob.state / name, own, fault)
        found.faults[f"{fault}, {name}"] += 1
        shown = shown_by(bob, call, found)
        found.cases += 1
        found.rows += len(image.truth)
        found.shown += len(shown)
        wrong = {key: said for key, said in shown.items() if image.truth.get(key) != said}
        assert not wrong, f"case {case}, {fault} in {name}: {wrong}"
        assert bob.identity_file.read_bytes() == identity
        check_kept_aside(bob, found)
    report(f"damage, seeds 0 to {cases - 1}: {found}")
    assert found.changed_bytes >= cases // 2
    assert found.kept_aside > 0
    assert found.shown > found.rows // 2, "most of what can be read is recovered"


def shown_by(home: Home, call: str, found: Found) -> dict[str, tuple[str, str]]:
    """What a home shows after a start, and after another one if the first was not to be."""
    engine = Engine(home)
    try:
        for _ in range(2):
            started = home.run("daemon", "start")
            if started.exit != 0:
                assert started.out["error"]["code"] in SAID, started
                found.refused += 1
                continue
            try:
                listed = engine.ask("messages", call=call, limit=10_000)["messages"]
                everywhere = [*listed, *engine.ask("messages", limit=10_000)["messages"]]
                return {message["message"]: (message["from"], message["text"]) for message in everywhere}
            except Refused as refusal:
                if refusal.code not in SAID:
                    raise
                found.refused += 1
                if refusal.code == "unknown-call":
                    return {}
            engine.close()
            home.stop()
        return {}
    finally:
        engine.close()
        with suppress(AssertionError):
            home.stop()


def check_kept_aside(home: Home, found: Found) -> None:
    """If a database was replaced, the old one is there; SQLite may have moved its log into it as it was closed."""
    aside = [path for path in home.state.glob(f"{DATABASE}.damaged-*") if path.name.rpartition("-")[2].isdigit()]
    assert len(aside) <= 2, aside
    found.kept_aside += bool(aside)
    for path in aside:
        assert path.stat().st_size > 0
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 8))])
def test_bits_that_flip_under_load_show_nothing_that_was_not_said(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, seed: int
) -> None:
    own = random.Random(f"flips {seed}")
    alice, bob = meet(new_home, three_relays)
    identity = bob.identity_file.read_bytes()
    flipped: list[str] = []

    def flip() -> None:
        # Behind what says how to read the rest, so that the daemon goes on for a while.
        sizes = {path: path.stat().st_size for path in (bob.state / name for name in PARTS) if path.exists()}
        large = [path for path, size in sizes.items() if size > PAGE]
        if not large:
            # A daemon that starts on a damaged database is just making a new one.
            return
        path = own.choice(large)
        with path.open("r+b") as file:
            at = own.randrange(PAGE, sizes[path])
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << own.randrange(8)]))
            flipped.append(path.name)

    with exchange(alice, bob, tmp_path, seed=seed, plan=Plan(texts=150, files=2)) as it:
        it.connect()
        it.bob.patience = 10.0
        it.bob.passing |= {"database-damaged", "internal", "unknown-call", "no-active-call", "call-ended"}
        for moment in it.moments(12):
            it.when(moment, flip)
        it.when(it.size * 3 // 4, it.bob.kill)
        it.start()
        with suppress(AssertionError, Refused, Lost, TimeoutError):
            # What was damaged may be lost, and nobody says when it is over.
            it.finish(within=20)
        it.stop()
        harms = it.harms()
        report(f"flips, seed {seed}: {Counter(flipped)}, refused {it.bob.refused}, {harms}")
        assert len(flipped) >= 6
        for harm in ("phantom", "corrupted", "misattributed", "duplicated"):
            assert harms[harm] == 0, harms
    bob.run("daemon", "stop")
    assert json.loads(bob.identity_file.read_bytes()) == json.loads(identity)
    assert bob.identity_file.read_bytes() == identity


def test_mail_whose_event_was_changed_on_the_disk_is_sealed_anew_and_arrives_once(
    new_home: NewHome, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        relay = first.enter_context(relays.embedded_relay(tmp_path / "relay"))
        alice, bob = meet(new_home, [relay.url])
        first.close()
        words = [f"letter {number}" for number in range(3)]
        sent = [alice.ok("send", text, "--to", str(bob.agent_id)) for text in words]
        assert [message["state"] for message in sent] == ["queued"] * len(words)
        alice.kill_daemon()
        with closing(sqlite3.connect(alice.state / DATABASE)) as database, database:
            rows = [row for (row,) in database.execute("SELECT row FROM outbox WHERE message NOT NULL ORDER BY row")]
            assert len(rows) == len(words)
            elsewhere = json.dumps(["ws://127.0.0.1:9"])
            database.execute("UPDATE outbox SET relays = ? WHERE row = ?", (elsewhere, rows[0]))
            database.execute("UPDATE outbox SET json = replace(json, 'e', 'f') WHERE row = ?", (rows[1],))
        stack.enter_context(relays.embedded_relay(tmp_path / "relay", port=relay.port))

        def arrived() -> list[str] | None:
            unread = [message["text"] for message in bob.ok("inbox")["unread"]]
            return unread if len(unread) >= len(words) else None

        alice.ok("status")
        assert sorted(wait_until(arrived, "all letters to arrive")) == words
        states = {message["state"] for message in alice.ok("messages")["messages"]}
        assert "queued" not in states
        assert "failed" not in states
