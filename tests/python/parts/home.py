"""An agent's home, driven as an LLM agent drives it: by the console script, one plain command at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from parts.process import DEADLINE_S, clean_environment, command_line, is_alive, last_words, start, wait_until
from parts.relays import CONSOLE_SCRIPT

# No command may take longer unless it is told to wait.
COMMAND_S = 60.0

Json = dict[str, Any]


class Outcome(NamedTuple):
    """What a command left: its exit code, stdout (parsed when it was asked for JSON) and stderr."""

    exit: int
    out: Any
    err: str


@dataclass
class Home:
    """One agent: home folder, agent id, relays. Nothing of ours in the caller's environment leaks in."""

    folder: Path
    agent_id: str | None
    relays: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    # Where `event` continues, for each selection of kinds: event kinds are read apart from each other.
    _cursors: dict[tuple[str, ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.environment = {
            **clean_environment(self.folder),
            "P2P_COMM_HOME": str(self.folder),
            "P2P_NOSTR_RELAYS": ",".join(self.relays),
            **self.environment,
        }
        if self.agent_id is not None:
            self.environment["P2P_AGENT_ID"] = self.agent_id

    @property
    def identity_file(self) -> Path:
        return self.folder / "p2p-identity.json"

    @property
    def state(self) -> Path:
        return self.folder / "p2p-comm"

    def popen(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        new_session: bool = False,
    ) -> subprocess.Popen[str]:
        """Starts a command without waiting for it."""
        return subprocess.Popen(
            [CONSOLE_SCRIPT, *words],
            env={**self.environment, **(env or {})},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=new_session,
        )

    def run(
        self,
        *words: str,
        json: bool = True,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = COMMAND_S,
    ) -> Outcome:
        """Runs one command to its end. With `json` its stdout must be exactly one JSON object."""
        all_words = ("--json", *words) if json else words
        input_from = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        process = self.popen(*all_words, env=env, stdin=input_from)
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{words} took more than {timeout:g} s; it said: {out}{err}") from None
        return Outcome(process.returncode, _one_object(words, out, err) if json else out, err)

    def ok(self, *words: str, **options: Any) -> Any:
        """Runs a command that must succeed; returns what it printed."""
        outcome = self.run(*words, **options)
        assert outcome.exit == 0, f"{self.agent_id}: {words}: {outcome}"
        return outcome.out

    def fails(self, code: str, *words: str, exit: int = 1, **options: Any) -> Json:
        """Runs a command that must fail with this error code and exit code; returns the error."""
        outcome = self.run(*words, **options)
        assert set(outcome.out) == {"error"}, f"{self.agent_id}: {words}: {outcome}"
        error: Json = outcome.out["error"]
        assert set(error) == {"code", "message", "hint"}, f"{words}: {outcome}"
        assert (error["code"], outcome.exit) == (code, exit), f"{words}: {outcome}"
        assert error["message"], f"{words}: an error says what is wrong: {outcome}"
        return error

    def event(
        self,
        *kinds: str,
        call: str | None = None,
        where: Callable[[Json], bool] = lambda event: True,
        timeout: float = DEADLINE_S,
    ) -> Json:
        """Waits for the next event of these kinds, after the one that it returned last for the same kinds."""

        def next_event() -> Json | None:
            cursor = str(self._cursors.get(kinds, 0))
            words = ("wait", "--timeout", "5", "--after", cursor, "--for", ",".join(kinds))
            outcome = self.run(*words)
            assert outcome.exit in (0, 124), f"{self.agent_id}: {words}: {outcome}"
            self._cursors[kinds] = outcome.out["cursor"]
            event: Json | None = outcome.out["event"]
            if event is None or (call is not None and event["call"] != call) or not where(event):
                return None
            return event

        return wait_until(next_event, f"{self.agent_id} to see {' or '.join(kinds)}", timeout=timeout)

    def line_of(self, agent_id: str) -> Json | None:
        """What `list` says of an agent id; None while it is not there."""
        lines = [line for line in self.ok("list")["agents"] if line["id"] == agent_id]
        assert len(lines) <= 1, lines
        return lines[0] if lines else None

    def sees(self, agent_id: str) -> Json:
        """Waits until `list` shows an agent id; returns its line."""
        return wait_until(lambda: self.line_of(agent_id), f"{self.agent_id} to see {agent_id}")

    def messages(self, call: str) -> list[Json]:
        """All messages of a call, oldest first; marks nothing as read."""
        listed: list[Json] = self.ok("messages", "--call", call, "--limit", "10000")["messages"]
        return listed

    def texts(self, call: str, sender: str) -> list[str]:
        """The texts of a call that `sender` ("me", "peer") wrote, oldest first."""
        return [
            message["text"]
            for message in self.messages(call)
            if message["kind"] == "text" and message["from"] == sender
        ]

    def daemon_pid(self) -> int:
        """The process id of the running daemon; starts it if need be."""
        return int(self.ok("status")["daemon"]["pid"])

    @property
    def socket(self) -> Path | None:
        """The socket of the daemon, if one is ready: in the home, or where a path is short enough."""
        with suppress(OSError, ValueError):
            path = json.loads((self.state / "daemon.lock").read_text())["socket"]
            return Path(path) if path else None
        return None

    def is_served(self) -> bool:
        """Whether a daemon of this home is ready."""
        return self.socket is not None

    def run_under(self, *prefix: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Starts the daemon by way of another program, and waits until it serves. The caller ends it."""
        words = [*prefix, CONSOLE_SCRIPT, "daemon", "run"]
        process = start(words, folder=self.folder.parent, environment={**self.environment, **environment})

        def serves() -> bool:
            assert process.poll() is None, last_words(self.folder.parent)
            return self.is_served()

        wait_until(serves, "the daemon to serve")
        return process

    def kill_daemon(self) -> int:
        """Ends the daemon as a power cut would (SIGKILL), waits until it is gone, returns its process id."""
        pid = self.daemon_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), "the killed daemon to be gone")
        return pid

    def stop(self) -> None:
        """Stops the daemon in an orderly way."""
        self.ok("daemon", "stop")

    def clear(self) -> None:
        """Ends the daemon, by its id if it does not listen to reason."""
        pid = self._pid_in_lock()
        if pid is None:
            return
        with suppress(AssertionError):
            self.run("daemon", "stop", json=False)
        # The id may have been given to another process since: only one of ours is ended.
        if is_alive(pid) and "p2p" in command_line(pid):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid), "the daemon to be gone")

    def _pid_in_lock(self) -> int | None:
        # The file is there without a word after an orderly stop.
        with suppress(FileNotFoundError, ValueError):
            return int(json.loads((self.state / "daemon.lock").read_text())["pid"])
        return None


def _one_object(words: tuple[str, ...], out: str, err: str) -> Json:
    try:
        parsed = json.loads(out)
    except ValueError:
        raise AssertionError(f"{words}: not one JSON object on stdout: {out!r}; stderr: {err}") from None
    assert isinstance(parsed, dict), f"{words}: not an object: {out!r}"
    return parsed
