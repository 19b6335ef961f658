"""A daemon of today on the database of an earlier version: killed while it brings it up to date, and the way back."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from parts.fixtures import NewHome
from parts.home import Home
from parts.installing import installed
from parts.process import REPOSITORY, end, start, wait_until
from parts.relays import CONSOLE_SCRIPT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux's")

DATABASES = sorted((REPOSITORY / "tests" / "databases").glob("*.sql"))
# What SQLite does to its files, in the order in which a crash may fall between.
WRITES = "pwrite64,fdatasync,fsync,ftruncate,unlink"


@pytest.fixture(scope="module")
def strace() -> str:
    """The path of strace, which is installed if need be."""
    return str(installed("install-strace.sh"))


@pytest.fixture
def home(embedded_relay: str, new_home: NewHome) -> Home:
    """A home that has an identity, and whose daemon is stopped."""
    home = new_home("home", embedded_relay)
    home.ok("status")
    home.stop()
    return home


def database(home: Home) -> Path:
    return home.state / "state.db"


def put_back(home: Home, sql: Path) -> None:
    """Gives the home the database of an earlier version."""
    for path in home.state.glob("state.db*"):
        path.unlink()
    with closing(sqlite3.connect(database(home))) as db:
        db.executescript("PRAGMA journal_mode = WAL;" + sql.read_text())
    database(home).chmod(0o600)


def schema_of(home: Home) -> int:
    with closing(sqlite3.connect(f"file:{database(home)}?mode=ro", uri=True)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def texts(home: Home) -> list[str]:
    return [message["text"] for message in home.ok("messages", "--limit", "1000")["messages"]]


def written(home: Home) -> list[str]:
    with closing(sqlite3.connect(f"file:{database(home)}?mode=ro", uri=True)) as db:
        return [text for (text,) in db.execute("SELECT text FROM messages ORDER BY row")]


def start_killed_at(home: Home, strace: str, count: int, folder: Path) -> bool:
    """Starts the daemon, and kills it at the k-th of its writes. Whether it came to serve before."""
    inject = f"inject={WRITES}:signal=SIGKILL:when={count}"
    words = [strace, "-f", "-qq", "-o", os.devnull, "-e", f"trace={WRITES}", "-e", inject]
    process = start([*words, CONSOLE_SCRIPT, "daemon", "run"], folder=folder, environment=home.environment)

    def serves() -> bool:
        with suppress(OSError, ValueError):
            return bool(json.loads((home.state / "daemon.lock").read_text())["socket"])
        return False

    try:
        wait_until(lambda: process.poll() is not None or serves(), "the daemon to die or to serve")
        return process.poll() is None
    finally:
        home.clear()
        end(process)


def upgrade_killed_at(home: Home, sql: Path, strace: str, counts: Iterable[int], folder: Path) -> int:
    """Kills the upgrade at each of these writes, and looks at what a start after it finds. How many it met."""
    died = 0
    for count in counts:
        put_back(home, sql)
        before, identity = written(home), home.identity_file.read_bytes()
        served = start_killed_at(home, strace, count, folder)
        found = texts(home)
        assert [text for text in found if text in before] == before
        assert not list(home.state.glob("state.db.damaged-*"))
        assert home.identity_file.read_bytes() == identity
        home.stop()
        if served:
            break
        died += 1
    return died


@pytest.mark.parametrize("sql", DATABASES, ids=lambda sql: sql.stem)
def test_an_upgrade_that_is_killed_now_and_then_loses_nothing(
    home: Home, sql: Path, strace: str, tmp_path: Path
) -> None:
    assert upgrade_killed_at(home, sql, strace, [1, 4, 9, 16], tmp_path) >= 2


@pytest.mark.soak
@pytest.mark.parametrize("sql", DATABASES, ids=lambda sql: sql.stem)
def test_an_upgrade_that_is_killed_at_any_write_loses_nothing(
    home: Home, sql: Path, strace: str, tmp_path: Path
) -> None:
    died = upgrade_killed_at(home, sql, strace, itertools.count(1), tmp_path)
    print(f"{died} writes in the start of {sql.stem}")  # noqa: T201
    assert died >= 10


@pytest.mark.parametrize("change", ["PRAGMA user_version = 1000", "CREATE TABLE of_tomorrow (x)"])
def test_the_database_of_a_later_version_is_refused_and_left_as_it_is(home: Home, change: str) -> None:
    now = schema_of(home)
    with closing(sqlite3.connect(database(home))) as db:
        db.execute(f"PRAGMA user_version = {now + 1}")
        db.execute(change)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before, later = database(home).read_bytes(), schema_of(home)
    error = home.fails("version-mismatch", "status")
    assert f"version {later}" in error["message"]
    assert f"knows {now}" in error["message"]
    assert "pip install --upgrade p2p-comm" in error["hint"]
    assert database(home).read_bytes() == before
    assert not list(home.state.glob("state.db.damaged-*"))
