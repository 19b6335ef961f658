"""An agent: who it is, whom it calls, who calls it."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from . import _show
from . import call as _call
from ._session import Session
from ._streams import CONSUMER, SLICE_S, EventStream
from ._wire import decode
from .call import Call, FileSource, IncomingCall, IncomingCalls, OnProgress, Receipt
from .errors import CallBusy, CallEnded, CallRejected, CallTimeout, Unavailable
from .models import (
    AgentSelf,
    CallInfo,
    Contact,
    Decision,
    Event,
    Inbox,
    Message,
    Metric,
    Peer,
    Status,
    Transcript,
)

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from .tools import Tools, WaitingRoom

__all__ = ["Agent", "Call", "IncomingCall", "IncomingCalls", "Receipt"]

CallName: TypeAlias = "str | Call | CallInfo | None"
"""Where a method takes a call: the call, its id, or None for the only one that fits."""


class Agent:
    """An agent of this machine: one home folder, one key.

    Uses the running daemon of its home, or hosts the engine in this process while there is none; the calls and the
    guarantees are the same. Belongs to no event loop and no thread.

        async with Agent("alice", capabilities=["research"]) as agent:
            call = await agent.call("bob", topic="API design")

    Leaving the `async with` ends the calls that were placed or accepted through this object, and stops an engine that
    it hosts. What other agents send meanwhile waits for the next start.

    Args:
        id: The agent id. Default: that of the home; a new home takes `agent-` and 8 characters of its key.
        name: The display name.
        capabilities: What it announces that it can do.
        relays: URLs of the relays to use instead of the configured ones.
        home: The folder of the agent. Default: `P2P_COMM_HOME`, or `~/.openclaw`.
        owner: How to reach its human owner, one way or several: `nostr:npub1…`, `exec:PROGRAM`, `https://…`,
            `telegram:123`, `apprise:URL`, `desktop`. See `docs/owner.md`.

    What is not given comes from the environment, from `config.toml` of the home, or from the defaults, in this order.
    """

    def __init__(
        self,
        id: str | None = None,
        *,
        name: str | None = None,
        capabilities: Sequence[str] | None = None,
        relays: Sequence[str] | None = None,
        home: str | os.PathLike[str] | None = None,
        owner: str | Sequence[str] | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "id": id,
            "name": name,
            "capabilities": None if capabilities is None else list(capabilities),
            "relays": None if relays is None else list(relays),
            "home": None if home is None else str(Path(home).expanduser().absolute()),
            "owner": owner if owner is None or isinstance(owner, str) else "\n".join(owner),
        }
        self._session = Session()
        self._waiting_room: WaitingRoom | None = None
        """Shared by all tools of this agent: they are one reader of the journal."""
        self._me: AgentSelf | None = None

    async def start(self) -> "Self":
        """Connects to the daemon, or starts an engine in this process. `async with` does it.

        Raises:
            SetupError: The home cannot be used, belongs to another agent id, or its daemon has other settings.
            Unavailable: A daemon is there and does not answer.
        """
        await self._session.open(self._options)
        try:
            self._me = (await self.status()).agent
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """Ends the calls opened here and lets go of the engine. `async with` does it. A second time: does nothing."""
        await self._session.close()

    async def __aenter__(self) -> "Self":
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        await self.aclose()

    @property
    def id(self) -> str:
        """The agent id."""
        return self._known().id

    @property
    def name(self) -> str:
        """The display name."""
        return self._known().name

    @property
    def pubkey(self) -> str:
        """The public key, in hex: who this agent is."""
        return self._known().pubkey

    @property
    def npub(self) -> str:
        """The public key in NIP-19 form."""
        return self._known().npub

    @property
    def home(self) -> Path:
        """The folder in which everything of this agent is."""
        return self._known().home

    @property
    def hosted(self) -> bool:
        """Whether the engine runs in this process."""
        return self._session.hosted is True

    def _known(self) -> AgentSelf:
        if self._me is None:
            raise Unavailable(
                "daemon-unreachable",
                "this Agent was not started",
                'enter it with "async with", or start() it',
            )
        return self._me

    async def status(self) -> Status:
        """Who this agent is, which relays it has, and what is going on."""
        return decode(Status, await self._session.request("status"))

    async def list(self, *, capability: str | None = None, limit: int | None = None) -> tuple[Peer, ...]:
        """The agents that are online, the last seen first, without this one.

        Args:
            capability: Only those that announce it.
            limit: At most so many.

        Raises:
            Unavailable: No relay is connected.
        """
        reply = await self._session.request("list", capability=capability, limit=limit)
        return tuple(decode(Peer, entry) for entry in reply["agents"])

    async def call(
        self,
        agent: str,
        *,
        topic: str = "",
        wait: float | None = None,
        key: str | None = None,
        traceparent: str | None = None,
    ) -> Call:
        """Calls an agent, and waits until it has answered. A cancelled or timed-out ring is taken back.

        Args:
            agent: An agent id, a contact's name, an npub, an nprofile or a public key in hex.
            topic: What it is about, for the callee.
            wait: Seconds to wait for the answer. None waits for the ring time of 60 s, 0 returns while it rings.
            key: A name of your own for this call: the same key again is the same call, and never rings twice.
            traceparent: The trace that it is part of (W3C Trace Context); a callee of v2 is told.

        Raises:
            CallRejected: The callee declined.
            CallBusy: It is in another call, or one with it is up already.
            CallTimeout: Nobody answered in time.
            AgentNotFound: Nobody, or more than one agent, answers to this name.
            Unavailable: No relay is connected.
        """
        reply = await self._place(agent=agent, topic=topic, client_id=key, traceparent=traceparent)
        ring = Call(self._session, decode(CallInfo, reply))
        self._session.opened.add(ring.id)
        if wait == 0.0 and ring.info.state == "ringing":
            return ring
        try:
            reply = await self._answered(ring.id, wait)
        except asyncio.CancelledError:
            self._session.take_back(ring.id)
            raise
        return await self._outcome(decode(CallInfo, reply))

    async def _place(self, **params: Any) -> dict[str, Any]:
        """Places a call; if the caller is cancelled meanwhile, the ring is taken back once its id is known."""
        placing = self._session.submit("call", **params)
        self._session.placing.add(placing)
        try:
            await asyncio.wait((placing,))
        except asyncio.CancelledError:
            placing.add_done_callback(self._take_back)
            raise
        self._session.placing.discard(placing)
        return placing.result()

    def _take_back(self, placed: "asyncio.Future[dict[str, Any]]") -> None:
        self._session.placing.discard(placed)
        if not placed.cancelled() and placed.exception() is None:
            self._session.take_back(placed.result()["call"])

    async def _answered(self, ring: str, wait: float | None) -> dict[str, Any]:
        while True:
            timeout = SLICE_S if wait is None else wait
            reply = await self._session.request("await-call", call=ring, timeout_s=timeout)
            if wait is not None or reply["state"] != "ringing":
                return reply

    async def _outcome(self, info: CallInfo) -> Call:
        """The call that came of a ring, or what stands in its way."""
        if info.state == "ringing":
            await self.end(call=info.call)
            raise CallTimeout("no-answer", f"{_show.quote(info.peer.id)} did not answer in time", "")
        if info.connected_at is not None:
            return Call(self._session, info)
        self._session.opened.discard(info.call)
        words = f": {_show.quote(info.reason)}" if info.reason else ""
        match info.end_reason:
            case "rejected":
                raise CallRejected("rejected", f"{_show.quote(info.peer.id)} declined the call{words}")
            case "busy":
                raise CallBusy("peer-busy", f"{_show.quote(info.peer.id)} is busy{words}", "call again later")
            case "no-answer":
                raise CallTimeout("no-answer", f"{_show.quote(info.peer.id)} did not answer", "")
            case "failed":
                raise Unavailable("relays-unreachable", f"the call could not be placed{words}", "")
            case reason:
                raise CallEnded("call-ended", f"the call ended before it was answered ({reason}){words}")

    def incoming(self) -> IncomingCalls:
        """The calls that ring here, each once: `async for ring in agent.incoming()`."""
        stream: IncomingCalls | None = self._session.readers.get("incoming")
        if stream is None or stream.closed:
            stream = self._session.readers["incoming"] = IncomingCalls(self._session)
        return stream

    def events(
        self,
        *,
        kinds: Sequence[str] = (),
        call: CallName = None,
        consumer: str | None = CONSUMER,
        after: int | None = None,
    ) -> EventStream:
        """The journal of this home as it is.

        Args:
            kinds: Only these; empty is every kind that need not be asked for by name.
            call: Only those of this call.
            consumer: Whose place to continue, and to move. None moves nobody's, and needs `after`.
            after: Only what comes after this cursor; 0 is the oldest kept.
        """
        return EventStream(self._session, kinds=kinds, call=_id(call), consumer=consumer, after=after)

    async def untaken(self, *, kinds: Sequence[str] = (), after: int = 0, timeout: float = 0.0) -> Event | None:
        """The first event that nobody has taken, answered or read; None if there is none within `timeout` seconds.

        What a wake is decided by: no consumer has passed it, the call still rings, the message is unread. Of the last
        day only, and nothing that this side did itself. It stays as it is.

        Args:
            kinds: Only these; empty is every kind that need not be asked for by name.
            after: Only what comes after this cursor; 0 is the oldest kept.
            timeout: How long to wait for one, seconds.
        """
        reply = await self._session.request("untaken", kinds=list(kinds), after=after, timeout_s=timeout)
        return None if reply["event"] is None else decode(Event, reply["event"])

    async def answer(self, call: CallName = None, *, accept: bool = True, reason: str = "") -> Call:
        """Accepts or rejects a ringing call, by default the only one.

        Raises:
            NoSuchCall: None rings, or several do.
            CallEnded: It rings no more.
        """
        return await _call.answer(self._session, call=_id(call), accept=accept, reason=reason)

    async def send(
        self, text: str, *, call: CallName = None, to: str | None = None, traceparent: str | None = None
    ) -> Receipt:
        """Says something in a call, by default the only one, or to an agent. See `Call.send`."""
        return await _call.send(self._session, text, call=_id(call), to=to, traceparent=traceparent)

    async def send_file(
        self,
        file: FileSource,
        *,
        name: str | None = None,
        mime: str | None = None,
        call: CallName = None,
        to: str | None = None,
        progress: OnProgress | None = None,
    ) -> Receipt:
        """Sends a file in a call, by default the only one, or to an agent. See `Call.send_file`.

        To an agent with whom no call is up it goes to the mailbox: at most 20,000 bytes, or 16 MiB by a server of the
        setting `blossom`. `relayed` is what can be known of it then.
        """
        return await _call.send_file(
            self._session, file, name=name, mime=mime, call=_id(call), to=to, progress=progress
        )

    async def cancel_file(self, message: Message | Receipt | str) -> Message:
        """Stops a file that is under way, one of ours or one of the peer's. See `Call.cancel_file`."""
        return await _call.cancel_file(self._session, message)

    async def escalate(
        self,
        question: str,
        *,
        options: Sequence[str] = (),
        wait: float | None = None,
        expires: float | None = None,
        call: CallName = None,
    ) -> Decision:
        """Asks the human owner, with or without a call. See `Call.escalate`."""
        return await _call.escalate(
            self._session, question, options=options, wait=wait, expires=expires, call=_id(call)
        )

    async def end(self, *, call: CallName = None) -> Transcript:
        """Ends a call, by default the only one. See `Call.end`."""
        reply = await self._session.request("end", call=_id(call))
        self._session.opened.discard(reply["call"]["call"])
        return decode(Transcript, reply["transcript"])

    async def inbox(self) -> Inbox:
        """What waits for this agent. Looking marks nothing as read."""
        return decode(Inbox, await self._session.request("inbox"))

    async def messages(self, *, call: CallName = None, unread: bool = False, limit: int = 100) -> tuple[Message, ...]:
        """The newest messages, oldest first, of all calls or of one. Looking marks nothing as read."""
        reply = await self._session.request("messages", call=_id(call), unread=unread, limit=limit)
        return tuple(decode(Message, message) for message in reply["messages"])

    async def mark_read(self, messages: "Sequence[Message | str]") -> None:
        """Marks messages of peers as read. What a stream handed over is read already."""
        ids = [message.message if isinstance(message, Message) else message for message in messages]
        await self._session.request("mark-read", messages=ids)

    async def transcript(self, call: CallName = None) -> Transcript:
        """The whole of a call, by default the newest."""
        return decode(Transcript, await self._session.request("transcript", call=_id(call)))

    async def calls(self, *, limit: int = 20) -> tuple[Call, ...]:
        """Calls, newest first, ended ones too. Those that are up can be continued, also after a restart."""
        reply = await self._session.request("calls", limit=limit)
        return tuple(Call(self._session, decode(CallInfo, info)) for info in reply["calls"])

    async def contacts(self) -> tuple[Contact, ...]:
        """The contact book, by name."""
        return _contacts(await self._session.request("contacts"))

    async def add_contact(self, name: str, key: str) -> tuple[Contact, ...]:
        """Names a key (npub, nprofile, hex, or the id of an agent that is online)."""
        return await self._edit_contacts(action="add", name=name, key=key)

    async def remove_contact(self, name: str) -> tuple[Contact, ...]:
        """Forgets a name. What is pinned or blocked stays."""
        return await self._edit_contacts(action="remove", name=name)

    async def verify_contact(self, name: str, key: str) -> tuple[Contact, ...]:
        """Moves a name, and the agent id pinned with it, to another key, or confirms that it is this one.

        A person's to do: the process has to sit at a terminal, and the engine to run in the daemon.

        Raises:
            InvalidRequest: `not-allowed`: it does not.
        """
        return await self._edit_contacts(action="verify", name=name, key=key)

    async def block(self, key: str) -> tuple[Contact, ...]:
        """Lets nothing of a key, or of a contact, in."""
        return await self._edit_contacts(action="block", key=key)

    async def unblock(self, key: str) -> tuple[Contact, ...]:
        """Lets it in again."""
        return await self._edit_contacts(action="unblock", key=key)

    async def allow_legacy(self, key: str) -> tuple[Contact, ...]:
        """Allows legacy calls to a key that has shown v2."""
        return await self._edit_contacts(action="allow-legacy", key=key)

    async def _edit_contacts(self, **edit: str) -> tuple[Contact, ...]:
        return _contacts(await self._session.request("contact-edit", **edit))

    async def questions(self) -> tuple[Decision, ...]:
        """Questions that a person may still decide, oldest first: those that wait, and those that found no owner."""
        reply = await self._session.request("questions")
        return tuple(decode(Decision, question) for question in reply["questions"])

    async def metrics(self) -> tuple[Metric, ...]:
        """Figures of the engine for whoever watches over it, by name: messages, calls, relays, what was dropped."""
        return tuple(decode(Metric, metric) for metric in (await self._session.request("metrics"))["metrics"])

    async def test_owner(self) -> Decision:
        """Asks the owner's channels a test question that needs no answer."""
        return decode(Decision, await self._session.request("owner-test"))

    async def reload(self) -> None:
        """Takes the settings that changed in `config.toml`: name, capabilities, owner."""
        await self._session.request("reload")
        self._me = (await self.status()).agent

    def tools(self, *, files: str | os.PathLike[str] | None = None) -> "Tools":
        """What this agent can do as plain functions for a language model. Most frameworks take them as they are.

        They are `p2p_list_agents`, `p2p_call`, `p2p_wait`, `p2p_answer`, `p2p_send`, `p2p_send_file`, `p2p_escalate`
        and `p2p_end`: typed, with scalar arguments and JSON text as the result, errors too.

        Args:
            files: The folder from which the model may send files. Default: whatever this process can read.
        """
        from . import tools

        if self._waiting_room is None:
            self._waiting_room = tools.WaitingRoom(self._session)
        return tools.functions(self, self._waiting_room, files=None if files is None else Path(files))

    def _state(self) -> str:
        hosted = self._session.hosted
        return "closed" if hosted is None else "hosted here" if hosted else "in the daemon"

    def __repr__(self) -> str:
        who = self._options["id"] if self._me is None else self._me.id
        return f"<Agent {who!r} {self._state()}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return _show.bundle(self, _show.agent(self._me, self._state()))


def _id(call: CallName) -> str | None:
    if isinstance(call, Call):
        return call.id
    return call.call if isinstance(call, CallInfo) else call


def _contacts(reply: dict[str, Any]) -> tuple[Contact, ...]:
    return tuple(decode(Contact, contact) for contact in reply["contacts"])
