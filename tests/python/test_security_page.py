"""docs/security.md names the tests that show what it says: each exists, under the name that it is given."""

from __future__ import annotations

import re

import pytest

from parts.process import REPOSITORY

PAGE = REPOSITORY / "docs" / "security.md"
LINKS = re.findall(r"\[([^\]]+)\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "target"), LINKS)
def test_what_the_page_points_to_is_there(name: str, target: str) -> None:
    path = (PAGE.parent / target).resolve()
    assert path.is_relative_to(REPOSITORY)
    assert path.is_file(), target
    if re.fullmatch(r"[a-z][a-z0-9_]*", name):
        assert re.search(rf"\b(fn|def) {name}\(", path.read_text(encoding="utf-8")), f"{name} is not in {target}"


def test_the_page_names_tests() -> None:
    assert sum(1 for name, _ in LINKS if re.fullmatch(r"[a-z][a-z0-9_]*", name)) > 30
