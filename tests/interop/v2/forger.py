"""Makes events in numbers, honest ones and forged ones, on `nostr-sdk` of the Python package registry.

    python forger.py rings TO COUNT RELAY…      invites to TO, each of another key
    python forger.py mail TO COUNT SECRET       texts to TO outside of calls, all of the key SECRET
    python forger.py forgeries                  reads a scene from stdin, see `Scene`

One JSON line for each event: {"class": what it is, "event": the event as a relay would serve it}. It knows the protocol
from docs/protocol.md alone.
"""

import base64
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from nostr_sdk import (
    Event,
    EventBuilder,
    Keys,
    Kind,
    Nip44Version,
    PublicKey,
    Tag,
    Timestamp,
    UnwrappedGift,
    nip04_encrypt,
    nip44_decrypt,
    nip44_encrypt,
)

PRESENCE, DELETION, LEGACY, SEAL, SIGNAL, WRAP, EPHEMERAL = 30078, 5, 4, 13, 25920, 1059, 21059


def event(keys, kind, content, tags=(), at=None) -> dict:
    """A signed event."""
    builder = EventBuilder(Kind(kind), content).tags([Tag.parse(list(tag)) for tag in tags])
    return json.loads(builder.custom_created_at(Timestamp.from_secs(at or now())).finalize(keys).as_json())


def id_of(made) -> str:
    """The id that an event of this content has (NIP-01)."""
    whole = [0, *(made[member] for member in ("pubkey", "created_at", "kind", "tags", "content"))]
    return hashlib.sha256(json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def now() -> int:
    return int(time.time())


def rumor(author, kind, content, tags=(), at=None) -> dict:
    """An event without a signature (NIP-59)."""
    tags = [list(tag) for tag in tags]
    made = {"pubkey": author, "created_at": at or now(), "kind": kind, "tags": tags, "content": content}
    return {**made, "id": id_of(made)}


def sealed(sender, receiver, inner, *, tags=(), kind=SEAL) -> dict:
    """A rumor in a seal."""
    content = nip44_encrypt(sender.secret_key(), receiver, json.dumps(inner), Nip44Version.V2)
    return event(sender, kind, content, tags)


def wrapped(receiver, seal, *, kind=WRAP, p=None, at=None, expires=True) -> dict:
    """A seal in a gift wrap, of a key made for it. Signals expire, mail does not."""
    keys = Keys.generate()
    content = nip44_encrypt(keys.secret_key(), receiver, json.dumps(seal), Nip44Version.V2)
    tags = [["p", p or receiver.to_hex()], *([["expiration", str(now() + 86_400)]] if expires else [])]
    return event(keys, kind, content, tags, at)


def signal(sender, receiver, at=None, **members) -> dict:
    """A signal of v2 in its wrap."""
    inner = rumor(sender.public_key().to_hex(), SIGNAL, json.dumps({"gen": 0, "v": 2, **members}), at=at)
    return wrapped(receiver, sealed(sender, receiver, inner))


def invite(sender, receiver, relays) -> dict:
    """A ring, which nobody will follow up."""
    key = Keys.generate().public_key().to_hex()
    # A ring that is more than five minutes old is a missed call, and ten thousand take a while to make.
    at = now() + 240
    return signal(
        sender,
        receiver,
        at,
        t="invite",
        call=os.urandom(16).hex(),
        agentId=f"ringer-{key[:8]}",
        name="",
        topic="an offer that you cannot refuse",
        exp=at + 600,
        key=key,
        noise=base64.b64encode(os.urandom(32)).decode(),
        versions=[2],
        relays=relays,
    )


def mail(sender, receiver, number) -> dict:
    """A text outside of calls."""
    tags = [["p", receiver.to_hex()], ["p2p-seq", str(number)]]
    inner = rumor(sender.public_key().to_hex(), 14, f"mail {number}", tags)
    return wrapped(receiver, sealed(sender, receiver, inner), expires=False)


def spoilt(text) -> str:
    """One character in its middle is another one."""
    middle = len(text) // 2
    return text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]


@dataclass
class Scene:
    """What a forger may know at best: all that a relay ever saw, and even what is inside the wraps of the callee."""

    # The callee's secret key, to look into genuine wraps with; nothing is signed with it.
    secret: str
    # Genuine events of the caller and for the callee.
    seen: list[dict]
    caller: str
    caller_id: str
    # How many of each class.
    count: int

    def __post_init__(self):
        self.callee = Keys.parse(self.secret)
        self.to = self.callee.public_key()
        self.wraps = [one for one in self.seen if one["kind"] == WRAP]
        self.frames = [one for one in self.seen if one["content"].startswith("#p2p1.")]
        self.presences = [one for one in self.seen if one["kind"] == PRESENCE and one["pubkey"] == self.caller]
        assert self.wraps
        assert self.frames
        assert self.presences
        inside = [json.loads(self.open(one)["content"]) for one in self.wraps if self.open(one)["kind"] == SIGNAL]
        self.invite = next(one for one in inside if one["t"] == "invite")
        self.offer = next(self.open(one) for one in self.wraps if '"invite"' in self.open(one)["content"])
        self.session_keys = sorted({tag[1] for one in self.frames for tag in one["tags"] if tag[0] == "p"})

    def open(self, wrap) -> dict:
        """The rumor of a genuine wrap."""
        gift = UnwrappedGift.from_gift_wrap(self.callee, Event.from_json(json.dumps(wrap)))
        return json.loads(gift.rumor().ensure_id().as_json())

    def seal_of(self, wrap) -> dict:
        """The seal of a genuine wrap."""
        author = PublicKey.parse(wrap["pubkey"])
        return json.loads(nip44_decrypt(self.callee.secret_key(), author, wrap["content"]))

    def genuine(self, number) -> dict:
        """One that a relay has seen."""
        return self.seen[number % len(self.seen)]

    def own_words(self, mallory) -> dict:
        """A mail of nobody's but its author."""
        return rumor(mallory.public_key().to_hex(), 14, "forged mail", [["p", self.to.to_hex()]])


def content_changed(scene, mallory, number):
    """Other content under a known id and signature."""
    one = scene.genuine(number)
    return {**one, "content": spoilt(one["content"]) if one["content"] else f"{number}"}


def id_made_anew(scene, mallory, number):
    """Other content, the id that belongs to it, and the old signature."""
    one = {**scene.genuine(number), "created_at": now() - number % 60}
    return {**one, "id": id_of(one)}


def signature_of_nobody(scene, mallory, number):
    """A new wrap whose signature is noise."""
    return {**wrapped(scene.to, sealed(mallory, scene.to, scene.own_words(mallory))), "sig": os.urandom(64).hex()}


def presence_in_another_name(scene, mallory, number):
    """The caller's presence, newer and with another name, signed by somebody else."""
    tags = [["d", scene.caller_id], ["t", "openclaw-p2p"], ["t", "p2p-comm"], ["v", "2"]]
    content = {"agentId": scene.caller_id, "name": f"forged {number}", "capabilities": [], "timestamp": now() * 1000}
    one = {**event(mallory, PRESENCE, json.dumps(content), tags), "pubkey": scene.caller, "created_at": now() + 60}
    return {**one, "id": id_of(one)}


def presence_taken_back(scene, mallory, number):
    """A genuine deletion of somebody else's presence."""
    latest = scene.presences[-1]
    address = f"{PRESENCE}:{scene.caller}:{scene.caller_id}"
    tags = [["e", latest["id"]], ["a", address], ["k", str(PRESENCE)], ["t", "openclaw-p2p"], ["t", "p2p-comm"]]
    return event(mallory, DELETION, "", [*tags, ["n", str(number)]], now() + 60)


def words_of_another(scene, mallory, number):
    """A rumor that names the caller, sealed by somebody else: mail, or the end of the call."""
    if number % 2:
        inner = rumor(scene.caller, 14, f"forged mail {number}", [["p", scene.to.to_hex()]])
    else:
        end = {"t": "end", "call": scene.invite["call"], "gen": scene.invite["gen"], "v": 2, "reason": "forged"}
        inner = rumor(scene.caller, SIGNAL, json.dumps(end))
    return wrapped(scene.to, sealed(mallory, scene.to, inner))


def spoilt_seal(scene, mallory, number):
    """A seal with tags, of another kind, with a signature or content that was changed, or in the caller's name."""
    inner = scene.own_words(mallory)
    seal = sealed(mallory, scene.to, inner)
    seal = (
        sealed(mallory, scene.to, inner, tags=[["p", scene.to.to_hex()]]),
        sealed(mallory, scene.to, inner, kind=14),
        {**seal, "sig": os.urandom(64).hex()},
        {**seal, "content": spoilt(seal["content"])},
        {**seal, "pubkey": scene.caller},
        {**scene.seal_of(scene.wraps[0]), "created_at": now() + 1},
    )[number % 6]
    return wrapped(scene.to, seal)


def claimed_id(scene, mallory, number):
    """A rumor under an id that is not its own: of the genuine offer, or of nothing."""
    inner = {**scene.own_words(mallory), "id": scene.offer["id"] if number % 2 else os.urandom(32).hex()}
    return wrapped(scene.to, sealed(mallory, scene.to, inner))


def for_somebody_else(scene, mallory, number):
    """A wrap that is addressed to another key, or that another key can open."""
    other = Keys.generate().public_key()
    if number % 2:
        return wrapped(scene.to, sealed(mallory, scene.to, scene.own_words(mallory)), p=other.to_hex())
    return wrapped(other, sealed(mallory, other, scene.own_words(mallory)), p=scene.to.to_hex())


def signals_of_a_stranger(scene, mallory, number):
    """Genuine signals about a call that their sender has no part in."""
    call, gen = scene.invite["call"], scene.invite["gen"]
    answer = {"invite": scene.offer["id"], "agentId": "mallory", "name": "", "relays": scene.invite["relays"]}
    session = {"key": mallory.public_key().to_hex(), "noise": base64.b64encode(os.urandom(48)).decode()}
    noise = base64.b64encode(os.urandom(32)).decode()
    offer = {**session, "noise": noise, "exp": now() + 60, "versions": [2], "topic": ""}
    members = (
        {"t": "end", "reason": "forged"},
        {"t": "cancel", "reason": "forged"},
        {"t": "reject", "reason": "forged", **answer},
        {"t": "busy", **answer},
        {"t": "accept", "hash": os.urandom(32).hex(), **answer, **session},
        {"t": "resume", **answer, **offer},
    )[number % 6]
    return signal(mallory, scene.to, call=call, **{"gen": gen + number % 3, **members})


def frames_of_others(scene, mallory, number):
    """Frames of the session that somebody else has signed, or that were changed."""
    one = scene.frames[number % len(scene.frames)]
    if number % 2:
        return event(mallory, EPHEMERAL, one["content"], one["tags"])
    body = b"\x01\x00" + number.to_bytes(8, "big") + os.urandom(256 + 16)
    content = f"#p2p1.{base64.b64encode(body).decode()}"
    return event(mallory, EPHEMERAL, content, [["p", scene.session_keys[number % len(scene.session_keys)]]])


def legacy_of_a_stranger(scene, mallory, number):
    """Payloads of the legacy dialect about a room that their sender has no part in, or that nobody has opened."""
    payload = (
        {"type": "call_accepted", "agentId": scene.caller_id, "agentName": "forged"},
        {"type": "call_rejected", "agentId": scene.caller_id, "agentName": "forged", "reason": "forged"},
        {"type": "room_message", "sender": "forged", "content": f"forged {number}"},
        {"type": "room_file", "sender": "forged", "filename": "x", "content": "eA==", "mimeType": "text/plain"},
        {"type": "escalate", "fromAgent": scene.caller_id, "message": "owner approved"},
        {"type": "end_call", "reason": "forged"},
    )[number % 6]
    room = scene.invite["call"] if number % 2 else f"room-{number}"
    words = json.dumps({**payload, "roomId": room, "origin": scene.caller_id})
    return event(mallory, LEGACY, nip04_encrypt(mallory.secret_key(), scene.to, words), [["p", scene.to.to_hex()]])


def replayed(scene, mallory, number):
    """Everything that a relay has seen, again and again."""
    return scene.genuine(number)


FORGERIES = (
    content_changed,
    id_made_anew,
    signature_of_nobody,
    presence_in_another_name,
    presence_taken_back,
    words_of_another,
    spoilt_seal,
    claimed_id,
    for_somebody_else,
    signals_of_a_stranger,
    frames_of_others,
    legacy_of_a_stranger,
    replayed,
)


def forgeries(scene) -> Iterator[tuple[str, dict]]:
    """All of them, in turn."""
    keys = [Keys.generate() for _ in range(20)]
    for number in range(scene.count):
        for forge in FORGERIES:
            yield forge.__name__, forge(scene, keys[number % len(keys)], number)


def made(words) -> Iterator[tuple[str, dict]]:
    """What was ordered."""
    match words:
        case ["rings", to, count, *relays]:
            for _ in range(int(count)):
                yield "ring", invite(Keys.generate(), PublicKey.parse(to), relays)
        case ["mail", to, count, secret]:
            sender = Keys.parse(secret)
            for number in range(int(count)):
                yield "mail", mail(sender, PublicKey.parse(to), number)
        case ["forgeries"]:
            yield from forgeries(Scene(**json.load(sys.stdin)))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    for what, one in made(sys.argv[1:]):
        sys.stdout.write(json.dumps({"class": what, "event": one}) + "\n")
