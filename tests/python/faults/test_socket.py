"""Programs that abuse the socket of a running daemon: they never read, never finish, go on for ever, die, or race."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from parts.chaos import report
from parts.engine import Engine, Refused
from parts.exchange import pass_time
from parts.fixtures import NewHome
from parts.home import Home
from parts.process import wait_until
from parts.steps import connect, meet
from parts.usage import Usage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a process takes is read from /proc")

MORE_MIB = 64
# A request of somebody who behaves, while others do not.
UNAFFECTED_S = 1.0
# docs/ipc.md: after so long a client that takes nothing, or does not finish its line, is left.
LEFT_AFTER_S = 30.0
GIB = 1 << 30
RACERS = 20


def dial(home: Home) -> socket.socket:
    """A bare connection to the daemon."""
    path = json.loads((home.state / "daemon.lock").read_text())["socket"]
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(path)
    return connection


def request(method: str, number: int = 1, **params: Any) -> bytes:
    """One line."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


@contextmanager
def others_unaffected(home: Home) -> Iterator[list[float]]:
    """Asks for the status all the time, over one connection, and fails if somebody has to wait."""
    over = threading.Event()
    waits: list[float] = []

    def ask() -> None:
        engine = Engine(home)
        try:
            while not over.wait(0.05):
                began = time.monotonic()
                engine.ask("status")
                waits.append(time.monotonic() - began)
        finally:
            engine.close()

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield waits
        finally:
            over.set()
            asking.result()
    assert waits
    assert max(waits) < UNAFFECTED_S, max(waits)


def with_much_to_read(three_relays: list[str], new_home: NewHome) -> Home:
    """A home with half a MiB of messages."""
    alice, bob = meet(new_home, three_relays)
    outgoing, _ = connect(alice, bob)
    engine = Engine(alice)
    for number in range(10):
        engine.ask("send", text=f"{number} " + "x" * 50_000, call=outgoing)
    engine.close()
    return alice


def test_lines_without_an_end_nests_and_clients_that_die_take_no_memory_and_no_descriptors(
    three_relays: list[str], new_home: NewHome
) -> None:
    home = new_home("home", *three_relays)
    usage = Usage(home.daemon_pid())
    before = usage.descriptors()
    counts: Counter[str] = Counter()
    with others_unaffected(home) as waits:
        # A line that would have 4 GiB, and says so first.
        for _ in range(4):
            with dial(home) as connection:
                written = flood(connection, b'{"jsonrpc":"2.0","id":1,"method":"send","params":{"text":"', 4 * GIB)
                counts["MiB of a line that were taken"] += written // (1 << 20)
                assert written < 64 << 20
                counts["lines refused"] += refused_with(connection, -32600)
        # A line of zeros, and one that is a length of 4 GiB to who believes in lengths.
        for noise in (bytes(1_000) + b"\n", b"\xff\xff\xff\xff\n", b"Content-Length: 4294967296\r\n\r\n\n"):
            with dial(home) as connection:
                connection.sendall(noise + request("status", 7))
                counts["noise refused"] += refused_with(connection, -32700)
        for opened, closed in (("[", "]"), ('{"a":', "}")):
            with dial(home) as connection:
                deep = opened * 10_000 + ("1" if opened != "[" else "") + closed * 10_000
                connection.sendall(deep.encode() + b"\n" + request("status", 7))
                counts["nests refused"] += refused_with(connection, -32700)
                assert b'"id":7' in line_of(connection).replace(b" ", b""), "the connection lives"
        for number in range(300):
            connection = dial(home)
            connection.sendall((request("wait", timeout_s=600, after=0), b'{"jsonrpc', request("status"))[number % 3])
            if number % 2:
                # Its end is a reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            connection.close()
            counts["clients died"] += 1
        wait_until(lambda: usage.descriptors() <= before + 4, "what they held to be given back")
    report(f"{dict(counts)}; + {usage.mib_more():.1f} MiB, others waited {max(waits):.3f} s at most of {len(waits)}")
    assert counts["lines refused"] == 4
    assert counts["noise refused"] == 3
    assert counts["nests refused"] == 2
    assert usage.mib_more() < MORE_MIB


@pytest.mark.soak
def test_who_never_reads_and_who_never_finishes_a_line_is_left(three_relays: list[str], new_home: NewHome) -> None:
    home = with_much_to_read(three_relays, new_home)
    usage = Usage(home.daemon_pid())
    with ExitStack() as stack, others_unaffected(home) as waits:
        readers = [stack.enter_context(dial(home)) for _ in range(20)]
        for reader in readers:
            # Each asks for some 15 MiB of replies, and takes nothing.
            reader.setblocking(False)
            with suppress(BlockingIOError):
                reader.sendall(request("messages", limit=10_000) * 30)
        slow = [stack.enter_context(dial(home)) for _ in range(20)]
        began = time.monotonic()
        for number in range(int(LEFT_AFTER_S) + 8):
            for connection in slow:
                with suppress(OSError):
                    connection.sendall(b" " if number else b"{")
            pass_time(1.0)
        reasons = sum(refused_with(connection, -32600) for connection in slow)
        assert reasons == len(slow), "who does not finish a line is told why it is left"
        left = sum(is_left(reader) for reader in readers)
        assert left == len(readers), "who takes nothing is left"
    report(
        f"20 slow ones and 20 that never read were left within {time.monotonic() - began:.0f} s; "
        f"+ {usage.mib_more():.1f} MiB, others waited {max(waits):.3f} s at most of {len(waits)}"
    )
    assert usage.mib_more() < MORE_MIB


def flood(connection: socket.socket, beginning: bytes, size: int) -> int:
    """Writes a line of this size for as long as somebody takes it; returns how much was taken."""
    written = 0
    piece = b"x" * (1 << 20)
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(beginning)
        while written < size:
            written += connection.send(piece)
    return written


def line_of(connection: socket.socket) -> bytes:
    """What comes up to the next end of a line, or to the end of the connection."""
    line = b""
    with suppress(ConnectionResetError):
        while not line.endswith(b"\n") and (byte := connection.recv(1)):
            line += byte
    return line


def refused_with(connection: socket.socket, code: int) -> bool:
    """Whether the next line is a refusal with this code and a reason."""
    line = line_of(connection)
    error = json.loads(line)["error"] if line else {}
    return error.get("code") == code and bool(error.get("message"))


def is_left(connection: socket.socket) -> bool:
    """Whether the connection ends after what is on its way."""
    connection.setblocking(True)
    connection.settimeout(5)
    with suppress(ConnectionResetError):
        try:
            while connection.recv(1 << 20):
                pass
        except TimeoutError:
            return False
    return True


def raced(home: Home, ask: Callable[[Engine, int], Any]) -> list[Any]:
    """Lets so many clients ask at the same moment; returns each one's result, or the code of its refusal."""
    start = threading.Barrier(RACERS)

    def one(number: int) -> Any:
        engine = Engine(home)
        try:
            engine.ask("hello")
            start.wait(30)
            try:
                return ask(engine, number)
            except Refused as refusal:
                return refusal.code
        finally:
            engine.close()

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(one, range(RACERS)))


@pytest.mark.parametrize("seed", range(3))
def test_of_commands_that_race_one_wins_and_the_others_are_told(
    three_relays: list[str], new_home: NewHome, seed: int
) -> None:
    alice, bob = meet(new_home, three_relays)
    key = f"the only one {seed}"
    placed = raced(alice, lambda engine, _: engine.ask("call", agent=bob.agent_id, topic="race", client_id=key))
    assert len({call["call"] for call in placed}) == 1
    assert sum(not call["already"] for call in placed) == 1
    incoming = bob.event("call.ringing")["call"]

    def answer(engine: Engine, number: int) -> Any:
        return engine.ask("answer", accept=number % 2 == 0, call=incoming)

    answered = raced(bob, answer)
    won = [each for each in answered if isinstance(each, dict) and not each["already"]]
    assert len(won) == 1, answered
    accepted = won[0]["state"] == "connected"
    for number, each in enumerate(answered):
        if isinstance(each, dict):
            assert (number % 2 == 0) is accepted, each
        else:
            assert each in ("call-ended", "no-ringing-call"), each
            assert (number % 2 == 0) is not accepted, each
    if accepted:
        alice.event("call.connected")
        identity = f"{seed:032x}"
        said = raced(alice, lambda engine, _: engine.ask("send", text="once", client_id=identity))
        assert {each["message"] for each in said} == {identity}
        ended = raced(alice, end_or_speak)
        ends = [each for number, each in enumerate(ended) if number % 2]
        assert sum(isinstance(each, dict) and not each["already"] for each in ends) == 1, ends
        for each in ended:
            assert isinstance(each, dict) or each in ("no-active-call", "call-ended"), each
        bob.event("call.ended")
        assert bob.texts(incoming, "peer").count("once") == 1
    report(f"race {seed}: {'accepted' if accepted else 'rejected'} won; {Counter(map(kind_of, answered))}")
    # Whatever won, the next call is a call.
    connect(alice, bob, topic="after the race")


def end_or_speak(engine: Engine, number: int) -> Any:
    """Half of them end the call, the others say something in it."""
    return engine.ask("end") if number % 2 else engine.ask("send", text="last")


def kind_of(answer: Any) -> str:
    """What somebody was told."""
    return ("already" if answer["already"] else "won") if isinstance(answer, dict) else str(answer)
