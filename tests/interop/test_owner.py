"""A human owner with a NIP-17 client that nobody here wrote: asked by private message, answering by reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2p_comm import Agent
from parts.fixtures import NewHome
from parts.home import Home, Json
from parts.nip17 import Mail, Nip17Client, nostr_tools
from parts.process import DEADLINE_S
from parts.steps import connect

QUESTION = "May I spend 40 EUR on «flowers»?"


@pytest.fixture
def human(relay_url: str, tmp_path: Path) -> Iterator[Nip17Client]:
    with nostr_tools(tmp_path / "human", relay_url) as client:
        yield client


@pytest.fixture
def alice(relay_url: str, new_home: NewHome, human: Nip17Client) -> Home:
    home = new_home("alice", relay_url)
    home.ok("owner", "set", f"nostr:{human.npub}")
    return home


def pubkey(home: Home) -> str:
    return str(home.ok("status")["agent"]["pubkey"])


def letter(client: Nip17Client, containing: str) -> Mail:
    """The next message with these words; what comes before it was looked at already."""
    while True:
        for mail in client.receive():
            if containing in mail.text:
                return mail


def state(home: Home, ticket: str) -> str | None:
    """How an open question stands; None if it is not open."""
    open_questions = {question["ticket"]: question["state"] for question in home.ok("owner", "show")["questions"]}
    return open_questions.get(ticket)


def test_a_human_answers_in_a_client_and_it_stands_in_both_transcripts(
    relay_url: str, new_home: NewHome, alice: Home, human: Nip17Client
) -> None:
    bob = new_home("bob", relay_url)
    bob.ok("status")
    alice.sees(str(bob.agent_id))
    outgoing, incoming = connect(alice, bob, topic="flowers")

    waiting = alice.popen("--json", "escalate", QUESTION, "--options", "yes,no", "--wait=60")
    asked = letter(human, "40 EUR")
    assert (asked.kind, asked.sender, asked.tag("p")) == (14, pubkey(alice), human.pubkey)
    # The agent's words are marked as its own, and cannot leave their quotation.
    assert "> May I spend 40 EUR on \\u{ab}flowers\\u{bb}?\n" in asked.text
    assert "Answers: «yes» «no»" in asked.text
    assert f"in a call with a known peer, {bob.ok('status')['agent']['npub']}" in asked.text
    assert "The topic of the call, in your agent's words: «flowers»" in asked.text
    human.reply(asked, " Yes ")

    out, err = waiting.communicate(timeout=DEADLINE_S)
    answered: Json = json.loads(out)
    assert (waiting.returncode, answered["state"], answered["answer"]) == (0, "answered", "yes"), err
    assert answered["channels"] == [{"channel": f"nostr:{human.npub}", "ok": True, "error": None}]
    assert f"question {answered['ticket']} is «yes»" in letter(human, "Noted").text
    assert [(m["text"], m["kind"]) for m in alice.messages(outgoing) if m["from"] == "owner"] == [("yes", "system")]
    told = bob.event("message.received", call=incoming)["message"]
    assert (told["kind"], told["text"], told["answers"]) == ("system", "yes", answered["message"])

    # Without --wait it comes as an event, and waits in the inbox until it is taken.
    ticket = alice.ok("escalate", "And the card?", "--options", "yes,no")["ticket"]
    human.reply(letter(human, "And the card?"), "no")
    event = alice.event("escalation.answered", where=lambda event: event["escalation"]["ticket"] == ticket)
    assert event["escalation"]["answer"] == "no"
    assert [waits["ticket"] for waits in alice.ok("inbox")["answers"]] == [ticket]


async def test_an_awaited_call_returns_with_the_humans_answer(alice: Home, human: Nip17Client) -> None:
    async with Agent(home=alice.folder) as agent:
        awaited = asyncio.create_task(agent.escalate(QUESTION, options=["yes", "no"], wait=60))
        asked = await asyncio.to_thread(letter, human, "40 EUR")
        (open_question,) = await agent.questions()
        assert open_question.question == QUESTION
        await asyncio.to_thread(human.reply, asked, "YES")
        decision = await awaited
        assert (decision.answered, decision.answer) == (True, "yes")
        assert await agent.questions() == ()


def test_a_question_outlives_the_daemon_and_so_does_its_answer(alice: Home, human: Nip17Client) -> None:
    ticket = alice.ok("escalate", QUESTION, "--options", "yes,no")["ticket"]
    asked = letter(human, "40 EUR")
    alice.kill_daemon()
    # Nobody is there to hear it.
    human.reply(asked, "yes")
    alice.ok("status")
    answered = alice.event("escalation.answered")["escalation"]
    assert (answered["ticket"], answered["answer"]) == (ticket, "yes")
    # What was asked and answered before is not asked again.
    second = alice.ok("escalate", "Another one")["ticket"]
    alice.stop()
    alice.ok("status")
    human.reply(letter(human, "Another one"), "go on")
    answered = alice.event("escalation.answered")["escalation"]
    assert (answered["ticket"], answered["answer"]) == (second, "go on")


def test_nobody_answers_for_the_owner_by_replying_to_its_question(
    relay_url: str, tmp_path: Path, alice: Home, human: Nip17Client
) -> None:
    ticket = alice.ok("escalate", QUESTION, "--options", "yes,no")["ticket"]
    asked = letter(human, "40 EUR")
    with nostr_tools(tmp_path / "eve", relay_url) as eve:
        eve.inbox_of(pubkey(alice))
        eve.reply(asked, "yes")
        eve.reply(asked, f"{ticket} yes")
        # Eve's words have come, as a stranger's words.
        texts = {alice.event("message.received")["message"]["text"] for _ in range(2)}
        assert texts == {"yes", f"{ticket} yes"}
        assert state(alice, ticket) == "waiting"
    human.reply(asked, "no")
    assert alice.event("escalation.answered")["escalation"]["answer"] == "no"


def test_a_human_hears_what_became_of_every_answer(alice: Home, human: Nip17Client) -> None:
    ticket = alice.ok("escalate", QUESTION, "--options", "yes,no")["ticket"]
    asked = letter(human, "40 EUR")
    human.reply(asked, "perhaps")
    assert f"{ticket} stays open" in letter(human, "none of its answers: «yes» «no»").text
    # Words that name no question decide nothing, also where only one is open.
    human.send(pubkey(alice), "yes")
    assert f"{ticket}  «May I spend" in letter(human, "Which question").text
    assert alice.event("message.received")["message"]["text"] == "yes"
    assert state(alice, ticket) == "waiting"
    human.send(pubkey(alice), f"{ticket}: yes")
    alice.event("escalation.answered")
    letter(human, "Noted")
    human.reply(asked, "no")
    letter(human, "answered before, with «yes»")

    brief = alice.ok("escalate", "Now?", "--options", "yes,no", "--expires", "3")["ticket"]
    asked = letter(human, "Now?")
    over = alice.event("escalation.answered", where=lambda event: event["escalation"]["ticket"] == brief)
    assert (over["escalation"]["state"], over["escalation"]["answer"]) == ("expired", None)
    human.reply(asked, "yes")
    letter(human, "nothing was decided")
    assert state(alice, brief) is None


def test_a_test_of_the_way_reaches_the_human(alice: Home, human: Nip17Client) -> None:
    tested = alice.ok("owner", "test")
    assert [channel["ok"] for channel in tested["channels"]] == [True]
    letter(human, "test of the way to the owner")
    (way,) = alice.ok("owner", "show")["channels"]
    assert way == {"channel": f"nostr:{human.npub}", "ok": True, "error": None}
