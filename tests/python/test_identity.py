"""The home and the key in it: made once, kept private, and never replaced, whatever state it is in."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from parts.fixtures import NewHome
from parts.home import Home
from parts.process import is_alive, wait_until


@pytest.fixture(scope="module")
def relay_url(embedded_relay: str) -> str:
    return embedded_relay


@pytest.fixture
def home(relay_url: str, new_home: NewHome) -> Home:
    return new_home("home", relay_url)


# The key pair of the secret key 3, as any implementation of secp256k1 has it.
SECRET = f"{3:064x}"
PUBLIC = "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9"
IDENTITY = json.dumps({"privateKeyHex": SECRET, "publicKey": PUBLIC})
GROUP_ORDER = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"


def keep(home: Home, content: bytes, *, mode: int = 0o600) -> None:
    home.identity_file.write_bytes(content)
    home.identity_file.chmod(mode)


def test_the_home_is_made_private(home: Home) -> None:
    home.ok("status")
    assert stat.S_IMODE(home.identity_file.stat().st_mode) == 0o600
    assert set(json.loads(home.identity_file.read_text())) == {"privateKeyHex", "publicKey"}
    assert stat.S_IMODE(home.state.stat().st_mode) == 0o700
    for path in home.state.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_identity_of_a_deployed_agent_is_used_and_stays_as_it_is(home: Home) -> None:
    keep(home, IDENTITY.encode())
    assert home.ok("status")["agent"]["pubkey"] == PUBLIC
    home.stop()
    assert home.ok("status")["agent"]["pubkey"] == PUBLIC
    assert home.identity_file.read_text() == IDENTITY


def test_the_deployed_agents_variable_names_the_home_too(home: Home) -> None:
    keep(home, IDENTITY.encode())
    home.environment["P2P_IDENTITY_PATH"] = home.environment.pop("P2P_COMM_HOME")
    agent = home.ok("status")["agent"]
    assert agent["pubkey"] == PUBLIC
    assert Path(agent["home"]) == home.folder.resolve()


def test_an_identity_truncated_anywhere_is_damaged_and_stays_as_it_is(home: Home) -> None:
    whole = IDENTITY.encode()
    for length in range(len(whole)):
        keep(home, whole[:length])
        error = home.fails("identity-damaged", "status")
        assert str(home.identity_file) in error["message"]
        assert error["hint"]
        assert home.identity_file.read_bytes() == whole[:length]


@pytest.mark.parametrize(
    "content",
    [
        " \n",
        "null",
        "[]",
        "{}",
        '"text"',
        json.dumps({"privateKeyHex": SECRET}),
        json.dumps({"publicKey": PUBLIC}),
        json.dumps({"privateKeyHex": 3, "publicKey": PUBLIC}),
        json.dumps({"privateKeyHex": None, "publicKey": None}),
        json.dumps({"privateKeyHex": [SECRET], "publicKey": PUBLIC}),
        json.dumps({"privateKeyHex": SECRET[:-2], "publicKey": PUBLIC}),
        json.dumps({"privateKeyHex": "zz" + SECRET[2:], "publicKey": PUBLIC}),
        json.dumps({"privateKeyHex": "0" * 64, "publicKey": PUBLIC}),
        json.dumps({"privateKeyHex": GROUP_ORDER, "publicKey": PUBLIC}),
        json.dumps({"privateKeyHex": "f" * 64, "publicKey": PUBLIC}),
        json.dumps({"privateKeyHex": SECRET, "publicKey": "0" * 64}),
        json.dumps({"privateKeyHex": f"{5:064x}", "publicKey": PUBLIC}),
        IDENTITY + IDENTITY,
        "\x00" * 165,
    ],
)
def test_an_identity_that_cannot_be_right_is_damaged_and_stays_as_it_is(home: Home, content: str) -> None:
    keep(home, content.encode())
    error = home.fails("identity-damaged", "status")
    assert str(home.identity_file) in error["message"]
    assert SECRET not in str(error)
    assert home.identity_file.read_text() == content
    plain = home.run("status", json=False)
    assert plain.exit == 1
    assert SECRET not in plain.out + plain.err


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o666])
def test_an_identity_that_others_may_read_is_refused(home: Home, mode: int) -> None:
    keep(home, IDENTITY.encode(), mode=mode)
    error = home.fails("unsafe-identity", "status")
    assert str(home.identity_file) in error["message"]
    assert home.identity_file.read_text() == IDENTITY
    assert stat.S_IMODE(home.identity_file.stat().st_mode) == mode


@pytest.mark.parametrize(
    "verb",
    [
        ("daemon", "run"),
        ("daemon", "start"),
        ("identity", "show"),
        ("doctor",),
        ("config", "set", "name", "Another"),
        ("call", "somebody"),
        ("inbox",),
    ],
)
def test_no_verb_puts_a_new_key_in_the_place_of_one_that_cannot_be_used(home: Home, verb: tuple[str, ...]) -> None:
    damaged = IDENTITY.encode()[:-1]
    for content, mode in ((damaged, 0o600), (b"", 0o600), (IDENTITY.encode(), 0o644)):
        keep(home, content, mode=mode)
        outcome = home.run(*verb, timeout=30)
        assert SECRET not in str(outcome)
        assert home.identity_file.read_bytes() == content
        assert stat.S_IMODE(home.identity_file.stat().st_mode) == mode
        assert not list(home.folder.glob("p2p-identity.json?*")), "nothing is written beside it either"
    # Put right, it is the same agent as ever.
    keep(home, IDENTITY.encode())
    assert home.ok("status")["agent"]["pubkey"] == PUBLIC


@pytest.mark.parametrize("thing", ["folder", "dangling link", "pipe", "socket", "link to itself"])
def test_what_is_no_file_in_the_place_of_the_identity_is_an_error_and_stays(home: Home, thing: str) -> None:
    file = home.identity_file
    if thing == "folder":
        file.mkdir()
    elif thing == "dangling link":
        file.symlink_to(home.folder / "nowhere.json")
    elif thing == "pipe":
        os.mkfifo(file, 0o600)
    elif thing == "socket":
        os.mknod(file, stat.S_IFSOCK | 0o600)
    else:
        file.symlink_to(file)
    before = file.lstat()
    outcome = home.run("status", timeout=15)
    assert outcome.exit == 1, outcome
    assert outcome.out["error"]["code"] in ("identity-damaged", "unsafe-identity")
    assert str(file) in outcome.out["error"]["message"]
    after = file.lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert not (home.folder / "nowhere.json").exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707])
def test_a_home_that_others_may_write_to_is_refused(home: Home, mode: int) -> None:
    home.folder.chmod(mode)
    home.fails("unsafe-home", "status")
    assert stat.S_IMODE(home.folder.stat().st_mode) == mode
    assert list(home.folder.iterdir()) == []


def test_a_home_that_others_may_read_keeps_its_mode(home: Home) -> None:
    home.folder.chmod(0o755)
    home.ok("status")
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o755


def test_a_home_without_any_variable_has_an_id_of_its_own(relay_url: str, new_home: NewHome) -> None:
    home = new_home("bare", relay_url)
    del home.environment["P2P_AGENT_ID"]
    agent = home.ok("status")["agent"]
    assert agent["id"] == f"agent-{agent['pubkey'][:8]}"


def test_a_variable_that_differs_from_the_settings_warns_and_config_set_changes_it(home: Home) -> None:
    assert home.ok("status")["agent"]["id"] == home.agent_id
    warned = home.run("status", env={"P2P_AGENT_NAME": "Somebody Else"})
    assert warned.exit == 0
    assert "P2P_AGENT_NAME" in warned.err
    assert warned.out["agent"]["name"] != "Somebody Else"
    assert home.run("status").err == ""


def test_a_long_path_of_a_home_does_no_harm(relay_url: str, tmp_path: Path) -> None:
    home = Home(tmp_path / ("long-" * 20) / ("path-" * 20), "long-path", [relay_url])
    try:
        pid = home.daemon_pid()
        assert home.daemon_pid() == pid
        home.stop()
        wait_until(lambda: not is_alive(pid), "the daemon to be gone")
    finally:
        home.clear()
