"""What somebody learns who runs a relay: checks over everything that a recording proxy has written down."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from parts.recording import Message

Json = dict[str, Any]

STORED_WRAP, EPHEMERAL = 1059, 21059
PRESENCE, DELETION, INBOX, AUTHENTICATION = 30078, 5, 10050, 22242
# Events in which an agent names itself in public.
PUBLIC = (PRESENCE, DELETION, INBOX, AUTHENTICATION)

FRAME_PREFIX, ECHO_PREFIX = "#p2p1.", "#p2p-echo."
# Before a frame's ciphertext, and what ChaCha20-Poly1305 adds to it.
FRAME_HEADER, TAG = 10, 16
SMALLEST_FRAME, LARGEST_FRAME = 256, 40_960
# NIP-44: version, nonce, length and MAC around the padded text.
NIP44_OVERHEAD = 1 + 32 + 2 + 32
NIP44_SMALLEST = 32


@dataclass(frozen=True)
class Said:
    """A message of the record, parsed: its first word, the event that it carries, the filters that it asks with."""

    message: Message
    word: str
    event: Json | None
    filters: list[Json]


def parsed(record: Iterable[Message]) -> list[Said]:
    """The record, read as NIP-01 and NIP-42 say."""
    return [_parsed(message) for message in record]


def _parsed(message: Message) -> Said:
    said = json.loads(message.text)
    carries = said[0] == "EVENT" or (said[0] == "AUTH" and message.direction == "to relay")
    return Said(message, said[0], said[-1] if carries else None, said[2:] if said[0] == "REQ" else [])


def ephemeral_events(record: Iterable[Said]) -> dict[str, Json]:
    """Frames and ephemeral wraps, by their id, for each is recorded several times; without the echoes of links."""
    events = (said.event for said in record)
    return {
        event["id"]: event
        for event in events
        if event is not None and event["kind"] == EPHEMERAL and not is_echo(event)
    }


def frames(record: Iterable[Said]) -> list[Json]:
    """Each frame once."""
    return [event for event in ephemeral_events(record).values() if event["content"].startswith(FRAME_PREFIX)]


def is_echo(event: Json) -> bool:
    """Whether it goes from a key to itself, to see whether the relay carries live events."""
    return str(event["content"]).startswith(ECHO_PREFIX) and event["tags"] == [["p", event["pubkey"]]]


def session_connections(record: Iterable[Said]) -> set[int]:
    """The connections that carry, or ask for, what belongs to a session."""
    return {
        said.message.connection
        for said in record
        if (said.event is not None and said.event["kind"] == EPHEMERAL)
        or any(EPHEMERAL in asked.get("kinds", []) for asked in said.filters)
    }


def connections_that_listen_to(record: Iterable[Said], key: str) -> set[int]:
    """The connections with a subscription that names a key as the receiver."""
    return {said.message.connection for said in record if any(key in asked.get("#p", []) for asked in said.filters)}


def identities_out_of_place(record: Collection[Said], keys: Collection[str]) -> list[str]:
    """Where a public key of `keys` (hex or npub) stands and must not.

    Only these places are right:

    * an event in which an agent names itself, and an authentication; not on a connection of sessions
    * the filters of a subscription; not on a connection of sessions
    * the `p` tag of a stored wrap: whom it is for. It is published on any connection, and comes back only on those
      that are not a session's
    * the question for the inbox of a peer, and its answer, on any connection

    Whose connection it is, is not looked at: see `named_on`.
    """
    sessions = session_connections(record)
    wrong = []
    for said in record:
        if any(key in said.message.text for key in keys) and not _in_place(
            said, keys, on_session=said.message.connection in sessions
        ):
            wrong.append(f"connection {said.message.connection}, {said.message.direction}: {said.message.text[:300]}")
    return wrong


def _in_place(said: Said, keys: Collection[str], *, on_session: bool) -> bool:
    event, to_client = said.event, said.message.direction == "to client"
    if event is not None:
        if event["kind"] == STORED_WRAP:
            return not (on_session and to_client) and not _has(_without_p(event), keys)
        return event["kind"] in PUBLIC and (not on_session or (event["kind"] == INBOX and to_client))
    if said.word != "REQ":
        return False
    # A subscription's name is ours to choose, and relays repeat it.
    name = json.loads(said.message.text)[1]
    return not _has(name, keys) and (not on_session or all(_asks_for_inbox(asked, keys) for asked in said.filters))


def _asks_for_inbox(asked: Json, keys: Collection[str]) -> bool:
    return asked.get("kinds") == [INBOX] or not _has(asked, keys)


def named_on(record: Iterable[Said], connections: Collection[int], keys: Collection[str]) -> list[str]:
    """Messages on these connections that name one of these keys."""
    on_them = (said.message.text for said in record if said.message.connection in connections)
    return [text[:300] for text in on_them if any(key in text for key in keys)]


def _without_p(event: Json) -> Json:
    return {**event, "tags": [tag[:1] + tag[2:] if tag[0] == "p" else tag for tag in event["tags"]]}


def _has(value: Any, keys: Collection[str]) -> bool:
    text = json.dumps(value)
    return any(key in text for key in keys)


def words_in_the_open(record: Iterable[Said], words: Mapping[str, str], *, public: Collection[str]) -> list[str]:
    """Which of the named `words` stand in a message: as they are, in hex or in base64.

    Those named in `public` may stand in presences, and in the deletions that name one.
    """
    forms = {name: list(forms_of(word)) for name, word in words.items()}
    wrong = []
    for said in record:
        is_presence = said.event is not None and said.event["kind"] in (PRESENCE, DELETION)
        for name, written in forms.items():
            if is_presence and name in public:
                continue
            if any(form in said.message.text for form in written):
                wrong.append(f"{name}, {said.message.direction}: {said.message.text[:300]}")
    return wrong


def forms_of(word: str) -> Iterator[str]:
    """A word, its hex, and its base64 wherever in a text it begins."""
    data = word.encode()
    yield word
    yield data.hex()
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + data).decode().rstrip("=")
        # What also depends on the neighbours is cut off.
        yield encoded[(offset * 8 + 5) // 6 : -1]


def sizes_out_of_their_bucket(events: Iterable[Json]) -> list[str]:
    """Ephemeral events whose size tells more than a bucket of NIP-44."""
    return [f"{event['id']}: {size}" for event in events if not (size := padded_size(event))[1]]


def padded_size(event: Json) -> tuple[int, bool]:
    """The size of what an ephemeral event encrypts, as it shows, and whether it is one that padding makes."""
    content = event["content"]
    if content.startswith(FRAME_PREFIX):
        size = len(base64.b64decode(content[len(FRAME_PREFIX) :], validate=True)) - FRAME_HEADER - TAG
        return size, SMALLEST_FRAME <= size <= LARGEST_FRAME and nip44_bucket(size) == size
    size = len(base64.b64decode(content, validate=True)) - NIP44_OVERHEAD
    return size, size >= NIP44_SMALLEST and nip44_bucket(size) == size


def nip44_bucket(size: int) -> int:
    """What NIP-44 pads so many bytes to (`calc_padded_len`)."""
    if size <= NIP44_SMALLEST:
        return NIP44_SMALLEST
    next_power = 1 << (size - 1).bit_length()
    chunk = 32 if next_power <= 256 else next_power // 8
    return chunk * ((size - 1) // chunk + 1)
