"""JSON for readers whom a text can deceive: a language model, a person at a terminal.

What `_show` makes visible is escaped, and with it all that Unicode calls control, format, private, half a character, or
a separator of lines. JSON has escapes of its own for them, so it is still the same text.
"""

import json
import re
import unicodedata
from functools import lru_cache
from typing import Any

from ._show import visible

_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
_NOT_ASCII = re.compile(r"[^\x20-\x7e]")


def hides(character: str) -> bool:
    """Does this character control a terminal, reorder text or hide in it?"""
    return visible(character) != character or unicodedata.category(character) in _CATEGORIES


def compact(value: Any) -> str:
    r"""The JSON of a value, on one line and without spaces; what hides stands there as `\uXXXX`."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _NOT_ASCII.sub(lambda found: _escaped(found[0]), text)


@lru_cache(maxsize=4096)
def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if hides(character) else character
