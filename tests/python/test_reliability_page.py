"""docs/reliability.md names tests. They exist, and no test of a fault is left out."""

from __future__ import annotations

import re

from parts.process import REPOSITORY

PAGE = REPOSITORY / "docs" / "reliability.md"
TESTS = REPOSITORY / "tests" / "python"


def test_the_page_names_every_test_of_a_fault_and_no_test_that_is_not_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    there = {file: set(re.findall(r"def (test_\w+)", file.read_text())) for file in TESTS.rglob("test_*.py")}
    assert named - set().union(*there.values()) == set()
    faults = set().union(*(tests for file, tests in there.items() if file.parent.name == "faults"))
    assert faults - named == set()
