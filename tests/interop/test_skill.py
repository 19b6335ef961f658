"""`p2p.js`, by which prompts of deployed agents call us, with a real Node.js."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from parts.fixtures import NewHome
from parts.home import Home
from parts.node import node
from parts.process import wait_until
from parts.steps import meet

# What the shell of a prompt would change, if there were one.
NASTY = ["$HOME", "a  b", "", "'\"`", "\\", "über 🦞", "-x", "two\nlines"]


class Shim:
    """The program in a skill's folder, called as a prompt of a deployed agent calls it."""

    def __init__(self, home: Home, folder: Path) -> None:
        installed = home.ok("skill", "install", "--dir", str(folder))
        self.program, self.home = Path(installed["folder"]) / "p2p.js", home

    def popen(self, *words: str, stdin: int = subprocess.DEVNULL, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [node(), self.program, *words],
            env={**self.home.environment, **environment},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, stdin: str | None = None, **environment: str) -> tuple[int, str, str]:
        process = self.popen(*words, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE, **environment)
        out, err = process.communicate(stdin, 60)
        return process.returncode, out, err

    def ok(self, *words: str) -> Any:
        code, out, err = self.run("--json", *words)
        assert code == 0, (words, out, err)
        return json.loads(out)


@pytest.mark.parametrize("type_", ["commonjs", "module"])
def test_the_documented_commands_through_the_old_program(
    embedded_relay: str, new_home: NewHome, tmp_path: Path, type_: str
) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    (tmp_path / "package.json").write_text(json.dumps({"type": type_}))
    a, b = Shim(alice, tmp_path / "a"), Shim(bob, tmp_path / "b")
    assert a.ok("status")["agent"]["id"] == alice.agent_id
    assert bob.agent_id in [line["id"] for line in a.ok("list")["agents"]]
    assert a.ok("call", str(bob.agent_id), "API design")["state"] == "ringing"
    wait_until(lambda: b.ok("inbox")["ringing"], "the call to ring")
    b.ok("answer", "accept")
    alice.event("call.connected")
    a.ok("send", "Hello, I have a question about the API design")
    assert bob.event("message.received")["message"]["text"] == "Hello, I have a question about the API design"
    a.ok("sendfile", "report.json", base64.b64encode(b'{"data": true}').decode())
    assert Path(bob.event("file.received")["message"]["file"]["path"]).read_bytes() == b'{"data": true}'
    assert a.ok("escalate", "Need human decision on budget approval")["state"] == "no-owner"
    assert "Hello" in json.dumps(a.ok("end")["transcript"])
    assert a.ok("call", str(bob.agent_id), "again")["state"] == "ringing"
    wait_until(lambda: b.ok("inbox")["ringing"], "the second call to ring")
    b.ok("answer", "reject", "I'm busy right now")
    assert alice.event("call.rejected")["call_state"]["reason"] == "I'm busy right now"


def test_words_exit_codes_and_standard_input_pass_unchanged(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    shim = Shim(alice, tmp_path)
    sent = shim.ok("send", "--to", str(bob.agent_id), "--", *NASTY)
    assert sent["text"] == " ".join(NASTY)
    code, out, err = shim.run("send", "--to", str(bob.agent_id), "-", "--json", stdin="from a pipe\n")
    assert (code, json.loads(out)["text"]) == (0, "from a pipe"), err
    for words, expected in (
        (("answer", "accept"), 1),
        (("no-such-verb",), 2),
        (("daemon", "status"), 0),
        (("wait", "--timeout", "0", "--for", "call.missed"), 124),
    ):
        direct = alice.run(*words, json=False)
        code, out, err = shim.run(*words)
        assert code == direct.exit == expected, (words, out, err)
        assert (out, err) == (direct.out, direct.err)


def test_signals_reach_the_program_behind_it(new_home: NewHome, tmp_path: Path) -> None:
    home = new_home("alice", "ws://127.0.0.1:1")
    shim = Shim(home, tmp_path)
    home.ok("status")

    def children(pid: int) -> list[int]:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    for number, expected in ((signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)):
        process = shim.popen("wait", "--timeout", "60")
        [child] = wait_until(lambda pid=process.pid: children(pid), "the program to begin")
        wait_until(lambda pid=child: handles(pid, signal.SIGPIPE), "the program to run")
        process.send_signal(number)
        process.communicate(timeout=30)
        assert process.returncode == expected
        assert not Path(f"/proc/{child}").exists()


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal. Python has none for SIGPIPE; the command line has, once it runs."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    [mask] = [line.split()[1] for line in status if line.startswith("SigCgt:")]
    return bool(int(mask, 16) & 1 << (number - 1))


def test_without_p2p_comm_it_says_how_to_get_it(new_home: NewHome, tmp_path: Path) -> None:
    home = new_home("alice", "ws://127.0.0.1:1")
    shim = Shim(home, tmp_path)
    text = shim.program.read_text()
    [line] = [line for line in text.splitlines() if line.startswith("const INSTALLED = ")]
    shim.program.write_text(text.replace(line, 'const INSTALLED = ["/nowhere/python", "-m", "p2p_comm"]'))
    empty = tmp_path / "empty"
    empty.mkdir()
    code, out, err = shim.run("status", PATH=str(empty))
    assert (code, out) == (1, "")
    assert "hint: install it with: uv tool install p2p-comm" in err
