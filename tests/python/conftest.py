"""Fixtures for the tests of the package and its command line; they live in `parts`."""

from parts.fixtures import agents, embedded_relay, new_home, pypi_relay, relay_url, rs_relay

__all__ = ["agents", "embedded_relay", "new_home", "pypi_relay", "relay_url", "rs_relay"]
