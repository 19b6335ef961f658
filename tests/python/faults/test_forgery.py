"""A relay that serves what nobody has signed, what was signed by somebody else, and what was said before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parts.engine import Engine
from parts.fixtures import NewHome
from parts.forging import ForgingRelay, forged, forging_relay
from parts.home import Home
from parts.nostr import Key
from parts.process import wait_until
from parts.steps import connect

Json = dict[str, Any]

# What only a relay can have done: it is hung up on when it goes on.
ALTERED = {"content_changed", "id_made_anew", "signature_of_nobody", "presence_in_another_name"}
# What anybody may publish.
SIGNED = {
    "presence_taken_back",
    "words_of_another",
    "spoilt_seal",
    "claimed_id",
    "for_somebody_else",
    "signals_of_a_stranger",
    "frames_of_others",
    "legacy_of_a_stranger",
    "replayed",
}
# What is opened of strangers in a second (docs/protocol.md), and some for a busy machine.
OPENED_A_SECOND = 100


def state_of(home: Home) -> Json:
    """All that a home shows, but for what changes by itself."""
    status = home.ok("status")
    agents = home.ok("list", "--limit", "1000")["agents"]
    return {
        "calls": home.ok("calls", "--limit", "1000")["calls"],
        "live": status["calls"],
        "contacts": home.ok("contacts", "list")["contacts"],
        "messages": home.ok("messages", "--limit", "10000")["messages"],
        "inbox": home.ok("inbox"),
        "agents": sorted((one["id"], one["pubkey"], one["name"], one["pinned"]) for one in agents),
        "outbox": status["outbox"],
    }


def cursor_of(home: Home) -> int:
    """Where the journal of a home ends."""
    engine = Engine(home)
    cursor = 0
    while (found := engine.ask("wait", after=cursor, timeout_s=0))["event"] is not None:
        cursor = found["cursor"]
    engine.close()
    return cursor


def told_after(home: Home, cursor: int) -> list[Json]:
    """Every event of a home after this one."""
    engine, told = Engine(home), []
    while (found := engine.ask("wait", after=cursor, timeout_s=0))["event"] is not None:
        told.append(found["event"])
        cursor = found["cursor"]
    engine.close()
    return told


@pytest.mark.parametrize("count", [40, pytest.param(1_000, marks=pytest.mark.soak)])
def test_forged_events_show_nothing_and_change_nothing_live_or_fetched(
    three_relays: list[str], new_home: NewHome, tmp_path: Path, count: int
) -> None:
    with forging_relay(three_relays[0], seed="forgery") as relay:
        urls = [relay.url, three_relays[1]]
        alice, bob = new_home("alice", *urls), new_home("bob", *urls)
        for home, peer in ((alice, bob), (bob, alice)):
            peer.ok("status")
            home.sees(str(peer.agent_id))
        friend = Key()
        bob.ok("contacts", "add", "friend", friend.pubkey)
        outgoing, incoming = connect(alice, bob)
        alice.ok("send", "genuine", "--call", outgoing, "--wait=delivered")
        bob.ok("send", "as genuine", "--call", incoming, "--wait=delivered")
        me = bob.ok("status")["agent"]["pubkey"]
        scene = {
            "secret": json.loads(bob.identity_file.read_text())["privateKeyHex"],
            "seen": [one for one in relay.seen() if is_of(one, me)],
            "caller": alice.ok("status")["agent"]["pubkey"],
            "caller_id": alice.agent_id,
            "count": count,
        }
        events = forged("forgeries", scene=scene)
        altered = [one for one in events if one.what in ALTERED]
        signed = [one for one in events if one.what in SIGNED]
        assert {one.what for one in events} == ALTERED | SIGNED
        # A contact's mail comes last on each way: when it is shown, everything before it was looked at.
        live, fetched = forged("mail", me, "2", f"{friend.secret:064x}")
        before, cursor = state_of(bob), cursor_of(bob)
        patience = 30 + len(signed) / OPENED_A_SECOND

        # What comes faster than it is opened is asked for again: the relay keeps the mail, as any relay would.
        relay.store([live])
        relay.push([*signed, live])
        wait_until(lambda: is_shown(bob, "mail 0"), "the mail behind what was forged", timeout=patience)
        relay.push(altered)
        wait_until(lambda: times_left(bob, relay) > 0, "the relay that alters events to be hung up on")
        relay.store([*signed, fetched])
        relay.cut()
        wait_until(lambda: is_shown(bob, "mail 1"), "the mail behind what is stored", timeout=patience)
        times = times_left(bob, relay)
        relay.store(altered)
        relay.cut()
        wait_until(lambda: times_left(bob, relay) > times, "the relay to be hung up on again")
        wait_until(lambda: is_served(relay, min(count, 100)), "what is altered to be served")
        relay.store([])

        for what in ALTERED | SIGNED:
            assert relay.live[what] >= count, what
            # Of what is altered the first ten end the connection, and the rest is served to nobody.
            assert relay.fetched[what] >= (min(count, 100) if what in ALTERED else count), what
        after = state_of(bob)
        mails = [message for message in after["messages"] if message["text"] in ("mail 0", "mail 1")]
        assert len(mails) == 2
        unread = after["inbox"]["unread"]
        after["messages"] = [message for message in after["messages"] if message not in mails]
        after["inbox"]["unread"] = [message for message in unread if message["message"] not in ids(mails)]
        # Those of the test before may be gone by now; nobody has come, and the caller is who she was.
        assert set(after["agents"]) <= set(before["agents"])
        assert [one for one in after["agents"] if one[0] == alice.agent_id] == [
            one for one in before.pop("agents") if one[0] == alice.agent_id
        ]
        del after["agents"]
        assert after == before
        told = [event for event in told_after(bob, cursor) if not event["kind"].startswith("relay.")]
        assert [event["message"]["message"] for event in told] == ids(mails), told
        # The call is what it was.
        alice.ok("send", "genuine still", "--call", outgoing, "--wait=delivered")
        assert bob.texts(incoming, "peer") == ["genuine", "genuine still"]


def is_of(event: Json, callee: str) -> bool:
    """Whether an event is an announcement, of a session, or in a wrap for the callee."""
    return event["kind"] in (21059, 30078) or (event["kind"] == 1059 and ["p", callee] in event["tags"])


def is_served(relay: ForgingRelay, count: int) -> bool:
    """Whether so many of each class that only a relay can have made were served as stored."""
    return all(relay.fetched[what] >= count for what in ALTERED)


def times_left(home: Home, relay: ForgingRelay) -> int:
    """How often a home has left the relay for what it did, by its log: `status` shows it until it dials again."""
    lines = (home.state / "daemon.log").read_text().splitlines()
    return sum(relay.url in line and "the relay alters events" in line for line in lines)


def is_shown(home: Home, text: str) -> bool:
    """Whether a home knows a text."""
    return text in {message["text"] for message in home.ok("messages", "--limit", "10000")["messages"]}


def ids(messages: list[Json]) -> list[str]:
    """What messages are known by."""
    return [message["message"] for message in messages]
