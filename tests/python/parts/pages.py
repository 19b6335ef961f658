"""Runs a page of documentation: every snippet in order, as one who reads it would."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
import sysconfig
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from parts.home import Home
from parts.process import clean_environment
from parts.relays import embedded_relay
from parts.snippets import Page, PageError, Snippet
from parts.terminals import REPEAT_S, SNIPPET_S, Interpreter, Running, Shell, back, pattern

# What pages call the port of the relay, and the home folder of whoever reads.
RELAY_PORT = "7447"
USER = "/home/you"


@dataclass
class Reader:
    """Somebody on a machine of their own, who follows a page."""

    page: Page
    folder: Path
    after: ExitStack
    ports: dict[str, int] = field(default_factory=dict)
    _terminals: dict[tuple[str, str], Shell | Interpreter] = field(default_factory=dict)
    _busy: dict[tuple[str, str], list[Begun]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.folder / "you"
        self.home.mkdir(mode=0o700)
        for port in dict.fromkeys([RELAY_PORT, *self.page.ports]):
            # Held, and not listened on: nobody else is given it, and whom it is for may bind it all the same.
            holder = self.after.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            self.ports[port] = holder.getsockname()[1]
        self.environment = {
            **clean_environment(self.home),
            "PATH": f"{sysconfig.get_path('scripts')}:{clean_environment(self.home)['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "TERM": "dumb",
        }
        if not self.page.own_relay:
            relay = self.after.enter_context(embedded_relay(self.folder / "relay", port=self.ports[RELAY_PORT]))
            self.environment["P2P_NOSTR_RELAYS"] = relay.url
        self.translate = {
            str(self.home): USER,
            **{f":{there}": f":{here}" for here, there in self.ports.items()},
        }

    def here(self, code: str) -> str:
        """A page's code, with this machine's ports and folder."""
        for port, free in self.ports.items():
            code = re.sub(rf"\b{port}\b", str(free), code)
        return code.replace(USER, str(self.home))

    def follow(self) -> None:
        """Runs all of it. Whatever was begun is ended, also if something fails."""
        try:
            for snippet in self.page.snippets:
                if snippet.not_run is None:
                    self._do(snippet)
            for key in list(self._busy):
                self._settle(key)
        except PageError as error:
            # Often the reason is what somebody else did meanwhile.
            others = [begun.error("meanwhile", self.translate) for block in self._busy.values() for begun in block]
            raise PageError.of(error, *others) from None

    def _do(self, snippet: Snippet) -> None:
        if "file" in snippet.marks:
            path = self.home / self.here(snippet.marks["file"]).replace("~", str(self.home))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.here(snippet.code), encoding="utf-8")
            if snippet.code.startswith("#!"):
                path.chmod(0o755)
        elif snippet.language == "console":
            *first, last = snippet.commands()
            begun = [Begun(snippet, it.line, it.code, it.shown, last=False) for it in first]
            self._run([*begun, Begun(snippet, last.line, last.code, last.shown)])
        elif snippet.language == "sh":
            self._run([Begun(snippet, snippet.line, "set -e\n" + snippet.code, None)])
        elif snippet.language == "python":
            self._run([Begun(snippet, snippet.line, snippet.code, snippet.shown)])
        elif snippet.language == "toml":
            _read_toml(snippet)

    def _run(self, block: list[Begun]) -> None:
        marks = block[0].snippet.marks
        key = (marks.get("terminal", ""), block[0].kind)
        if any("service" in begun.snippet.marks for begun in self._busy.get(key, ())):
            raise block[0].error("this terminal is taken: a service runs in it until the end of the page")
        self._settle(key)
        if "background" in marks:
            # A shell reads on when it has done the one before.
            self._busy[key] = block
            for begun in block:
                self._begin(begun, key)
            return
        for begun in block:
            self._begin(begun, key)
            if begun.last and "service" in marks:
                self._busy[key] = [begun]
                if begun.shown is not None and not begun.running.prints(begun.pattern(whole=False), self.translate):
                    raise begun.error("this was not printed", self.translate)
            elif begun.last and "repeat" in marks:
                self._repeat(begun, key)
            else:
                begun.check(self.translate)

    def _repeat(self, begun: Begun, key: tuple[str, str]) -> None:
        deadline = time.monotonic() + REPEAT_S
        while (wrong := begun.wrong(self.translate)) is not None:
            if time.monotonic() > deadline:
                raise wrong
            time.sleep(0.1)
            self._begin(begun, key)

    def _begin(self, begun: Begun, key: tuple[str, str]) -> None:
        code = self.here(begun.code)
        terminal = self._terminal(key)
        if isinstance(terminal, Shell):
            begun._running = terminal.begin(code, person="person" in begun.snippet.marks)
        else:
            begun._running = terminal.begin(code, self.page.path, begun.line)

    def _terminal(self, key: tuple[str, str]) -> Shell | Interpreter:
        if key not in self._terminals:
            make = Interpreter if key[1] == "python" else Shell
            terminal = make(folder=self.home, desk=self.folder / "desk" / "-".join(key), environment=self.environment)
            self.after.callback(terminal.close)
            self._terminals[key] = terminal
        return self._terminals[key]

    def _settle(self, key: tuple[str, str]) -> None:
        """What this terminal is busy with has to end, as it said; a service only must not have failed."""
        for begun in self._busy.pop(key, ()):
            if "service" not in begun.snippet.marks:
                begun.check(self.translate)
            elif begun.running.wait(0) not in (None, "0"):
                raise begun.error("it ended", self.translate)


@dataclass
class Begun:
    """A command or a block, with what it is to print and how it is to end."""

    snippet: Snippet
    line: int
    code: str
    shown: str | None
    last: bool = True
    _running: Running | None = None

    @property
    def running(self) -> Running:
        assert self._running is not None
        return self._running

    @property
    def kind(self) -> str:
        return "python" if self.snippet.language == "python" else "shell"

    def pattern(self, *, whole: bool = True) -> re.Pattern[str]:
        return re.compile(pattern(self.shown or "") + (r"\s*\Z" if whole else ""))

    def error(self, what: str, translate: dict[str, str] | None = None) -> PageError:
        said = f"{what}\n--- run\n{self.code}"
        if self.shown is not None:
            said += f"\n--- shown\n{self.shown}"
        if self._running is not None:
            said += f"\n--- printed\n{back(self.running.printed(), translate or {})}"
        return PageError.at(self.snippet.page, self.line, said)

    def wrong(self, translate: dict[str, str]) -> PageError | None:
        """What is not as it is shown, once it has ended."""
        code = self.running.wait()
        if code is None:
            return self.error(f"it takes more than {SNIPPET_S:g} s", translate)
        expected = self.snippet.marks.get("exit", "0") if self.last else "0"
        if code != expected:
            return self.error(f"exit code {code}, expected {expected}", translate)
        if self.shown is not None:
            printed = "".join(f"{line.rstrip()}\n" for line in back(self.running.printed(), translate).splitlines())
            if not self.pattern().match(printed):
                return self.error("it prints something else than is shown", translate)
        return None

    def check(self, translate: dict[str, str]) -> None:
        if (wrong := self.wrong(translate)) is not None:
            raise wrong


def _read_toml(snippet: Snippet) -> None:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found]  # needed, and installed, before 3.11
    try:
        tomllib.loads(snippet.code)
    except ValueError as error:
        raise snippet.error(f"this is not TOML: {error}") from None


def follow(page: Page) -> None:
    """Runs a page in a home, with a relay and terminals of its own, and leaves nothing behind."""
    # Short: the path of a Unix socket has at most 100 bytes.
    folder = Path(tempfile.mkdtemp(prefix="docs-"))
    with ExitStack() as after:
        after.callback(shutil.rmtree, folder, ignore_errors=True)
        after.callback(_end_daemons, folder)
        Reader(page, folder, after).follow()


def _end_daemons(folder: Path) -> None:
    """Ends the daemons of every home under this folder."""
    for lock in folder.rglob("daemon.lock"):
        with suppress(ValueError, OSError):
            json.loads(lock.read_text())
            Home(lock.parents[1], None, []).clear()
