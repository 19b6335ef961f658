"""Every snippet of README.md and docs/ is run, or says why not. And the runner: what it would not let pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parts.pages import follow
from parts.process import REPOSITORY
from parts.snippets import PageError, read_page

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_does_what_it_says(path: Path) -> None:
    page = read_page(path)
    if page.is_run:
        follow(page)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_stand_in_fences(path: Path) -> None:
    """An indented block is not run, so nothing that a reader would type may stand in one without a reason."""
    fenced, reason = False, False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        if line and not line.startswith("    "):
            reason = line.startswith("<!-- not run: ")
        typed = re.match(r"(    |\t)(\$ |p2p-comm |pip |make |python |import |from \w+ import |async with )", line)
        assert fenced or reason or not typed, f"{path}:{number}: {line.strip()}"


def run(folder: Path, text: str) -> None:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    follow(read_page(path))


def test_what_is_shown_is_what_is_printed(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
```console
$ export WORD=one; cd /home/you
$ echo "$WORD two"; pwd
one …
/home/you
$ printf '1\\n2\\n3\\n'
1
…
3
```

<!-- terminal: other -->
```console
$ echo "${WORD-none}"
none
```

```python
import asyncio
word = await asyncio.sleep(0, "three")
```

```python
print(word)
```

```output
three
```

<!-- file: there/it.sh -->
```sh
echo from a file
```

<!-- exit: 3 -->
```console
$ bash there/it.sh
from a file
$ exit_with() { return "$1"; }; exit_with 3
```

<!-- service -->
```console
$ echo ready; sleep 600
ready
```

<!-- terminal: later, background -->
```console
$ until [ -e now ]; do sleep 0.01; done; cat now
it is there
```

<!-- hidden console, terminal: third
$ echo "it is there" > then; mv then now
-->

<!-- terminal: third, person -->
```console
$ [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo a person
a person
```

<!-- terminal: third, repeat -->
```console
$ echo . >> dots; wc -l < dots
3
```

<!-- not run: it is longer than a test -->
```console
$ sleep 10000
```

```json
{"a": [1]}
```

```text
Nothing is done with this.
```
""",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```\nx\n```", "without a language"),
        ("```ruby\nx\n```", "nothing runs"),
        ("```console\nx\n```", "begins with"),
        ("<!-- later -->\n```sh\nx\n```", "none of the marks"),
        ("<!-- not run: -->\n```sh\nx\n```", "needs a reason"),
        ("```sh\nx\n", "no end"),
        ("<!-- not run: there is no model -->\n```python\nawait …\n```", "not Python"),
        ("```json\n{…}\n```", "not JSON"),
        ("```toml\na = \n```", "not TOML"),
        ("```output\nx\n```", "stands behind"),
        ("```console\n$ echo two\none\n```", "something else"),
        ("```console\n$ printf 'one\\ntwo\\n'\none\n```", "something else"),
        ("```console\n$ false\n```", "exit code 1"),
        ("```console\n$ false\n$ true\n```", "exit code 1"),
        ("<!-- exit: 1 -->\n```console\n$ true\n```", "exit code 0"),
        ("<!-- background -->\n```console\n$ false\n```", "exit code 1"),
        ("<!-- service -->\n```console\n$ echo it fails; exit 4\nready\n```", "not printed"),
        ("<!-- service -->\n```console\n$ sleep 600\n```\n```console\n$ true\n```", "taken"),
        ("```sh\nfalse\ntrue\n```", "exit code"),
        ("```python\nraise ValueError\n```", "exit code 1"),
        ("```python\nprint(1)\n```\n```output\n2\n```", "something else"),
        ("```python\nawait nothing\n```", r"page.md.*, line 2"),
    ],
)
def test_a_page_that_does_something_else_is_found(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(PageError, match=says):
        run(tmp_path, text)
