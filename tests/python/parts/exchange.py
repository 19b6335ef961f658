"""An exchange: two agents in one call say many things and send files at the same time, while something fails.

Each side has two threads, which talk to its engine as programs do: one hands in texts and files, each until it is
accepted; the other takes events. Both start the daemon again when it is gone, and write everything into the side's
ledger. At the end the independent checker reads both ledgers.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parts.chaos import report
from parts.engine import Engine, Lost, Refused
from parts.home import Home
from parts.ledger import Kind, Ledger, State
from parts.process import REPOSITORY, is_alive, wait_until
from parts.steps import connect

Json = dict[str, Any]

CHECKER = REPOSITORY / "tests" / "python" / "checker.py"
CONSUMER = "exchange"
# How long `wait` waits for an event, and so how long a reader may take to notice that it is over.
WAIT_S = 1.0
# An engine that is stopped for a while must not look gone.
PATIENCE_S = 150.0
# Refusals that pass: what is refused is not accepted, and may be tried again.
PASSING = ("disk-full", "too-fast", "daemon-not-responding", "relays-unreachable")
SURFACING: dict[str, Kind] = {"message.received": "text", "file.received": "file", "escalation.received": "escalation"}
TELLING: dict[str, State] = {"message.delivered": "delivered", "message.read": "read", "message.failed": "failed"}


@dataclass(frozen=True)
class Plan:
    """How much is exchanged: texts each way, and files in all."""

    texts: int = 50
    files: int = 2
    file_bytes: int = 256 * 1024


NORMAL = Plan()
FULL = Plan(texts=500, files=5, file_bytes=1024 * 1024)


class Side:
    """One agent of an exchange."""

    def __init__(
        self, home: Home, ledger: Ledger, peer: str, stop: threading.Event, progressed: Callable[[], None]
    ) -> None:
        self.home, self.ledger, self.peer = home, ledger, peer
        self.call: str | None = None
        # When it was handed something last, by the clock that does not jump.
        self.newest_at = 0.0
        self._sender, self._reader = Engine(home), Engine(home)
        self._pid: int | None = None
        self._stop = stop
        self._progressed = progressed
        # How long the daemon took to start, each time that it was gone.
        self.revivals: list[float] = []
        # How many times it was killed.
        self.kills = 0
        # What is done when the daemon was started again.
        self.started: Callable[[], None] = lambda: None
        self._reviving = threading.Lock()
        self._cursor = 0
        self.passing = {*PASSING}
        # Refusals that passed, by code.
        self.refused: dict[str, int] = {}
        # How long something is handed in again and again.
        self.patience = PATIENCE_S

    @property
    def settled(self) -> int:
        """Of how many messages this side knows how they ended."""
        return self.ledger.count("told delivered") + self.ledger.count("told failed")

    def open(self) -> None:
        """Opens its two connections, which otherwise happens when they are needed."""
        for engine in (self._sender, self._reader):
            self._pid = engine.ask("hello")["pid"]

    def pid(self) -> int | None:
        """The daemon's process id; None while none runs."""
        with suppress(OSError, ValueError):
            pid = int(json.loads((self.home.state / "daemon.lock").read_text())["pid"])
            return pid if is_alive(pid) else None
        return None

    def kill(self) -> None:
        """SIGKILL, now, if the daemon runs; whoever needs it starts it again."""
        pid = self.pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills += 1

    def say(self, text: str, message: str) -> None:
        """Hands in a text until it is accepted, in the call or as mail."""
        what: Json = {"message": message, "to": self.peer, "call": self.call, "kind": "text", "body": text}
        self.ledger.tried(**what)
        where: Json = {"to": self.peer} if self.call is None else {"call": self.call}
        reply = self._until_accepted(lambda: self._sender.ask("send", text=text, client_id=message, **where))
        assert (reply["message"], reply["text"]) == (message, text), reply
        self.ledger.accepted(**what)
        self._progressed()

    def send_file(self, path: Path) -> None:
        """Hands in a file until it is accepted. A reply that was lost is looked up, since its id is the engine's."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        what: Json = {"to": self.peer, "call": self.call, "kind": "file", "body": digest}
        self.ledger.tried(message=None, **what)

        def hand_in() -> Json:
            listed = self._sender.ask("messages", call=self.call, limit=10_000)["messages"]
            own = (message for message in listed if message["from"] == "me" and message["file"] is not None)
            known = next((message for message in own if message["file"]["sha256"] == digest), None)
            reply: Json = known or self._sender.ask("send-file", path=str(path), call=self.call)
            return reply

        self.ledger.accepted(message=self._until_accepted(hand_in)["message"], **what)
        self._progressed()

    def _until_accepted(self, hand_in: Callable[[], Json]) -> Json:
        def accepted() -> Json | None:
            try:
                return hand_in()
            except Lost:
                self.revive()
            except Refused as refusal:
                if refusal.code not in self.passing:
                    raise
                self.refused[refusal.code] = self.refused.get(refusal.code, 0) + 1
            return None

        return wait_until(accepted, f"{self.home.agent_id} to accept what it is given", timeout=self.patience)

    def read(self) -> None:
        """Takes events until the exchange is over."""
        while not self._stop.is_set():
            try:
                found = self._reader.ask("wait", consumer=CONSUMER, timeout_s=WAIT_S, timeout=PATIENCE_S)
                if found["event"] is not None:
                    self._note(found["event"])
                    self._reader.ask("commit", consumer=CONSUMER, cursor=found["cursor"], timeout=PATIENCE_S)
            except Lost:
                if not self._stop.is_set():
                    self.revive()
            except Refused as refusal:
                if refusal.code not in self.passing:
                    raise

    def _note(self, event: Json) -> None:
        # An event whose commit was lost is shown again, under the same number.
        if event["cursor"] <= self._cursor:
            return
        self._cursor = event["cursor"]
        if event["kind"] in TELLING:
            message: Json = event["message"]
            self.ledger.told(message=message["message"], state=TELLING[event["kind"]], reason=message["reason"])
        elif event["kind"] in SURFACING:
            message = event["message"]
            self.newest_at = time.monotonic()
            body = message["text"]
            if message["kind"] == "file":
                body = hashlib.sha256(Path(message["file"]["path"]).read_bytes()).hexdigest()
            self.ledger.surfaced(
                message=message["message"],
                sender=message["peer"],
                call=message["call"],
                kind=SURFACING[event["kind"]],
                body=body,
            )
            self._progressed()

    def revive(self) -> None:
        """Starts the daemon unless it runs; several threads may find it gone."""
        with self._reviving:
            began = time.monotonic()
            # One that cannot start now (a full disk) may start later.
            if self.home.run("daemon", "start").exit == 0 and (pid := self.pid()) != self._pid:
                self._pid = pid
                self.revivals.append(time.monotonic() - began)
                self.started()

    def close(self) -> None:
        """Closes what it has open."""
        self._sender.close()
        self._reader.close()
        self.ledger.close()


class Exchange:
    """An exchange that runs: `with exchange(…) as it: …; it.finish()`."""

    def __init__(self, alice: Home, bob: Home, folder: Path, *, seed: int | str, plan: Plan) -> None:
        self.seed, self.plan = seed, plan
        self._random = random.Random(f"exchange {seed}")
        self._stop = threading.Event()
        self._triggers: list[tuple[int, Callable[[], None]]] = []
        self._triggering = threading.Lock()
        self._folder = folder
        keys = {home.agent_id: home.ok("status")["agent"]["pubkey"] for home in (alice, bob)}
        self.alice, self.bob = (
            Side(
                home,
                Ledger(folder / f"{label}.jsonl", agent=str(home.agent_id), pubkey=keys[home.agent_id]),
                keys[peer.agent_id],
                stop=self._stop,
                progressed=self._trigger,
            )
            for label, home, peer in (("alice", alice, bob), ("bob", bob, alice))
        )
        self.sides = (self.alice, self.bob)
        self._pool = ThreadPoolExecutor(4)
        self._readers: list[Future[None]] = []
        self._senders: list[Future[None]] = []
        self.began = 0.0

    @property
    def size(self) -> int:
        """The progress at the end: everything was accepted, and everything surfaced."""
        return 2 * (2 * self.plan.texts + self.plan.files)

    @property
    def progress(self) -> int:
        """How much was accepted and how much surfaced, on both sides."""
        return sum(side.ledger.count("accepted") + side.ledger.count("surfaced") for side in self.sides)

    def connect(self) -> None:
        """Alice calls Bob, who accepts."""
        self.alice.call, self.bob.call = connect(self.alice.home, self.bob.home)
        for side in self.sides:
            side.ledger.call(str(side.call), name="the call")

    def start(self) -> None:
        """Both begin to send and to read."""
        self.began = time.monotonic()
        for side in self.sides:
            side.open()
        self._readers = [self._pool.submit(side.read) for side in self.sides]
        files = [self._file(number) for number in range(self.plan.files)]
        for number, side in enumerate(self.sides):
            self._senders.append(self._pool.submit(self._send, side, files[number::2], self._random.random()))

    def when(self, progress: int, action: Callable[[], None]) -> None:
        """Does something as soon as so much progress was made, at the moment when it is noticed."""
        self._triggers.append((progress, action))
        self._triggers.sort(key=lambda trigger: trigger[0])

    def moments(self, count: int) -> list[int]:
        """So many random moments of the exchange, as progress, before its end."""
        return sorted(self._random.sample(range(self.size * 9 // 10), count))

    def finish(self, *, within: float, failures: bool = False) -> None:
        """Waits until each message is where it belongs and its sender knows, and has the ledgers checked.

        Args:
            within: Seconds from now, or from when the last action of `when` is done.
            failures: Whether messages may fail with a reason.
        """
        wait_until(lambda: not self._triggers or self.is_broken(), "all that was planned to happen", timeout=PATIENCE_S)
        asked_at = time.monotonic()
        deadline = asked_at + within
        for sender in self._senders:
            sender.result(max(0.1, deadline - time.monotonic()))

        def over() -> bool:
            self.is_broken()
            accepted = sum(side.ledger.count("accepted") for side in self.sides)
            return sum(side.settled for side in self.sides) >= accepted and (
                failures or sum(side.ledger.count("surfaced") for side in self.sides) >= accepted
            )

        try:
            wait_until(over, "all messages to be settled", timeout=max(0.1, deadline - time.monotonic()))
            late = False
        except AssertionError:
            late = True
        newest = max(side.newest_at for side in self.sides)
        self.stop()
        unharmed, verdict = self._verdict()
        figures = {
            "seconds": round(newest - self.began, 2),
            "from here on": round(newest - asked_at, 2),
            "kills": sum(side.kills for side in self.sides),
            "starts again": [round(seconds, 2) for side in self.sides for seconds in side.revivals],
        }
        report(f"exchange, seed {self.seed!r}: {figures}, {verdict}")
        assert not late, f"seed {self.seed!r}: not all is settled after {within:g} s: {self._counts()}; {verdict}"
        assert unharmed, f"seed {self.seed!r}: {verdict}; {self._counts()}"
        if not failures:
            assert not any(side.ledger.count("told failed") for side in self.sides), self._counts()

    def check(self) -> None:
        """Stops, and has the ledgers checked as they are; fails if there is harm."""
        self.stop()
        unharmed, verdict = self._verdict()
        assert unharmed, f"seed {self.seed!r}: {verdict}; {self._counts()}"

    def harms(self) -> dict[str, int]:
        """The seven counts, as the ledgers are."""
        counts: dict[str, int] = json.loads(self._verdict()[1])["harms"]
        return counts

    def _verdict(self) -> tuple[bool, str]:
        words = [sys.executable, "-I", str(CHECKER), *(str(side.ledger.path) for side in self.sides)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.returncode == 0, done.stdout.strip() + done.stderr

    def stop(self) -> None:
        """Ends the readers; nothing is written to the ledgers afterwards."""
        self._stop.set()
        for reader in self._readers:
            reader.result(PATIENCE_S)

    def close(self) -> None:
        """Ends the threads, whatever state they are in, and closes the ledgers."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for side in self.sides:
            side.close()

    def _counts(self) -> Json:
        names = ("accepted", "surfaced", "told delivered", "told failed")
        return {
            str(side.home.agent_id): {name: side.ledger.count(name) for name in names} | side.refused
            for side in self.sides
        }

    def is_broken(self) -> bool:
        """Whether a thread failed; raises why."""
        for thread in (*self._readers, *self._senders):
            if thread.done():
                thread.result()
        return False

    def _send(self, side: Side, files: list[Path], seed: float) -> None:
        own = random.Random(seed)
        left = [*files]
        for number in range(self.plan.texts):
            if self._stop.is_set():
                return
            if left and own.random() < len(left) / (self.plan.texts - number):
                side.send_file(left.pop())
            side.say(f"{number} of {side.home.agent_id}: {_words(own)}", f"{own.getrandbits(128):032x}")

    def _trigger(self) -> None:
        with self._triggering:
            while self._triggers and self._triggers[0][0] <= self.progress:
                self._triggers.pop(0)[1]()

    def _file(self, number: int) -> Path:
        path = self._folder / f"file-{number}.bin"
        path.write_bytes(self._random.randbytes(self.plan.file_bytes))
        return path


def pass_time(seconds: float) -> None:
    """Lets time pass, where time is what is tested."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, "time to pass", timeout=2 * seconds)


def _words(own: random.Random) -> str:
    """Something to say: mostly short, now and then long, in any script."""
    size = own.choice([0, 5, 20, 80, 200, 200, 2_000])
    return "".join(own.choice("abc dé ø 中文 🦞 «» \\ \n\t") for _ in range(size))


@contextmanager
def exchange(alice: Home, bob: Home, folder: Path, *, seed: int | str, plan: Plan = NORMAL) -> Iterator[Exchange]:
    """Two agents in a call, all of whose threads are ended at the end. Says its seed."""
    report(f"exchange, seed {seed!r}: {plan}")
    it = Exchange(alice, bob, folder, seed=seed, plan=plan)
    try:
        yield it
    finally:
        it.close()
