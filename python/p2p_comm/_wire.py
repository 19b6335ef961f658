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
from typing import Any, TypeAlias, TypeVar, Union

T = TypeVar("T")

ABSENT = "absent"
"""The key of a field's metadata that says: without a value it is not in JSON at all."""

JSON_NAME = "json"
"""The key of a field's metadata under which its name in JSON stands, where it is another one."""

_OURS = len("2026-11-27T02:00:00.123Z")
"""Times of this length, in UTC, are as our own side writes them, and are read at once."""

_MOMENT = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)"


def moment(text: str) -> datetime:
    """Reads an RFC 3339 time. `datetime.fromisoformat` of Python 3.10 takes neither a `Z` nor every fraction."""
    if len(text) == _OURS and text[-1] == "Z":
        return datetime.fromisoformat(text[:-1] + "+00:00")
    matched = re.fullmatch(_MOMENT, text)
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
    value = cls.__new__(cls)
    # As the constructor would, without the dictionary of its keywords.
    for _, json_name, read, put, default in _KNOWN.get(cls) or _fields(cls):
        if json_name in data:
            json = data[json_name]
            put(value, json if read is None or json is None else read(json))
        elif default is dataclasses.MISSING:
            raise ValueError(f"{cls.__name__} without {json_name!r}")
        else:
            put(value, default)
    return value


def encode(value: Any) -> Any:
    """The JSON of a value: the reverse of `decode`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        absent = {field.name for field in dataclasses.fields(value) if ABSENT in field.metadata}
        return {
            json_name: encode(member)
            for name, json_name, *_ in _fields(type(value))
            if (member := getattr(value, name)) is not None or name not in absent
        }
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value) if isinstance(value, Path) else value


Field: TypeAlias = tuple[str, str, Callable[[Any], Any] | None, Callable[[Any, Any], None], Any]
"""Its name, its name in JSON, the function that reads it if there is more to do than to take it, the one that writes it
into a value, and its default."""

_KNOWN: dict[Any, list[Field]] = {}


def _fields(cls: Any) -> list[Field]:
    if cls in _KNOWN:
        return _KNOWN[cls]
    annotations = typing.get_type_hints(cls)
    fields = _KNOWN[cls] = [
        (
            field.name,
            field.metadata.get(JSON_NAME, field.name),
            _reader(annotations[field.name]),
            getattr(cls, field.name).__set__,
            field.default,
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
