#!/usr/bin/env python3
"""Writes docs/reference/ from the code: `make reference`, or `.venv/bin/python scripts/reference.py`.

The command line's page is what the installed program prints; the others are read from the sources, which hold the words
already: doc comments of the Rust tables, docstrings of the Python package. The same code gives the same bytes.
tests/python/test_reference.py compares them with what is committed.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sysconfig
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "python" / "p2p_comm"
PAGES = REPOSITORY / "docs" / "reference"

MADE = "<!-- Written by scripts/reference.py (`make reference`). Change the code it is made from, not this page. -->\n"


def page(title: str, *parts: str) -> str:
    """A whole page."""
    return "\n".join([f"# {title}\n", MADE, *(part.rstrip() + "\n" for part in parts)])


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of Markdown; a `|` in a cell is escaped."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


# --- the command line ---------------------------------------------------------------------------------------------


def command_line() -> str:
    """The help of every verb, as it is printed."""
    program = Path(sysconfig.get_path("scripts")) / "p2p-comm"
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, "COLUMNS": "100"}

        def printed(*words: str) -> str:
            done = subprocess.run([program, *words], env=environment, capture_output=True, text=True, check=True)
            return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())

        # The completions know every verb, and the verbs of verbs.
        verbs = re.findall(r'^ +"([a-z][a-z -]*)"\) words=', printed("completions", "bash"), re.MULTILINE)
        parts = [
            "What each verb prints when it is asked for `--help`. The contract behind it (output, exit codes, JSON) is "
            "[cli.md](../cli.md).",
            f"## p2p-comm\n\n```text\n{printed('--help')}\n```",
        ]
        for verb in verbs:
            depth = "##" if " " not in verb else "###"
            parts.append(f"{depth} {verb}\n\n```text\n{printed(*verb.split(), '--help')}\n```")
    return page("Commands", *parts)


# --- tables of the Rust sources -----------------------------------------------------------------------------------


def rust(path: str) -> str:
    """A source file, without its tests."""
    return (REPOSITORY / "src" / path).read_text(encoding="utf-8").partition("#[cfg(test)]")[0]


def body(source: str, start: str) -> str:
    """What stands between the braces behind `start`."""
    begin = source.index("{", source.index(start)) + 1
    depth, at = 1, begin
    while depth:
        depth += {"{": 1, "}": -1}.get(source[at], 0)
        at += 1
    return source[begin : at - 1]


def documented(source: str, item: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Each line that matches `item`, with the doc comment above it."""
    words: list[str] = []
    for line in source.splitlines():
        line = line.strip()
        if line.startswith("///"):
            words.append(line[3:].strip())
        elif line.startswith("#["):
            continue
        else:
            if found := re.fullmatch(item, line):
                yield " ".join(words), found
            words = []


def events() -> str:
    """The kinds of event."""
    source = rust("proto/words.rs")
    quiet = set(re.findall(r"Self::(\w+)", body(source, "fn only_when_asked")))
    rows = [
        (f"`{found[2]}`", about, "only if asked for" if found[1] in quiet else "yes")
        for about, found in documented(body(source, "pub enum EventKind"), r'(\w+) = "([^"]+)",')
    ]
    return page(
        "Events",
        "What `p2p-comm wait` prints, a Python stream yields and the socket's `wait` returns. The list is only added "
        "to. An event stays in the journal for 30 days; what each carries is in [cli.md](../cli.md#json).",
        table(("kind", "when", "comes by itself"), rows),
    )


def hints() -> dict[str, list[str]]:
    """The hints that stand in the sources as they are, by the variant of their error."""
    found: dict[str, set[str]] = {}
    for path in sorted((REPOSITORY / "src").rglob("*.rs")):
        if "tests" in path.parts or path.name == "tests.rs":
            continue
        source = path.read_text(encoding="utf-8").partition("#[cfg(test)]")[0]
        for call in re.finditer(r"Error::new\(\s*(?:api::)?(?:Error)?Kind::(\w+),", source):
            last = re.search(r'"((?:[^"\\]|\\.)*)"\s*,?\s*$', arguments(source, call.end()))
            if last and last[1] and "{" not in last[1]:
                found.setdefault(call[1], set()).add(re.sub(r"\\\s*\n\s*", "", last[1]).replace('\\"', '"'))
    return {variant: sorted(texts) for variant, texts in found.items()}


def arguments(source: str, at: int) -> str:
    """What stands up to the bracket that closes a call, the last argument of several only."""
    depth, last, quoted = 1, at, False
    for position in range(at, len(source)):
        character = source[position]
        if character == '"' and source[position - 1] != "\\":
            quoted = not quoted
        elif not quoted and character in "([{":
            depth += 1
        elif not quoted and character in ")]}":
            depth -= 1
            if not depth:
                return source[last:position]
        elif not quoted and depth == 1 and character == "," and source[position + 1 : position + 40].strip()[:1] != ")":
            last = position + 1
    raise ValueError("a call without an end")


def errors() -> str:
    """The codes of errors."""
    source, texts = rust("api/error.rs"), hints()
    classes = python_classes()
    rows, parts = [], []
    for about, found in documented(body(source, "error_kinds! {\n"), r'(\w+) = "([^"]+)" => (\d+),'):
        rows.append((f"`{found[2]}`", found[3], f"`{classes[found[2]]}`", about))
        if found[1] in texts:
            parts.append(f"### {found[2]}\n\n" + "\n".join(f"* {text}" for text in texts[found[1]]))
    return page(
        "Errors",
        'Every error has a code, a message and a hint: `{"error": {"code", "message", "hint"}}` with `--json`, '
        "the attributes `kind`, `message` and `hint` of an exception in Python, `data` of an error on the socket. "
        "Codes are only added to. `exit` is the exit code of the command line.",
        table(("code", "exit", "in Python", "when"), rows),
        "## Hints\n\nWhat errors of each code say of what to do, where those words stand in the code as they are. "
        "Others name the file, the call or the agent that they are about.",
        *parts,
    )


def python_classes() -> dict[str, str]:
    """Which exception has which code: the table of `p2p_comm.errors`."""
    tree = ast.parse((PACKAGE / "errors.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict) and node.keys and all(isinstance(value, ast.Name) for value in node.values):
            pairs = zip(node.keys, node.values, strict=True)
            return {key.value: value.id for key, value in pairs if isinstance(key, ast.Constant)}  # type: ignore[attr-defined]
    raise ValueError("errors.py has no table of classes")


def settings() -> str:
    """The settings of `config.toml`."""
    source = rust("home/settings/keys.rs")
    rows = []
    entry = re.compile(
        r"(?P<head>Key \{(?P<flags>[^}]*?)\.\.)?key\(\s*"
        r'"(?P<name>\w+)",\s*(?:Some\("(?P<variable>\w+)"\)|None),\s*"(?P<about>(?:[^"\\]|\\.)*)"'
    )
    for found in entry.finditer(source[source.index("pub static KEYS") :]):
        flags = found["flags"] or ""
        variable = f"`{found['variable']}`" if found["variable"] else ""
        live = "at once" if "live: true" in flags else "at the next start"
        first = "yes" if "remembered: true" in flags else ""
        rows.append((f"`{found['name']}`", variable, found["about"], live, first))
    count = int(re.findall(r"KEYS: \[Key; (\d+)\]", source)[0])
    if len(rows) != count:
        raise ValueError(f"{len(rows)} settings were read, and keys.rs has {count}")
    return page(
        "Settings",
        "In `<home>/p2p-comm/config.toml`; `p2p-comm config show` prints what is in force and where it comes from. "
        "A flag (`daemon start --set KEY=VALUE`) counts more than a variable, that more than the file, and that more "
        "than the default. [cli.md](../cli.md#settings) has the defaults.",
        table(("setting", "variable", "what it is", "a running daemon takes it", "written at the first start"), rows),
    )


def socket() -> str:
    """The commands of the socket."""
    source = rust("api/command.rs")
    parts = [
        "The methods that the engine answers, with their parameters. How the socket is found and spoken to is "
        "[ipc.md](../ipc.md); the replies are the objects of [cli.md](../cli.md#json).",
        *(method(kebab(name), about, fields) for name, about, fields in variants(body(source, "pub enum Command"))),
        "## The actions of contact-edit\n\n`action` says which, the other parameters depend on it.",
        *(
            method(kebab(name), about, fields, depth="###")
            for name, about, fields in variants(body(source, "pub enum ContactEdit"))
        ),
    ]
    return page("Commands of the socket", *parts)


def kebab(name: str) -> str:
    """As serde writes a variant."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def variants(source: str) -> Iterator[tuple[str, str, str]]:
    """Each variant of an enum: its name, its doc comment, and what stands in its braces."""
    at = 0
    while found := re.compile(r"((?:\s*///[^\n]*\n)+)\s*(\w+)\s*(\{|\()").search(source, at):
        about = " ".join(line.strip()[3:].strip() for line in found[1].strip().splitlines())
        if found[3] == "(":
            fields, at = "", source.index(")", found.end())
        else:
            fields = body(source[found.end() - 1 :], "")
            at = found.end() + len(fields)
        yield found[2], about, fields


RUST_TYPES = {
    "String": "text",
    "bool": "true or false",
    "f64": "number",
    "usize": "whole number",
    "u64": "whole number",
    "CallId": "id of a call",
    "MessageId": "id of a message",
    "TicketId": "id of a question",
    "MessageState": "state",
    "EventKind": "kind of event",
    "TraceParent": "W3C traceparent",
}


def method(name: str, about: str, fields: str, *, depth: str = "##") -> str:
    """A method with the table of its parameters."""
    about = re.sub(r"\[`?(?:super::)?(?:types::)?(\w+)`?\]", r"`\1`", about.replace("[`Command::Commit`]", "`commit`"))
    rows = []
    for said, found in documented(fields, r"(\w+): (.+),"):
        kind = found[2]
        many = re.fullmatch(r"Vec<(\w+)>", kind)
        maybe = re.fullmatch(r"Option<(\w+)>", kind)
        inner = (many or maybe)[1] if many or maybe else kind  # type: ignore[index]
        if (words := RUST_TYPES.get(inner)) is None:
            raise ValueError(f"say in RUST_TYPES of scripts/reference.py what {inner} is in JSON")
        optional = re.search(rf"#\[serde\(default\)\]\s*{found[1]}:", fields) is not None
        rows.append((f"`{found[1]}`", f"list of: {words}" if many else words, "" if optional else "yes", said))
    text = f"{depth} {name}\n\n{about}\n"
    return text + ("\n" + table(("parameter", "type", "required", ""), rows) if rows else "")


# --- the Python package -------------------------------------------------------------------------------------------

MODULES = {
    "agent": "Agents",
    "call": "Calls",
    "events": "What a call yields",
    "models": "Values",
    "errors": "Errors",
    "serving": "Answering calls",
    "sync": "Without await",
    "testing": "A network for tests",
}


def python() -> str:
    """Public names, their signatures and docstrings."""
    parts = [
        "From the docstrings; [python.md](../python.md) explains it in the order in which one needs it. What is not "
        "named with its module is imported from `p2p_comm`.",
    ]
    for name, title in MODULES.items():
        tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        public = exported(tree)
        where = f"p2p_comm.{name}" if name in ("sync", "testing") else "p2p_comm"
        parts.append(f"## {title}\n\n`{where}`. {prose(ast.get_docstring(tree) or '')}")
        for node in tree.body:
            if getattr(node, "name", None) not in public:
                continue
            if isinstance(node, ast.ClassDef):
                parts.append(a_class(node))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                parts.append(a_function(node, "###"))
    parts.append(the_tools())
    parts.append(the_frameworks())
    return page("Python names", *parts)


def exported(tree: ast.Module) -> set[str]:
    """`__all__` of a module."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise ValueError("a module without __all__")


def a_class(node: ast.ClassDef) -> str:
    """A class: how it is made, its fields, its methods."""
    bases = [ast.unparse(base) for base in node.bases if not ast.unparse(base).startswith(("Generic", "Protocol"))]
    lines = [f"### {node.name}\n"]
    if bases:
        lines.append(f"*Is a* {', '.join(f'`{base}`' for base in bases)}.\n")
    made = next((it for it in node.body if isinstance(it, ast.FunctionDef) and it.name == "__init__"), None)
    if made is not None and not is_private(node):
        lines.append(f"`{node.name}{signature(made, bound=True)}`\n")
    lines.append(prose(ast.get_docstring(node) or "") + "\n")
    fields = list(the_fields(node))
    if fields:
        lines.append(table(("field", "type", ""), fields))
    for item in node.body:
        is_function = isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and not item.name.startswith("_") and ast.get_docstring(item):
            lines.append(a_function(item, "####", owner=node.name))
    return "\n".join(lines)


def is_private(node: ast.ClassDef) -> bool:
    """Whether nobody is meant to call the class: its first argument is something of ours."""
    made = next(it for it in node.body if isinstance(it, ast.FunctionDef) and it.name == "__init__")
    return any(argument.arg in ("session", "agent", "running") for argument in made.args.args[1:])


def the_fields(node: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Annotated fields of a data class, with the string below each."""
    for item, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(item, ast.AnnAssign) or ast.unparse(item.target).startswith("_"):
            continue
        about = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            about = " ".join(after.value.value.split())
        yield f"`{ast.unparse(item.target)}`", f"`{ast.unparse(item.annotation)}`", about


def a_function(node: ast.FunctionDef | ast.AsyncFunctionDef, depth: str, owner: str = "") -> str:
    """A function or a method."""
    decorators = [ast.unparse(it) for it in node.decorator_list]
    name = f"{owner}.{node.name}" if owner else node.name
    if "property" in decorators:
        returned = f": {annotation(node.returns)}" if node.returns else ""
        shown = f"{node.name}{returned}"
    else:
        awaited = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
        bound = bool(owner) and "staticmethod" not in decorators
        shown = f"{awaited}{node.name}{signature(node, bound=bound)}"
    return f"{depth} {name}\n\n`{shown}`\n\n{prose(ast.get_docstring(node) or '')}\n"


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool) -> str:
    """The arguments and what is returned; without `self`."""
    arguments = ast.parse(ast.unparse(node.args).join(("def f(", "): ..."))).body[0].args  # type: ignore[attr-defined]
    if bound:
        del arguments.args[0]
    returned = "" if node.returns is None or node.name == "__init__" else f" -> {annotation(node.returns)}"
    return f"({re.sub('(?<! )=(?! )', ' = ', ast.unparse(arguments))}){returned}"


def annotation(node: ast.expr) -> str:
    """A type; one that stands in quotes without them."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)


SECTIONS = {
    "Args": "Arguments",
    "Raises": "Raises",
    "Returns": "Returns",
    "Attributes": "Attributes",
    "Yields": "Yields",
}


def prose(docstring: str) -> str:
    """A docstring of Google's style as Markdown: sections as lists, indented examples as blocks."""
    out: list[str] = []
    lines = docstring.splitlines()
    at, fenced = 0, False
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith("```"):
            fenced = not fenced
            out.append("```text" if fenced else line)
        elif not fenced and line.rstrip(":") in SECTIONS and line.endswith(":"):
            out += [f"*{SECTIONS[line.rstrip(':')]}*", ""]
            block, at = indented(lines, at)
            out += items(block)
        elif not fenced and line.startswith("    "):
            block, at = indented(lines, at - 1)
            out += ["<!-- not run: an excerpt; python.md has it whole -->", "```python", *block, "```"]
        else:
            out.append(line)
    return "\n".join(out).strip()


def indented(lines: list[str], at: int) -> tuple[list[str], int]:
    """The indented lines from `at` on, without their indent, and where they end."""
    end = at
    while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
        end += 1
    block = lines[at:end]
    while block and not block[-1].strip():
        block.pop()
    return textwrap.dedent("\n".join(block)).splitlines(), at + len(block)


def items(block: list[str]) -> list[str]:
    """`name: words` as items of a list; other lines go on with the one before."""
    out: list[str] = []
    for line in block:
        if found := re.match(r"(\*{0,2}\w+)(?: \([^)]*\))?: (.*)", line):
            out.append(f"* `{found[1]}`: {found[2]}")
        elif out:
            out[-1] += " " + line.strip()
        else:
            out.append(line.strip())
    return out


def the_tools() -> str:
    """The tools for language models, as the model reads them."""
    tree = ast.parse((PACKAGE / "tools.py").read_text(encoding="utf-8"))
    parts = [
        "## Tools for language models\n\nWhat `agent.tools()` returns, in this order. The words are those that the "
        "model reads.\n"
    ]
    function = next(it for it in tree.body if isinstance(it, ast.FunctionDef) and it.name == "functions")
    parts += [a_function(it, "###") for it in function.body if isinstance(it, ast.AsyncFunctionDef)]
    return "\n".join(parts)


def the_frameworks() -> str:
    """The modules of `p2p_comm.integrations`."""
    rows = []
    for path in sorted((PACKAGE / "integrations").glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [it.name for it in tree.body if isinstance(it, ast.FunctionDef) and not it.name.startswith("_")]
        about = " ".join((ast.get_docstring(tree) or "").partition("\n\n")[0].split())
        rows.append((f"`p2p_comm.integrations.{path.stem}`", ", ".join(f"`{name}`" for name in names), about))
    return "## Frameworks\n\n" + table(("module", "names", ""), rows)


def pages() -> dict[str, str]:
    """Every page of the reference that is made, by its file name."""
    return {
        "commands.md": command_line(),
        "errors.md": errors(),
        "events.md": events(),
        "python-names.md": python(),
        "settings.md": settings(),
        "socket.md": socket(),
    }


def main() -> None:
    """Writes what has changed."""
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        path = PAGES / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: docs/reference/{name}")  # noqa: T201


if __name__ == "__main__":
    main()
