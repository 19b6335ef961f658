"""docs/reference/ says what the code says, and llms.txt and README.md lead to pages that are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from p2p_comm import _native
from p2p_comm.errors import P2PError
from parts.process import REPOSITORY

DOCS = REPOSITORY / "docs"
LINKS = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", REPOSITORY / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_gives(reference: ModuleType) -> None:
    stale = [
        name
        for name, text in reference.pages().items()
        if not (DOCS / "reference" / name).exists() or (DOCS / "reference" / name).read_text(encoding="utf-8") != text
    ]
    assert not stale, f"the code says something else: make reference, then look at the difference of {stale}"


def column(page: str, number: int) -> list[str]:
    """The words of a column of the first table of a page of the reference."""
    rows = re.findall(r"^\| `.*$", (DOCS / "reference" / page).read_text(encoding="utf-8"), re.MULTILINE)
    return [re.split(r"(?<!\\)\|", row)[number].strip().strip("`") for row in rows]


def test_the_tables_are_those_of_the_running_program() -> None:
    """The pages are read from the sources; the program that was built from them says the same."""
    assert column("events.md", 1) == list(_native.EVENT_KINDS)
    assert column("errors.md", 1) == list(_native.ERROR_KINDS)
    classes = {cls.__name__ for cls in [*P2PError.__subclasses__(), *P2PError.__subclasses__()[0].__subclasses__()]}
    assert set(column("errors.md", 3)) <= classes


def test_a_change_of_the_code_changes_the_reference(reference: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before, read = reference.events(), reference.rust
    monkeypatch.setattr(reference, "rust", lambda path: read(path).replace("A peer calls.", "It rings."))
    assert reference.events() == before.replace("| A peer calls. |", "| It rings. |") != before


@pytest.mark.parametrize(
    "page",
    [DOCS / "llms.txt", *(REPOSITORY / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"))],
    ids=lambda path: path.name,
)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = LINKS.findall(page.read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_llms_txt_names_every_page() -> None:
    """In the form of llmstxt.org: a title, a summary, lists of links under headings."""
    text = (DOCS / "llms.txt").read_text(encoding="utf-8")
    assert re.match(r"# [^\n]+\n\n> [^\n]+\n", text)
    for section in re.split(r"^## .*\n", text, flags=re.MULTILINE)[1:]:
        assert all(re.match(r"- \[[^]]+\]\([^)]+\)", line) for line in section.splitlines() if line)
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    # Pages that only lead to others, and the records of decisions.
    leading = {"index.md", "how-to/index.md", "reference/index.md", "explanation/index.md", "explanation/decisions.md"}
    decisions = {page for page in pages if page.startswith("decisions/")}
    assert pages - leading - decisions == set(LINKS.findall(text))


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    named = set(re.findall(r": ([\w./-]+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert {page for page in pages if not page.startswith("decisions/")} == named


def test_every_decision_is_in_the_list_of_decisions() -> None:
    page = DOCS / "explanation" / "decisions.md"
    listed = [(page.parent / target).resolve() for target in LINKS.findall(page.read_text(encoding="utf-8"))]
    assert listed == sorted((DOCS / "decisions").resolve().glob("*.md"))
