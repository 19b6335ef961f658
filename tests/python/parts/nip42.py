"""What PyPI `nostr-relay` lacks for NIP-42, as an extension that it loads (`authenticator_class`).

As shipped, it sends a challenge and takes the answer, but never says OK to it; what it refuses it refuses without a
name (a NOTICE instead of CLOSED, an OK without an id), and whoever has authenticated may no more than others. With
this, it behaves as the NIP says and as relays that are careful with private messages do: only who has authenticated
may publish, and kinds 4 and 1059 are served to their receiver only, in a REQ of their own.

It runs in the relay's environment, which has none of ours but this package.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from nostr_relay import auth, web  # type: ignore[import-not-found]
from nostr_relay.errors import AuthenticationError  # type: ignore[import-not-found]

PRIVATE = {4, 1059}

_start_client = web.start_client


class Authenticator(auth.Authenticator):  # type: ignore[misc]
    """Who may do what."""

    async def can_do(self, auth_token: dict[str, Any] | None, action: str, target: Any = None) -> bool:
        """Raises unless it may: what is raised becomes the reason of the refusal."""
        me = (auth_token or {}).get("pubkey")
        if action == auth.Action.save.value and me is None:
            raise AuthenticationError("auth-required: who are you?")
        if action == auth.Action.query.value:
            for query in target.filters:
                self._check(query, me)
        return True

    def _check(self, query: Any, me: str | None) -> None:
        kinds = set(query.kinds or PRIVATE)
        if not kinds & PRIVATE:
            return
        if me is None:
            raise AuthenticationError("auth-required: private messages are served to their receiver")
        receivers = [set(values) for name, values in query.tags or [] if name == "p"]
        if kinds - PRIVATE or receivers != [{me}]:
            raise AuthenticationError("restricted: private messages are served to their receiver, and in a REQ alone")


async def start_client(
    storage: Any,
    ws_send: Callable[[str], Awaitable[None]],
    ws_recv: Callable[[], Awaitable[str]],
    *arguments: Any,
    **options: Any,
) -> None:
    """The relay's own conversation with a client, its answers completed as the NIP asks for them."""
    asked: list[Any] = []

    async def receive() -> str:
        # It asks for the next message when it has dealt with the last one.
        if asked and asked[0] == "AUTH":
            await ws_send(json.dumps(["OK", asked[1]["id"], True, ""]))
        text = await ws_recv()
        asked[:] = json.loads(text)
        return text

    async def send(text: str) -> None:
        if text.startswith(('["NOTICE"', '["OK"')):
            text = json.dumps(_named(json.loads(text)))
        await ws_send(text)

    def _named(answer: list[Any]) -> list[Any]:
        match (answer, asked):
            case (["NOTICE", words], ["REQ", subscription, *_]):
                return ["CLOSED", subscription, words]
            case (["NOTICE", words], ["AUTH", event]):
                asked.clear()
                return ["OK", event["id"], False, words]
            case (["OK", "", False, words], ["EVENT", event]):
                return ["OK", event["id"], False, words]
        return answer

    await _start_client(storage, send, receive, *arguments, **options)


web.start_client = start_client
