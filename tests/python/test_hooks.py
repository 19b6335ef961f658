"""Programs that run when something happens: `p2p-comm on EVENT -- PROGRAM`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from p2p_comm import Agent
from parts.fixtures import NewHome
from parts.home import Home
from parts.process import is_alive, wait_until
from parts.steps import connect, meet, ring

Json = dict[str, Any]

# What a peer would write to reach a shell, a terminal or a model.
NASTY = "$(touch owned) `touch owned`; \x1b[31m\n\"'»"


def script(folder: Path, text: str) -> str:
    """A program of the user's."""
    path = folder / "hook"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_hook_runs_for_what_happens_from_now_on_and_peers_words_are_on_stdin_only(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    ring(alice, bob, "before the hook")
    bob.ok("answer", "reject", "later")
    events, variables, words = tmp_path / "events", tmp_path / "variables", tmp_path / "words"
    program = script(tmp_path, f'cat >>{events}; env >>{variables}; printf "%s\\n" "$@" >>{words}')
    hook = bob.ok("on", "call.ringing", "--", program, "an argument", "$HOME")
    assert hook["run"] == [program, "an argument", "$HOME"]
    assert (bob.state / "hooks.json").stat().st_mode & 0o777 == 0o600
    assert bob.ok("on", "list")["hooks"] == [hook]

    _, call = ring(alice, bob, NASTY)
    [line] = wait_until(lambda: lines(events), "the hook to run")
    event = json.loads(line)
    assert (event["kind"], event["call"]) == ("call.ringing", call)
    assert event["call_state"]["topic"] == NASTY
    wait_until(lambda: lines(words), "the hook to end")
    assert lines(words) == ["an argument", "$HOME"]
    told = dict(line.split("=", 1) for line in lines(variables) if line.startswith("P2P_"))
    assert told["P2P_EVENT"] == "call.ringing"
    assert told["P2P_CALL"] == call
    assert told["P2P_PEER"] == alice.ok("status")["agent"]["pubkey"]
    assert told["P2P_COMM_HOME"] == str(bob.folder.resolve())
    assert (told["P2P_CURSOR"], told["P2P_TRY"]) == (str(event["cursor"]), "1")
    assert "touch owned" not in variables.read_text()
    assert bob.ok("inbox")["ringing"], "a hook takes nothing"

    bob.ok("on", "remove", hook["id"])
    assert bob.ok("on", "list")["hooks"] == []
    bob.fails("invalid-value", "on", "remove", hook["id"])


def test_what_a_hook_saw_stays_unread_and_untaken(embedded_relay: str, new_home: NewHome, tmp_path: Path) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    seen = tmp_path / "seen"
    connect(alice, bob)
    bob.ok("on", "message.received", "--", script(tmp_path, f"echo $P2P_MESSAGE >>{seen}"))
    said = alice.ok("send", "hello")
    assert wait_until(lambda: lines(seen), "the hook to run") == [said["message"]]
    assert [message["text"] for message in bob.ok("inbox")["unread"]] == ["hello"]
    untaken = bob.ok("wait", "--untaken", "--for", "message.received")
    assert untaken["event"]["message"]["text"] == "hello"
    assert bob.ok("wait", "--untaken", "--for", "message.received") == untaken, "it takes nothing"
    bob.ok("messages", "--unread")
    nothing = bob.run("wait", "--untaken", "--for", "message.received", "--timeout", "0")
    assert (nothing.exit, nothing.out["event"]) == (124, None)


def test_a_hook_that_fails_is_run_again_and_the_next_event_waits_for_it(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    connect(alice, bob)
    log, ready = tmp_path / "log", tmp_path / "ready"
    bob.ok("on", "message.received", "--", script(tmp_path, f"echo $P2P_CURSOR $P2P_TRY >>{log}; test -e {ready}"))
    alice.ok("send", "one")
    alice.ok("send", "two")
    wait_until(lambda: len(lines(log)) >= 2, "the second try")
    ready.touch()
    wait_until(lambda: len({line.split()[0] for line in lines(log)}) == 2, "the second event")
    tries = [tuple(map(int, line.split())) for line in lines(log)]
    assert tries == sorted(tries), "in order"
    assert tries[0][1] == 1
    assert tries[1] == (tries[0][0], 2)
    [line] = [
        line for line in bob.ok("daemon", "logs")["lines"] if "a hook has failed" in line and "again_in_s=1" in line
    ]
    assert "exit status: 1" in line


def test_after_sigkill_the_event_of_a_run_that_was_cut_short_is_run_again_in_its_turn(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    connect(alice, bob)
    log, ready, running = tmp_path / "log", tmp_path / "ready", tmp_path / "running"
    hold = f"echo $P2P_CURSOR >>{log}; echo $$ >{running}; test -e {ready} || exec sleep 600"
    bob.ok("on", "message.received", "--", script(tmp_path, hold))
    for text in ("one", "two", "three"):
        alice.ok("send", text, "--wait=delivered")
    pid = int(wait_until(lambda: running.exists() and running.read_text().strip(), "the hook to run"))
    bob.kill_daemon()
    wait_until(lambda: not is_alive(pid), "the program to end with its daemon")
    ready.touch()
    bob.ok("status")
    wait_until(lambda: len(lines(log)) == 4, "all events to be run")
    first, *rest = map(int, lines(log))
    assert rest[0] == first
    assert rest == sorted(set(rest)), rest
    bob.kill_daemon()
    bob.ok("status")
    alice.ok("send", "four", "--wait=delivered")
    wait_until(lambda: len(lines(log)) == 5, "the next event")
    assert int(lines(log)[-1]) > rest[-1], "nothing is run twice that was passed"


def test_an_orderly_stop_ends_what_runs_with_everything_in_its_group(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    children = tmp_path / "children"
    text = f"trap '' TERM INT HUP; sleep 600 & echo $! >>{children}; echo $$ >>{children}; wait"
    bob.ok("on", "call.ringing", "--", script(tmp_path, text))
    ring(alice, bob)
    wait_until(lambda: len(lines(children)) == 2, "the hook to run")
    bob.stop()
    for pid in map(int, lines(children)):
        wait_until(lambda pid=pid: not is_alive(pid), "what the hook started to end")


def test_a_flood_runs_one_program_at_a_time(embedded_relay: str, new_home: NewHome, tmp_path: Path) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    connect(alice, bob)
    log = tmp_path / "log"
    bob.ok("on", "message.received", "--", script(tmp_path, f"echo begin >>{log}; echo end >>{log}"))
    for number in range(25):
        alice.ok("send", str(number))
    wait_until(lambda: len(lines(log)) == 50, "every message to be run for", timeout=60)
    assert lines(log) == ["begin", "end"] * 25


def test_words_that_make_no_hook_are_explained(new_home: NewHome, tmp_path: Path) -> None:
    home = new_home("alice", "ws://127.0.0.1:1")
    home.fails("usage", "on", "call.ringing", exit=2)
    home.fails("usage", "on", "--", "true", exit=2)
    home.fails("usage", "on", "call.rung", "--", "true", exit=2)
    home.fails("file-not-found", "on", "call.ringing", "--", "no-such-program-anywhere")
    home.fails("file-not-found", "on", "call.ringing", "--", str(tmp_path))
    home.fails("usage", "on", "call.ringing", "--timeout", "0", "--", "true", exit=2)
    assert home.ok("on", "list")["hooks"] == []
    hook = home.ok("on", "call.ended,call.ringing,call.ended", "--", "true", "--json")
    assert hook["events"] == ["call.ringing", "call.ended"]
    assert Path(hook["run"][0]).is_absolute()
    assert hook["run"][1:] == ["--json"]


def test_a_damaged_file_of_hooks_stops_no_daemon_and_is_found(new_home: NewHome) -> None:
    home = new_home("alice", "ws://127.0.0.1:1")
    home.ok("on", "call.ringing", "--", "true")
    home.stop()
    (home.state / "hooks.json").chmod(0o622)
    home.ok("status")
    home.fails("unsafe-home", "on", "list")
    [check] = [check for check in home.run("doctor").out["checks"] if check["name"] == "hooks"]
    assert (check["ok"], check["hint"]) == (
        False,
        f"look at what is in it, then: chmod 600 {home.state.resolve()}/hooks.json",
    )


def test_a_hook_whose_program_is_gone_is_shown(new_home: NewHome, tmp_path: Path) -> None:
    home: Home = new_home("alice", "ws://127.0.0.1:1")
    program = script(tmp_path, "exit 0")
    hook = home.ok("on", "call.ringing", "--", program)
    assert hook["error"] is None
    Path(program).unlink()
    [shown] = home.ok("on", "list")["hooks"]
    assert shown["error"]
    [check] = [check for check in home.run("doctor").out["checks"] if check["name"] == "hooks"]
    assert not check["ok"]
    assert check["hint"] == f"p2p-comm on remove {hook['id']}"


def test_ctrl_c_at_a_daemon_in_the_foreground_reaches_no_hook_and_ends_it(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    running = tmp_path / "running"
    bob.ok("on", "call.ringing", "--", script(tmp_path, f"echo $$ >{running}; exec sleep 600"))
    bob.stop()
    daemon = bob.run_under("env")
    try:
        alice.sees(str(bob.agent_id))
        ring(alice, bob)
        pid = int(wait_until(lambda: running.exists() and running.read_text().strip(), "the hook to run"))
        assert os.getpgid(pid) == pid, "a group of its own"
        os.killpg(daemon.pid, signal.SIGINT)
        assert daemon.wait(30) == 0
        wait_until(lambda: not is_alive(pid), "the hook to end")
    finally:
        daemon.kill()
        daemon.wait()


async def test_a_python_program_that_hosts_the_agent_runs_its_hooks_and_ends_them_with_it(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    running = tmp_path / "running"
    bob.ok("on", "call.ringing", "--", script(tmp_path, f"echo $$ >{running}; exec sleep 600"))
    bob.stop()
    async with Agent(home=bob.folder, relays=[embedded_relay]) as agent:
        assert agent.hosted
        await asyncio.to_thread(alice.sees, str(bob.agent_id))
        await asyncio.to_thread(alice.ok, "call", str(bob.agent_id), "a ring")
        told = await asyncio.to_thread(wait_until, lambda: running.exists() and running.read_text().strip(), "the hook")
        pid = int(told)
        assert is_alive(pid)
    assert not is_alive(pid), "it has ended when the agent has"
