"""A client of private direct messages (NIP-17) on `nostr-sdk` of the Python package registry.

    python nip17_sdk.py <relay url>...

It talks as nip17.mjs beside it does. The family is that of our own SDK, but not its version, and nothing here is ours.
"""

import asyncio
import json
import sys
from datetime import timedelta

from nostr_sdk import (
    Authenticator,
    Client,
    ClientBuilder,
    Event,
    EventBuilder,
    Filter,
    Keys,
    Kind,
    PublicKey,
    RelayUrl,
    ReqTarget,
    SendEventTarget,
    Tag,
    UnwrappedGift,
    nip17_extract_relay_list,
    nip17_make_private_msg,
    uniffi_set_event_loop,
)

KIND_INBOX = 10050
KIND_WRAP = 1059
KIND_AUTH = 22242
PATIENCE = timedelta(seconds=30)


def tell(message: dict) -> None:
    """One line out."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class Known(Authenticator):
    """Tells relays that ask who this is (NIP-42): some hand wraps out only to who they are for."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def make_auth_event(self, relay_url: RelayUrl, challenge: str) -> Event:
        """The answer to a challenge."""
        tags = [Tag.parse(["relay", str(relay_url)]), Tag.parse(["challenge", challenge])]
        return EventBuilder(Kind(KIND_AUTH), "").tags(tags).finalize(self._keys)


class Mailbox:
    """A key, its inbox relays, and what comes there."""

    def __init__(self, client: Client, keys: Keys, relays: list[RelayUrl]) -> None:
        self._client = client
        self._relays = relays
        self._keys = keys
        self._seen: set[str] = set()

    @property
    def public_key(self) -> PublicKey:
        """Who this is."""
        return self._keys.public_key()

    async def open(self) -> None:
        """Connects, says where the inbox is, and listens there."""
        for url in self._relays:
            await self._client.add_relay(url)
        await self._client.connect(PATIENCE)
        tags = [Tag.parse(["relay", str(url)]) for url in self._relays]
        await self._publish(EventBuilder(Kind(KIND_INBOX), "").tags(tags).finalize(self._keys), self._relays)
        self._notifications = self._client.notifications()
        self._reader = asyncio.create_task(self._read())
        wanted = Filter().kind(Kind(KIND_WRAP)).pubkey(self._keys.public_key())
        await self._client.subscribe(ReqTarget.auto([wanted]))

    async def inbox(self, of: str) -> list[str]:
        """The inbox relays of a key; none while it has not said them."""
        wanted = Filter().kind(Kind(KIND_INBOX)).author(PublicKey.parse(of))
        lists = await self._client.fetch_events(ReqTarget.auto([wanted]), PATIENCE)
        newest = max(lists, key=lambda event: event.created_at().as_secs(), default=None)
        return [str(url) for url in nip17_extract_relay_list(newest)] if newest else []

    async def send(self, to: str, text: str) -> list[str]:
        """Sends a text to the inbox of a key."""
        inbox = await self.inbox(to)
        if not inbox:
            raise LookupError("no inbox")
        wrap = nip17_make_private_msg(self._keys, PublicKey.parse(to), text)
        urls = [RelayUrl.parse(url) for url in inbox]
        for url in urls:
            await self._client.add_relay(url)
        await self._client.connect(PATIENCE)
        await self._publish(wrap, urls)
        return inbox

    async def _publish(self, event: Event, relays: list[RelayUrl]) -> None:
        output = await self._client.send_event(event, SendEventTarget.to(relays))
        if len(output.success) != len(relays):
            raise ConnectionError(str(output.failed))

    async def _read(self) -> None:
        while (notification := await self._notifications.next()) is not None:
            if notification.is_new_event():
                self._show(notification.event)

    def _show(self, wrap: Event) -> None:
        if wrap.kind().as_u16() != KIND_WRAP or wrap.id().to_hex() in self._seen:
            return
        self._seen.add(wrap.id().to_hex())
        try:
            gift = UnwrappedGift.from_gift_wrap(self._keys, wrap)
        except Exception as error:
            tell({"event": "unreadable", "id": wrap.id().to_hex(), "why": str(error)})
            return
        rumor = gift.rumor().ensure_id()
        tell(
            {
                "event": "message",
                "from": gift.sender().to_hex(),
                "kind": rumor.kind().as_u16(),
                "text": rumor.content(),
                "tags": [tag.to_vec() for tag in rumor.tags()],
                "id": rumor.id().to_hex(),
            }
        )


async def obey(mailbox: Mailbox, line: str) -> None:
    """Carries out one command."""
    command = json.loads(line)
    number, verb = command.pop("n"), command.pop("do")
    try:
        if verb not in ("inbox", "send"):
            raise LookupError(f"unknown command {verb}")
        tell({"n": number, "ok": await getattr(mailbox, verb)(**command)})
    except Exception as error:
        tell({"n": number, "error": str(error)})


async def main(urls: list[str]) -> None:
    """Runs until stdin ends."""
    # The authenticator is called from a thread of the library's own.
    uniffi_set_event_loop(asyncio.get_running_loop())
    keys = Keys.generate()
    client = ClientBuilder().authenticator(Known(keys)).build()
    mailbox = Mailbox(client, keys, [RelayUrl.parse(url) for url in urls])
    await mailbox.open()
    key = mailbox.public_key
    tell({"event": "ready", "pubkey": key.to_hex(), "npub": key.to_bech32()})
    while line := await asyncio.to_thread(sys.stdin.readline):
        await obey(mailbox, line)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
