"""`p2p-comm dashboard` as a program sees it that is no browser: who is let in, and who may answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from parts.fixtures import NewHome
from parts.home import Home, Json
from parts.person import at_a_terminal
from parts.process import end, wait_until
from parts.steps import connect, meet
from parts.web import Answer, ask


class Visitor:
    """Somebody who has opened the address."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self.here = f"{place.scheme}://{place.netloc}"
        self.token = place.fragment
        self.headers: dict[str, str] = {}

    def enter(self) -> Json:
        told = ask(f"{self.here}/api/session", body={"token": self.token})
        assert told.status == 200, told
        self.headers = {"Cookie": told.headers["set-cookie"].split(";")[0], "X-P2P-Key": told.json["key"]}
        entered: Json = told.json
        return entered

    def state(self, after: int = 0) -> Json:
        looked = ask(f"{self.here}/api/state/{after}", headers=self.headers)
        assert looked.status == 200, looked
        seen: Json = looked.json
        return seen

    def answer(self, ticket: str, words: str) -> Answer:
        return ask(f"{self.here}/api/answer", body={"ticket": ticket, "answer": words}, headers=self.headers)


@contextmanager
def begun_by_a_program(home: Home) -> Iterator[Visitor]:
    """The dashboard as an agent would begin it: with pipes."""
    process = home.popen("--json", "dashboard", stdin=subprocess.PIPE, new_session=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        told = json.loads(process.stdout.readline())
        assert told["answers"] is False
        yield Visitor(told["url"])
    finally:
        end(process)
        process.stderr.close()


@contextmanager
def begun_by_a_person(home: Home) -> Iterator[Visitor]:
    with at_a_terminal(home, "dashboard", "--no-open") as terminal:
        yield Visitor(terminal.find(r"http://127\.0\.0\.1:\d+/#[\w-]+(?=\s)"))


@pytest.fixture
def alice(new_home: NewHome, embedded_relay: str) -> Home:
    return new_home("alice", embedded_relay)


def test_the_token_counts_once_and_without_a_session_nothing_is_shown(alice: Home) -> None:
    with begun_by_a_program(alice) as visitor:
        page = ask(f"{visitor.here}/")
        assert page.status == 200
        assert visitor.token not in page.body
        for path in ("/api/state/0", "/api/transcript/0000000000000000"):
            assert ask(visitor.here + path).status == 401, path
        assert visitor.answer("00000000", "yes").status == 401
        assert ask(f"{visitor.here}/api/session", body={"token": visitor.token[:-1] + "_"}).status == 401
        visitor.enter()
        assert ask(f"{visitor.here}/api/session", body={"token": visitor.token}).status == 401
        assert visitor.state()["status"]["agent"]["id"] == alice.agent_id
        # What another server of this machine is sent, and what a page of it might guess.
        for headers in ({"Cookie": visitor.headers["Cookie"]}, {"X-P2P-Key": visitor.headers["X-P2P-Key"]}):
            assert ask(f"{visitor.here}/api/state/0", headers=headers).status == 401


def test_other_web_pages_and_other_names_are_refused(alice: Home) -> None:
    with begun_by_a_program(alice) as visitor:
        visitor.enter()
        port = urlsplit(visitor.here).port
        for headers in (
            {"Host": "evil.example"},
            {"Host": f"evil.example:{port}"},
            {"Host": "127.0.0.1"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": f"http://127.0.0.1:{port}0"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            for path in ("/", "/app.js", "/api/state/0"):
                refused = ask(visitor.here + path, headers={**visitor.headers, **headers})
                assert refused.status == 403, (path, headers, refused)
                assert alice.agent_id not in refused.body
        # A form of another page: no JSON, and no leave to say that it is.
        form = ask(
            f"{visitor.here}/api/answer", method="POST", headers={**visitor.headers, "Content-Type": "text/plain"}
        )
        assert form.status == 400


def test_every_answer_forbids_what_no_page_here_needs(alice: Home) -> None:
    with begun_by_a_program(alice) as visitor:
        for path in ("/", "/app.css", "/app.js", "/icon.svg", "/api/state/0", "/nothing"):
            headers = ask(visitor.here + path).headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none';")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-frame-options"] == "DENY"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"
        cookie = ask(f"{visitor.here}/api/session", body={"token": visitor.token}).headers["set-cookie"]
        assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in cookie.split(";")}


def test_an_agent_that_begins_the_page_cannot_approve_its_own_question(alice: Home) -> None:
    ticket = alice.ok("escalate", "May I spend 40 EUR?", "--options", "yes,no")["ticket"]
    with begun_by_a_program(alice) as visitor:
        told = visitor.enter()
        assert told["may_answer"] is False
        assert "not by a person" in told["why_not"]
        refused = visitor.answer(ticket, "yes")
        assert (refused.status, refused.json["error"]["code"]) == (403, "not-allowed")
        [question] = visitor.state()["inbox"]["questions"]
        assert (question["ticket"], question["answer"]) == (ticket, None)


def test_a_person_who_began_the_page_answers_once(alice: Home) -> None:
    ticket = alice.ok("escalate", "May I spend 40 EUR?", "--options", "yes,no")["ticket"]
    with begun_by_a_person(alice) as visitor:
        assert visitor.enter()["may_answer"] is True
        assert visitor.answer(ticket, "perhaps").json["error"]["code"] == "invalid-value"
        answered = visitor.answer(ticket, "yes")
        assert (answered.status, answered.json["answer"]) == (200, "yes")
        again = visitor.answer(ticket, "no")
        assert again.json["error"]["code"] == "question-closed"
        assert visitor.state()["inbox"]["questions"] == []
    assert alice.event("escalation.answered")["escalation"]["answer"] == "yes"


def test_what_a_peer_wrote_comes_without_what_hides_or_reorders(new_home: NewHome, embedded_relay: str) -> None:
    alice, bob = meet(new_home, [embedded_relay])
    outgoing, incoming = connect(alice, bob, topic="t\u202eopic")
    alice.ok("send", "a\u202eb\x1b[31m\u200b<script>", "--call", outgoing)
    wait_until(lambda: bob.ok("status")["unread"], "the message to arrive")
    with begun_by_a_program(bob) as visitor:
        visitor.enter()
        seen = visitor.state()
        assert seen["calls"]["calls"][0]["topic"] == "t\\u{202e}opic"
        said = ask(f"{visitor.here}/api/transcript/{incoming}", headers=visitor.headers).json["messages"]
        assert said[0]["text"] == "a\\u{202e}b\\u{1b}[31m\\u{200b}<script>"
        assert ask(f"{visitor.here}/api/transcript/nonsense", headers=visitor.headers).status == 404
    # Looking has marked nothing.
    assert bob.ok("status")["unread"] == 1


def test_the_page_brings_back_no_daemon_that_its_user_has_stopped(alice: Home) -> None:
    with begun_by_a_program(alice) as visitor:
        visitor.enter()
        visitor.state()
        alice.stop()

        def refusal() -> Answer | None:
            answer = ask(f"{visitor.here}/api/state/0", headers=visitor.headers)
            return answer if answer.status == 503 else None

        refused = wait_until(refusal, "the page to say that there is no daemon")
        assert "daemon start" in refused.json["error"]["hint"]
        assert alice.run("daemon", "status").out["running"] is False
        alice.ok("daemon", "start")
        assert visitor.state()["status"]["agent"]["id"] == alice.agent_id


def test_a_port_that_is_taken_is_told(alice: Home) -> None:
    with begun_by_a_program(alice) as visitor:
        port = str(urlsplit(visitor.here).port)
        error = alice.fails("invalid-value", "dashboard", "--port", port)
        assert "another port" in error["hint"]
