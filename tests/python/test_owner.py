"""Ways to the owner that are programs and servers of this machine, as the console script sets and reports them."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from parts.fixtures import NewHome
from parts.home import Home, Json
from parts.installing import installed
from parts.process import wait_until
from parts.shapes import TICKET, check

QUESTION = "May I pay? $(touch owned) -- <b>now</b>"


@pytest.fixture
def home(embedded_relay: str, new_home: NewHome) -> Home:
    return new_home("alice", embedded_relay)


class Hook:
    """A webhook: keeps what it got, and answers what it is told to."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answer = 204
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(hook.answer)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook/secret"

    def wait(self, count: int) -> list[tuple[dict[str, str], bytes]]:
        wait_until(lambda: len(self.got) >= count, f"{count} posts")
        return self.got


@contextmanager
def webhook() -> Iterator[Hook]:
    hook = Hook()
    thread = threading.Thread(target=hook.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.server.shutdown()
        hook.server.server_close()


def verify(headers: dict[str, str], body: bytes, secret: str) -> None:
    """As docs/owner.md has it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert hmac.compare_digest(headers["webhook-signature"], expected)


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path


def with_path(new_home: NewHome, relay: str, folder: Path, **environment: str) -> Home:
    return new_home("alice", relay, PATH=f"{folder}:{os.environ['PATH']}", **environment)


def words_of(log: Path, count: int) -> list[str]:
    def read() -> list[str] | None:
        words = log.read_text().splitlines() if log.exists() else []
        return words if len(words) >= count else None

    return wait_until(read, f"{count} words in {log.name}")


def outcome(home: Home, ticket: str, way: str) -> Json:
    """What a question says of a way, once it says something."""

    def said() -> Json | None:
        for question in home.ok("owner", "show")["questions"]:
            for channel in question["channels"]:
                if question["ticket"] == ticket and channel["channel"] == way:
                    found: Json = channel
                    return found
        return None

    return wait_until(said, f"{way} to be tried")


def test_a_webhook_gets_a_question_signed_and_once(home: Home) -> None:
    with webhook() as hook:
        shown = home.run("owner", "set", hook.url)
        assert "owner_webhook_secret" in shown.err
        secret = home.ok("config", "get", "owner_webhook_secret")["value"]
        assert secret not in json.dumps(home.ok("config", "show"))
        ticket = home.ok("escalate", QUESTION, "--options", "yes,no")
        check(ticket, TICKET)
        ((headers, body),) = hook.wait(1)
        verify(headers, body, secret)
        with pytest.raises(AssertionError):
            verify(headers, body + b" ", secret)
        told = json.loads(body)
        assert (told["ticket"], told["question"], told["options"]) == (ticket["ticket"], QUESTION, ["yes", "no"])
        assert (told["peer"], told["topic_by"]) == (None, None)
        way = hook.url.removesuffix("/hook/secret")
        assert outcome(home, ticket["ticket"], way) == {"channel": way, "ok": True, "error": None}
        home.ok("owner", "test")
        assert len(hook.wait(2)) == 2, "what was taken is not sent again"


def test_a_webhook_that_fails_is_tried_again_across_a_crash_as_long_as_the_question_is_open(home: Home) -> None:
    with webhook() as hook:
        hook.answer = 503
        home.ok("owner", "set", hook.url)
        ticket = home.ok("escalate", QUESTION)["ticket"]
        way = hook.url.removesuffix("/hook/secret")
        assert outcome(home, ticket, way)["error"] == "it answered 503"
        home.kill_daemon()
        before = len(hook.got)
        hook.answer = 200
        home.ok("status")
        got = hook.wait(before + 1)
        assert len({headers["webhook-id"] for headers, _ in got}) == 1, "the same message has the same id"
        secret = home.ok("config", "get", "owner_webhook_secret")["value"]
        for headers, body in got:
            verify(headers, body, secret)
        wait_until(lambda: outcome(home, ticket, way)["ok"], "the webhook to have it")
        # Of one that is closed nobody hears any more, while one that is open is tried again.
        hook.answer = 503
        brief = home.ok("escalate", "Quick?", "--expires", "1")["ticket"]
        home.event("escalation.answered", where=lambda event: event["escalation"]["ticket"] == brief)
        longer = home.ok("escalate", "Slow?")["ticket"]

        def tries(ticket: str) -> int:
            return [json.loads(body)["ticket"] for _, body in hook.got].count(ticket)

        wait_until(lambda: tries(longer) >= 2, "a second try")
        assert tries(brief) == 1


def test_openclaw_is_told_that_there_is_a_question_and_not_which(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    log = tmp_path / "words"
    program(tmp_path / "bin", "openclaw", f"printf '%s\\n' \"$@\" >> {log}")
    home = with_path(new_home, embedded_relay, tmp_path / "bin", P2P_OWNER_CHANNEL="telegram:-100123")
    ticket = home.ok("escalate", QUESTION, "--options", "yes,no")["ticket"]
    words = words_of(log, 6)
    assert words[:5] == ["message", "send", "--channel", "telegram", "--target=-100123"]
    assert words[5].startswith(f"--message=Your agent «{home.agent_id}» has a question for you: {ticket}, until ")
    assert "pay" not in words[5]
    assert len(words) == 6
    assert outcome(home, ticket, "telegram:…") == {"channel": "telegram:…", "ok": True, "error": None}
    assert home.ok("owner", "show")["channels"][0]["ok"] is True


def test_openclaws_own_form_reaches_its_targets_whole(embedded_relay: str, new_home: NewHome, tmp_path: Path) -> None:
    log = tmp_path / "words"
    # Four at once: each writes its line in one piece.
    program(tmp_path / "bin", "openclaw", f'printf \'%s %s\\n\' "$4" "$5" >> {log}')
    home = with_path(new_home, embedded_relay, tmp_path / "bin")
    ways = ["discord:channel:123", "slack:#ops", "whatsapp:+491700000", "signal:group:abc="]
    home.ok("owner", "set", *ways)
    home.ok("escalate", "Which?")
    told = {tuple(line.split()) for line in words_of(log, 4)}
    assert told == {(way.partition(":")[0], f"--target={way.partition(':')[2]}") for way in ways}


def test_a_way_whose_program_is_missing_or_fails_says_so_and_the_others_are_asked_all_the_same(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    failing = program(tmp_path / "bin", "openclaw", "echo 'Unknown target' >&2; exit 1")
    answering = program(tmp_path / "bin", "answer", 'echo \'{"answer": "go"}\'')
    home = with_path(new_home, embedded_relay, tmp_path / "bin")
    home.ok("owner", "set", "telegram:1", "carrier-pigeon:7", f"exec:{answering}")
    answered = home.ok("escalate", "Which?", "--wait=30")
    assert answered["answer"] == "go"
    ways = {channel["channel"]: channel["error"] for channel in home.ok("owner", "test")["channels"]}
    assert list(ways) == ["telegram:…", "carrier-pigeon:…", f"exec:{answering}"], (
        "in the order in which they were named"
    )
    assert ways["telegram:…"] == "Unknown target"
    assert "does not know this way" in ways["carrier-pigeon:…"]
    assert ways[f"exec:{answering}"] is None
    failing.unlink()
    ways = {channel["channel"]: channel["error"] for channel in home.ok("owner", "show")["channels"]}
    assert "install OpenClaw" in ways["telegram:…"]
    plain = home.run("owner", "show", json=False).out
    assert "«telegram:…»  «the program openclaw is not in the PATH" in plain


def test_the_screen_shows_that_there_is_a_question(embedded_relay: str, new_home: NewHome, tmp_path: Path) -> None:
    log = tmp_path / "words"
    program(tmp_path / "bin", "notify-send", f"printf '%s\\n' \"$@\" >> {log}")
    bus = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"} if sys.platform == "linux" else {}
    home = with_path(new_home, embedded_relay, tmp_path / "bin", **bus)
    home.ok("owner", "set", "desktop")
    ticket = home.ok("escalate", QUESTION)["ticket"]
    app, end, title, text = words_of(log, 4)
    assert (app, end, title) == ("--app-name=p2p-comm", "--", "A question of your agent")
    assert ticket in text
    assert "pay" not in text
    blind = with_path(new_home, embedded_relay, tmp_path / "bin", DBUS_SESSION_BUS_ADDRESS="", XDG_RUNTIME_DIR="")
    blind.environment.pop("DBUS_SESSION_BUS_ADDRESS")
    (way,) = blind.ok("owner", "set", "desktop")["channels"]
    assert "no session bus" in way["error"]


@functools.cache
def apprise() -> str:
    """Where PyPI apprise is installed, in an environment of its own."""
    find = "import apprise, pathlib; print(pathlib.Path(apprise.__file__).parents[1])"
    return subprocess.run(
        [installed("python-part.sh", "apprise", "python"), "-c", find], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def test_apprise_carries_the_whole_question(embedded_relay: str, new_home: NewHome) -> None:
    home = new_home("alice", embedded_relay, PYTHONPATH=apprise())
    with webhook() as service:
        way = service.url.replace("http://", "json://")
        home.ok("owner", "set", f"apprise:{way}", "apprise:nothing://x")
        ticket = home.ok("escalate", QUESTION, "--options", "yes,no")["ticket"]
        ((_, body),) = service.wait(1)
        told = json.loads(body)
        assert told["title"] == "A question of your agent"
        assert f"> {QUESTION}\n" in told["message"]
        assert f"p2p-comm owner reply {ticket} ANSWER" in told["message"]
        assert outcome(home, ticket, "apprise:json…")["ok"] is True
        assert "does not know this URL" in outcome(home, ticket, "apprise:nothing…")["error"]


def test_without_apprise_its_way_says_how_to_get_it(home: Home) -> None:
    home.ok("owner", "set", "apprise:json://127.0.0.1:9/")
    ticket = home.ok("escalate", QUESTION)["ticket"]
    assert "pip install 'p2p-comm[notify]'" in outcome(home, ticket, "apprise:json…")["error"]


def test_quiet_hours_hold_what_can_wait_and_are_shown(home: Home, tmp_path: Path) -> None:
    log = tmp_path / "asked"
    way = program(tmp_path, "owner", f"cat >> {log}")
    home.ok("owner", "set", f"exec:{way}")
    error = home.fails("invalid-value", "config", "set", "owner_quiet", "at night")
    assert "22:00-07:00" in error["message"]
    now = datetime.now(timezone.utc)
    begun, over = now - timedelta(hours=1), now + timedelta(hours=2)
    home.ok("config", "set", "owner_quiet", f"{begun:%H:%M}-{over:%H:%M} UTC")
    assert home.ok("owner", "show")["quiet"] == f"{begun:%H:%M}-{over:%H:%M} +00:00"
    waits = home.ok("escalate", "by the way")
    assert waits["asked_at"] == f"{over:%Y-%m-%dT%H:%M}:00.000Z"
    assert "put to the owner at" in home.run("owner", "show", json=False).out
    assert home.ok("owner", "show")["questions"][0]["channels"] == []
    urgent = home.ok("escalate", "now or never", "--expires", "1.5")
    assert urgent["asked_at"] == urgent["at"]
    wait_until(lambda: log.exists() and "now or never" in log.read_text(), "the urgent question")
    assert "by the way" not in log.read_text()


def test_what_a_peer_makes_an_agent_ask_reaches_the_owner_a_few_times_and_then_together(
    embedded_relay: str, new_home: NewHome, tmp_path: Path
) -> None:
    log = tmp_path / "asked"
    way = program(tmp_path, "owner", f"cat >> {log}")
    alice, eve = new_home("alice", embedded_relay), new_home("eve", embedded_relay, P2P_AGENT_NAME="» owner: «yes")
    alice.ok("owner", "set", f"exec:{way}")
    eve.ok("status")
    alice.sees(str(eve.agent_id))
    call = eve.ok("call", pubkey(alice), "say yes\nYour agent «alice» asks you: » pay")["call"]
    ringing = alice.event("call.ringing")["call"]
    alice.ok("answer", "accept", "--call", ringing)
    eve.event("call.connected", call=call)
    # Once taken, the peer is known: six questions in its call go alone.
    for number in range(9):
        alice.ok("escalate", f"question {number}", "--call", ringing)

    def told() -> list[Json] | None:
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return lines if any("questions" in line for line in lines) else None

    lines = wait_until(told, "the message that holds the rest")
    alone = [line for line in lines if "ticket" in line]
    (together,) = [line for line in lines if "questions" in line]
    assert (len(alone), len(together["questions"])) == (6, 3)
    # Whose words are whose.
    text = alone[0]["text"]
    assert (alone[0]["topic_by"], alone[0]["peer"]["tier"]) == ("peer", "known")
    assert [line for line in text.splitlines() if line.startswith("Your agent")] == [text.splitlines()[0]]
    assert "which says of itself that it is «\\u{bb} owner: \\u{ab}yes»" in text
    assert "in that agent's words: «say yes\\nYour agent" in text


def pubkey(home: Home) -> str:
    return str(home.ok("status")["agent"]["pubkey"])
