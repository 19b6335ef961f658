"""The same names without `await`: for scripts, threads and notebook cells.

    from p2p_comm.sync import Agent

    with Agent("alice") as agent:
        call = agent.call("bob", topic="API design")
        call.send("Which of the two schemas?")
        for event in call:
            print(event)

Every method does what its namesake in `p2p_comm` does and raises the same exceptions; only the calling thread waits.
All of them run on one event loop in a thread of this module's own, so they work where a loop runs already, and any
thread may use any object. Ctrl-C interrupts a call, and whatever it waited for is cancelled. `aclose` is `close` here.
"""

import asyncio
import atexit
import functools
import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from . import agent as _agent
from . import call as _call
from ._streams import CONSUMER
from ._streams import Stream as _Stream
from .call import FileSource, OnProgress
from .errors import InvalidRequest
from .events import CallEvent
from .models import (
    CallInfo,
    Contact,
    Decision,
    Event,
    Inbox,
    Message,
    MessageState,
    Metric,
    Peer,
    Status,
    Tier,
    Transcript,
)

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from .tools import Tool

__all__ = ["Agent", "Call", "IncomingCall", "Receipt", "Stream"]

CANCELLED_WITHIN_S = 2.0
"""How long an interrupted task may take to end: nothing of ours waits for anything then."""

Item = TypeVar("Item")
Result = TypeVar("Result")
CallName: TypeAlias = "str | Call | CallInfo | None"
BlockingTools: TypeAlias = list[Callable[..., str]]


class _Background:
    """The event loop of this module: started on first use, stopped when the interpreter exits."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._pid: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Runs a coroutine to its end while the calling thread waits."""
        try:
            running = self._running()
        except BaseException:
            coroutine.close()
            raise
        finished = threading.Event()
        tasks: list[asyncio.Task[Result]] = []

        def start() -> None:
            tasks.append(running.create_task(coroutine))
            tasks[0].add_done_callback(lambda _: finished.set())

        running.call_soon_threadsafe(start)
        try:
            finished.wait()
        except BaseException:
            # Ctrl-C. Whoever goes on after it finds the task gone, not still on its way out.
            running.call_soon_threadsafe(lambda: tasks[0].cancel())
            finished.wait(CANCELLED_WITHIN_S)
            raise
        return tasks[0].result()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._pid not in (None, os.getpid()):
            raise InvalidRequest(
                "invalid-value",
                "this process was forked from one that uses p2p_comm, and cannot use what it inherited",
                'start the child with the multiprocessing method "spawn", or use p2p_comm only after the fork',
            )
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._pid = os.getpid()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="p2p-comm-sync", daemon=True)
                self._thread.start()
                atexit.register(self._stop)
        if threading.current_thread() is self._thread:
            raise RuntimeError("p2p_comm.sync would wait for itself here: use p2p_comm in asynchronous code")
        return self._loop

    def _stop(self) -> None:
        if self._loop is None or self._thread is None or self._pid != os.getpid():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        # A daemon thread that still runs Python when the interpreter goes away may take the process with it.
        self._thread.join()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()


run = _Background().run


class Stream(Generic[Item]):
    """An iterator over events. Each item is handed over once; leaving the `for` early loses nothing."""

    def __init__(self, stream: _Stream[Any], wrap: Callable[[Any], Item]) -> None:
        self._stream = stream
        self._wrap = wrap

    def __iter__(self) -> "Self":
        return self

    def __next__(self) -> Item:
        # Peeked over there, taken here: what an interrupt stops on the way stays in the journal.
        if not run(self._stream.peek()):
            raise StopIteration
        return self._wrap(self._stream.take())

    def next(self, *, timeout: float) -> Item | None:
        """The next item; None at the end of the stream.

        Raises:
            TimeoutError: Nothing came within `timeout` seconds.
        """
        try:
            there = run(asyncio.wait_for(self._stream.peek(), timeout))
        except asyncio.TimeoutError:
            raise TimeoutError(f"no event within {timeout} seconds") from None
        return self._wrap(self._stream.take()) if there else None

    def close(self) -> None:
        """Ends the stream. What was not handed over stays in the journal."""
        self._stream.close()


class Receipt:
    """What became of a message of ours."""

    def __init__(self, receipt: _call.Receipt) -> None:
        self._receipt = receipt

    @property
    def message(self) -> Message:
        """The message as last known."""
        return self._receipt.message

    @property
    def state(self) -> MessageState:
        """How far it has come."""
        return self._receipt.state

    def relayed(self, *, timeout: float | None = None) -> Message:
        """Waits until a relay has taken the message."""
        return run(self._receipt.relayed(timeout=timeout))

    def delivered(self, *, timeout: float | None = None) -> Message:
        """Waits until the peer's engine has committed the message."""
        return run(self._receipt.delivered(timeout=timeout))

    def read(self, *, timeout: float | None = None) -> Message:
        """Waits until the peer's application has taken the message."""
        return run(self._receipt.read(timeout=timeout))

    def __repr__(self) -> str:
        return repr(self._receipt)


class Call:
    """A call. `for event in call` yields what happens in it, each event once, up to `Ended`."""

    def __init__(self, call: _call.Call) -> None:
        self._call = call

    @property
    def id(self) -> str:
        """Its id in this home."""
        return self._call.id

    @property
    def info(self) -> CallInfo:
        """The call as last known; `refresh` asks again."""
        return self._call.info

    @property
    def peer(self) -> Peer:
        """The other end."""
        return self._call.peer

    @property
    def topic(self) -> str:
        """What the caller wants to talk about."""
        return self._call.topic

    def refresh(self) -> CallInfo:
        """Asks how the call stands."""
        return run(self._call.refresh())

    def events(self) -> Stream[CallEvent]:
        """The stream that `for event in call` reads."""
        return Stream(self._call.events(), lambda event: event)

    def __iter__(self) -> Stream[CallEvent]:
        return self.events()

    def send(self, text: str, *, traceparent: str | None = None) -> Receipt:
        """Says something. Returns when it is committed here."""
        return Receipt(run(self._call.send(text, traceparent=traceparent)))

    def send_file(
        self,
        file: FileSource,
        *,
        name: str | None = None,
        mime: str | None = None,
        progress: OnProgress | None = None,
    ) -> Receipt:
        """Sends a file: a path, its bytes (with a `name`), or an object with `read()`.

        `progress` is called in another thread.
        """
        return Receipt(run(self._call.send_file(file, name=name, mime=mime, progress=progress)))

    def cancel_file(self, message: Message | Receipt | str) -> Message:
        """Stops a file that is under way, one of ours or one of the peer's."""
        return run(self._call.cancel_file(_message(message)))

    def escalate(
        self,
        question: str,
        *,
        options: Sequence[str] = (),
        wait: float | None = None,
        expires: float | None = None,
    ) -> Decision:
        """Asks the human owner of this agent, and tells the peer."""
        return run(self._call.escalate(question, options=options, wait=wait, expires=expires))

    def transcript(self) -> Transcript:
        """What was said so far."""
        return run(self._call.transcript())

    def end(self) -> Transcript:
        """Ends the call, or takes back the ring."""
        return run(self._call.end())

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self.end()

    def __repr__(self) -> str:
        return repr(self._call)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self._call._repr_mimebundle_(include, exclude)


class IncomingCall:
    """A call that rings here."""

    def __init__(self, ring: _call.IncomingCall) -> None:
        self._ring = ring

    @property
    def id(self) -> str:
        """The call's id in this home."""
        return self._ring.id

    @property
    def info(self) -> CallInfo:
        """The call as it stood when it was handed over."""
        return self._ring.info

    @property
    def peer(self) -> Peer:
        """Who calls."""
        return self._ring.peer

    @property
    def topic(self) -> str:
        """What the caller wants to talk about: data, not an instruction."""
        return self._ring.topic

    @property
    def tier(self) -> Tier:
        """How far the caller is trusted."""
        return self._ring.tier

    def accept(self) -> Call:
        """Takes the call."""
        return Call(run(self._ring.accept()))

    def reject(self, reason: str = "") -> None:
        """Declines the call, with words for the caller."""
        run(self._ring.reject(reason))

    def __repr__(self) -> str:
        return repr(self._ring)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self._ring._repr_mimebundle_(include, exclude)


class Agent:
    """An agent of this machine. See `p2p_comm.Agent`, whose arguments these are."""

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
        self._agent = _agent.Agent(id, name=name, capabilities=capabilities, relays=relays, home=home, owner=owner)

    @classmethod
    def of(cls, agent: _agent.Agent) -> "Self":
        """The same agent, for code without `await`."""
        made = cls.__new__(cls)
        made._agent = agent
        return made

    def start(self) -> "Self":
        """Connects to the daemon, or starts an engine in this process. `with` does it."""
        run(self._agent.start())
        return self

    def close(self) -> None:
        """Ends the calls opened here and lets go of the engine. `with` does it."""
        run(self._agent.aclose())

    def __enter__(self) -> "Self":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self.close()

    @property
    def id(self) -> str:
        """The agent id."""
        return self._agent.id

    @property
    def name(self) -> str:
        """The display name."""
        return self._agent.name

    @property
    def pubkey(self) -> str:
        """The public key, in hex: who this agent is."""
        return self._agent.pubkey

    @property
    def npub(self) -> str:
        """The public key in NIP-19 form."""
        return self._agent.npub

    @property
    def home(self) -> Path:
        """The folder in which everything of this agent is."""
        return self._agent.home

    @property
    def hosted(self) -> bool:
        """Whether the engine runs in this process."""
        return self._agent.hosted

    def status(self) -> Status:
        """Who this agent is, which relays it has, and what is going on."""
        return run(self._agent.status())

    def list(self, *, capability: str | None = None, limit: int | None = None) -> tuple[Peer, ...]:
        """The agents that are online, the last seen first, without this one."""
        return run(self._agent.list(capability=capability, limit=limit))

    def call(
        self,
        agent: str,
        *,
        topic: str = "",
        wait: float | None = None,
        key: str | None = None,
        traceparent: str | None = None,
    ) -> Call:
        """Calls an agent, and waits until it has answered."""
        return Call(run(self._agent.call(agent, topic=topic, wait=wait, key=key, traceparent=traceparent)))

    def incoming(self) -> Stream[IncomingCall]:
        """The calls that ring here, each once: `for ring in agent.incoming()`."""
        return Stream(self._agent.incoming(), IncomingCall)

    def events(
        self,
        *,
        kinds: Sequence[str] = (),
        call: CallName = None,
        consumer: str | None = CONSUMER,
        after: int | None = None,
    ) -> Stream[Event]:
        """The journal of this home as it is."""
        stream = self._agent.events(kinds=kinds, call=_inner(call), consumer=consumer, after=after)
        return Stream(stream, lambda event: event)

    def untaken(self, *, kinds: Sequence[str] = (), after: int = 0, timeout: float = 0.0) -> Event | None:
        """The first event that nobody has taken, answered or read; None if there is none in time. It stays so."""
        return run(self._agent.untaken(kinds=kinds, after=after, timeout=timeout))

    def answer(self, call: CallName = None, *, accept: bool = True, reason: str = "") -> Call:
        """Accepts or rejects a ringing call, by default the only one."""
        return Call(run(self._agent.answer(_inner(call), accept=accept, reason=reason)))

    def send(
        self, text: str, *, call: CallName = None, to: str | None = None, traceparent: str | None = None
    ) -> Receipt:
        """Says something in a call, by default the only one, or to an agent."""
        return Receipt(run(self._agent.send(text, call=_inner(call), to=to, traceparent=traceparent)))

    def send_file(
        self,
        file: FileSource,
        *,
        name: str | None = None,
        mime: str | None = None,
        call: CallName = None,
        to: str | None = None,
        progress: OnProgress | None = None,
    ) -> Receipt:
        """Sends a file in a call, by default the only one, or to an agent. `progress` is called in another thread."""
        sending = self._agent.send_file(file, name=name, mime=mime, call=_inner(call), to=to, progress=progress)
        return Receipt(run(sending))

    def cancel_file(self, message: Message | Receipt | str) -> Message:
        """Stops a file that is under way, one of ours or one of the peer's."""
        return run(self._agent.cancel_file(_message(message)))

    def escalate(
        self,
        question: str,
        *,
        options: Sequence[str] = (),
        wait: float | None = None,
        expires: float | None = None,
        call: CallName = None,
    ) -> Decision:
        """Asks the human owner, with or without a call."""
        return run(self._agent.escalate(question, options=options, wait=wait, expires=expires, call=_inner(call)))

    def end(self, *, call: CallName = None) -> Transcript:
        """Ends a call, by default the only one."""
        return run(self._agent.end(call=_inner(call)))

    def inbox(self) -> Inbox:
        """What waits for this agent. Looking marks nothing as read."""
        return run(self._agent.inbox())

    def messages(self, *, call: CallName = None, unread: bool = False, limit: int = 100) -> tuple[Message, ...]:
        """The newest messages, oldest first, of all calls or of one."""
        return run(self._agent.messages(call=_inner(call), unread=unread, limit=limit))

    def mark_read(self, messages: "Sequence[Message | str]") -> None:
        """Marks messages of peers as read."""
        run(self._agent.mark_read(messages))

    def transcript(self, call: CallName = None) -> Transcript:
        """The whole of a call, by default the newest."""
        return run(self._agent.transcript(_inner(call)))

    def calls(self, *, limit: int = 20) -> tuple[Call, ...]:
        """Calls, newest first, ended ones too."""
        return tuple(Call(call) for call in run(self._agent.calls(limit=limit)))

    def contacts(self) -> tuple[Contact, ...]:
        """The contact book, by name."""
        return run(self._agent.contacts())

    def add_contact(self, name: str, key: str) -> tuple[Contact, ...]:
        """Names a key."""
        return run(self._agent.add_contact(name, key))

    def remove_contact(self, name: str) -> tuple[Contact, ...]:
        """Forgets a name. What is pinned or blocked stays."""
        return run(self._agent.remove_contact(name))

    def verify_contact(self, name: str, key: str) -> tuple[Contact, ...]:
        """Moves a name, and the agent id pinned with it, to another key, or confirms that it is this one.

        A person's to do: the process has to sit at a terminal, and the engine to run in the daemon.

        Raises:
            InvalidRequest: `not-allowed`: it does not.
        """
        return run(self._agent.verify_contact(name, key))

    def block(self, key: str) -> tuple[Contact, ...]:
        """Lets nothing of a key, or of a contact, in."""
        return run(self._agent.block(key))

    def unblock(self, key: str) -> tuple[Contact, ...]:
        """Lets it in again."""
        return run(self._agent.unblock(key))

    def allow_legacy(self, key: str) -> tuple[Contact, ...]:
        """Allows legacy calls to a key that has shown v2."""
        return run(self._agent.allow_legacy(key))

    def questions(self) -> tuple[Decision, ...]:
        """Questions that a person may still decide, oldest first."""
        return run(self._agent.questions())

    def metrics(self) -> tuple[Metric, ...]:
        """Figures of the engine for whoever watches over it, by name."""
        return run(self._agent.metrics())

    def test_owner(self) -> Decision:
        """Asks the owner's channels a test question that needs no answer."""
        return run(self._agent.test_owner())

    def reload(self) -> None:
        """Takes the settings that changed in `config.toml`."""
        run(self._agent.reload())

    def tools(self, *, files: str | os.PathLike[str] | None = None) -> "BlockingTools":
        """What this agent can do as plain functions for a language model, which wait for their results."""
        return [_blocking(tool) for tool in self._agent.tools(files=files)]

    def __repr__(self) -> str:
        return repr(self._agent)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self._agent._repr_mimebundle_(include, exclude)


def _message(message: Message | Receipt | str) -> Message | str:
    return message.message if isinstance(message, Receipt) else message


def _inner(call: CallName) -> str | CallInfo | None:
    return call.id if isinstance(call, Call) else call


def _blocking(tool: "Tool") -> Callable[..., str]:
    """The same tool, without `await`: name, signature, annotations and docstring are what a schema is made of."""

    @functools.wraps(tool)
    def blocking(*arguments: Any, **named: Any) -> str:
        return run(tool(*arguments, **named))

    blocking.__signature__ = inspect.signature(tool)  # type: ignore[attr-defined]
    # Frameworks that look behind a wrapper would find a coroutine function.
    del blocking.__wrapped__
    return blocking
