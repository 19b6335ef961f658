"""The checker counts each of the seven harms where it is planted, and sees none where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parts.ledger import Ledger
from parts.process import REPOSITORY

CHECKER = REPOSITORY / "tests" / "python" / "checker.py"
HARMS = ("lost", "duplicated", "reordered", "phantom", "corrupted", "misattributed", "falsely_delivered")
ALICE, BOB, MALLORY = "aa" * 32, "bb" * 32, "cc" * 32

Lines = list[dict[str, Any]]


def run(*paths: Path) -> tuple[int, Any]:
    done = subprocess.run([sys.executable, "-I", CHECKER, *paths], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


class Book:
    """A small exchange without harm, as two ledgers that a test may spoil: five texts and a file from Alice to Bob."""

    def __init__(self, folder: Path) -> None:
        self.paths = folder / "alice.jsonl", folder / "bob.jsonl"
        with (
            Ledger(self.paths[0], agent="alice", pubkey=ALICE) as alice,
            Ledger(self.paths[1], agent="bob", pubkey=BOB) as bob,
        ):
            alice.call("call at alice's", name="the call")
            bob.call("call at bob's", name="the call")
            for number in range(5):
                sent: Any = {"message": f"m{number}", "kind": "text", "body": f"text {number}"}
                alice.tried(**sent, to=BOB, call="call at alice's")
                alice.accepted(**sent, to=BOB, call="call at alice's")
            alice.tried(message=None, kind="file", body="5a" * 32, to=BOB, call="call at alice's")
            alice.accepted(message="f", kind="file", body="5a" * 32, to=BOB, call="call at alice's")
            for number in range(5):
                bob.surfaced(
                    message=f"m{number}", sender=ALICE, call="call at bob's", kind="text", body=f"text {number}"
                )
                alice.told(message=f"m{number}", state="delivered")
            bob.surfaced(message="f", sender=ALICE, call="call at bob's", kind="file", body="5a" * 32)
            alice.told(message="f", state="delivered")
        self.alice, self.bob = ([json.loads(line) for line in path.read_text().splitlines()] for path in self.paths)

    def verdict(self) -> tuple[int, Any]:
        for path, lines in zip(self.paths, (self.alice, self.bob), strict=True):
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run(*self.paths)

    def harms(self) -> dict[str, int]:
        """The harms that are there, with their counts; the exit code must agree."""
        code, said = self.verdict()
        assert set(said["harms"]) == set(HARMS)
        found = {harm: count for harm, count in said["harms"].items() if count}
        assert code == (1 if found else 0)
        return found


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def at(lines: Lines, what: str, message: str) -> int:
    """Where in a ledger a message is told of first."""
    return next(at for at, line in enumerate(lines) if line["what"] == what and line.get("message") == message)


def surfaced(**changes: Any) -> dict[str, Any]:
    whole = {"message": "x", "from": ALICE, "call": "call at bob's", "kind": "text", "body": "?"}
    return {"what": "surfaced", **whole, **changes}


def lose(book: Book) -> None:
    del book.bob[at(book.bob, "surfaced", "m2")]
    del book.alice[at(book.alice, "told", "m2")]


def repeat(book: Book) -> None:
    book.bob.append(book.bob[at(book.bob, "surfaced", "m2")])


def swap(book: Book) -> None:
    first = at(book.bob, "surfaced", "m2")
    book.bob[first], book.bob[first + 1] = book.bob[first + 1], book.bob[first]


def invent(book: Book) -> None:
    book.bob.append(surfaced())


def alter(book: Book) -> None:
    book.bob[at(book.bob, "surfaced", "m2")]["body"] = "another text"


def alter_a_file(book: Book) -> None:
    book.bob[at(book.bob, "surfaced", "f")]["body"] = "a5" * 32


def attribute_to_another(book: Book) -> None:
    book.bob[at(book.bob, "surfaced", "m2")]["from"] = MALLORY


def show_in_another_call(book: Book) -> None:
    book.bob.insert(1, {"what": "call", "call": "another at bob's", "name": "another call"})
    book.bob[at(book.bob, "surfaced", "m2")]["call"] = "another at bob's"


def show_to_another(book: Book) -> None:
    # An echo: its own sender is shown it as something that it received.
    book.alice.append(surfaced(message="m2", body="text 2", call="call at alice's"))


def say_delivered(book: Book) -> None:
    del book.bob[at(book.bob, "surfaced", "m2")]


def say_read_of_a_file(book: Book) -> None:
    del book.bob[at(book.bob, "surfaced", "f")]
    book.alice[at(book.alice, "told", "f")]["state"] = "read"


@pytest.mark.parametrize(
    ("plant", "harm"),
    [
        (lose, "lost"),
        (repeat, "duplicated"),
        (swap, "reordered"),
        (invent, "phantom"),
        (alter, "corrupted"),
        (alter_a_file, "corrupted"),
        (attribute_to_another, "misattributed"),
        (show_in_another_call, "misattributed"),
        (show_to_another, "misattributed"),
        (say_delivered, "falsely_delivered"),
        (say_read_of_a_file, "falsely_delivered"),
    ],
)
def test_a_harm_that_is_planted_is_counted_and_no_other(book: Book, plant: Callable[[Book], None], harm: str) -> None:
    plant(book)
    assert book.harms() == {harm: 1}


def test_every_planted_harm_is_counted(book: Book) -> None:
    book.bob.extend([book.bob[at(book.bob, "surfaced", "m1")]] * 2)
    book.bob.extend([surfaced(), surfaced(message="y")])
    lose(book)
    assert book.harms() == {"duplicated": 2, "phantom": 2, "lost": 1}


def test_an_exchange_without_harm_passes(book: Book) -> None:
    code, said = book.verdict()
    assert code == 0
    assert said["seen"] == {"accepted": 6, "told": 6, "surfaced": 6}
    assert set(said["harms"].values()) == {0}


def test_a_message_whose_sender_was_told_that_it_failed_is_not_lost(book: Book) -> None:
    lose(book)
    book.alice.append({"what": "told", "message": "m2", "state": "failed", "reason": "the call ended"})
    assert book.harms() == {}


def test_what_only_a_relay_took_is_lost_when_it_never_came(book: Book) -> None:
    lose(book)
    book.alice.append({"what": "told", "message": "m2", "state": "relayed", "reason": None})
    assert book.harms() == {"lost": 1}


def test_a_file_may_come_after_later_texts(book: Book) -> None:
    file = book.alice.pop(at(book.alice, "accepted", "f"))
    book.alice.insert(at(book.alice, "accepted", "m0"), file)
    assert book.harms() == {}


def test_what_was_tried_and_not_accepted_may_come_or_not(book: Book) -> None:
    tried = {"what": "tried", "to": BOB, "call": "call at alice's"}
    book.alice.append({**tried, "message": "m5", "kind": "text", "body": "text 5"})
    book.alice.append({**tried, "message": "m6", "kind": "text", "body": "text 6"})
    book.alice.append({**tried, "message": None, "kind": "file", "body": "b5" * 32})
    book.bob.append(surfaced(message="m5", body="text 5"))
    book.bob.append(surfaced(message="f2", kind="file", body="b5" * 32))
    assert book.harms() == {}
    book.bob[at(book.bob, "surfaced", "m5")]["body"] = "another text"
    assert book.harms() == {"corrupted": 1}


def test_both_directions_and_several_calls_are_ordered_each_for_itself(book: Book) -> None:
    book.alice.insert(1, {"what": "call", "call": "second at alice's", "name": "the second call"})
    book.bob.insert(1, {"what": "call", "call": "second at bob's", "name": "the second call"})
    sent = {"message": "n0", "kind": "text", "body": "in the second call"}
    book.alice.append({"what": "accepted", **sent, "to": BOB, "call": "second at alice's"})
    book.bob.insert(at(book.bob, "surfaced", "m0"), surfaced(**sent, call="second at bob's"))
    back = {"message": "b0", "kind": "text", "body": "back"}
    book.bob.append({"what": "accepted", **back, "to": ALICE, "call": "call at bob's"})
    book.alice.append({"what": "surfaced", **back, "from": BOB, "call": "call at alice's"})
    assert book.harms() == {}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda book: book.alice.clear(),
        lambda book: book.alice.pop(0),
        lambda book: book.alice.append({"what": "surprise"}),
        lambda book: book.alice.append({"what": "told", "message": "m1"}),
        lambda book: book.alice.append(book.alice[at(book.alice, "accepted", "m1")]),
        lambda book: book.alice.append("told"),
        lambda book: [lines.__delitem__(slice(1, None)) for lines in (book.alice, book.bob)],
    ],
)
def test_ledgers_that_say_nothing_are_no_proof(book: Book, spoil: Callable[[Book], object]) -> None:
    spoil(book)
    code, said = book.verdict()
    assert code == 2
    assert set(said) == {"error"}


def test_a_line_that_was_cut_off_and_a_ledger_that_is_not_there_are_no_proof(book: Book, tmp_path: Path) -> None:
    text = book.paths[0].read_text()
    book.paths[0].write_text(text[:-5])
    assert run(*book.paths)[0] == 2
    assert run(book.paths[1], tmp_path / "none.jsonl")[0] == 2
    assert run(book.paths[1])[0] == 2


def test_a_ledger_is_never_begun_anew(book: Book) -> None:
    with pytest.raises(FileExistsError):
        Ledger(book.paths[0], agent="alice", pubkey=ALICE)
