"""The chaos relay itself: what each lever does, seen by bare clients of the embedded relay."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

from parts import chaos
from parts.bare_client import BareClient, connected
from parts.chaos import HELD_S, LIES, ChaosRelay, Lever, chaos_relay
from parts.nostr import Key, id_of
from parts.process import wait_until

SEED = 4
NOTE = 1

Json = dict[str, Any]


class Stage:
    """A chaos relay, and clients before and behind it."""

    def __init__(self, relay_url: str, chaos: ChaosRelay, stack: ExitStack) -> None:
        self.chaos = chaos
        self.key = Key()
        self._relay_url = relay_url
        self._stack = stack

    def client(self, *, welcome: bool = True) -> BareClient:
        """A client of the chaos relay."""
        return self._enter(connected(self.chaos.url, welcome=welcome))

    def honest(self) -> BareClient:
        """A client of the relay behind it."""
        return self._enter(connected(self._relay_url))

    def _enter(self, client: AbstractContextManager[BareClient]) -> BareClient:
        return self._stack.enter_context(client)

    def notes(self, count: int) -> list[Json]:
        """Notes of the stage's key, the oldest first."""
        now = int(time.time()) - count
        return [self.key.event(NOTE, f"note {number}", created_at=now + number) for number in range(count)]

    def stored(self, *events: Json) -> None:
        """Publishes to the relay behind, which takes them."""
        client = self.honest()
        for event in events:
            assert published(client, event) == [True]

    def ids(self, client: BareClient, **asked: Any) -> list[str]:
        """What is stored of the stage's key, the newest first."""
        return [message[2]["id"] for message in self.asked(client, **asked) if message[0] == "EVENT"]

    def asked(self, client: BareClient, **asked: Any) -> list[Any]:
        """Everything that comes up to the end of what is stored of the stage's key."""
        client.say("REQ", "s", {"kinds": [NOTE], "authors": [self.key.pubkey], **asked})
        return client.receive_until("EOSE", "s")


def published(client: BareClient, event: Json) -> list[bool]:
    """What is said of an event up to the answer to a question that comes after it."""
    client.say("EVENT", event)
    client.say("REQ", "after", {"ids": ["00" * 32]})
    said = client.receive_until("EOSE", "after")
    client.say("CLOSE", "after")
    return [message[2] for message in said if message[:2] == ["OK", event["id"]]]


Begin = Callable[..., Stage]


@pytest.fixture
def begin(embedded_relay: str) -> Iterator[Begin]:
    """Begins a stage with these levers. A lever without effect fails the test."""
    with ExitStack() as stack:

        def begin(*levers: Lever) -> Stage:
            chaos = stack.enter_context(chaos_relay(embedded_relay, *levers, seed=SEED))
            return Stage(embedded_relay, chaos, stack.enter_context(ExitStack()))

        yield begin


def test_the_signatures_of_the_bare_key_are_those_of_bip_340(begin: Begin) -> None:
    # The first of BIP-340's vectors has the secret key 3.
    assert Key(3).pubkey == "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9"
    stage = begin()
    notes = stage.notes(3)
    stage.stored(*notes)
    assert published(stage.honest(), {**notes[0], "sig": "00" * 64, "id": notes[1]["id"]}) != [True]


def test_without_a_lever_everything_passes_as_it_is(begin: Begin) -> None:
    stage = begin()
    client = stage.client()
    notes = stage.notes(5)
    for note in notes:
        assert published(client, note) == [True]
    assert [message[2] for message in stage.asked(client)[:-1]] == notes[::-1]
    assert stage.chaos.counters() == {}


def test_a_lever_without_effect_fails_the_run(embedded_relay: str) -> None:
    def run() -> None:
        levers = Lever("no eose"), Lever("early eose")
        with chaos_relay(embedded_relay, *levers, seed=SEED) as chaos, connected(chaos.url) as client:
            client.say("REQ", "s", {"ids": ["00" * 32]})
            assert client.receive() == ["EOSE", "s"]

    with pytest.raises(AssertionError, match="no eose"):
        run()


def test_the_same_seed_pulls_the_same_levers(embedded_relay: str) -> None:
    def dropped(seed: int) -> list[int]:
        with chaos_relay(embedded_relay, Lever("drop", 0.5, direction="to relay"), seed=seed) as chaos:
            stage = Stage(embedded_relay, chaos, ExitStack())
            with connected(chaos.url) as client:
                return [number for number, note in enumerate(stage.notes(20)) if not published(client, note)]

    assert dropped(1) == dropped(1)
    assert dropped(1) != dropped(2)


@pytest.mark.parametrize("direction", ["to relay", "to client"])
def test_drop(begin: Begin, direction: chaos.Direction) -> None:
    stage = begin(Lever("drop", 0.5, direction=direction))
    client, notes = stage.client(), stage.notes(20)
    unanswered = [note["id"] for note in notes if published(client, note) == []]
    assert 0 < len(unanswered) < len(notes)
    assert stage.chaos.counters() == {"drop": len(unanswered)}
    # An OK that is dropped is that of an event that is there.
    there = stage.ids(stage.honest())
    assert set(there) == {note["id"] for note in notes} - set(unanswered if direction == "to relay" else [])
    served = stage.ids(client)
    assert (len(served) == len(there)) is (direction == "to relay")


def test_selective_drop_by_kind_and_by_receiver(begin: Begin) -> None:
    stage = begin(Lever("drop", kinds=[4]), Lever("drop", p=["ab" * 32], kinds=[NOTE]))
    client = stage.client()
    assert published(client, stage.key.event(4, "x", [["p", "cd" * 32]])) == []
    assert published(client, stage.key.event(NOTE, "for one", [["p", "ab" * 32]])) == []
    assert published(client, stage.key.event(NOTE, "for another", [["p", "cd" * 32]])) == [True]
    assert published(client, stage.key.event(NOTE, "for nobody")) == [True]
    assert stage.chaos.counters() == {"drop": 2}


def test_a_lever_of_one_connection_leaves_the_others_alone(begin: Begin) -> None:
    stage = begin(Lever("drop", connection=2))
    first, second = stage.client(), stage.client()
    note, other = stage.notes(2)
    assert published(first, note) == [True]
    assert published(second, other) == []


def test_levers_can_be_taken_away(begin: Begin) -> None:
    stage = begin(Lever("drop"))
    client = stage.client()
    note, other = stage.notes(2)
    assert published(client, note) == []
    stage.chaos.clear()
    assert published(client, other) == [True]
    stage.chaos.set(Lever("drop", direction="to client"))
    assert published(client, note) == []
    assert stage.chaos.counters() == {"drop": 2}


def test_duplicate(begin: Begin) -> None:
    stage = begin(Lever("duplicate", direction="to client"))
    client = stage.client()
    (note,) = stage.notes(1)
    assert published(client, note) == [True, True]
    assert stage.ids(client) == [note["id"]] * 2


def test_duplicate_to_the_relay(begin: Begin) -> None:
    stage = begin(Lever("duplicate", direction="to relay"))
    (note,) = stage.notes(1)
    assert len(published(stage.client(), note)) == 2
    assert stage.ids(stage.honest()) == [note["id"]]


def test_reorder(begin: Begin) -> None:
    stage = begin(Lever("reorder", 0.5, direction="to client"))
    notes = stage.notes(20)
    stage.stored(*notes)
    client = stage.client()
    client.say("REQ", "s", {"kinds": [NOTE], "authors": [stage.key.pubkey]})
    # What was held back last comes after the end of what is stored.
    said = [client.receive() for _ in range(21)]
    ids = [message[2]["id"] for message in said if message[0] == "EVENT"]
    in_order = [note["id"] for note in notes[::-1]]
    assert ids != in_order
    assert sorted(ids) == sorted(in_order)


def test_what_was_held_back_comes_also_when_nothing_follows(begin: Begin) -> None:
    stage = begin(Lever("reorder"))
    client = stage.client()
    (note,) = stage.notes(1)
    began = time.monotonic()
    client.say("EVENT", note)
    assert client.receive() == ["OK", note["id"], True, ""]
    assert time.monotonic() - began >= 2 * HELD_S


def test_delay(begin: Begin) -> None:
    stage = begin(Lever("delay", seconds=(0.2, 0.3)))
    client = stage.client()
    (note,) = stage.notes(1)
    began = time.monotonic()
    client.say("EVENT", note)
    client.say("REQ", "s", {"ids": ["00" * 32]})
    assert client.receive() == ["EOSE", "s"]
    assert client.receive()[0] == "OK"
    assert 0.4 <= time.monotonic() - began < 5
    assert stage.chaos.counters() == {"delay": 2}


def test_mute(begin: Begin) -> None:
    stage = begin(Lever("mute"))
    client = stage.client()
    (note,) = stage.notes(1)
    client.say("EVENT", note)
    honest = stage.honest()
    wait_until(lambda: stage.ids(honest) == [note["id"]], "the relay to have heard what the mute one never confirms")
    assert client.hears_nothing(0.2)


def test_who_is_connected_already_may_hear_nothing_more(begin: Begin) -> None:
    stage = begin()
    client = stage.client()
    assert stage.ids(client) == []
    stage.chaos.set(Lever("mute"))
    stage.stored(*stage.notes(1))
    assert client.hears_nothing(0.2)
    assert stage.chaos.counters() == {"mute": 1}


def test_half_open(begin: Begin) -> None:
    stage = begin(Lever("half-open"))
    assert stage.client(welcome=False).hears_nothing(0.2)


def test_truncate(begin: Begin) -> None:
    stage = begin(Lever("truncate", direction="to client"))
    client = stage.client()
    (note,) = stage.notes(1)
    client.say("EVENT", note)
    rest = client.rest()
    whole = json.dumps(["OK", note["id"], True, ""]).encode()
    assert len(rest) > 10
    assert rest[2:] == whole[: len(rest) - 2] != whole


def test_alter(begin: Begin) -> None:
    stage = begin(Lever("alter"))
    (note,) = stage.notes(1)
    stage.stored(note)
    ((_, _, served), _) = stage.asked(stage.client())
    assert served["content"] != note["content"]
    assert {**served, "content": note["content"]} == note
    assert id_of(served) != served["id"]


def test_false_ok(begin: Begin) -> None:
    stage = begin(Lever("false ok"))
    (note,) = stage.notes(1)
    assert published(stage.client(), note) == [True]
    assert stage.ids(stage.honest()) == []


def test_ok_then_drop(begin: Begin) -> None:
    stage = begin(Lever("ok then drop"))
    listener, client = stage.client(), stage.client()
    assert stage.ids(listener) == []
    (note,) = stage.notes(1)
    assert published(client, note) == [True]
    assert stage.ids(stage.honest()) == [note["id"]]
    assert stage.ids(client) == []
    assert stage.ids(listener) == []


def test_ok_then_hang_up(begin: Begin) -> None:
    stage = begin(Lever("ok then hang up"))
    client = stage.client()
    (note,) = stage.notes(1)
    client.say("EVENT", note)
    assert client.receive() == ["OK", note["id"], True, ""]
    assert client.is_dropped()
    assert stage.ids(stage.honest()) == []


def test_wrong_filter(begin: Begin) -> None:
    stage = begin(Lever("wrong filter"))
    client = stage.client()
    stranger = Key().event(NOTE, "unasked")
    assert published(client, stranger) == [True]
    (note,) = stage.notes(1)
    stage.stored(note)
    assert stage.ids(client) == [stranger["id"], note["id"]]


def test_stale(begin: Begin) -> None:
    stage = begin(Lever("stale"))
    client = stage.client()
    now = int(time.time())
    old, new = (
        stage.key.event(30078, text, [["d", "me"]], created_at=at) for text, at in (("old", now - 9), ("", now))
    )
    assert published(client, old) == [True]
    assert stage.ids(client, kinds=[30078]) == [old["id"]]
    assert published(client, new) == [True]
    assert stage.ids(client, kinds=[30078]) == [old["id"]]
    assert stage.ids(stage.honest(), kinds=[30078]) == [new["id"]]


def test_no_eose(begin: Begin) -> None:
    stage = begin(Lever("no eose"))
    (note,) = stage.notes(1)
    stage.stored(note)
    client = stage.client()
    client.say("REQ", "s", {"authors": [stage.key.pubkey]})
    assert client.receive() == ["EVENT", "s", note]
    assert client.hears_nothing(0.2)


def test_early_eose(begin: Begin) -> None:
    stage = begin(Lever("early eose"))
    (note,) = stage.notes(1)
    stage.stored(note)
    client = stage.client()
    client.say("REQ", "s", {"authors": [stage.key.pubkey]})
    assert [client.receive(), client.receive()] == [["EOSE", "s"], ["EVENT", "s", note]]
    assert client.hears_nothing(0.2)


def test_unknown_subscription(begin: Begin) -> None:
    stage = begin(Lever("unknown subscription"))
    (note,) = stage.notes(1)
    stage.stored(note)
    unknown, known, _ = stage.asked(stage.client())
    assert known == ["EVENT", "s", note]
    assert unknown[0] == "EVENT"
    assert unknown[1].startswith("unknown")
    assert unknown[2] == note


def test_auth_loop(begin: Begin) -> None:
    stage = begin(Lever("auth loop"))
    client = stage.client()
    client.say("REQ", "s", {"ids": ["00" * 32]})
    assert client.receive() == ["EOSE", "s"]
    challenges = set()
    for _ in range(3):
        word, challenge = client.receive()
        assert word == "AUTH"
        challenges.add(challenge)
        answer = stage.key.event(22242, "", [["relay", stage.chaos.url], ["challenge", challenge]])
        client.say("AUTH", answer)
        assert client.receive() == ["OK", answer["id"], True, ""]
    assert len(challenges) == 3


def test_notice_flood(begin: Begin) -> None:
    stage = begin(Lever("notice flood", times=100))
    client = stage.client()
    client.say("REQ", "s", {"ids": ["00" * 32]})
    assert client.receive() == ["EOSE", "s"]
    assert {client.receive()[0] for _ in range(100)} == {"NOTICE"}


def test_event_flood(begin: Begin) -> None:
    stage = begin(Lever("event flood", times=100))
    client = stage.client()
    client.say("REQ", "s", {"kinds": [21059], "#p": ["ab" * 32]})
    assert client.receive() == ["EOSE", "s"]
    for _ in range(100):
        word, subscription, event = client.receive()
        assert (word, subscription, event["kind"], event["tags"]) == ("EVENT", "s", 21059, [["p", "ab" * 32]])
        assert id_of(event) != event["id"]


def test_it_says_what_it_is_told_to(begin: Begin) -> None:
    stage = begin()
    clients = [stage.client(), stage.client()]
    for client in clients:
        assert stage.ids(client) == []
    stage.chaos.say("CLOSED", "s", "error: shutting down")
    for client in clients:
        assert client.receive() == ["CLOSED", "s", "error: shutting down"]


def test_every_lie_has_a_test_of_its_own() -> None:
    for what in LIES:
        assert f"test_{what.replace(' ', '_').replace('-', '_')}" in globals()
