"""Terminals that a page's snippets are typed into: a shell, an interpreter. Each keeps its state between snippets."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from parts.process import end

# No snippet takes longer on a quiet machine than a tenth of this.
SNIPPET_S = 90.0
# And what is repeated until it is as shown is so within seconds.
REPEAT_S = 30.0

# Runs blocks one after the other, in one namespace, `await` allowed, as a notebook does. Each line of standard input
# names the block, the page's line before it, and where its output goes; the exit code goes to what was standard output.
_INTERPRETER = """
import ast, asyncio, os, sys, traceback
said, asked = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(0))
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
names, loop = {"__name__": "__main__"}, asyncio.new_event_loop()
for request in asked:
    block, line, page, output = request.rstrip("\\n").split("\\t")
    there = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(there, 1), os.dup2(there, 2), os.close(there)
    code = 0
    try:
        source = "\\n" * int(line) + open(block, encoding="utf-8").read()
        running = eval(compile(source, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if running is not None:
            loop.run_until_complete(running)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
        isinstance(error.code, str) and print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush(), sys.stderr.flush()
    print(code, file=said, flush=True)
"""


class Terminal:
    """A process that takes one snippet at a time. `folder` is where it begins, `desk` where scripts and output lie."""

    def __init__(
        self, words: list[str], *, folder: Path, desk: Path, environment: Mapping[str, str], keep: int | None = None
    ) -> None:
        self.desk = desk
        desk.mkdir(parents=True)
        self._process = subprocess.Popen(
            words,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,
            pass_fds=() if keep is None else (keep,),
        )
        self._count = 0
        self._answers = b""

    def next_files(self, suffix: str) -> tuple[Path, Path]:
        """Names for the next script and its output."""
        self._count += 1
        return self.desk / f"{self._count}{suffix}", self.desk / f"{self._count}.out"

    def ask(self, line: str) -> None:
        """Hands the process a line. One that has ended says so when it is asked for its answer."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def answer(self, timeout: float) -> str | None:
        """What it answers within the time; None if it does not, and "gone" if it ended."""
        assert self._process.stdout is not None
        answers = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout
        while b"\n" not in self._answers:
            left = max(0.0, deadline - time.monotonic())
            ready = select.select([answers, *self.also_read()], [], [], left)[0]
            if not ready:
                return None
            if answers in ready:
                chunk = os.read(answers, 4096)
                if not chunk:
                    return "gone"
                self._answers += chunk
            self.read()
        answer, _, self._answers = self._answers.partition(b"\n")
        return answer.decode()

    def also_read(self) -> Sequence[int]:
        """What else has to be read while it runs."""
        return []

    def read(self) -> None:
        """Reads it."""

    def close(self) -> None:
        """Ends it, and what runs in it."""
        end(self._process)


@dataclass
class Running:
    """A snippet that was begun."""

    terminal: Terminal
    output: Path
    exit: str | None = None

    def printed(self) -> str:
        """What it has printed so far."""
        with suppress(FileNotFoundError):
            return self.output.read_text(encoding="utf-8", errors="replace")
        return ""

    def wait(self, timeout: float = SNIPPET_S) -> str | None:
        """The exit code, once it has ended; None if it has not in time."""
        if self.exit is None:
            self.exit = self.terminal.answer(timeout)
        return self.exit

    def prints(self, pattern: re.Pattern[str], translate: Mapping[str, str], timeout: float = SNIPPET_S) -> bool:
        """Waits until what is printed begins as the pattern says, or it has ended."""
        deadline = time.monotonic() + timeout
        while not pattern.match(back(self.printed(), translate)):
            if self.wait(0.05) is not None or time.monotonic() > deadline:
                return pattern.match(back(self.printed(), translate)) is not None
        return True


class Shell(Terminal):
    """A bash, in which `cd` and `export` last from snippet to snippet. A person may sit at it, and type nothing."""

    def __init__(self, *, folder: Path, desk: Path, environment: Mapping[str, str]) -> None:
        # Opened here, for a terminal that a shell opens is its controlling one, and takes it along when it is closed.
        self._ours, self._theirs = pty.openpty()
        settings = termios.tcgetattr(self._theirs)
        settings[1] &= ~termios.OPOST  # otherwise each line ends with a carriage return
        termios.tcsetattr(self._theirs, termios.TCSANOW, settings)
        self._shown: Path | None = None
        words = ["bash", "--norc", "--noprofile"]
        super().__init__(words, folder=folder, desk=desk, environment=environment, keep=self._theirs)

    def begin(self, code: str, *, person: bool = False) -> Running:
        """Starts a script. For a `person` its input and output are a terminal, otherwise /dev/null and a file."""
        script, output = self.next_files(".sh")
        script.write_text(code + "\n", encoding="utf-8")
        self._shown = output if person else None
        where = f"<&{self._theirs} >&{self._theirs}" if person else f"</dev/null >{shlex.quote(str(output))}"
        self.ask(f". {shlex.quote(str(script))} {where} 2>&1; code=$?; set +e; echo $code")
        return Running(self, output)

    def also_read(self) -> Sequence[int]:
        return [self._ours] if self._shown is not None else []

    def read(self) -> None:
        if self._shown is not None and select.select([self._ours], [], [], 0)[0]:
            with self._shown.open("ab") as file:
                file.write(os.read(self._ours, 65536))

    def answer(self, timeout: float) -> str | None:
        answer = super().answer(timeout)
        # What was printed last is there by now.
        while answer is not None and self._shown is not None and select.select([self._ours], [], [], 0.05)[0]:
            self.read()
        return answer

    def close(self) -> None:
        super().close()
        os.close(self._ours)
        os.close(self._theirs)


class Interpreter(Terminal):
    """A Python."""

    def __init__(self, *, folder: Path, desk: Path, environment: Mapping[str, str]) -> None:
        words = [sys.executable, "-u", "-c", _INTERPRETER]
        super().__init__(words, folder=folder, desk=desk, environment=environment)

    def begin(self, code: str, page: Path, line: int) -> Running:
        """Starts a block; a traceback names its line of the page."""
        block, output = self.next_files(".py")
        block.write_text(code, encoding="utf-8")
        self.ask("\t".join([str(block), str(line), str(page), str(output)]))
        return Running(self, output)


def back(text: str, translate: Mapping[str, str]) -> str:
    """What was printed, with the page's own words for what is different on each machine."""
    for here, there in translate.items():
        text = text.replace(here, there)
    return text


def pattern(shown: str) -> str:
    """A regular expression of output that is shown: `…` stands for any words, alone on a line for any lines."""
    lines = []
    for line in shown.rstrip("\n").splitlines():
        if line.strip() == "…":
            lines.append(r"(?:[^\n]*\n)*?")
        else:
            words = [re.escape(part) for part in line.rstrip().split("…")]
            lines.append(r"[^\n]*".join(words) + r"[ \t]*\n")
    return "".join(lines)
