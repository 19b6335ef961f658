"""The JSON of the command line, key by key, as docs/cli.md promises it.

A shape is a type, a set of allowed values, None for null, a tuple of alternatives, a list with the shape of
its items, a dictionary with the shape of each key, or a function that says whether a value will do.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

Shape = Any


def check(value: Any, shape: Shape, *, at: str = "$") -> None:
    """Fails, naming the place, unless the value has the shape: no key missing, none more than promised."""
    if isinstance(shape, dict):
        assert isinstance(value, dict), f"{at}: {value!r} is no object"
        assert set(value) == set(shape), f"{at}: keys differ by {set(value) ^ set(shape)}"
        for key, expected in shape.items():
            check(value[key], expected, at=f"{at}.{key}")
    elif isinstance(shape, list):
        assert isinstance(value, list), f"{at}: {value!r} is no list"
        for number, item in enumerate(value):
            check(item, shape[0], at=f"{at}[{number}]")
    else:
        alternatives = shape if isinstance(shape, tuple) else (shape,)
        assert any(_fits(value, alternative) for alternative in alternatives), f"{at}: {value!r} is not {shape}"


def _fits(value: Any, shape: Shape) -> bool:
    if shape is None:
        return value is None
    if isinstance(shape, (dict, list)):
        try:
            check(value, shape)
        except AssertionError:
            return False
        return True
    if isinstance(shape, (set, frozenset)):
        return isinstance(value, str) and value in shape
    if shape is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(shape, type):
        # A bool is an int to Python, but not to JSON.
        return isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    return bool(shape(value))


def time(value: Any) -> bool:
    """RFC 3339 in UTC."""
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value):
        return False
    seconds = re.sub(r"\.\d+", "", value).replace("Z", "+00:00")
    return datetime.fromisoformat(seconds).utcoffset() == timedelta(0)


def key(value: Any) -> bool:
    """A public key or a SHA-256 in lower-case hex."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def npub(value: Any) -> bool:
    """A public key as NIP-19 writes it."""
    return isinstance(value, str) and re.fullmatch(r"npub1[02-9ac-hj-np-z]{58}", value) is not None


PEER = {
    "id": str,
    "name": str,
    "pubkey": key,
    "npub": npub,
    "tier": {"contact", "known", "stranger"},
    "looks_like": (str, None),
}
CALL = {
    "call": str,
    "state": {"ringing", "connected", "ended"},
    "direction": {"in", "out"},
    "peer": PEER,
    "topic": str,
    "protocol": {"v2", "legacy"},
    "away": bool,
    "started_at": time,
    "connected_at": (time, None),
    "ended_at": (time, None),
    "end_reason": ({"completed", "rejected", "busy", "cancelled", "no-answer", "lost", "failed"}, None),
    "reason": (str, None),
    "messages": int,
}
ANSWERED_CALL = CALL | {"already": bool}
MESSAGE = {
    "message": str,
    "call": (str, None),
    "from": {"me", "peer", "owner"},
    "peer": key,
    "tier": {"contact", "known", "stranger"},
    "kind": {"text", "file", "escalation", "system"},
    "text": str,
    "file": ({"name": str, "size": int, "mime": str, "sha256": key, "path": (str, None)}, None),
    "at": time,
    "state": {"queued", "relayed", "delivered", "read", "failed", "received"},
    "reason": (str, None),
    "answers": (str, None),
}
TRANSCRIPT = {
    "call": str,
    "caller": str,
    "callee": str,
    "topic": str,
    "started_at": time,
    "ended_at": (time, None),
    "duration_s": float,
    "message_count": int,
    "messages": [MESSAGE],
}
RELAY_AUTH = {"none", "required", "done", "failed"}
STATUS = {
    "agent": {
        "id": str,
        "name": str,
        "pubkey": key,
        "npub": npub,
        "capabilities": [str],
        "home": str,
        "fingerprint": str,
    },
    "daemon": {
        "version": str,
        "pid": int,
        "uptime_s": float,
        "code": ({"file": str, "modified": time, "size": int}, None),
    },
    "relays": [
        {
            "url": str,
            "connected": bool,
            "rtt_ms": (float, None),
            "auth": RELAY_AUTH,
            "error": (str, None),
            "accepted": int,
            "refused": int,
            "refusal": (str, None),
            "session": (
                {"connected": bool, "auth": RELAY_AUTH, "echo_ms": (float, None), "error": (str, None)},
                None,
            ),
        }
    ],
    "connected": bool,
    "clock_offset_s": (float, None),
    "calls": [CALL],
    "unread": int,
    "outbox": {"queued": int, "failed": int},
    "owner": [{"channel": str, "ok": bool, "error": (str, None)}],
    "door": {
        "strangers": {"ring", "queue", "reject"},
        "auto_accept": ({"contact", "known", "stranger"}, None),
    },
}
LIST = {
    "agents": [
        {
            "id": str,
            "name": str,
            "pubkey": key,
            "npub": npub,
            "capabilities": [str],
            "last_seen_s": float,
            "protocol": {"v2", "legacy"},
            "contact": (str, None),
            "pinned": bool,
            "duplicate_id": bool,
            "looks_like": (str, None),
        }
    ]
}
TICKET = {
    "ticket": str,
    "call": (str, None),
    "question": str,
    "options": [str],
    "state": {"waiting", "answered", "expired", "no-owner"},
    "answer": (str, None),
    "channels": [{"channel": str, "ok": bool, "error": (str, None)}],
    "at": time,
    "message": (str, None),
    "asked_at": (time, None),
    "expires_at": time,
}
END = {"call": CALL, "already": bool, "transcript": TRANSCRIPT}
INBOX = {
    "ringing": [CALL],
    "unread": [MESSAGE],
    "missed": [CALL],
    "answers": [TICKET],
    "queue": [CALL],
    "mail": [MESSAGE],
    "questions": [TICKET],
}
MESSAGES = {"cursor": int, "messages": [MESSAGE]}
CALLS = {"calls": [CALL]}
CALL_EVENT = {"cursor": int, "kind": str, "at": time, "call": str, "call_state": CALL}
MESSAGE_EVENT = {"cursor": int, "kind": str, "at": time, "call": (str, None), "message": MESSAGE}
CONTACTS = {
    "contacts": [
        {
            "name": str,
            "pubkey": key,
            "npub": npub,
            "agent_id": (str, None),
            "tier": {"contact", "known", "stranger"},
            "blocked": bool,
            "allow_legacy": bool,
            "relays": [str],
            "reachable": (bool, None),
            "fingerprint": str,
            "verified": bool,
            "claimed_by": [key],
        }
    ]
}
DOCTOR = {"ok": bool, "checks": [{"name": str, "ok": bool, "detail": (str, None), "hint": (str, None)}]}
