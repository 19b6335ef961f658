"""The published vectors of the v2 dialect, read by a decoder that shares no code with ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from parts.decoder import check_vectors, try_record
from parts.process import REPOSITORY

VECTORS = REPOSITORY / "tests" / "vectors"

Json = dict[str, Any]


def read(name: str) -> Json:
    parsed: Json = json.loads((VECTORS / name).read_text())
    return parsed


def names_in(file: Path) -> Iterator[str]:
    """What the decoder must have checked, counted from the file itself."""
    content = read(file.name)
    if file.name == "handshake.json":
        yield "handshake.json/handshake"
        return
    if file.name == "session.json":
        yield "session.json/keys"
    for section, vectors in content.items():
        # Keys and remarks are no vectors of their own: they are checked with those that they belong to.
        if isinstance(vectors, list) and not isinstance(vectors[0], str):
            yield from (f"{file.name}/{section}/{number}" for number in range(len(vectors)))


def test_every_vector_says_what_the_specification_says() -> None:
    files = sorted(VECTORS.glob("*.json"))
    assert [file.name for file in files] == ["frames.json", "handshake.json", "session.json", "signalling.json"]
    expected = {name for file in files for name in names_in(file)}
    assert len(expected) > 100
    assert check_vectors(VECTORS) == dict.fromkeys(expected, "ok")


def flipped(text: str) -> str:
    """The same with another character in the middle: a hex digit, or one of base64."""
    at = len(text) // 2
    return text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :]


def flip(*path: str | int) -> Callable[[Json], None]:
    """Flips the text that this path leads to."""

    def change(file: Any) -> None:
        for step in path[:-1]:
            file = file[step]
        file[path[-1]] = flipped(file[path[-1]])

    return change


def put(*path: str | int, value: Any) -> Callable[[Json], None]:
    """Puts another value where this path leads to."""

    def change(file: Any) -> None:
        for step in path[:-1]:
            file = file[step]
        assert not isinstance(file, dict) or file.get(path[-1]) != value
        file[path[-1]] = value

    return change


def repair(section: str, why: str, member: str, old: str, new: str) -> tuple[str, str, Callable[[Json], None]]:
    """Changes the byte for which a vector is invalid, so that it is valid."""
    content = read("frames.json")[section]
    number = next(number for number, vector in enumerate(content) if vector["why"] == why)
    before = content[number][member]
    at = before.rindex(old)
    after = before[:at] + new + before[at + len(old) :]
    return "frames.json", f"{section}/{number}", put(section, number, member, value=after)


TAMPERED = [
    *(
        ("handshake.json", "handshake", flip(member))
        for member, value in read("handshake.json").items()
        if isinstance(value, str)
    ),
    ("handshake.json", "handshake", put("gen", value=2)),
    ("handshake.json", "handshake", put("versions", value=[2, 3])),
    ("handshake.json", "handshake", flip("relays", 1)),
    ("handshake.json", "handshake", flip("caller_to_callee", 2)),
    ("handshake.json", "handshake", flip("callee_to_caller", 0)),
    ("handshake.json", "handshake", put("another", value="member")),
    *(
        ("signalling.json", f"signals/{number}", flip("signals", number, "wrap", "content"))
        for number in range(len(read("signalling.json")["signals"]))
    ),
    ("signalling.json", "signals/0", flip("signals", 0, "wrap", "sig")),
    ("signalling.json", "signals/0", flip("signals", 0, "signal", "topic")),
    ("signalling.json", "signals/0", put("signals", 0, "wrap", "tags", 2, 2, value="9")),
    ("signalling.json", "signals/1", flip("signals", 1, "rumor_id")),
    ("signalling.json", "signals/1", flip("signals", 1, "signal", "hash")),
    ("signalling.json", "signals/2", flip("signals", 2, "from")),
    ("signalling.json", "signals/3", put("signals", 3, "wrap", "kind", value=21059)),
    ("session.json", "keys", flip("caller_to_callee", 1)),
    ("session.json", "frames/0", flip("frames", 0, "event", "content")),
    ("session.json", "frames/0", flip("frames", 0, "event", "sig")),
    ("session.json", "frames/1", flip("frames", 1, "ciphertext")),
    ("session.json", "frames/2", flip("frames", 2, "plaintext")),
    ("session.json", "frames/3", put("frames", 3, "number", value=9)),
    ("session.json", "frames/3", flip("frames", 3, "text")),
    ("frames.json", "padding/4", put("padding", 4, 1, value=384)),
    ("frames.json", "plaintexts/1", flip("plaintexts", 1, "plaintext")),
    ("frames.json", "batches/2", flip("batches", 2, "hex")),
    ("frames.json", "batches/4", flip("batches", 4, "entries", 0, "id")),
    ("frames.json", "bodies/5", flip("bodies", 5, "bodies", 0)),
    ("frames.json", "bodies/10", put("bodies", 10, "says", "finals", 1, value=[1, 301])),
    ("frames.json", "long_texts/3", put("long_texts", 3, "parts", 0, 0, value=32632)),
    ("frames.json", "frames/1", put("frames", 1, "number", value=65537)),
    ("frames.json", "new/0", put("new", value=[{}])),
    repair("invalid_plaintexts", "padding that is not zero", "hex", "01", "00"),
    repair("invalid_batches", "a ping without order on the text stream", "hex", "8501", "8500"),
    repair("invalid_frames", "version 2", "content", "#p2p1.Ag", "#p2p1.AQ"),
]


@pytest.mark.parametrize(("name", "vector", "change"), TAMPERED)
def test_a_vector_that_was_tampered_with_is_found(
    tmp_path: Path, name: str, vector: str, change: Callable[[Json], None]
) -> None:
    shutil.copytree(VECTORS, tmp_path / "vectors")
    file = read(name)
    change(file)
    (tmp_path / "vectors" / name).write_text(json.dumps(file))
    assert check_vectors(tmp_path / "vectors")[f"{name}/{vector}"] != "ok"


def recorded() -> list[str]:
    """The messages that a relay would have seen of the call in the vectors."""
    wraps = [signal["wrap"] for signal in read("signalling.json")["signals"]]
    events = [*wraps, *(frame["event"] for frame in read("session.json")["frames"])]
    return [json.dumps(["EVENT", event]) for event in events] + [json.dumps(["EVENT", "sub", events[0]]), "not JSON"]


def test_the_identities_keys_open_the_stored_wraps_of_a_record_and_no_frame(tmp_path: Path) -> None:
    keys = read("signalling.json")
    found = try_record(tmp_path, recorded(), [keys["caller_secret"], keys["callee_secret"]])
    assert found["stored"] == {"recorded": 4, "tried": 4, "opened": 4}
    assert found["ephemeral"] == {"tried": 3, "opened": 0}
    assert (found["frames"]["recorded"], found["frames"]["tried"], found["frames"]["opened"]) == (4, 4, 0)
    assert found["frames"]["keys"] >= 20
    assert [signal["t"] for signal in found["signals"]] == ["invite", "resume", "cancel", "end"]
    assert found["signals"][0]["topic"] == "Grüße"


def test_with_the_throw_away_keys_too_a_record_is_read_whole(tmp_path: Path) -> None:
    keys, handshake = read("signalling.json"), read("handshake.json")
    secrets = [value for name, value in keys.items() if name.endswith("_secret")]
    found = try_record(tmp_path, recorded(), [*secrets, handshake["callee_ephemeral_secret"]])
    assert found["stored"]["opened"] == 4
    assert found["ephemeral"] == {"tried": 3, "opened": 3}
    assert (found["frames"]["tried"], found["frames"]["opened"]) == (4, 4)
    assert found["plaintexts"] == [frame["plaintext"] for frame in read("session.json")["frames"]]
