"""The page for language models: where it goes, what it looks like, and that every command on it works as it stands."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parts.fixtures import NewHome
from parts.home import Home
from parts.process import REPOSITORY
from parts.relays import CONSOLE_SCRIPT
from parts.steps import ring

PAGE = (REPOSITORY / "skill" / "SKILL.md").read_text()
NO_RELAY = "ws://127.0.0.1:1"


def blocks() -> dict[str, list[str]]:
    """The commands of the page, by the first one of their block."""
    found = [block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
    return {block[0]: block for block in found}


def run(home: Home, command: str, folder: Path) -> str:
    """Runs a command of the page in a folder, as a shell would."""
    program, *words = shlex.split(command)
    assert program == "p2p-comm", command
    done = subprocess.run(
        [CONSOLE_SCRIPT, *words],
        cwd=folder,
        env=home.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (command, done)
    return done.stdout


def test_every_command_of_the_page_works_as_it_stands(embedded_relay: str, new_home: NewHome, tmp_path: Path) -> None:
    me, bob = new_home("me", embedded_relay), new_home("bob", embedded_relay, unique=False)
    (tmp_path / "report.md").write_text("# Report\n")
    owner = tmp_path / "owner"
    owner.write_text('#!/bin/sh\necho \'{"answer": "yes"}\'\n')
    owner.chmod(0o700)
    me.ok("config", "set", "owner", f"exec:{owner}")
    bob.ok("status")
    me.sees("bob")
    todo = blocks()
    said: dict[str, str] = {}

    def carry_out(first: str, **meanwhile: Callable[[], Any]) -> None:
        """Runs a block; what the other agent does while a command runs is told by the command's verb."""
        for command in todo.pop(first):
            verb = shlex.split(command)[1]
            other = threading.Thread(target=meanwhile.pop(verb)) if verb in meanwhile else None
            if other is not None:
                other.start()
            said[command] = run(me, command, tmp_path)
            if other is not None:
                other.join()

    def take_it() -> None:
        bob.ok("answer", "accept", "--call", bob.event("call.ringing")["call"])

    carry_out("p2p-comm inbox")
    carry_out(
        'p2p-comm call bob "API design" --wait=60',
        call=take_it,
        wait=lambda: bob.ok("send", "All of them."),
        messages=lambda: None,
    )
    assert "All of them." in said["p2p-comm wait --timeout 45 --for message.received,file.received,call.ended"]
    assert "# Report" in Path(bob.event("file.received")["message"]["file"]["path"]).read_text()

    ring(bob, me, "a task")
    carry_out(
        "p2p-comm wait --timeout 45 --for call.ringing",
        messages=lambda: None,
        answer=lambda: None,
        send=lambda: bob.event("message.received", where=lambda event: "take that over" in event["message"]["text"]),
    )
    assert "take that over" in said["p2p-comm end"]
    ring(bob, me, "another")
    carry_out('p2p-comm answer reject "I\'m busy right now"')
    assert bob.event("call.rejected")["call_state"]["reason"] == "I'm busy right now"

    carry_out('p2p-comm send --to bob "The report is ready; call me when you have time."')
    carry_out('p2p-comm escalate "May I spend 20 EUR on the data set?" --options yes,no')
    assert "yes" in said["p2p-comm wait --timeout 45 --for escalation.answered"]
    carry_out("p2p-comm contacts")
    assert todo == {}, "blocks that nobody carried out"


def test_the_page_names_only_verbs_and_flags_that_there_are(new_home: NewHome) -> None:
    home = new_home("me", NO_RELAY)
    verbs = {words.split()[0] for words in re.findall(r"`p2p-comm ([a-z][^`]*)`", PAGE)}
    assert {"inbox", "doctor"} <= verbs
    for verb in verbs:
        assert home.run(verb, "--help", json=False).exit == 0, verb
    assert len(PAGE.splitlines()) < 150, "one page"


def test_the_page_begins_as_hosts_want_it() -> None:
    _, header, _ = PAGE.split("---\n", 2)
    plain, _, metadata = header.partition("metadata:")
    fields = dict(line.split(": ", 1) for line in plain.splitlines())
    assert fields["name"] == "p2p-comm"
    assert 0 < len(fields["description"]) <= 1024
    openclaw = json.loads(re.sub(r",(\s*[}\]])", r"\1", metadata))["openclaw"]
    assert openclaw["requires"] == {"bins": ["p2p-comm"]}
    assert [spec["kind"] for spec in openclaw["install"]] == ["uv"]


def test_it_goes_where_each_host_looks(new_home: NewHome, tmp_path: Path) -> None:
    home = new_home("me", NO_RELAY)
    user = home.folder
    for words, folder in (
        ((), user / ".openclaw/skills/p2p-comm"),
        (("--for", "claude"), user / ".claude/skills/p2p-comm"),
        (("--dir", str(tmp_path / "skills")), tmp_path / "skills/p2p-comm"),
    ):
        installed = home.ok("skill", "install", *words)
        assert installed == {"folder": str(folder), "files": {"SKILL.md": "new", "p2p.js": "new"}}
        assert (folder / "SKILL.md").read_text() == PAGE
        assert (folder / "p2p.js").stat().st_mode & 0o777 == 0o755
        again = home.ok("skill", "install", *words)
        assert set(again["files"].values()) == {"unchanged"}
    elsewhere = home.ok("skill", "install", env={"OPENCLAW_STATE_DIR": str(tmp_path / "state")})
    assert elsewhere["folder"] == str(tmp_path / "state/skills/p2p-comm")
    assert home.ok("skill", "show")["text"] == PAGE
    assert not home.is_served(), "it needs no daemon"
    assert not home.identity_file.exists()


def test_what_somebody_has_changed_is_replaced_only_if_that_is_wanted(new_home: NewHome, tmp_path: Path) -> None:
    home = new_home("me", NO_RELAY)
    words = ("skill", "install", "--dir", str(tmp_path))
    home.ok(*words)
    page, program = tmp_path / "p2p-comm" / "SKILL.md", tmp_path / "p2p-comm" / "p2p.js"
    # What an earlier version wrote is brought up to date.
    manifest = tmp_path / "p2p-comm" / ".p2p-comm-skill.json"
    hashes = json.loads(manifest.read_text())
    assert set(hashes) == {"SKILL.md", "p2p.js"}
    page.write_text(PAGE + "\nOf my own.\n")
    error = home.fails("invalid-value", *words)
    assert "changed SKILL.md in" in error["message"]
    assert page.read_text().endswith("Of my own.\n")
    forced = home.ok(*words, "--force")
    assert forced["files"] == {"SKILL.md": "replaced", "p2p.js": "unchanged"}
    assert page.read_text() == PAGE
    assert page.with_name("SKILL.md.old").read_text().endswith("Of my own.\n")
    program.unlink()
    assert home.ok(*words)["files"] == {"SKILL.md": "unchanged", "p2p.js": "new"}


def test_a_page_of_an_earlier_version_is_brought_up_to_date(new_home: NewHome, tmp_path: Path) -> None:
    import hashlib

    home = new_home("me", NO_RELAY)
    folder = tmp_path / "p2p-comm"
    folder.mkdir()
    (folder / "SKILL.md").write_text("earlier")
    hashes = {"SKILL.md": hashlib.sha256(b"earlier").hexdigest()}
    (folder / ".p2p-comm-skill.json").write_text(json.dumps(hashes))
    installed = home.ok("skill", "install", "--dir", str(tmp_path))
    assert installed["files"] == {"SKILL.md": "updated", "p2p.js": "new"}


def test_a_deployed_agents_program_is_pointed_out(new_home: NewHome) -> None:
    home = new_home("me", NO_RELAY)
    deployed = home.folder / "clawd/skills/p2p-comm/p2p.js"
    deployed.parent.mkdir(parents=True)
    deployed.write_text("// of openclaw-p2p\n")
    installed = home.run("skill", "install")
    assert installed.exit == 0
    hint = installed.err.strip().rpartition("p2p-comm skill install ")[2]
    assert home.fails("invalid-value", "skill", "install", "--dir", str(home.folder / "clawd/skills"))
    replaced = home.ok("skill", "install", *shlex.split(hint))
    assert replaced["files"]["p2p.js"] == "replaced"
    assert deployed.with_name("p2p.js.old").read_text() == "// of openclaw-p2p\n"
    assert home.run("skill", "install").err == ""
