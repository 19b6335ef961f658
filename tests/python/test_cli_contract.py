"""The contract of the command line: every JSON shape key by key, every error code with its exit code."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
from pathlib import Path

import pytest

from parts import shapes
from parts.fixtures import NewHome
from parts.home import Home
from parts.process import wait_until
from parts.relays import CONSOLE_SCRIPT
from parts.shapes import check
from parts.steps import connect, ring

Agents = tuple[Home, Home]

# A port that nobody can listen on.
NO_RELAY = "ws://127.0.0.1:1"


@pytest.fixture(scope="module")
def relay_url(embedded_relay: str) -> str:
    return embedded_relay


@pytest.fixture
def home(relay_url: str, new_home: NewHome) -> Home:
    return new_home("home", relay_url, P2P_CAPABILITIES="coding,research")


# Shapes.


def test_status_has_its_shape(home: Home) -> None:
    status = home.ok("status")
    check(status, shapes.STATUS)
    assert status["agent"]["id"] == home.agent_id
    assert status["agent"]["capabilities"] == ["coding", "research"]
    assert Path(status["agent"]["home"]) == home.folder.resolve()
    assert len(status["relays"]) == 1
    assert (status["calls"], status["unread"]) == ([], 0)
    wait_until(lambda: home.ok("status")["connected"], "the relay to be connected")


def test_list_has_its_shape_and_leaves_out_the_agent_itself(agents: Agents) -> None:
    alice, bob = agents
    listed = alice.ok("list")
    check(listed, shapes.LIST)
    assert alice.agent_id not in [line["id"] for line in listed["agents"]]
    line = alice.sees(str(bob.agent_id))
    assert (line["protocol"], line["contact"], line["duplicate_id"]) == ("v2", None, False)


def test_list_filters_by_capability_and_limits(relay_url: str, new_home: NewHome) -> None:
    coder = new_home("coder", relay_url, P2P_CAPABILITIES="coding")
    writer = new_home("writer", relay_url, P2P_CAPABILITIES="writing")
    for other in (coder, writer):
        other.ok("status")
    home = new_home("home", relay_url)
    home.sees(str(coder.agent_id))
    home.sees(str(writer.agent_id))
    coders = home.ok("list", "--capability", "coding")["agents"]
    assert coder.agent_id in [line["id"] for line in coders]
    assert all("coding" in line["capabilities"] for line in coders)
    assert len(home.ok("list", "--limit", "1")["agents"]) == 1


def test_a_call_has_its_shape_from_ring_to_end(agents: Agents) -> None:
    alice, bob = agents
    placed = alice.ok("call", str(bob.agent_id), "API design")
    check(placed, shapes.ANSWERED_CALL)
    assert (placed["state"], placed["connected_at"], placed["ended_at"]) == ("ringing", None, None)
    assert placed["peer"]["pubkey"] == bob.ok("status")["agent"]["pubkey"]

    event = bob.event("call.ringing")
    check(event, shapes.CALL_EVENT)
    assert event["kind"] == "call.ringing"
    assert event["call"] == event["call_state"]["call"]
    check(bob.ok("inbox"), shapes.INBOX)

    answered = bob.ok("answer", "accept")
    check(answered, shapes.ANSWERED_CALL)
    assert answered["connected_at"] is not None
    check(alice.event("call.connected"), shapes.CALL_EVENT)
    check(alice.ok("status"), shapes.STATUS)
    assert [call["state"] for call in alice.ok("status")["calls"]] == ["connected"]

    sent = alice.ok("send", "hello")
    check(sent, shapes.MESSAGE)
    assert (sent["from"], sent["kind"], sent["text"], sent["file"]) == ("me", "text", "hello", None)
    assert sent["call"] == placed["call"]
    check(bob.event("message.received"), shapes.MESSAGE_EVENT)

    file = alice.ok("sendfile", "report.json", "eyJkYXRhIjogdHJ1ZX0=")
    check(file, shapes.MESSAGE)
    assert (file["kind"], file["file"]["size"], file["file"]["mime"]) == ("file", 14, "application/json")
    check(bob.event("file.received"), shapes.MESSAGE_EVENT)

    ticket = alice.ok("escalate", "May I?", "--options", "yes,no")
    check(ticket, shapes.TICKET)
    assert (ticket["state"], ticket["answer"], ticket["channels"]) == ("no-owner", None, [])
    check(bob.event("escalation.received"), shapes.MESSAGE_EVENT)

    check(bob.ok("messages"), shapes.MESSAGES)
    assert len(bob.ok("messages")["messages"]) == 3
    check(alice.ok("calls"), shapes.CALLS)

    ended = alice.ok("end")
    check(ended, shapes.END)
    assert ended["call"]["ended_at"] is not None
    assert ended["transcript"]["message_count"] == len(ended["transcript"]["messages"]) == 3
    check(bob.event("call.ended"), shapes.CALL_EVENT)
    check(alice.ok("transcript", placed["call"], "--format", "json"), shapes.TRANSCRIPT)


def test_wait_has_its_shape_with_and_without_an_event(home: Home) -> None:
    outcome = home.run("wait", "--timeout", "1", "--for", "call.ringing")
    check(outcome.out, {"cursor": int, "event": None, "timeout": bool})
    assert outcome.exit == 124
    assert outcome.out["timeout"] is True


def test_contacts_have_their_shape(agents: Agents) -> None:
    alice, bob = agents
    key = bob.ok("status")["agent"]["pubkey"]
    alice.ok("contacts", "add", "bobby", key)
    contacts = alice.ok("contacts", "list")
    check(contacts, shapes.CONTACTS)
    assert [(contact["name"], contact["pubkey"]) for contact in contacts["contacts"]] == [("bobby", key)]
    line = alice.sees(str(bob.agent_id))
    assert (line["contact"], line["pinned"]) == ("bobby", True)
    assert alice.ok("call", "bobby")["peer"]["tier"] == "contact"
    alice.ok("contacts", "remove", "bobby")
    assert "bobby" not in [contact["name"] for contact in alice.ok("contacts", "list")["contacts"]]


# Words, flags, output.


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("no-such-command",),
        ("call",),
        ("answer",),
        ("answer", "perhaps"),
        ("sendfile", "only-a-name"),
        ("wait", "--timeout", "soon"),
        ("list", "--limit", "many"),
        ("transcript", "--format", "papyrus"),
        ("wait", "--for", "no.such.kind"),
        ("wait", "--as", "me", "--after", "0"),
        ("status", "--no-such-flag"),
    ],
)
def test_wrong_words_are_a_usage_error_in_json_too(home: Home, words: tuple[str, ...]) -> None:
    home.fails("usage", *words, exit=2)
    plain = home.run(*words, json=False)
    assert plain.exit == 2
    assert plain.out == ""
    assert plain.err


@pytest.mark.parametrize("words", [("--json", "status"), ("status", "--json")])
def test_json_may_be_asked_for_anywhere(home: Home, words: tuple[str, ...]) -> None:
    check(json.loads(home.ok(*words, json=False)), shapes.STATUS)


def test_json_may_be_asked_for_by_the_environment(home: Home) -> None:
    check(json.loads(home.ok("status", json=False, env={"P2P_COMM_OUTPUT": "json"})), shapes.STATUS)


def test_an_error_for_people_says_what_is_wrong_and_what_to_do(home: Home) -> None:
    outcome = home.run("send", "hello", json=False)
    assert outcome.exit == 1
    assert outcome.out == ""
    assert "hint:" in outcome.err


def test_help_and_version_need_no_home(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for word in ("--help", "--version"):
        shown = subprocess.run(
            [CONSOLE_SCRIPT, word],
            env=os.environ | {"P2P_COMM_HOME": str(nowhere)},
            capture_output=True,
            text=True,
        )
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "p2p-comm" in shown.stdout
    assert not nowhere.exists()


def test_words_are_joined_and_dashes_are_text_unless_a_flag_is_known(agents: Agents) -> None:
    alice, bob = agents
    connect(alice, bob)
    for words, text in [
        (("send", "two", "words"), "two words"),
        (("send", "-x", "marks", "the", "spot"), "-x marks the spot"),
        (("send", "--", "--call", "me"), "--call me"),
        (("send", "a -- b"), "a -- b"),
        (("send", "line\nbreak \t and “quotes” $HOME `x`"), "line\nbreak \t and “quotes” $HOME `x`"),
    ]:
        assert alice.ok(*words)["text"] == text
        assert bob.event("message.received")["message"]["text"] == text
    assert alice.ok("send", "-", stdin="from standard input\nwith two lines")["text"].rstrip("\n") == (
        "from standard input\nwith two lines"
    )


def test_pipes_and_no_color_give_plain_text(home: Home) -> None:
    assert "\x1b" not in home.ok("status", json=False)
    assert "\x1b" not in on_a_terminal(home, "status", NO_COLOR="1")
    assert str(home.agent_id) in on_a_terminal(home, "status", NO_COLOR="1")


def on_a_terminal(home: Home, *words: str, **environment: str) -> str:
    """What a command prints when stdout and stderr are a terminal."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [CONSOLE_SCRIPT, *words],
        env=home.environment | {"TERM": "xterm-256color"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    printed = b""
    try:
        while select.select([ours], [], [], 30)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not chunk:
                break
            printed += chunk
    finally:
        command.wait(30)
        os.close(ours)
    return printed.decode()


def test_a_closed_pipe_ends_a_command_quietly(home: Home) -> None:
    home.ok("status")
    shell = subprocess.run(
        ["/bin/sh", "-c", f'"{CONSOLE_SCRIPT}" --help | head -n 1'],
        env=home.environment,
        capture_output=True,
        text=True,
    )
    assert shell.stdout.count("\n") == 1
    assert shell.stderr == ""


# Calls and messages.


def test_a_call_with_the_same_key_is_the_same_call_and_rings_once(agents: Agents) -> None:
    alice, bob = agents
    first = alice.ok("call", str(bob.agent_id), "API design", "--id", "job-7")
    second = alice.ok("call", str(bob.agent_id), "API design", "--id", "job-7")
    assert (first["already"], second["already"]) == (False, True)
    assert first["call"] == second["call"]
    bob.event("call.ringing")
    bob.ok("answer", "accept")
    alice.event("call.connected")
    alice.ok("send", "the ring's rival would have come before this")
    bob.event("message.received")
    assert len(bob.ok("calls")["calls"]) == 1
    assert alice.ok("call", str(bob.agent_id), "--id", "job-7")["state"] == "connected"


def test_answering_and_ending_again_succeed_and_say_so(agents: Agents) -> None:
    alice, bob = agents
    outgoing, incoming = connect(alice, bob)
    again = bob.ok("answer", "accept", "--call", incoming)
    assert (again["already"], again["state"]) == (True, "connected")
    first = alice.ok("end", "--call", outgoing)
    second = alice.ok("end", "--call", outgoing)
    assert (first["already"], second["already"]) == (False, True)
    assert first["transcript"] == second["transcript"]


def test_rejecting_again_succeeds_and_says_so(agents: Agents) -> None:
    alice, bob = agents
    _, incoming = ring(alice, bob)
    assert bob.ok("answer", "reject", "not now", "--call", incoming)["already"] is False
    assert bob.ok("answer", "reject", "not now", "--call", incoming)["already"] is True


def test_call_wait_returns_when_the_peer_accepts(agents: Agents) -> None:
    alice, bob = agents
    waiting = alice.popen("--json", "call", str(bob.agent_id), "API design", "--wait=30")
    bob.event("call.ringing")
    bob.ok("answer", "accept")
    out, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, err
    assert json.loads(out)["state"] == "connected"


def test_call_wait_fails_when_the_peer_rejects(agents: Agents) -> None:
    alice, bob = agents
    waiting = alice.popen("--json", "call", str(bob.agent_id), "API design", "--wait=30")
    bob.event("call.ringing")
    bob.ok("answer", "reject", "not before noon")
    out, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 1, err
    error = json.loads(out)["error"]
    assert error["code"] == "rejected"
    assert "not before noon" in error["message"]


def test_call_wait_that_runs_out_exits_124_and_keeps_ringing(agents: Agents) -> None:
    alice, bob = agents
    outcome = alice.run("call", str(bob.agent_id), "API design", "--wait=1")
    assert outcome.exit == 124
    assert outcome.out["timeout"] is True
    assert outcome.out["state"] == "ringing"
    bob.event("call.ringing")
    bob.ok("answer", "accept")
    alice.event("call.connected")


def test_the_call_that_a_command_means_must_be_one(agents: Agents) -> None:
    alice, bob = agents
    alice.fails("no-active-call", "send", "hello")
    alice.fails("no-active-call", "sendfile", "x.txt", "eA==")
    alice.fails("no-active-call", "end")
    alice.fails("no-ringing-call", "answer", "accept")
    alice.fails("unknown-call", "send", "hello", "--call", "no-such-call")
    outgoing, _ = connect(alice, bob)
    alice.ok("end", "--call", outgoing)
    alice.fails("call-ended", "send", "hello", "--call", outgoing)


def test_two_calls_that_fit_are_ambiguous_and_listed(relay_url: str, new_home: NewHome) -> None:
    alice, bob, carol = (new_home(label, relay_url) for label in ("alice", "bob", "carol"))
    alice.ok("status")
    for caller in (bob, carol):
        caller.sees(str(alice.agent_id))
    _, from_bob = ring(bob, alice, "from bob")
    _, from_carol = ring(carol, alice, "from carol")
    error = alice.fails("ambiguous-call", "answer", "accept")
    assert from_bob in str(error)
    assert from_carol in str(error)


def test_an_agent_that_nobody_announced_is_unknown(home: Home) -> None:
    home.fails("unknown-agent", "call", "nobody-of-this-name", "API design")


def test_an_agent_id_that_two_keys_claim_is_ambiguous_until_one_is_pinned(relay_url: str, new_home: NewHome) -> None:
    caller = new_home("caller", relay_url)
    label = f"twin-{caller.agent_id}"
    twins = [new_home(label, relay_url, unique=False) for _ in range(2)]
    keys = [twin.ok("status")["agent"]["pubkey"] for twin in twins]

    def claims() -> list[str]:
        return sorted(line["pubkey"] for line in caller.ok("list")["agents"] if line["id"] == label)

    wait_until(lambda: claims() == sorted(keys), "both twins to be listed")
    assert all(line["duplicate_id"] for line in caller.ok("list")["agents"] if line["id"] == label)
    error = caller.fails("ambiguous-agent", "call", label)
    for twin in twins:
        status = twin.ok("status")
        assert status["agent"]["pubkey"] in str(error) or status["agent"]["npub"] in str(error)
    caller.ok("contacts", "add", "the-first", keys[0])
    assert caller.ok("call", "the-first")["peer"]["pubkey"] == keys[0]
    assert caller.ok("call", keys[1])["peer"]["pubkey"] == keys[1]


def test_to_call_who_rings_here_is_to_answer(agents: Agents) -> None:
    alice, bob = agents
    outgoing, incoming = ring(alice, bob)
    answered = bob.ok("call", str(alice.agent_id), "something else")
    assert (answered["call"], answered["state"], answered["topic"]) == (incoming, "connected", "API design")
    alice.event("call.connected", call=outgoing)


def test_a_blocked_agent_is_not_called_and_does_not_ring(agents: Agents, relay_url: str, new_home: NewHome) -> None:
    alice, bob = agents
    carol = new_home("carol", relay_url)
    key = bob.ok("status")["agent"]["pubkey"]
    alice.ok("contacts", "block", key)
    alice.fails("blocked", "call", str(bob.agent_id))
    placed = bob.ok("call", str(alice.agent_id), "let me in")
    wait_until(lambda: bob.ok("status")["outbox"]["queued"] == 0, "the ring to be on its way")
    # A ring that comes later is told, and the blocked one is not.
    carol.sees(str(alice.agent_id))
    _, from_carol = ring(carol, alice, "from carol")
    assert [call["call"] for call in alice.ok("calls")["calls"]] == [from_carol]
    bob.ok("end", "--call", placed["call"])
    alice.ok("contacts", "unblock", key)
    ring(bob, alice, "once more")


def test_what_does_not_fit_is_refused_before_anything_is_sent(agents: Agents, tmp_path: Path) -> None:
    alice, bob = agents
    outgoing, incoming = connect(alice, bob)
    alice.fails("too-large", "send", "-", stdin="x" * (2**20 + 1))
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(2**20 + 1))
    alice.fails("invalid-base64", "sendfile", "x.txt", "this is not base64!")
    alice.fails("file-not-found", "sendfile", "--path", str(tmp_path / "nowhere.txt"))
    assert alice.messages(outgoing) == []
    # A file has no such limit here: what is too large for the peer, the peer says.
    alice.ok("sendfile", "--path", str(large))
    received = bob.event("file.received", call=incoming)["message"]["file"]
    assert Path(received["path"]).read_bytes() == large.read_bytes()


def test_the_key_is_never_sent_as_a_file(agents: Agents, tmp_path: Path) -> None:
    alice, bob = agents
    outgoing, _ = connect(alice, bob)
    link, hard_link, copy = tmp_path / "link.json", tmp_path / "hard.json", tmp_path / "copy.json"
    link.symlink_to(alice.identity_file)
    hard_link.hardlink_to(alice.identity_file)
    copy.write_bytes(alice.identity_file.read_bytes())
    for path in (alice.identity_file, link, hard_link, copy):
        alice.fails("not-sendable", "sendfile", "--path", str(path))
    assert alice.messages(outgoing) == []


def test_values_that_cannot_be_are_refused(agents: Agents) -> None:
    alice, bob = agents
    alice.fails("invalid-value", "config", "set", "max_calls", "0")
    alice.fails("invalid-value", "config", "set", "no_such_setting", "1")
    # Nobody tells whether mail was read.
    alice.fails("invalid-value", "send", "hello", "--to", str(bob.agent_id), "--wait=delivered")


def test_relays_that_cannot_be_are_refused(new_home: NewHome) -> None:
    new_home("odd", "ftp://not.a.relay").fails("invalid-value", "status")


@pytest.mark.parametrize("words", [("list",), ("call", "somebody", "API design")])
def test_without_any_relay_a_command_that_needs_one_exits_3(new_home: NewHome, words: tuple[str, ...]) -> None:
    home = new_home("alone", NO_RELAY)
    home.fails("relays-unreachable", *words, exit=3)


def test_without_any_relay_status_still_tells(new_home: NewHome) -> None:
    status = new_home("alone", NO_RELAY).ok("status")
    check(status, shapes.STATUS)
    assert status["connected"] is False
    assert [relay["connected"] for relay in status["relays"]] == [False]


# Reading and waiting.


def test_printed_by_wait_a_message_is_read_and_looking_marks_nothing(agents: Agents) -> None:
    alice, bob = agents
    _, incoming = connect(alice, bob)
    alice.ok("send", "first")
    alice.ok("send", "second")
    wait_until(lambda: bob.ok("status")["unread"] == 2, "both messages to be there")
    for looking in (("inbox",), ("messages", "--call", incoming), ("transcript", incoming)):
        bob.ok(*looking)
        assert bob.ok("status")["unread"] == 2
    assert [message["text"] for message in bob.ok("inbox")["unread"]] == ["first", "second"]
    assert bob.event("message.received")["message"]["text"] == "first"
    assert bob.ok("status")["unread"] == 1
    unread = bob.ok("messages", "--unread")["messages"]
    assert [message["text"] for message in unread] == ["second"]
    assert bob.ok("status")["unread"] == 0
    assert bob.ok("messages", "--unread")["messages"] == []


def test_a_consumer_goes_on_where_it_stopped_and_is_nobody_else(agents: Agents) -> None:
    alice, bob = agents
    connect(alice, bob)
    for text in ("first", "second"):
        alice.ok("send", text)

    def next_text(*consumer: str) -> str:
        while True:
            waited = bob.ok("wait", "--timeout", "20", *consumer)
            if waited["event"]["kind"] == "message.received":
                return str(waited["event"]["message"]["text"])

    assert [next_text("--as", "one"), next_text("--as", "one")] == ["first", "second"]
    assert [next_text("--as", "two"), next_text("--as", "two")] == ["first", "second"]
    assert [next_text(), next_text()] == ["first", "second"]
    nothing = bob.run("wait", "--timeout", "1", "--as", "one", "--for", "message.received")
    assert nothing.exit == 124
    assert bob.ok("wait", "--after", "0", "--for", "message.received")["event"]["message"]["text"] == "first"


def test_wait_wakes_when_the_event_comes(agents: Agents) -> None:
    alice, bob = agents
    waiting = bob.popen("--json", "wait", "--timeout", "60", "--for", "call.ringing")
    placed = alice.ok("call", str(bob.agent_id), "wake up")
    out, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, err
    woken = json.loads(out)
    check(woken, {"cursor": int, "event": shapes.CALL_EVENT, "timeout": bool})
    assert woken["timeout"] is False
    assert woken["event"]["call_state"]["topic"] == placed["topic"] == "wake up"


def test_wait_follow_prints_one_object_a_line_until_it_is_interrupted(agents: Agents) -> None:
    alice, bob = agents
    connect(alice, bob)
    following = bob.popen("--json", "wait", "--follow", "--after", "0", "--for", "message.received")
    assert following.stdout is not None
    for text in ("first", "second"):
        alice.ok("send", text)
        line = json.loads(following.stdout.readline())
        assert line.get("event", line)["message"]["text"] == text
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=10)
    # A shell reports an end by SIGINT as 130.
    assert following.returncode in (130, -signal.SIGINT)


@pytest.mark.parametrize("kind", ["text", "md", "html", "jsonl"])
def test_a_transcript_is_exported_in_each_format(agents: Agents, kind: str) -> None:
    alice, bob = agents
    _, incoming = connect(alice, bob)
    alice.ok("send", "<b>bold</b> & “quoted”")
    bob.event("message.received", call=incoming)
    exported = bob.ok("transcript", incoming, "--format", kind, json=False)
    assert "“quoted”" in exported
    if kind == "html":
        assert "<b>bold" not in exported
    if kind == "jsonl":
        for line in exported.splitlines():
            assert isinstance(json.loads(line), dict)
