"""W3C Trace Context: from one agent to the other, inside what is sealed."""

from __future__ import annotations

import pytest

from p2p_comm import InvalidRequest
from p2p_comm.testing import LocalNetwork
from parts.fixtures import NewHome
from parts.steps import meet

CALL_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TEXT_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-00"


def test_a_trace_goes_with_a_call_and_with_each_message_and_with_nothing_else(
    new_home: NewHome, embedded_relay: str
) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    placed = alice.ok("call", str(bob.agent_id), "traced", env={"TRACEPARENT": CALL_TRACE})
    assert placed["traceparent"] == CALL_TRACE
    ringing = bob.event("call.ringing")["call_state"]
    assert ringing["traceparent"] == CALL_TRACE
    bob.ok("answer", "accept")
    alice.event("call.connected")
    sent = alice.ok("send", "traced", env={"TRACEPARENT": TEXT_TRACE})
    assert sent["traceparent"] == TEXT_TRACE
    alice.ok("send", "not traced")
    odd = alice.run("send", "odd", env={"TRACEPARENT": "nonsense"})
    assert (odd.exit, "traceparent" in odd.out) == (0, False)
    assert "TRACEPARENT" in odd.err
    heard = [bob.event("message.received")["message"] for _ in range(3)]
    assert [(message["text"], message.get("traceparent")) for message in heard] == [
        ("traced", TEXT_TRACE),
        ("not traced", None),
        ("odd", None),
    ]
    # It is kept, and an answer is a trace of its own.
    bob.ok("send", "thanks")
    assert "traceparent" not in alice.event("message.received")["message"]
    for home, call in ((alice, placed["call"]), (bob, ringing["call"])):
        home.stop()
        texts = {message["text"]: message.get("traceparent") for message in home.messages(call)}
        assert texts == {"traced": TEXT_TRACE, "not traced": None, "odd": None, "thanks": None}
        [kept] = home.ok("calls")["calls"]
        assert kept["traceparent"] == CALL_TRACE


async def test_python_passes_a_trace_on_and_refuses_what_is_none() -> None:
    async with LocalNetwork() as network:
        alice, bob = await network.agents("alice", "bob")
        ringing = await alice.call(bob.pubkey, topic="traced", wait=0, traceparent=CALL_TRACE)
        assert ringing.info.traceparent == CALL_TRACE
        ring = await bob.incoming().__anext__()
        assert ring.info.traceparent == CALL_TRACE
        theirs = await ring.accept()
        with pytest.raises(InvalidRequest):
            await theirs.send("x", traceparent="nonsense")
        receipt = await theirs.send("hello", traceparent=TEXT_TRACE)
        assert receipt.message.traceparent == TEXT_TRACE
        await receipt.delivered(timeout=30)
        [message] = await alice.messages(call=ringing)
        assert (message.text, message.traceparent) == ("hello", TEXT_TRACE)
