"""The snippets of a page of documentation: fenced blocks, and what comments before them say of how they are run.

CONTRIBUTING.md ("Pages whose snippets run") says it to whoever writes a page.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

# What is done with a block of a language. Blocks of any other have to say why they are not run.
RUN = ("console", "sh", "python", "output", "json", "toml")
SHOWN = "text"

MARKS = ("terminal", "background", "service", "repeat", "person", "exit", "file")
PAGE_MARKS = ("own relay", "ports")

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`]*)$")
_COMMENT = re.compile(r"^ *<!--(?P<text>.*)-->\s*$")
_HIDDEN = re.compile(r"^ *<!-- hidden (?P<text>.*?)$")


class PageError(AssertionError):
    """A page that cannot be run as it is written, or whose snippet does something else than it says."""

    @classmethod
    def at(cls, page: Path, line: int, message: str) -> PageError:
        """At a line of a page."""
        return cls(f"{page}:{line}: {message}")

    @classmethod
    def of(cls, *errors: PageError) -> PageError:
        """Several in one."""
        return cls("\n\n".join(map(str, errors)))


@dataclass(frozen=True)
class Command:
    """One command of a console block, and the output that is shown; None where none is."""

    line: int
    code: str
    shown: str | None


@dataclass(frozen=True)
class Snippet:
    """A fenced block."""

    page: Path
    line: int
    language: str
    code: str
    marks: dict[str, str] = field(default_factory=dict)
    not_run: str | None = None
    shown: str | None = None
    """Of a `python` block: the `output` block behind it."""

    def error(self, message: str) -> PageError:
        """Something is wrong with this snippet."""
        return PageError.at(self.page, self.line, message)

    def commands(self) -> list[Command]:
        """The commands of a console block: `$ ` begins one, `> ` goes on with it, all else is output."""
        commands: list[Command] = []
        for number, line in enumerate(self.code.splitlines(), self.line + 1):
            if line.startswith("$ "):
                commands.append(Command(number, line[2:], None))
            elif not commands:
                raise self.error("a console block begins with `$ ` and a command")
            elif line.startswith("> ") and commands[-1].shown is None:
                last = commands[-1]
                commands[-1] = Command(last.line, f"{last.code}\n{line[2:]}", None)
            else:
                last = commands[-1]
                commands[-1] = Command(last.line, last.code, (last.shown or "") + line + "\n")
        if not commands:
            raise self.error("a console block without a command")
        return commands


@dataclass
class Page:
    """A page: its snippets, and what it says of itself as a whole."""

    path: Path
    snippets: list[Snippet] = field(default_factory=list)
    own_relay: bool = False
    ports: list[str] = field(default_factory=list)

    @property
    def is_run(self) -> bool:
        """Whether it has anything that is more than looked at."""
        return any(it.not_run is None and it.language in ("console", "sh", "python", "toml") for it in self.snippets)


def read_page(path: Path) -> Page:
    """Takes a page apart; raises PageError where a block does not say what is to be done with it."""
    page = Page(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    comments: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if hidden := _HIDDEN.match(line):
            language, _, marks = hidden["text"].partition(",")
            end = _find(lines, number, lambda it: it.strip() == "-->", page, "a hidden block ends with `-->`")
            _add(page, number, language.strip(), lines[number:end], [marks] if marks.strip() else [])
            number, comments = end + 1, []
        elif comment := _COMMENT.match(line):
            text = comment["text"].strip()
            if text.startswith("page:"):
                _page_mark(page, number, text.removeprefix("page:").strip())
            else:
                comments.append(text)
        elif fence := _FENCE.match(line):
            closing = re.compile(rf"^ *{fence['ticks']}`*\s*$")
            end = _find(lines, number, closing.match, page, "this block has no end")
            language = (fence["info"].split() or [""])[0]
            _add(page, number, language, lines[number:end], comments)
            number, comments = end + 1, []
        elif line.lstrip().startswith("~~~"):
            raise PageError.at(path, number, "blocks are fenced with ```")
        elif line.strip():
            comments = []
    return page


def _find(lines: list[str], start: int, is_end: object, page: Page, message: str) -> int:
    assert callable(is_end)
    for number in range(start, len(lines)):
        if is_end(lines[number]):
            return number
    raise PageError.at(page.path, start, message)


def _page_mark(page: Page, line: int, text: str) -> None:
    for mark in text.split(";"):
        name, _, value = (part.strip() for part in mark.partition(":"))
        if name == "own relay":
            page.own_relay = True
        elif name == "ports" and re.fullmatch(r"\d+( \d+)*", value):
            page.ports += value.split()
        else:
            raise PageError.at(page.path, line, f"{mark.strip()!r} is not one of {', '.join(PAGE_MARKS)}")


def _add(page: Page, line: int, language: str, code: list[str], comments: list[str]) -> None:
    text = dedent("\n".join(code)) + "\n"
    marks, not_run = _marks(page, line, comments)
    snippet = Snippet(page.path, line, language, text, marks, not_run)
    if not language:
        raise snippet.error("a block without a language; `text` is for what is only looked at")
    if not_run is None and "file" not in marks and language not in (*RUN, SHOWN):
        raise snippet.error(f"nothing runs a block of {language!r}: mark it `<!-- not run: why -->`")
    if language == "output":
        before = page.snippets[-1] if page.snippets else None
        if before is None or before.language != "python" or before.shown is not None:
            raise snippet.error("an `output` block stands behind the `python` block that prints it")
        page.snippets[-1] = Snippet(
            before.page, before.line, before.language, before.code, before.marks, before.not_run, text
        )
        return
    if language == "python" and not _is_python(text):
        raise snippet.error("this is not Python")
    if not_run is None and language == "json" and not _is_json(text):
        raise snippet.error("this is not JSON; if something is left out, mark it `<!-- not run: why -->`")
    page.snippets.append(snippet)


def _marks(page: Page, line: int, comments: list[str]) -> tuple[dict[str, str], str | None]:
    marks: dict[str, str] = {}
    for comment in comments:
        if comment.startswith("not run"):
            reason = comment.removeprefix("not run").lstrip(":").strip()
            if len(reason.split()) < 2:
                raise PageError.at(page.path, line, "`not run` needs a reason")
            return {}, reason
        for mark in comment.split(","):
            name, _, value = (part.strip() for part in mark.partition(":"))
            if name not in MARKS:
                raise PageError.at(page.path, line, f"{name!r} is none of the marks {', '.join(MARKS)}")
            if (name in ("terminal", "exit", "file")) != bool(value):
                raise PageError.at(page.path, line, f"the mark {name!r} {'takes no' if value else 'needs a'} value")
            marks[name] = value
    return marks, None


def _is_python(text: str) -> bool:
    """As in a cell of a notebook. One that is not run has to be Python all the same."""
    try:
        compile(text, "", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    except SyntaxError:
        return False
    return True


def _is_json(text: str) -> bool:
    """One value, or one a line."""
    try:
        json.loads(text)
    except ValueError:
        try:
            for line in text.splitlines():
                json.loads(line)
        except ValueError:
            return False
    return True
