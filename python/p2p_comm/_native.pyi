import asyncio
import os
from collections.abc import Callable
from typing import Any, Final, final

__all__ = [
    "ERROR_KINDS",
    "EVENT_KINDS",
    "Link",
    "Relay",
    "__version__",
    "cli_main",
    "connect",
    "forward_log",
    "start_relay",
]

__version__: Final[str]
ERROR_KINDS: Final[tuple[str, ...]]
EVENT_KINDS: Final[tuple[str, ...]]

def cli_main(arguments: list[str], executable: str) -> int: ...
def connect(options: dict[str, Any]) -> asyncio.Future[Link]: ...
def forward_log(level: int, sink: Callable[[int, str, str], object]) -> bool: ...
def start_relay(folder: os.PathLike[str] | str | None = None) -> asyncio.Future[Relay]: ...

@final
class Link:
    @property
    def hosted(self) -> bool: ...
    def request(self, method: str, params: dict[str, Any]) -> asyncio.Future[dict[str, Any]]: ...
    def post(self, method: str, params: dict[str, Any]) -> None: ...
    def close(self) -> asyncio.Future[None]: ...

@final
class Relay:
    @property
    def url(self) -> str: ...
    def stop(self) -> asyncio.Future[None]: ...
