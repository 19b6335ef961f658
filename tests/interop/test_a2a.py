"""`p2p-comm a2a serve` with a client of A2A that nobody here wrote: PyPI `a2a-sdk`."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from parts.fixtures import NewHome
from parts.home import Home
from parts.installing import installed
from parts.process import end, start, wait_until
from parts.steps import meet
from parts.talker import Json, Talker
from parts.web import ask

NewClient = Callable[..., Talker]


def python() -> Path:
    return installed("install-a2a.sh")


@contextmanager
def door(home: Home, *words: str) -> Iterator[tuple[str, str]]:
    """The door of a home: its address, and the token."""
    process = home.popen("--json", "a2a", "serve", *words, stdin=subprocess.PIPE, new_session=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        told = json.loads(process.stdout.readline())
        yield told["url"], told["token"] or ""
    finally:
        end(process)
        process.stderr.close()


@pytest.fixture
def new_client(tmp_path: Path) -> Iterator[NewClient]:
    """A factory of clients of an address; they are ended after the test."""
    with ExitStack() as after:

        def make(url: str, token: str) -> Talker:
            folder = tmp_path / f"client-{uuid.uuid4().hex[:4]}"
            program = Path(__file__).parent / "a2a" / "client.py"
            process = start([python(), program, url, token], folder=folder, environment={}, talks=True)
            after.callback(end, process)
            return Talker(process, folder, "a2a client")

        yield make


@pytest.fixture
def pair(new_home: NewHome, embedded_relay: str) -> tuple[Home, Home]:
    return meet(new_home, [embedded_relay])


def say(client: Talker, text: str = "", verb: str = "send", **more: Any) -> Any:
    return client.do(verb, id=uuid.uuid4().hex, text=text, **more)


def words(message: Json) -> str:
    return "".join(part.get("text", "") for part in message["parts"])


def test_a_message_is_a_call_and_its_answer_comes_back_as_a_task(
    pair: tuple[Home, Home], new_client: NewClient, tmp_path: Path
) -> None:
    alice, bob = pair
    bob.ok("config", "set", "auto_accept", "anyone")
    bob.ok("config", "set", "description", "Reviews schemas, and says which one is better.")
    bob.ok("config", "set", "skills", "review: Compares two schemas, briefly; translate: German to English")
    wait_until(lambda: (alice.line_of(str(bob.agent_id)) or {}).get("card"), "bob's card to be announced")
    with door(alice) as (url, token):
        client = new_client(f"{url}agents/{bob.agent_id}", token)
        card = client.do("card")
        assert card["name"] == bob.agent_id
        assert card["description"].startswith("Reviews schemas")
        assert [skill["id"] for skill in card["skills"]] == ["review", "translate"]
        assert card["supportedInterfaces"][0]["protocolVersion"] == "1.0"

        # Somebody answers at the other end as soon as the question is there.
        asked = ask_in_background(client, "Which of the two schemas?")
        question = bob.event("message.received")["message"]
        assert question["text"] == "Which of the two schemas?"
        bob.ok("send", "The second one.")
        task = asked()["task"]
        assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        assert words(task["status"]["message"]) == "The second one."
        assert [words(artifact) for artifact in task["artifacts"]] == ["The second one."]
        assert [(said["role"], words(said)) for said in task["history"]] == [
            ("ROLE_USER", "Which of the two schemas?"),
            ("ROLE_AGENT", "The second one."),
        ]

        # The same task goes on, with a file, and ends when the agent hangs up.
        file = {"hex": b"a,b\n1,2\n".hex(), "name": "data.csv", "mime": "text/csv"}
        asked = ask_in_background(client, "And for this data?", task=task["id"], file=file)
        received = bob.event("file.received")["message"]["file"]
        assert Path(received["path"]).read_bytes() == b"a,b\n1,2\n"
        bob.ok("send", "The same.")
        bob.ok("end")
        wait_until(lambda: state(client, task["id"]) == "TASK_STATE_COMPLETED", "the task to be completed")
        assert asked()["task"]["id"] == task["id"]
        done = client.do("get", task=task["id"])
        assert [words(artifact) for artifact in done["artifacts"]] == ["The second one.", "The same."]
        assert "over" in client.refuses("send", id="late", text="One more thing", task=task["id"])
        assert client.refuses("cancel", task=task["id"]).startswith("TaskNotCancelableError")


def test_a_stream_tells_each_change_until_it_is_the_clients_turn(
    pair: tuple[Home, Home], new_client: NewClient
) -> None:
    alice, bob = pair
    with door(alice) as (url, token):
        client = new_client(f"{url}agents/{bob.agent_id}", token)
        asked = ask_in_background(client, "Are you there?", verb="stream")
        first = client.event("update")["update"]["task"]
        assert first["status"]["state"] == "TASK_STATE_SUBMITTED"
        ringing = bob.event("call.ringing")["call_state"]
        assert ringing["topic"] == "Are you there?"
        bob.ok("answer", "accept")
        working = client.event("update")["update"]["statusUpdate"]
        assert working["status"]["state"] == "TASK_STATE_WORKING"
        bob.event("message.received")
        bob.ok("send", "Yes.")
        updates = asked()
        assert [words(update["artifactUpdate"]["artifact"]) for update in updates if "artifactUpdate" in update] == [
            "Yes."
        ]
        last = updates[-1]["statusUpdate"]
        assert (last["taskId"], last["status"]["state"]) == (first["id"], "TASK_STATE_INPUT_REQUIRED")
        assert last["contextId"] == bob.ok("status")["agent"]["pubkey"]

        # Another client follows the same task by its id.
        other = new_client(f"{url}agents/{bob.agent_id}", token)
        followed = ask_in_background(other, verb="subscribe", task=first["id"])
        assert other.event("update")["update"]["task"]["id"] == first["id"]
        assert followed()[-1]["task"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"


def test_a_task_is_polled_rejected_and_cancelled(pair: tuple[Home, Home], new_client: NewClient) -> None:
    alice, bob = pair
    with door(alice) as (url, token):
        client = new_client(f"{url}agents/{bob.agent_id}", token)
        task = say(client, "First", polling=True)["task"]
        assert task["status"]["state"] == "TASK_STATE_SUBMITTED"
        bob.event("call.ringing")
        bob.ok("answer", "reject", "I am busy right now")
        wait_until(lambda: state(client, task["id"]) == "TASK_STATE_REJECTED", "the rejection")
        assert words(client.do("get", task=task["id"])["status"]["message"]) == "I am busy right now"

        task = say(client, "Second", polling=True)["task"]
        bob.event("call.ringing", where=lambda event: event["call_state"]["topic"] == "Second")
        assert client.do("cancel", task=task["id"])["status"]["state"] == "TASK_STATE_CANCELED"
        assert bob.event("call.missed")["call_state"]["topic"] == "Second"

        task = say(client, "Third", polling=True)["task"]
        ringing = bob.event("call.ringing", where=lambda event: event["call_state"]["topic"] == "Third")
        bob.ok("answer", "accept", "--call", ringing["call"])
        bob.event("message.received")
        assert client.do("cancel", task=task["id"])["status"]["state"] == "TASK_STATE_CANCELED"
        bob.event("call.ended", call=ringing["call"])


def test_the_same_message_again_is_the_same_task(pair: tuple[Home, Home], new_client: NewClient) -> None:
    alice, bob = pair
    bob.ok("config", "set", "auto_accept", "anyone")
    with door(alice) as (url, token):
        client = new_client(f"{url}agents/{bob.agent_id}", token)
        tasks = [client.do("send", id="once", text="Once", polling=True)["task"]["id"] for _ in range(3)]
        assert len(set(tasks)) == 1
        bob.event("message.received")
        assert client.do("send", id="once", text="Once", polling=True)["task"]["id"] == tasks[0]
        [call] = bob.ok("calls")["calls"]
        assert bob.texts(call["call"], "peer") == ["Once"]


def test_what_cannot_be_is_told_by_its_code(pair: tuple[Home, Home], new_client: NewClient) -> None:
    alice, bob = pair
    with door(alice) as (url, token):
        client = new_client(f"{url}agents/{bob.agent_id}", token)
        client.do("card")
        assert client.refuses("get", task="0" * 16).startswith("TaskNotFoundError")
        assert client.refuses("get", task="nonsense").startswith("TaskNotFoundError")
        told = client.refuses("send", id="a", address="http://127.0.0.1/secret")
        assert told.startswith("ContentTypeNotSupportedError")
        assert client.refuses("send", id="b", text="Hello", context="elsewhere").startswith("InvalidParamsError")
        # The door's own card names the agents; its address takes the agent's name with the message.
        gateway = new_client(url.rstrip("/"), token)
        assert str(bob.agent_id) in [skill["name"] for skill in gateway.do("card")["skills"]]
        assert "for which agent" in gateway.refuses("send", id="c", text="Hello")
        assert "nobody-at-all" in gateway.refuses("send", id="d", text="Hello", agent="nobody-at-all")
        task = gateway.do("send", id="e", text="Hello", agent=bob.agent_id, polling=True)["task"]
        assert task["metadata"]["agent"] == bob.agent_id
        # A task of one agent is not to be had at the address of another.
        other = new_client(f"{url}agents/{alice.agent_id}", token)
        assert "NotFound" in other.refuses("get", task=task["id"]) or "404" in other.refuses("card")


def test_neither_a_web_page_nor_another_user_gets_in(pair: tuple[Home, Home]) -> None:
    alice, bob = pair
    request = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "0" * 16}}
    with door(alice) as (url, token):
        address = f"{url}agents/{bob.agent_id}/"
        good = {"Authorization": f"Bearer {token}", "A2A-Version": "1.0"}
        assert ask(address, body=request, headers=good).json["error"]["code"] == -32001
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"}):
            assert ask(address, body=request, headers=headers).status == 401, headers
        port = urlsplit(url).port
        for headers in (
            {"Host": "evil.example"},
            {"Host": f"evil.example:{port}"},
            {"Origin": "https://evil.example"},
            {"Origin": f"http://localhost:{port}"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            assert ask(address, body=request, headers={**good, **headers}).status == 403, headers
            assert ask(f"{address}.well-known/agent-card.json", headers=headers).status == 403, headers
        assert ask(address, body=request, headers={**good, "Content-Type": "text/plain"}).status == 415
        assert ask(address, body=request, headers={**good, "A2A-Version": "0.3"}).json["error"]["code"] == -32009
        old = {**request, "method": "message/send"}
        assert "A2A 1.0" in ask(address, body=old, headers=good).json["error"]["message"]
        assert ask(f"{url}agents/nobody/.well-known/agent-card.json").status == 404
    with door(alice, "--no-token") as (url, token):
        assert token == ""
        assert ask(f"{url}agents/{bob.agent_id}/", body=request).json["error"]["code"] == -32001


def state(client: Talker, task: str) -> str:
    return str(client.do("get", task=task)["status"]["state"])


def ask_in_background(client: Talker, text: str = "", verb: str = "send", **more: Any) -> Callable[[], Any]:
    """Asks, and returns what waits for the answer."""
    return client.begin(verb, id=uuid.uuid4().hex, text=text, **more)
