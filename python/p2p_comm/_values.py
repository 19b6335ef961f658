"""A `dataclass` for the values of `models.py` and `events.py`, cheap to define.

The standard one writes six methods for each frozen class and compiles them: 0.6 ms a class, 20 ms before the first
agent was there. Here the fields and the slots are its own, and the methods the same few functions for every class.
"""

import dataclasses
from collections.abc import Callable
from typing import Any


def dataclass(*, frozen: bool, slots: bool, kw_only: bool) -> Callable[[Any], Any]:
    """The standard decorator of these options, which are the only ones it knows. Type checkers are shown that one."""
    if not (frozen and slots and kw_only):
        raise TypeError("values are frozen, have slots, and are made from keywords")
    return _value


def _value(cls: Any) -> Any:
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=True)(cls)
    # Of each field its name, what writes it (nothing else can), and its default.
    made._members = tuple(
        (field.name, getattr(made, field.name).__set__, field.default) for field in dataclasses.fields(made)
    )
    for method in _METHODS:
        setattr(made, method.__name__, method)
    return made


def __init__(self: Any, /, **given: Any) -> None:
    for name, put, default in self._members:
        member = given.pop(name, default)
        if member is dataclasses.MISSING:
            raise TypeError(f"{type(self).__name__} needs {name!r}")
        put(self, member)
    if given:
        raise TypeError(f"{type(self).__name__} has no {next(iter(given))!r}")


def __setattr__(self: Any, name: str, _: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def __delattr__(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def __eq__(self: Any, other: object) -> Any:
    return __getstate__(self) == __getstate__(other) if type(other) is type(self) else NotImplemented


def __hash__(self: Any) -> int:
    return hash(tuple(__getstate__(self)))


def __repr__(self: Any) -> str:
    members = ", ".join(f"{name}={getattr(self, name)!r}" for name, _, _ in self._members)
    return f"{type(self).__qualname__}({members})"


# What pickle and copy ask for, in the form that frozen data classes with slots have.
def __getstate__(self: Any) -> list[Any]:
    return [getattr(self, name) for name, _, _ in self._members]


def __setstate__(self: Any, state: list[Any]) -> None:
    for (_, put, _), member in zip(self._members, state, strict=True):
        put(self, member)


_METHODS = (__init__, __setattr__, __delattr__, __eq__, __hash__, __repr__, __getstate__, __setstate__)
