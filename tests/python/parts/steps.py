"""What many tests begin with: a call that rings, a call that is up."""

from __future__ import annotations

from collections.abc import Sequence

from parts.fixtures import NewHome
from parts.home import Home


def meet(new_home: NewHome, urls: Sequence[str]) -> tuple[Home, Home]:
    """Alice and Bob on these relays, both up; Alice sees Bob."""
    alice, bob = new_home("alice", *urls), new_home("bob", *urls)
    bob.ok("status")
    alice.sees(str(bob.agent_id))
    return alice, bob


def ring(caller: Home, callee: Home, topic: str = "API design") -> tuple[str, str]:
    """The caller rings the callee; returns each one's own id of the call."""
    placed = caller.ok("call", str(callee.agent_id), topic)
    ringing = callee.event("call.ringing", where=lambda event: event["call_state"]["topic"] == topic)
    return placed["call"], ringing["call"]


def connect(caller: Home, callee: Home, topic: str = "API design") -> tuple[str, str]:
    """The caller rings and the callee accepts; returns each one's own id of the call."""
    outgoing, incoming = ring(caller, callee, topic)
    callee.ok("answer", "accept", "--call", incoming)
    caller.event("call.connected", call=outgoing)
    return outgoing, incoming
