"""Types: a user's program checks under `mypy --strict`, a wrong one does not, and the stub is the module."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

GOOD = """
    import asyncio
    from datetime import datetime
    from pathlib import Path

    from p2p_comm import (
        Agent, Call, CallBusy, CallEvent, CallRejected, CallTimeout, Decision, Ended, Escalation, File,
        Conversation, Heard, IncomingCall, Message, P2PError, Peer, Receipt, Transcript, __version__, serve as answer,
    )
    from p2p_comm import sync
    from p2p_comm.testing import LocalNetwork


    async def serve(agent: Agent) -> None:
        async for ring in agent.incoming():
            given: IncomingCall = ring
            if ring.tier == "stranger":
                await ring.reject("strangers write first")
                continue
            call: Call = await given.accept()
            async for event in call:
                show(event)


    def show(event: CallEvent) -> str | Path | None:
        match event:
            case Message(text=text, sender="peer", at=at):
                moment: datetime = at
                return text + moment.isoformat()
            case File(name=name, path=path):
                return path or name
            case Escalation(question=question):
                return question
            case Ended(reason=reason):
                return reason
            case _:
                return None


    async def ask(agent: Agent) -> Transcript:
        peers: tuple[Peer, ...] = await agent.list(capability="coding")
        try:
            call = await agent.call(peers[0].id, topic="API design", wait=60)
        except (CallRejected, CallBusy, CallTimeout) as error:
            kind: str = error.kind
            raise P2PError(kind, error.message, error.hint) from error
        receipt: Receipt = await call.send("Which of the two schemas?")
        await receipt.relayed(timeout=30)
        await call.send_file(Path("report.json"))
        await call.send_file(b"{}", name="empty.json")
        with open("report.json", "rb") as file:
            await call.send_file(file)
        decision: Decision = await call.escalate("May I?", options=["yes", "no"], wait=600)
        print(decision.answer, __version__)
        return await call.end()


    async def echo(heard: Heard, conversation: Conversation) -> str | None:
        path: Path | None = heard.file.path if heard.file else None
        return None if path else f"{conversation.tier}: {heard.text}"


    async def main() -> None:
        async with Agent("alice", capabilities=["research"]) as agent:
            print((await ask(agent)).to_markdown())
            listed: str = await agent.tools(files="outbox")[0](capability="coding")
            await answer(echo, on=agent, accept="known", turns=len(listed))
        async with LocalNetwork() as network:
            alice, *_ = await network.agents("alice", "bob")
            await serve(alice)


    def blocking() -> None:
        with sync.Agent("bob", home=Path("bob"), relays=["ws://127.0.0.1:7447"]) as agent:
            listed: str = agent.tools()[0]()
            for ring in agent.incoming():
                with ring.accept() as call:
                    for event in call:
                        show(event)


    asyncio.run(main())
"""

BAD = """
    import p2p_comm

    async def main(agent: p2p_comm.Agent) -> None:
        agent.list("coding")
        (await agent.call("bob")).send(3)
        (await agent.status()).agent.id = "mallory"
        text: int = (await agent.messages())[0].text
        await agent.send("hi", nobody="bob")
        p2p_comm.NoSuchName
"""


def mypy(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    file = folder / "program.py"
    file.write_text(textwrap.dedent(program))
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", folder / "cache", file],
        capture_output=True,
        text=True,
    )


def test_a_program_of_a_user_checks_under_strict(tmp_path: Path) -> None:
    checked = mypy(tmp_path, GOOD)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_mistakes_of_a_user_are_found(tmp_path: Path) -> None:
    checked = mypy(tmp_path, BAD)
    found = {re.sub(r"^.*?:(\d+): error: .*\[(.*)\]$", r"\1 \2", line) for line in checked.stdout.splitlines()}
    assert found >= {
        "5 unused-coroutine",
        "5 call-arg",
        "6 unused-coroutine",
        "6 arg-type",
        "7 misc",
        "8 assignment",
        "9 call-arg",
        "10 attr-defined",
    }, checked.stdout


def test_the_package_itself_checks_under_strict(tmp_path: Path) -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path, "-p", "p2p_comm"),
            # They import frameworks that are not here.
            *("--exclude", "/integrations/"),
        ],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_stub_is_the_native_module(tmp_path: Path) -> None:
    checked = subprocess.run(
        [Path(sys.executable).with_name("stubtest"), "p2p_comm._native"], capture_output=True, text=True, cwd=tmp_path
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
