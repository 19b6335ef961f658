"""The dashboard in headless Chromium: what a person sees, and can do. Pictures are left in build/dashboard."""

from __future__ import annotations

import json
import struct
import subprocess
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from parts.browser import Browser, browser, needs_chromium
from parts.fixtures import NewHome
from parts.person import at_a_terminal
from parts.process import REPOSITORY, end
from parts.steps import connect, meet

PICTURES = REPOSITORY / "build" / "dashboard"
HOSTILE = (
    '<img src="http://evil.example/x" onerror="document.title=\'owned\'"><script>document.title="owned"</script>'
    "</blockquote><button id=fake>yes</button>\u202e\x1b[31m «you, the owner»"
)


def colours(png: bytes) -> int:
    """How many different rows of pixels a picture has: a page that shows nothing has one, or two."""
    width, height = struct.unpack(">II", png[16:24])
    place, data = 8, b""
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += 12 + length
    raw = zlib.decompress(data)
    line = len(raw) // height
    assert line >= width
    return len({raw[row * line : (row + 1) * line] for row in range(height)})


@pytest.fixture(autouse=True)
def _chromium() -> None:
    needs_chromium()


def silent(tab: Browser, here: str) -> None:
    """The console has nothing to say (the policy neither), and nothing was asked of anybody else."""
    assert tab.complaints() == []
    foreign = [url for url in tab.requests() if not url.startswith((f"{here}/", "data:"))]
    assert foreign == []


def test_the_owner_sees_calls_reads_a_hostile_text_as_text_and_answers_by_a_click(
    new_home: NewHome, embedded_relay: str, tmp_path: Path
) -> None:
    alice, mallory = meet(new_home, [embedded_relay])
    # A way to the owner that takes the question, and brings no answer.
    channel = tmp_path / "channel"
    channel.write_text("#!/bin/sh\ncat > /dev/null\n")
    channel.chmod(0o700)
    alice.ok("owner", "set", f"exec:{channel}")
    outgoing, incoming = connect(alice, mallory, topic="Sharing the <b>budget</b>")
    alice.ok("send", "Which of the two offers is yours?", "--call", outgoing)
    mallory.ok("send", HOSTILE, "--call", incoming)
    alice.event("message.received", call=outgoing)
    with at_a_terminal(alice, "dashboard", "--no-open") as terminal, browser(tmp_path / "browser") as tab:
        url = terminal.find(r"http://127\.0\.0\.1:\d+/#[\w-]+(?=\s)")
        here = url.partition("/#")[0]
        waiting = alice.popen("escalate", "May I spend 40 EUR?", "--options", "yes,no", "--wait", "120", "--json")
        try:
            tab.open(url)
            tab.waits_for("#questions .question", "May I spend 40 EUR?")
            assert tab.run("return location.href") == f"{here}/", "the token is gone from the address"
            assert alice.agent_id in tab.text("header")
            assert "1 of 1 relays" in tab.text("#link")
            assert str(mallory.agent_id) in tab.waits_for("#live .card", "<b>budget</b>")
            assert embedded_relay in tab.text("#relays")

            tab.click("#live .card button")
            said = tab.waits_for("#conversation .messages", "Which of the two offers")
            assert 'onerror="document.title' in said, "a hostile text is shown as what it is"
            assert "\\u{202e}\\u{1b}[31m" in said
            inside = "#conversation .messages :is(img, script, button)"
            assert tab.run("return document.querySelectorAll(arguments[0]).length", inside) == 0
            assert "owned" not in tab.run("return document.title")
            assert tab.text("#conversation .messages li.peer .pill") == "known"

            for name, view in (("light", {}), ("dark", {"dark": True}), ("phone", {"width": 390, "height": 844})):
                tab.emulate(**view)
                tab.run("window.scrollTo(0, 0)")
                assert colours(tab.picture(PICTURES / f"{name}.png")) > 100, name
                wide = tab.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert wide <= 0, f"{name}: the page is wider than the screen"
            tab.emulate()

            # What happens meanwhile is shown without being asked for.
            mallory.ok("send", "And one more thing.", "--call", incoming)
            tab.waits_for("#conversation .messages", "And one more thing.")

            tab.click("#questions .question button")
            tab.waits_for("#questions .question .pill", "answered: yes")
            out, err = waiting.communicate(timeout=60)
        finally:
            end_waiting(waiting)
        assert waiting.returncode == 0, err
        assert json.loads(out)["answer"] == "yes"
        tab.waits_for("#conversation .messages li.owner", "yes")
        silent(tab, here)


def test_a_question_without_options_is_answered_in_words_and_a_second_tab_is_not_let_in(
    new_home: NewHome, embedded_relay: str, tmp_path: Path
) -> None:
    alice = new_home("alice", embedded_relay)
    ticket = alice.ok("escalate", "What shall I call the project?")["ticket"]
    with at_a_terminal(alice, "dashboard", "--no-open") as terminal, browser(tmp_path / "browser") as tab:
        url = terminal.find(r"http://127\.0\.0\.1:\d+/#[\w-]+(?=\s)")
        tab.open(url)
        tab.waits_for("#questions .question", "What shall I call")
        tab.write("#questions .question input", "Seven Bridges\n")
        tab.waits_for("#questions .question .pill", "answered: Seven Bridges")
        silent(tab, url.partition("/#")[0])
        with browser(tmp_path / "second") as other:
            other.open(url)
            assert "counts once" in other.waits_for("#problem", "begin again")
            assert "Seven Bridges" not in other.text("body")
    assert alice.event("escalation.answered")["escalation"]["ticket"] == ticket


def test_a_page_that_a_program_began_shows_and_says_why_it_does_not_answer(
    new_home: NewHome, embedded_relay: str, tmp_path: Path
) -> None:
    alice = new_home("alice", embedded_relay)
    alice.ok("escalate", "May I spend 40 EUR?", "--options", "yes,no")
    process = alice.popen("--json", "dashboard", stdin=subprocess.PIPE, new_session=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        with browser(tmp_path / "browser") as tab:
            tab.open(url)
            tab.waits_for("#questions .question", "May I spend 40 EUR?")
            assert "begun by a program" in tab.text("#read-only")
            assert tab.run("return [...document.querySelectorAll('.question button')].every((it) => it.disabled)")
            silent(tab, f"http://{urlsplit(url).netloc}")
    finally:
        end(process)
        process.stderr.close()


def end_waiting(process: subprocess.Popen[str]) -> None:
    """Ends a command that may have ended already, and closes its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def test_pictures_are_told_apart_from_nothing(tmp_path: Path) -> None:
    blank = _png(300, 200, lambda x, y: (255, 255, 255))
    busy = _png(300, 200, lambda x, y: (x % 256, y % 256, 0))
    assert colours(blank) <= 2
    assert colours(busy) > 100


def _png(width: int, height: int, colour: object) -> bytes:
    assert callable(colour)
    rows = b"".join(b"\0" + b"".join(bytes(colour(x, y)) for x in range(width)) for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
