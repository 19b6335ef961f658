"""What the rows of the fault table have in common: three relays, and two agents that see each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from parts import relays
from parts.fixtures import new_legacy_peer

__all__ = ["new_legacy_peer", "three_relays"]


@pytest.fixture(scope="module")
def three_relays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The addresses of three embedded relays."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(relays.embedded_relay(tmp_path_factory.mktemp(f"relay-{number}"))).url
            for number in range(3)
        ]
