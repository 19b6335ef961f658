"""Values: frozen, typed, picklable, the JSON of the command line, and safe to show."""

from __future__ import annotations

import copy
import dataclasses
import html.parser
import json
import pickle
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p_comm import (
    CallInfo,
    Decision,
    Ended,
    Escalation,
    Event,
    Failed,
    File,
    Message,
    Peer,
    ReceivedFile,
    Skill,
    Transcript,
)
from p2p_comm import errors as errors_module
from p2p_comm import events as events_module
from p2p_comm import models as models_module
from p2p_comm._native import ERROR_KINDS, EVENT_KINDS
from p2p_comm._wire import decode, encode, moment
from p2p_comm.errors import CLASSES, CallBusy, P2PError, from_wire
from p2p_comm.events import CALL_EVENT_KINDS, call_event
from parts.fake_daemon import PEER, call, ended, message, ringing, ticket, transcript

HOSTILE = (
    '<img src=x onerror="fetch(1)">\n> # ![a](http://evil.example/x.png)\n\u202eevil\x1b[2J\n    code\n</bdi><script>'
)

NOW = datetime.now(timezone.utc)

FILE: dict[str, Any] = {
    "name": "report.json",
    "size": 14,
    "mime": "application/json",
    "sha256": "ef" * 32,
    "path": "/files/report.json",
}

VALUES = [
    decode(Peer, PEER),
    decode(Message, message(file=FILE, kind="file")),
    decode(CallInfo, call()),
    decode(Transcript, transcript(message())),
    decode(Decision, ticket(channels=[{"channel": "exec:notify-me", "ok": True, "error": None}])),
    decode(Event, {"cursor": 1, "kind": "call.ended", "at": call()["started_at"], "call_state": ended()}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_can_be_pickled_copied_hashed_and_not_changed(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value
    assert hash(value) == hash(copy.copy(value))
    assert not hasattr(value, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, None)
    assert repr(value).startswith(type(value).__name__ + "(")


def test_values_are_dataclasses_to_whoever_asks() -> None:
    peer = decode(Peer, PEER)
    assert dataclasses.replace(peer, name="Robert").name == "Robert"
    assert dataclasses.asdict(peer)["npub"] == peer.npub
    assert Peer(**{field.name: getattr(peer, field.name) for field in dataclasses.fields(peer)}) == peer
    assert peer != dataclasses.replace(peer, pinned=True)
    assert File(**FILE) != ReceivedFile(**FILE, message="", call=None, sender="me", peer="", tier="known", at=NOW)


def test_a_value_is_made_from_its_members_and_no_others() -> None:
    with pytest.raises(TypeError, match="Peer needs 'npub'"):
        Peer(id="bob", name="Bob", pubkey="")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Skill has no 'mood'"):
        Skill(id="talk", mood="good")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("cls", "json"),
    [
        (Message, message(file=FILE, kind="file")),
        (Message, message(**{"from": "me", "state": "failed", "reason": "too old"})),
        (Transcript, transcript(message("one"), message("two", id=2))),
    ],
)
def test_to_dict_is_the_json_that_came(cls: type[Any], json: dict[str, Any]) -> None:
    assert decode(cls, json).to_dict() == json


def test_a_member_of_a_newer_daemon_is_left_out_and_a_missing_one_is_named() -> None:
    assert decode(Peer, PEER | {"mood": "good"}).id == "bob"
    with pytest.raises(ValueError, match="Peer without 'npub'"):
        decode(Peer, {name: value for name, value in PEER.items() if name != "npub"})


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2026-01-02T03:04:05Z", 0),
        ("2026-01-02T03:04:05.6Z", 600_000),
        ("2026-01-02T03:04:05.678Z", 678_000),
        ("2026-01-02T03:04:05.123456789Z", 123_456),
        ("2026-01-02T05:04:05.5+02:00", 500_000),
    ],
)
def test_times_are_aware_and_in_utc(text: str, microseconds: int) -> None:
    read = moment(text)
    assert read == datetime(2026, 1, 2, 3, 4, 5, microseconds, tzinfo=timezone.utc)
    assert read.utcoffset() == timedelta(0)


def test_what_is_no_time_is_refused() -> None:
    for text in ("", "yesterday", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05.Z"):
        with pytest.raises(ValueError, match="RFC 3339"):
            moment(text)


def test_every_event_of_a_call_has_its_class() -> None:
    def of(kind: str, **members: Any) -> Any:
        return call_event(decode(Event, {"cursor": 1, "kind": kind, "at": call()["started_at"], **members}))

    assert of("message.received", message=message("hi")).text == "hi"
    file = of("file.received", message=message("", kind="file", file=FILE))
    assert isinstance(file, ReceivedFile)
    assert (file.name, file.path, file.sender) == ("report.json", Path("/files/report.json"), "peer")
    question = of("escalation.received", message=message("May I?", kind="escalation"))
    assert isinstance(question, Escalation)
    assert question.question == "May I?"
    failed = of("message.failed", message=message(state="failed", reason="every relay refused it"))
    assert isinstance(failed, Failed)
    assert failed.reason == "every relay refused it"
    answered = of("escalation.answered", escalation=ticket(state="answered", answer="yes"))
    assert isinstance(answered, Decision)
    assert answered.answered
    for kind in ("call.ended", "call.rejected", "call.missed"):
        assert isinstance(of(kind, call_state=ended()), Ended)
    for kind, name in (("call.connected", "Connected"), ("peer.away", "Away"), ("peer.back", "Back")):
        assert type(of(kind, call_state=call())).__name__ == name
    assert of("call.ringing", call_state=ringing()) is None


def test_the_kinds_of_errors_and_events_are_those_of_the_engine() -> None:
    assert set(CLASSES) == set(ERROR_KINDS)
    assert set(CALL_EVENT_KINDS) <= set(EVENT_KINDS)


def test_an_error_says_what_is_wrong_and_what_to_do() -> None:
    error = from_wire("peer-busy", "bob is busy", "call again later")
    assert isinstance(error, CallBusy)
    assert (error.kind, error.message, error.hint) == ("peer-busy", "bob is busy", "call again later")
    assert str(error) == "bob is busy\nhint: call again later"
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), copied.args) == (CallBusy, error.args)


def test_a_kind_of_a_newer_engine_is_an_error_without_a_class_of_its_own() -> None:
    error = from_wire("out-of-tune", "the piano", "")
    assert type(error) is P2PError
    assert error.kind == "out-of-tune"


def test_every_class_of_error_is_reached_by_a_kind_or_is_a_group() -> None:
    groups = {"P2PError", "CallError"}
    # A failed message is an outcome, not the answer to a command.
    outcomes = {"MessageFailed"}
    assert {cls.__name__ for cls in CLASSES.values()} | groups | outcomes == set(errors_module.__all__)


class Page(html.parser.HTMLParser):
    """The tags of a page, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


HARMLESS = {"table", "caption", "tr", "th", "td", "dl", "dt", "dd", "bdi", "p"}


def hostile_values(text: str) -> list[Any]:
    peer = PEER | {"id": text, "name": text, "npub": text}
    return [
        decode(Peer, peer | {"capabilities": [text], "contact": text}),
        decode(CallInfo, ended(peer=peer, topic=text, reason=text)),
        decode(Transcript, transcript(message(text), message("", file=FILE | {"name": text}), topic=text, caller=text)),
    ]


@pytest.mark.parametrize("value", hostile_values(HOSTILE), ids=lambda value: type(value).__name__)
def test_what_a_peer_wrote_is_only_ever_text_in_a_notebook(value: Any) -> None:
    bundle = value._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    for tag, attributes in Page(bundle["text/html"]).tags:
        assert tag in HARMLESS
        assert attributes in ((), (("style", "white-space: pre-wrap"),))
    for shown in bundle.values():
        assert "\u202e" not in shown
        assert "\x1b" not in shown


@given(st.text())
def test_no_text_of_a_peer_becomes_markup(text: str) -> None:
    for value in hostile_values(text):
        tags = {tag for tag, _ in Page(value._repr_mimebundle_()["text/html"]).tags}
        assert tags <= HARMLESS


def test_a_transcript_in_html_has_every_word() -> None:
    shown = Page(decode(Transcript, transcript(message("a < b & c"), message("two\nlines", id=2))).to_html()).text
    assert "a < b & c" in shown
    assert "two\nlines" in shown


def test_a_transcript_in_markdown_has_every_word_and_no_markup_of_a_peer() -> None:
    shown = decode(Transcript, transcript(message(HOSTILE), message("plain words", id=2))).to_markdown()
    assert "> plain words" in shown
    assert "# alice calls bob" in shown
    quoted = [line for line in shown.splitlines() if line.startswith(">")]
    assert r"\<img src\=x" in quoted[0]
    assert r"\!\[a\]\(http\:" in quoted[1]
    for line in quoted:
        assert "\u202e" not in line
        assert "\x1b" not in line
        # Four spaces would begin a code block, where a backslash escapes nothing.
        assert not line.startswith(">     ")


def test_encoding_reaches_into_tuples_and_leaves_plain_values() -> None:
    assert json.dumps(encode((1, "a", None, moment("2026-01-02T03:04:05.6Z")))) == (
        '[1, "a", null, "2026-01-02T03:04:05.600Z"]'
    )


def test_every_public_value_says_what_it_is() -> None:
    for module in (models_module, events_module):
        for name in module.__all__:
            member = getattr(module, name)
            if dataclasses.is_dataclass(member):
                assert member.__doc__, name
