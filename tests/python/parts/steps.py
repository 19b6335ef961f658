"""What many tests begin with: a call that rings, a call that is up."""

from __future__ import annotations

from parts.home import Home


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
