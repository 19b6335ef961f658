"""Between the JSON of `docs/cli.md` and the values of `models.py`: the annotations of a value say all there is to say.

A member that a value does not know is left out, so that an older package reads a newer daemon. A field whose JSON name
is a Python keyword carries it in its metadata.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar, Union

T = TypeVar("T")

ABSENT = "absent"
"""The key of a field's metadata that says: without a value it is not in JSON at all."""

JSON_NAME = "json"
"""The key of a field's metadata under which its name in JSON stands, where it is another one."""

_OURS = len("2026-11-27T02:00:00.123Z")
"""Times of this length, in UTC, are as our own side writes them, and are read at once."""

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def moment(text: str) -> datetime:
    """Reads an RFC 3339 time. `datetime.fromisoformat` of Python 3.10 takes neither a `Z` nor every fraction."""
    if len(text) == _OURS and text[-1] == "Z":
        return datetime.fromisoformat(text[:-1] + "+00:00")
    matched = _MOMENT.fullmatch(text)
    if matched is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    seconds, fraction, offset = matched.groups()
    read = datetime.fromisoformat(seconds + ("+00:00" if offset == "Z" else offset))
    return read.astimezone(timezone.utc) + timedelta(microseconds=int((fraction or "").ljust(6, "0")[:6]))


def decode(cls: type[T], data: Mapping[str, Any]) -> T:
    """Makes a value of `cls` from its JSON.

    Raises:
        ValueError: A member that `cls` needs is missing, or is no time where a time belongs.
    """
    readers = _READERS.get(cls) or _readers(cls)
    members = {}
    # By what is there: of many members of an event few are.
    for json_name, json in data.items():
        if (field := readers.get(json_name)) is not None:
            name, read = field
            members[name] = json if read is None or json is None else read(json)
    try:
        return cls(**members)
    except TypeError:
        missing = [json_name for name, json_name, _, required in _fields(cls) if required and name not in members]
        raise ValueError(f"{cls.__name__} without {', '.join(map(repr, missing))}") from None


def encode(value: Any) -> Any:
    """The JSON of a value: the reverse of `decode`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        absent = {field.name for field in dataclasses.fields(value) if ABSENT in field.metadata}
        return {
            json_name: encode(member)
            for name, json_name, _, _ in _fields(type(value))
            if (member := getattr(value, name)) is not None or name not in absent
        }
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value) if isinstance(value, Path) else value


_KNOWN: dict[Any, list[tuple[str, str, Callable[[Any], Any] | None, bool]]] = {}
_READERS: dict[Any, dict[str, tuple[str, Callable[[Any], Any] | None]]] = {}


def _readers(cls: Any) -> dict[str, tuple[str, Callable[[Any], Any] | None]]:
    """By its name in JSON: the name of a field, and the function that reads it."""
    readers = _READERS[cls] = {json_name: (name, reader) for name, json_name, reader, _ in _fields(cls)}
    return readers


def _fields(cls: Any) -> list[tuple[str, str, Callable[[Any], Any] | None, bool]]:
    """Of each field: its name, its name in JSON, the function that reads it if there is more to do than to take it, and
    whether it must be there."""
    if cls in _KNOWN:
        return _KNOWN[cls]
    annotations = typing.get_type_hints(cls)
    fields = _KNOWN[cls] = [
        (
            field.name,
            field.metadata.get(JSON_NAME, field.name),
            _reader(annotations[field.name]),
            field.default is dataclasses.MISSING,
        )
        for field in dataclasses.fields(cls)
    ]
    return fields


def _reader(annotation: Any) -> Callable[[Any], Any] | None:
    """The function that reads a value of this annotation which is not null; None where the value is what JSON has."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        (present,) = (argument for argument in arguments if argument is not type(None))
        return _reader(present)
    if origin is tuple:
        read = _reader(arguments[0])
        return tuple if read is None else lambda json: tuple(map(read, json))
    if annotation is datetime:
        return moment
    if annotation is Path:
        return Path
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return lambda json: decode(annotation, json)
    return None
