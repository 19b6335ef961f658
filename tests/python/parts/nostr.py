"""Nostr events signed in plain Python (NIP-01, BIP-340), for clients that share no code with what is tested.

Milliseconds a signature and not constant in time: for keys of tests only.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
Point = tuple[int, int]

_P = 2**256 - 2**32 - 977
_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_G: Point = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


class Key:
    """A key pair; a new one unless a secret is given."""

    def __init__(self, secret: int | None = None) -> None:
        self.secret = secret if secret is not None else 1 + secrets.randbelow(_N - 1)
        x, y = _times(_G, self.secret)
        # BIP-340 knows only the points with an even y.
        self._secret = self.secret if y % 2 == 0 else _N - self.secret
        self.pubkey = f"{x:064x}"

    def event(
        self, kind: int, content: str = "", tags: Sequence[Sequence[str]] = (), *, created_at: int | None = None
    ) -> Json:
        """A signed event, dated now unless another time is given."""
        event: Json = {
            "pubkey": self.pubkey,
            "created_at": int(time.time()) if created_at is None else created_at,
            "kind": kind,
            "tags": [list(tag) for tag in tags],
            "content": content,
        }
        event["id"] = id_of(event)
        event["sig"] = self._sign(bytes.fromhex(event["id"])).hex()
        return event

    def _sign(self, message: bytes) -> bytes:
        public = bytes.fromhex(self.pubkey)
        mask = int.from_bytes(_tagged("BIP0340/aux", secrets.token_bytes(32)), "big")
        k = _number("BIP0340/nonce", (self._secret ^ mask).to_bytes(32, "big") + public + message)
        x, y = _times(_G, k)
        if y % 2:
            k = _N - k
        r = x.to_bytes(32, "big")
        e = _number("BIP0340/challenge", r + public + message)
        return r + ((k + e * self._secret) % _N).to_bytes(32, "big")


def id_of(event: Json) -> str:
    """The id that an event of this content has."""
    whole = [0, *(event[member] for member in ("pubkey", "created_at", "kind", "tags", "content"))]
    return hashlib.sha256(json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def _tagged(tag: str, data: bytes) -> bytes:
    begin = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(begin + begin + data).digest()


def _number(tag: str, data: bytes) -> int:
    return int.from_bytes(_tagged(tag, data), "big") % _N


def _times(point: Point, factor: int) -> Point:
    """`factor` times a point; not zero times."""
    total: Point | None = None
    while factor:
        if factor & 1:
            total = point if total is None else _plus(total, point)
        point = _plus(point, point)
        factor >>= 1
    assert total is not None
    return total


def _plus(a: Point, b: Point) -> Point:
    """The sum of two points. Nobody here adds a point and its opposite, or doubles across the order."""
    rise, run = (3 * a[0] * a[0], 2 * a[1]) if a == b else (b[1] - a[1], b[0] - a[0])
    slope = rise * pow(run, -1, _P)
    x = (slope * slope - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P
