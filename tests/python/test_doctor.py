"""`doctor` against each thing that a user can have wrong: the fault is made for real, found, and mended as advised."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from parts import relays
from parts.fixtures import NewHome
from parts.home import Home
from parts.relays import CONSOLE_SCRIPT
from parts.shapes import DOCTOR, check

Check = dict[str, Any]


@pytest.fixture(scope="module")
def relay_url(embedded_relay: str) -> str:
    return embedded_relay


@pytest.fixture
def home(relay_url: str, new_home: NewHome) -> Home:
    home = new_home("patient", relay_url)
    home.ok("status")
    return home


def examine(home: Home) -> dict[str, list[Check]]:
    """All checks by name; the exit code is their verdict."""
    outcome = home.run("doctor", timeout=90)
    check(outcome.out, DOCTOR)
    assert outcome.out["ok"] == all(it["ok"] for it in outcome.out["checks"])
    assert outcome.exit == (0 if outcome.out["ok"] else 1), outcome
    found: dict[str, list[Check]] = {}
    for it in outcome.out["checks"]:
        assert it["ok"] or it["hint"], f"what is not well has a remedy: {it}"
        found.setdefault(it["name"], []).append(it)
    return found


def ill(home: Home, name: str) -> Check:
    """The one check of this name, which is not well; a name may be a beginning."""
    found = [it for key, checks in examine(home).items() if key.startswith(name) for it in checks if not it["ok"]]
    assert len(found) == 1, found
    return found[0]


def assert_well(home: Home) -> None:
    bad = [it for checks in examine(home).values() for it in checks if not it["ok"]]
    assert bad == []


def follow(home: Home, hint: str, **environment: str) -> None:
    """Runs the commands of a hint, in a shell, as a reader would: what stands before a colon explains them."""
    script = hint.replace("p2p-comm ", f"{shlex.quote(str(CONSOLE_SCRIPT))} ")
    subprocess.run(["sh", "-ec", script], env=home.environment | environment, check=True, capture_output=True)


def commands(hint: str) -> list[str]:
    """The commands in a hint."""
    return re.findall(r"(?:p2p-comm|chmod|rm|kill|unset) [^;]*[^;.]", hint)


def test_nothing_is_wrong_with_a_new_agent(home: Home) -> None:
    found = examine(home)
    assert all(it["ok"] for checks in found.values() for it in checks), found
    of_the_machine = {"home", "identity", "permissions", "disk", "settings", "daemon", "socket", "database"}
    assert of_the_machine | {"clock", "contacts", "outbox", "owner"} <= set(found)
    assert found["owner"][0]["hint"] == "p2p-comm owner set exec:PROGRAM"


def test_a_daemon_that_was_never_started_is_no_fault(relay_url: str, new_home: NewHome) -> None:
    assert_well(new_home("new", relay_url))


@dataclass(frozen=True)
class Fault:
    """Something that a command of the hint mends."""

    name: str
    make: Callable[[Home], object]
    detail: str


def loosen(path: Callable[[Home], Path], mode: int) -> Callable[[Home], object]:
    return lambda home: path(home).chmod(mode)


def socket_of(home: Home) -> Path:
    assert home.socket
    return home.socket


def damage(home: Home) -> None:
    """A database that the next start finds damaged."""
    home.stop()
    database = home.state / "state.db"
    database.write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)


FAULTS = {
    "home open to writers": Fault("home", loosen(lambda home: home.folder, 0o777), "may write"),
    "key open to readers": Fault("identity", loosen(lambda home: home.identity_file, 0o644), "others may read"),
    "key open to the group": Fault("identity", loosen(lambda home: home.identity_file, 0o640), "others may read"),
    "database open to readers": Fault("permissions", loosen(lambda home: home.state / "state.db", 0o644), "state.db"),
    "log open to readers": Fault("permissions", loosen(lambda home: home.state / "daemon.log", 0o604), "daemon.log"),
    "socket open to others": Fault("socket", lambda home: socket_of(home).chmod(0o666), "mode 666"),
    "paused daemon": Fault("daemon", lambda home: os.kill(home.daemon_pid(), signal.SIGSTOP), "not responding"),
    "damaged database": Fault("database", damage, "was damaged"),
    "a way to the owner that is none": Fault(
        "owner «carrier-pigeon:…»", lambda home: home.ok("owner", "set", "carrier-pigeon:123"), "does not know this way"
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_each_fault_is_found_and_mended_by_its_hint(home: Home, fault: Fault) -> None:
    fault.make(home)
    found = ill(home, fault.name)
    assert fault.detail in found["detail"], found
    advised = commands(found["hint"])
    assert advised, found
    chosen = advised[-1] if found["name"].startswith("owner") else advised[0]
    follow(home, chosen.replace("exec:PROGRAM", "exec:true"))
    assert_well(home)


def test_a_key_that_cannot_be_used_is_named_once_and_every_other_check_is_made(home: Home) -> None:
    whole = home.identity_file.read_bytes()
    home.stop()
    home.identity_file.write_bytes(whole[:-20])
    found = examine(home)
    bad = [it for checks in found.values() for it in checks if not it["ok"]]
    assert [it["name"] for it in bad] == ["identity"]
    assert str(home.identity_file) in bad[0]["detail"]
    assert "backup" in bad[0]["hint"]
    assert "daemon" not in found
    home.identity_file.write_bytes(whole)
    assert_well(home)


def test_settings_that_are_odd_or_wrong_are_named_with_their_line(home: Home) -> None:
    config = home.state / "config.toml"
    right = config.read_text()
    config.write_text(f"{right}colour = 'blue'\n")
    odd = ill(home, "settings")
    line = len(right.splitlines()) + 1
    assert f"{config}, line {line}: unknown setting «colour»" in odd["detail"]
    config.write_text("max_calls = 'many'\n" + right)
    assert f"{config}, line 1: max_calls" in ill(home, "settings")["detail"]
    config.write_text(right)
    assert_well(home)


def test_a_variable_that_differs_from_the_file_is_told_with_both_ways_out(home: Home) -> None:
    home.environment["P2P_AGENT_NAME"] = "Some Body"
    change, _ = commands(ill(home, "settings")["hint"])
    follow(home, change)
    assert_well(home)
    assert home.ok("status")["agent"]["name"] == "Some Body"


@pytest.fixture
def dead_relay() -> Iterator[str]:
    """An address where nobody listens, and nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"ws://127.0.0.1:{taken.getsockname()[1]}"


def test_a_relay_out_of_reach_is_named_and_can_be_done_without(
    relay_url: str, dead_relay: str, new_home: NewHome
) -> None:
    home = new_home("patient", relay_url, dead_relay)
    home.ok("status")
    del home.environment["P2P_NOSTR_RELAYS"]
    found = ill(home, f"relay «{dead_relay}")
    assert "not connected" in found["detail"]
    for command in commands(found["hint"]):
        follow(home, command)
    assert_well(home)
    assert home.ok("config", "get", "relays")["value"] == [relay_url]


def test_a_daemon_of_other_settings_than_the_file_has_is_to_be_started_anew(
    home: Home, relay_url: str, embedded_relay: str
) -> None:
    del home.environment["P2P_AGENT_ID"]
    home.ok("config", "set", "agent_id", "somebody-else")
    found = ill(home, "daemon")
    assert "«somebody-else»" in found["detail"]
    follow(home, commands(found["hint"])[0])
    assert_well(home)
    assert home.ok("status")["agent"]["id"] == "somebody-else"


def test_a_contact_without_a_relay_in_common_is_found_and_met_again(
    relay_url: str, dead_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    with relays.embedded_relay(tmp_path / "another") as another:
        alice, bob = new_home("alice", another.url, relay_url), new_home("bob", relay_url)
        bob.ok("status")
        alice.sees(str(bob.agent_id))
        alice.ok("contacts", "add", "bobby", str(bob.agent_id))
        assert_well(alice)
        del alice.environment["P2P_NOSTR_RELAYS"]
        alice.ok("config", "set", "relays", another.url)
        alice.stop()
        found = ill(alice, "contact «bobby»")
        assert "no relay in common" in found["detail"]
        assert relay_url in found["detail"]
        for command in commands(found["hint"]):
            follow(alice, command)
        alice.sees(str(bob.agent_id))
        assert_well(alice)


def test_a_key_that_goes_by_a_contacts_name_is_found_until_it_is_blocked(relay_url: str, new_home: NewHome) -> None:
    alice, bob = new_home("alice", relay_url), new_home("bob", relay_url)
    bob.ok("status")
    alice.sees(str(bob.agent_id))
    alice.ok("contacts", "add", "bobby", str(bob.agent_id))
    bob.stop()
    thief = new_home(str(bob.agent_id), relay_url, unique=False)
    key = thief.ok("status")["agent"]["pubkey"]
    alice.event("contact.key-changed", where=lambda event: event["key_changed"]["claimed_by"] == key)
    found = ill(alice, "contact «bobby»")
    verify, block = commands(found["hint"])
    assert verify == f"p2p-comm contacts verify bobby {key}"
    follow(alice, block)
    assert_well(alice)


def test_a_way_to_the_owner_that_failed_is_told_until_it_works(home: Home, tmp_path: Path) -> None:
    program = tmp_path / "tell-owner"
    home.ok("owner", "set", f"exec:{program}")
    assert "No such file" in ill(home, f"owner «exec:{program}")["detail"]
    program.write_text("#!/bin/sh\nexit 3\n")
    assert "denied" in ill(home, "owner")["detail"]
    program.chmod(0o700)
    assert_well(home)
    assert home.run("owner", "test").exit == 1
    assert "exit status: 3" in ill(home, "owner")["detail"]
    program.write_text("#!/bin/sh\nexit 0\n")
    home.ok("owner", "test")
    assert_well(home)


def test_a_database_of_a_later_version_is_left_alone_and_the_way_out_named(home: Home) -> None:
    home.stop()
    with sqlite3.connect(home.state / "state.db") as database:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        database.execute("PRAGMA user_version = 9999")
    database.close()
    found = ill(home, "daemon")
    assert "9999" in found["detail"]
    assert "pip install --upgrade p2p-comm" in found["hint"]
    with sqlite3.connect(home.state / "state.db") as database:
        database.execute(f"PRAGMA user_version = {version}")
    database.close()
    assert_well(home)


def test_what_a_killed_daemon_left_is_no_fault(home: Home) -> None:
    left = socket_of(home)
    home.kill_daemon()
    assert left.exists()
    assert_well(home)


def mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")


def fill(path: Path) -> None:
    """Writes into a file until nothing more fits."""
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for little more than what makes no trouble."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={80 << 20},mode=0700", "none", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_nearly_full_full_or_read_only_is_found(relay_url: str, small_disk: Path) -> None:
    home = Home(small_disk / "home", "patient", [relay_url])
    try:
        assert_well(home)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(40 << 20))
        assert "soon nothing can be accepted" in ill(home, "disk")["detail"]
        fill(ballast)
        found = ill(home, "disk")
        assert "no space left" in found["detail"]
        assert f"df -h {home.folder.resolve()}" in found["hint"]
        ballast.unlink()
        assert_well(home)
        home.stop()
        mount("-o", "remount,ro", str(small_disk))
        assert "nothing can be written" in examine(home)["disk"][0]["detail"]
        mount("-o", "remount,rw", str(small_disk))
        assert_well(home)
    finally:
        home.clear()
