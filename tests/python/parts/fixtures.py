"""The fixtures of both test folders; their conftest files import them.

A relay lives as long as a module's tests, since it takes seconds to start; every agent id and key is a test's
own, so that tests on one relay do not meet.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from parts import relays
from parts.home import Home
from parts.legacy import LegacyPeer, legacy_peer


@pytest.fixture(scope="module")
def embedded_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an embedded relay."""
    with relays.embedded_relay(tmp_path_factory.mktemp("embedded")) as relay:
        yield relay.url


@pytest.fixture(scope="module")
def pypi_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the independent relay of the Python package registry."""
    with relays.pypi_relay(tmp_path_factory.mktemp("pypi")) as relay:
        yield relay.url


@pytest.fixture(scope="module")
def rs_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the independent relay of the Rust package registry."""
    with relays.rs_relay(tmp_path_factory.mktemp("rs")) as relay:
        yield relay.url


@pytest.fixture(scope="module", params=["embedded", "pypi", pytest.param("rs", marks=pytest.mark.soak)])
def relay_url(request: pytest.FixtureRequest) -> str:
    """Each relay in turn; the one that takes long to build only in `make soak`."""
    return str(request.getfixturevalue(f"{request.param}_relay"))


class NewHome(Protocol):
    """Makes a home whose agent id begins with `label` and is nobody else's."""

    def __call__(self, label: str, *relay_urls: str, unique: bool = True, **environment: str) -> Home: ...


@pytest.fixture
def new_home(tmp_path: Path) -> Iterator[NewHome]:
    """A factory of homes, whose daemons are ended after the test."""
    with ExitStack() as after:

        def make(label: str, *relay_urls: str, unique: bool = True, **environment: str) -> Home:
            agent_id = f"{label}-{uuid.uuid4().hex[:6]}" if unique else label
            folder = tmp_path / f"{label}-{uuid.uuid4().hex[:4]}"
            home = Home(folder, agent_id, list(relay_urls), environment)
            after.callback(home.clear)
            return home

        yield make


@pytest.fixture
def agents(relay_url: str, new_home: NewHome) -> tuple[Home, Home]:
    """Alice and Bob on one relay, both up, each of whom sees the other."""
    alice, bob = new_home("alice", relay_url), new_home("bob", relay_url)
    for home in (alice, bob):
        home.ok("status")
    alice.sees(str(bob.agent_id))
    bob.sees(str(alice.agent_id))
    return alice, bob


@pytest.fixture
def new_legacy_peer(tmp_path: Path, relay_url: str) -> Iterator[Callable[[str], LegacyPeer]]:
    """A factory of legacy peers on the relay, with agent ids of their own; they are ended after the test."""
    with ExitStack() as after:

        def make(label: str) -> LegacyPeer:
            unique = f"{label}-{uuid.uuid4().hex[:6]}"
            return after.enter_context(legacy_peer(tmp_path / unique, relay_url, unique))

        yield make
