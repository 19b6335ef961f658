"""Fixtures for the tests of the package and its command line; they live in `parts`."""

import signal

from parts.fixtures import agents, embedded_relay, new_home, pypi_relay, relay_url, rs_relay

__all__ = ["agents", "embedded_relay", "new_home", "pypi_relay", "relay_url", "rs_relay"]

# A shell ignores SIGINT in what it starts in the background, and then so does everything that is started here.
signal.signal(signal.SIGINT, signal.default_int_handler)
