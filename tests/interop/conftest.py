"""Fixtures for the interop tests; they live in tests/python/parts."""

from parts.fixtures import (
    agents,
    embedded_relay,
    new_home,
    new_legacy_peer,
    pypi_relay,
    relay_url,
    rs_relay,
)

__all__ = ["agents", "embedded_relay", "new_home", "new_legacy_peer", "pypi_relay", "relay_url", "rs_relay"]
