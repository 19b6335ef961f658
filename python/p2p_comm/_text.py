"""What others wrote, fit for a language model and a terminal: nothing in it hides, reorders or controls.

The same characters as in `src/proto/text.rs`, and all that Unicode calls control, format, private or a separator of
lines. JSON has escapes of its own for them, so what is escaped there is still the same text.
"""

import json
import re
import unicodedata
from functools import lru_cache
from typing import Any

_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))

_INVISIBLE = frozenset(map(ord, "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")).union(
    range(0x2060, 0x2070), range(0xFE00, 0xFE10), range(0xFFF0, 0xFFFC), range(0xE0000, 0xE1000)
)
"""Drawn as nothing, whatever their category: joiner, fillers, vowels, variation selectors, annotations, tags."""

_NOT_ASCII = re.compile(r"[^\x20-\x7e]")


def hides(character: str) -> bool:
    """Does this character control a terminal, reorder text or hide in it?"""
    code = ord(character)
    # The last two code points of each plane are no characters.
    nothing = code in _INVISIBLE or code & 0xFFFE == 0xFFFE
    return nothing or unicodedata.category(character) in _CATEGORIES


def compact(value: Any) -> str:
    r"""The JSON of a value, on one line and without spaces; what hides stands there as `\uXXXX`."""
    return _escape(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def readable(text: str) -> str:
    r"""A text with its lines and tabs; what hides stands there as `\uXXXX`."""
    return "\n".join("\t".join(map(_escape, line.split("\t"))) for line in text.replace("\r\n", "\n").split("\n"))


def _escape(text: str) -> str:
    return _NOT_ASCII.sub(lambda found: _escaped(found[0]), text)


@lru_cache(maxsize=4096)
def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if hides(character) else character
