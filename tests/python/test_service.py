"""The daemon outlives who started it, and becomes a service: `daemon install`."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import pytest

from parts.fixtures import NewHome
from parts.home import Home
from parts.process import REPOSITORY, end, is_alive, start, wait_until
from parts.relays import CONSOLE_SCRIPT

Json = dict[str, Any]

NO_RELAY = "ws://127.0.0.1:1"

durable = pytest.mark.skipif(
    any(REPOSITORY.is_relative_to(folder) for folder in ("/tmp", "/var/tmp", tempfile.gettempdir())),
    reason="the checkout lies in a temporary folder, from which nothing is installed",
)

# Remembers what it was asked; a service runs from `restart` to `disable`.
FAKE_SYSTEMCTL = """\
#!/bin/sh
echo "$*" >>"$FAKE/calls"
test "$1" = --user || exit 64
case $2 in
    show-environment) test ! -e "$FAKE/no-bus" ;;
    is-active) test -e "$FAKE/active" ;;
    restart) test ! -e "$FAKE/refuses" && touch "$FAKE/active" ;;
    disable) rm -f "$FAKE/active" ;;
esac
"""


@pytest.fixture
def systemctl(tmp_path: Path) -> Path:
    """A folder with a `systemctl` in its `bin`."""
    program = tmp_path / "fake" / "bin" / "systemctl"
    program.parent.mkdir(parents=True)
    program.write_text(FAKE_SYSTEMCTL)
    program.chmod(0o700)
    return program.parent.parent


def with_systemctl(home: Home, fake: Path) -> Home:
    home.environment |= {"FAKE": str(fake), "PATH": f"{fake / 'bin'}:{os.environ['PATH']}", "USER": "nobody-here"}
    return home


def calls(fake: Path) -> list[str]:
    """What systemctl was asked to do since the last look; not what it was only asked."""
    file = fake / "calls"
    asked = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return [call.removeprefix("--user ") for call in asked if not call.startswith(("--user show", "--user is-"))]


def unit_of(home: Home) -> str:
    return str(home.ok("daemon", "install", "--dry-run", "--manager", "systemd")["text"])


def words_of(unit: str) -> list[str]:
    """The words of ExecStart, as systemd reads them."""
    [line] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line.partition("=")[2])]


def test_a_daemon_outlives_the_process_group_that_started_it(new_home: NewHome, tmp_path: Path) -> None:
    home = new_home("alice", NO_RELAY)
    # As OpenClaw's exec runs a command: a shell in a group of its own, which is ended whole.
    command = f"{shlex.quote(str(CONSOLE_SCRIPT))} status; exec sleep 600"
    host = start(["sh", "-c", command], folder=tmp_path / "host", environment=home.environment)
    try:
        wait_until(home.is_served, "the daemon to serve")
        pid = home.daemon_pid()
        assert os.getpgid(pid) != os.getpgid(host.pid)
        os.killpg(host.pid, signal.SIGKILL)
        assert host.wait(30) == -signal.SIGKILL
        assert is_alive(pid)
        assert home.daemon_pid() == pid
    finally:
        end(host)


@durable
def test_a_unit_is_what_systemd_takes_and_its_command_starts_the_daemon(new_home: NewHome, tmp_path: Path) -> None:
    home = new_home("it's 100% $HOME %h", NO_RELAY)
    home.ok("status")
    home.stop()
    unit = unit_of(home)
    words = words_of(unit)
    assert words[-4:] == ["daemon", "run", "--home", str(home.folder.resolve())]
    environment = {name: home.environment[name] for name in ("HOME", "PATH")}
    daemon = start(words, folder=tmp_path / "service", environment=environment)
    try:
        wait_until(home.is_served, "the service to serve")
        assert home.daemon_pid() == daemon.pid
        status = home.ok("status")
        assert status["agent"]["id"] == home.agent_id
        assert [relay["url"] for relay in status["relays"]] == [NO_RELAY]
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0, "an end that was asked for is none to be started again after"
    finally:
        end(daemon)
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed: the unit's keys are not verified")
    file = tmp_path / "p2p-comm.service"
    file.write_text(unit)
    run_time = tmp_path / "run-time"
    run_time.mkdir(mode=0o700)
    verified = subprocess.run(
        [analyze, "verify", "--user", file],
        env={**os.environ, "XDG_RUNTIME_DIR": str(run_time)},
        capture_output=True,
        text=True,
    )
    assert (verified.returncode, verified.stderr) == (0, ""), verified


@durable
def test_a_service_is_installed_once_and_removed_whole(new_home: NewHome, systemctl: Path) -> None:
    home = with_systemctl(new_home("alice", NO_RELAY), systemctl)
    pid = home.daemon_pid()
    installed = home.ok("daemon", "install", "--manager", "systemd")
    assert (installed["active"], installed["already"]) == (True, False)
    file, service = Path(installed["file"]), installed["service"]
    assert file == home.folder / ".config/systemd/user" / f"{service}.service"
    assert file.read_text() == unit_of(home)
    assert installed["todo"] == ["loginctl enable-linger nobody-here"]
    assert calls(systemctl) == ["daemon-reload", f"enable {service}.service", f"restart {service}.service"]
    assert not is_alive(pid), "the daemon that a command has started makes room"

    again = home.ok("daemon", "install", "--manager", "systemd")
    assert (again["active"], again["already"]) == (True, True)
    assert calls(systemctl) == [f"enable {service}.service"], "one that runs is left running"

    other = with_systemctl(new_home("bob", NO_RELAY), systemctl)
    (systemctl / "active").unlink()
    second = other.ok("daemon", "install", "--manager", "systemd")
    assert second["service"] != service
    calls(systemctl)

    removed = home.ok("daemon", "uninstall", "--manager", "systemd")
    assert (removed["already"], removed["file"]) == (False, str(file))
    assert not file.exists()
    assert Path(second["file"]).exists()
    assert calls(systemctl) == [f"disable --now {service}.service", "daemon-reload"]
    assert home.ok("daemon", "uninstall", "--manager", "systemd")["already"] is True


@durable
def test_without_a_service_manager_a_person_is_told_what_to_do(new_home: NewHome, systemctl: Path) -> None:
    home = with_systemctl(new_home("alice", NO_RELAY), systemctl)
    pid = home.daemon_pid()
    (systemctl / "no-bus").touch()
    written = home.run("daemon", "install", "--manager", "systemd")
    assert written.exit == 1
    service = written.out["service"]
    assert written.out["active"] is False
    assert written.out["todo"] == [
        "systemctl --user daemon-reload",
        f"systemctl --user enable {service}.service",
        f"systemctl --user restart {service}.service",
        "loginctl enable-linger nobody-here",
    ]
    assert all(command in written.err for command in written.out["todo"])
    assert Path(written.out["file"]).exists()
    assert is_alive(pid), "nothing takes its place yet"
    (systemctl / "no-bus").unlink()
    (systemctl / "refuses").touch()
    refused = home.run("daemon", "install", "--manager", "systemd")
    assert refused.exit == 1
    assert refused.out["todo"][0] == f"systemctl --user restart {service}.service"


@durable
def test_a_file_that_somebody_else_wrote_is_left_alone(new_home: NewHome, systemctl: Path) -> None:
    home = with_systemctl(new_home("alice", NO_RELAY), systemctl)
    plan = home.ok("daemon", "install", "--dry-run", "--manager", "systemd")
    file = Path(plan["file"])
    assert not file.exists(), "a dry run writes nothing"
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\nExecStart=/usr/bin/true\n")
    for verb in ("install", "uninstall"):
        error = home.fails("invalid-value", "daemon", verb, "--manager", "systemd")
        assert error["hint"].endswith(f"mv {file} {file}.old")
    assert file.read_text() == "[Service]\nExecStart=/usr/bin/true\n"
    assert calls(systemctl) == []


def test_nothing_is_installed_from_an_environment_that_is_thrown_away(new_home: NewHome, tmp_path: Path) -> None:
    home = new_home("alice", NO_RELAY)
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(venv)}))
    packages.mkdir(parents=True, exist_ok=True)
    (packages / "p2p.pth").write_text(f"{REPOSITORY / 'python'}\n")
    for manager in ("systemd", "launchd"):
        ended = subprocess.run(
            [venv / "bin" / "python", "-m", "p2p_comm", "daemon", "install", "--manager", manager],
            env={**home.environment, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 1
        assert "lies in a temporary folder" in ended.stderr
        assert "hint: install p2p-comm to stay: uv tool install p2p-comm" in ended.stderr
    assert not (home.folder / ".config").exists()
    assert not home.is_served(), "it is refused before anything is begun"


@durable
def test_a_launch_agent_is_what_macos_takes(new_home: NewHome) -> None:
    home = new_home("a<b> & 'c'", NO_RELAY)
    plan = home.ok("daemon", "install", "--dry-run", "--manager", "launchd")
    agent = plistlib.loads(plan["text"].encode())
    assert plan["file"] == f"{home.folder}/Library/LaunchAgents/{agent['Label']}.plist"
    assert agent["ProgramArguments"][-4:] == ["daemon", "run", "--home", str(home.folder.resolve())]
    assert agent["RunAtLoad"] is True
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["Umask"] == 0o077
    assert agent["EnvironmentVariables"]["PATH"] == home.environment["PATH"]


@durable
def test_what_only_this_shell_knows_is_pointed_out(new_home: NewHome, systemctl: Path) -> None:
    home = with_systemctl(new_home("alice", NO_RELAY, P2P_OWNER_CHANNEL="exec:/usr/bin/true"), systemctl)
    installed = home.run("daemon", "install", "--manager", "systemd")
    assert 'to keep it: p2p-comm config set owner "$P2P_OWNER_CHANNEL"' in installed.err
    assert "P2P_NOSTR_RELAYS" not in installed.err, "the first start has kept them"
