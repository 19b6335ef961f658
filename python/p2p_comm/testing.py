"""A network of agents on this machine alone, for tests of what is built on p2p_comm.

    from p2p_comm.testing import LocalNetwork

    async def test_bob_answers():
        async with LocalNetwork() as network:
            alice, bob = await network.agents("alice", "bob")
            ...

    def test_bob_answers_too():
        with LocalNetwork() as network:
            alice, bob = network.sync_agents("alice", "bob")
            ...

An embedded relay on a free port, and every agent in a temporary home with an engine in this process, without the user's
own settings, relays and owner. When the network is left, agents and relay stop and the homes are gone.
"""

import asyncio
import hashlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import _native
from .agent import Agent
from .errors import AgentNotFound, Unavailable

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from . import sync

__all__ = ["LocalNetwork"]

MEET_WITHIN_S = 20.0
"""How long agents have to see each other: they announce themselves at the start, so on a busy machine seconds."""

LOOK_EVERY_S = 0.05
"""Between two looks at who is online."""


class LocalNetwork:
    """A relay and agents, for `async with` and for `with`."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._relay: _native.Relay | None = None
        self._agents: list[Agent] = []

    @property
    def relay(self) -> str:
        """The URL of the relay."""
        return self._up()[0].url

    def agent(self, id: str, *, name: str | None = None, capabilities: Sequence[str] = ()) -> Agent:
        """An agent of this network, not started: `async with network.agent("alice") as alice`.

        The same id again is an agent of the same home.
        """
        agent = Agent(
            id,
            # What is said here does not come from the environment of whoever runs the tests.
            name=name or id,
            capabilities=capabilities,
            relays=[self.relay],
            home=self._home(id),
            owner="",
        )
        self._agents.append(agent)
        return agent

    async def agents(self, *ids: str) -> tuple[Agent, ...]:
        """Starts agents, and returns when each of them sees the others."""
        agents = tuple(self.agent(name) for name in ids)
        await asyncio.gather(*(agent.start() for agent in agents))
        await self._meet(agents)
        return agents

    def sync_agent(self, id: str, *, name: str | None = None, capabilities: Sequence[str] = ()) -> "sync.Agent":
        """As `agent`, for code without `await`: `with network.sync_agent("alice") as alice`."""
        from . import sync

        return sync.Agent.of(self.agent(id, name=name, capabilities=capabilities))

    def sync_agents(self, *ids: str) -> "tuple[sync.Agent, ...]":
        """As `agents`, for code without `await`."""
        from . import sync

        return tuple(sync.Agent.of(agent) for agent in sync.run(self.agents(*ids)))

    async def __aenter__(self) -> "Self":
        if self._relay is not None:
            raise RuntimeError("this LocalNetwork is up")
        self._relay = await _native.start_relay()
        # Short: the path of a Unix socket has at most 100 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="p2p-"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        agents, self._agents = self._agents, []
        relay, self._relay = self._relay, None
        folder, self._folder = self._folder, None
        try:
            await asyncio.gather(*(agent.aclose() for agent in agents))
        finally:
            try:
                if relay is not None:
                    await relay.stop()
            finally:
                if folder is not None:
                    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def __enter__(self) -> "Self":
        from . import sync

        return sync.run(self.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        from . import sync

        sync.run(self.__aexit__(kind, error, traceback))

    def _home(self, id: str) -> Path:
        # An id may hold any character; a folder's name may not.
        return self._up()[1] / hashlib.sha256(id.encode()).hexdigest()[:16]

    def _up(self) -> tuple[_native.Relay, Path]:
        if self._relay is None or self._folder is None:
            raise Unavailable(
                "relays-unreachable", "this LocalNetwork is not up", 'enter it with "async with" or "with"'
            )
        return self._relay, self._folder

    async def _meet(self, agents: Sequence[Agent]) -> None:
        deadline = time.monotonic() + MEET_WITHIN_S
        ids = {agent.id for agent in agents}
        for agent in agents:
            missing = ids - {agent.id}
            while missing := missing - {peer.id for peer in await agent.list()}:
                if time.monotonic() > deadline:
                    raise AgentNotFound("unknown-agent", f"{agent.id} does not see {', '.join(sorted(missing))}")
                await asyncio.sleep(LOOK_EVERY_S)
