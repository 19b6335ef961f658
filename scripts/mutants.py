"""Plants one bug after the other, and shows that the checks named for it catch it.

    python scripts/mutants.py [BUG …]        all of them, if none is named

`make mutants` runs it. It builds the tests and the program with the feature `mutants` (src/mutants.rs), once, into the
target folder of everything else; what Python tests drive is that program, put into an environment of its own under
build/mutants, so that .venv never has a bug in it. Then

1. the feature must not compile for a release,
2. with no bug planted each check must pass,
3. with each bug planted each of its checks must fail, and say what its line below says.

Prints a table, which is kept in build/mutants/table.md. Exit code 0: every bug was caught by every check named for it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "mutants"
ENVIRONMENT = BUILD / "venv"
VARIABLE = "MUTANT_OF_P2P_COMM"
CARGO = ["cargo", "test", "--locked", "--features", "mutants", "--no-run"]
# Longer than any check takes on a busy machine; those that wait in vain give up after 20 to 120 s by themselves.
CHECK_S = 400.0
HOW_LENGTH = 110


@dataclass(frozen=True)
class Check:
    """A test, and what its failure says if it has found the bug: a regular expression."""

    kind: Literal["unit", "it", "python"]
    test: str
    says: str

    def __str__(self) -> str:
        """Its name, and where it stands."""
        if self.kind == "python":
            file, name = self.test.split("::")
            return f"`{name}`, {file.removeprefix('tests/')}"
        room, name = self.test.rsplit("::", 1)
        return f"`{name}`, {'it/' if self.kind == 'it' else ''}{room.removesuffix('::tests').replace('::', '/')}"


@dataclass(frozen=True)
class Bug:
    """A bug by its name in src/mutants.rs, and the checks that catch it."""

    name: str
    what: str
    checks: Sequence[Check]


def unit(test: str, says: str) -> Check:
    """A test beside the code, in src."""
    return Check("unit", test, says)


def it(test: str, says: str) -> Check:
    """A test of tests/it."""
    return Check("it", test, says)


def python(test: str, says: str) -> Check:
    """A Python test, which drives the program."""
    return Check("python", f"tests/{test}", says)


LOSSY = "proto::v2::delivery::tests::lossy::what_was_accepted_arrives_once_in_order_and_both_know_it"
FAULTS = "python/faults"

# Finds in the program what a build without the feature must not have.
TRACE = it("mutants::only_a_build_with_the_feature_has_a_trace_of_them", "")

BUGS = [
    Bug(
        "ack-before-commit",
        "an acknowledgement leaves before the commit",
        [
            unit(LOSSY, "delivered, and the peer does not have it"),
            python(
                f"{FAULTS}/test_resources.py::test_nothing_is_acknowledged_while_the_disk_takes_nothing",
                r"\d+ were acknowledged before they were committed",
            ),
        ],
    ),
    Bug(
        "sync-off",
        "a commit does not wait for the disk",
        [
            unit("store::tests::every_commit_is_synced_to_the_disk", r"left: 0\s+right: 2"),
            python(
                f"{FAULTS}/test_resources.py::test_everything_accepted_is_synced_before_the_reply",
                r"all\(\[0, 0, 0",
            ),
        ],
    ),
    Bug(
        "dedup-skipped",
        "what was handled before is handled again",
        [
            unit(LOSSY, "once, and in order"),
            unit(
                "engine::v2::tests::mail_reaches_an_agent_that_was_away_in_the_order_in_which_it_was_written",
                r'left: "(first|\d+)"\s+right: "',
            ),
            python(
                f"{FAULTS}/test_relays.py::test_every_relay_drops_repeats_reorders_and_delays[1-plan0]",
                r'"duplicated": [1-9]\d*',
            ),
        ],
    ),
    Bug(
        "verification-skipped",
        "neither ids nor signatures are checked",
        [
            unit(
                "transport::ingest::tests::a_signature_of_another_key_or_event_is_refused",
                r"left: None\s+right: Some\(BadSignature\)",
            ),
            unit(
                "transport::v2::wrap::tests::every_layer_that_is_not_as_it_should_be_is_refused_for_its_reason",
                r"`Result::unwrap_err\(\)` on an `Ok` value: Opened",
            ),
        ],
    ),
    Bug(
        "claimed-id-trusted",
        "an event has the id that it claims",
        [
            unit(
                "transport::ingest::tests::altered_content_is_found_even_under_a_known_id",
                r"left: None\s+right: Some\(AlteredId\)",
            ),
            unit(
                "transport::tests::scripted::altered_events_are_not_let_in_and_the_tenth_ends_the_connection",
                r"panicked at src/transport/tests/scripted.rs:\d+:\d+:\s+other",
            ),
        ],
    ),
    Bug(
        "since-last-seen",
        "a relay is asked only for what is newer than its last reading",
        [
            unit(
                "transport::tests::scripted::the_next_connection_begins_at_the_cursor_less_the_look_back",
                r"left: Number\(\d+\)\s+right: \d+",
            ),
            unit(
                "transport::tests::sessions::wraps_are_asked_for_from_two_days_and_an_hour_before_the_cursor",
                r"left: \[\]\s+right: \[\"in reach\"\]",
            ),
            python(
                f"{FAULTS}/test_relays.py::test_mail_that_waited_for_an_absent_receiver_is_shown_all_and_in_order[300]",
                r"waited \d+ s for bob to have it all",
            ),
        ],
    ),
    Bug(
        "no-paging",
        "the first page is taken for all",
        [
            unit(
                "transport::link::paging::tests::every_event_is_found_or_its_second_is_named",
                r"second \d+, gaps \[\]",
            ),
            unit(
                "transport::tests::honest::what_waited_comes_oldest_first_however_small_the_pages",
                r"left: \[\d+(, \d+){0,2}\]\s+right: \[0, 1, 2, 3",
            ),
        ],
    ),
    Bug(
        "lag-ignored",
        "what was dropped for a slow reader is not asked for again",
        [unit("transport::tests::honest::a_reader_that_sleeps_through_a_flood_misses_nothing", "nothing came")],
    ),
    Bug(
        "order-by-created-at",
        "messages are ordered by the seconds of their events",
        [
            unit(
                "proto::call::tests::what_was_accepted_is_surfaced_once_and_in_order_on_any_relay",
                r"left: `\[.*Text\(.*\n *right: `\[.*Text\(",
            ),
            python(
                f"{FAULTS}/test_relays.py::test_mail_that_waited_for_an_absent_receiver_is_shown_all_and_in_order[300]",
                r'"reordered": [1-9]\d*',
            ),
        ],
    ),
    Bug(
        "ok-is-delivered",
        "what a relay took counts as delivered",
        [
            python(
                f"{FAULTS}/test_relays.py::test_mail_that_every_relay_took_and_dropped_is_never_called_delivered",
                r"'delivered'\} != \{'\w+': 'relayed'",
            ),
            python(
                "interop/test_legacy.py::test_what_a_relay_took_is_relayed_and_never_called_delivered[embedded]",
                r"'delivered' == 'relayed'",
            ),
        ],
    ),
    Bug(
        "no-peer-uid",
        "the socket serves every user",
        [it("ipc::another_user_is_not_served_even_where_the_socket_is_open_to_all", "another user was served")],
    ),
    Bug(
        "name-joined",
        "a peer's file name is joined to a path",
        [
            unit(
                "engine::files::tests::a_file_is_received_once_and_another_of_its_name_beside_it",
                r"right: File.*/\.\./a\.txt",
            ),
            python(f"{FAULTS}/test_hostile.py::test_hostile_names_of_files_in_a_call", r"\.\./climbed\.txt"),
            python(
                f"{FAULTS}/test_hostile.py::test_hostile_names_of_files_from_a_peer_who_sends_what_it_likes",
                r"\.\./climbed\.txt",
            ),
        ],
    ),
    Bug(
        "raw-print",
        "what peers write is printed as it is",
        [
            unit("proto::text::tests::whatever_controls_a_terminal_is_escaped", r"left: \"«\\u\{1b\}\[31m"),
            python(f"{FAULTS}/test_hostile.py::test_no_hostile_text_reaches_a_terminal_raw", r"x1b"),
        ],
    ),
    Bug(
        "any-acceptance",
        "any `call_accepted` connects a call",
        [
            unit("proto::call::tests::nothing_that_another_key_or_another_room_says_moves_a_call", "in ringing out"),
            unit("proto::call::tests::signals::only_the_right_key_with_the_right_handshake_moves_a_call", "Accept"),
            python(
                "interop/test_legacy.py::test_a_third_key_changes_nothing_while_a_call_rings[embedded-call_accepted]",
                r"'connected' == 'ringing'",
            ),
        ],
    ),
    Bug(
        "new-key",
        "an unreadable identity file makes room for a new key",
        [
            unit(
                "engine::tests::an_identity_that_disagrees_with_itself_is_named_and_left_alone",
                r"`Result::unwrap_err\(\)` on an `Ok` value: Engine",
            ),
            python(
                "python/test_identity.py::test_an_identity_that_cannot_be_right_is_damaged_and_stays_as_it_is[null]",
                r"Outcome\(exit=0, out=\{'agent'",
            ),
        ],
    ),
]


def say(words: str) -> None:
    """Tells whoever waits."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def refuses_releases() -> bool:
    """Whether the feature does not compile without debug assertions, and says why."""
    release = ["--lib", "--config", "profile.dev.package.p2p-comm.debug-assertions=false"]
    done = subprocess.run([*CARGO, *release], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode != 0 and "there is no release with it" in done.stderr


class Builds:
    """What was built with the feature, and how a check is run with it."""

    def __init__(self) -> None:
        done = subprocess.run(
            [*CARGO, "--lib", "--bins", "--test", "it", "--message-format", "json-render-diagnostics"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        made = [json.loads(line) for line in done.stdout.splitlines()]
        built = [one for one in made if one["reason"] == "compiler-artifact" and one["executable"]]
        self._programs = {
            kind: next(one["executable"] for one in built if one["target"]["name"] == name and is_test(one) == tests)
            for kind, name, tests in (("unit", "p2p_comm", True), ("it", "it", True), ("program", "p2p-comm", False))
        }
        self._make_environment()

    def _make_environment(self) -> None:
        """An environment whose `p2p-comm` is the program with the feature, and which has the tools of this one."""
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        venv.create(ENVIRONMENT)
        own = sysconfig.get_path("purelib", vars={"base": str(ENVIRONMENT)})
        # As a path, so that the package that is installed there by a path of its own is not found.
        (Path(own) / "tools.pth").write_text(sysconfig.get_path("purelib") + "\n")
        shutil.copy2(self._programs["program"], ENVIRONMENT / "bin" / "p2p-comm")

    def run(self, check: Check, bug: str | None) -> tuple[bool, str]:
        """Whether the test passed, and what was said. Raises `NotRun` if it did neither pass nor fail."""
        # The first failure of a property says enough, and is not to be remembered.
        properties = {"PROPTEST_MAX_SHRINK_ITERS": "0", "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "1"}
        environment = {**os.environ, **properties, "RUST_BACKTRACE": "0"}
        environment.pop(VARIABLE, None)
        if bug is not None:
            environment[VARIABLE] = bug
        if check.kind == "python":
            options = ["-q", "--tb=short", "--color=no", "-p", "no:cacheprovider"]
            words = [str(ENVIRONMENT / "bin" / "python"), "-m", "pytest", *options, check.test]
            verdicts = {0: r"^1 passed", 1: r"^1 failed"}
        else:
            words = [self._programs[check.kind], "--exact", check.test]
            verdicts = {0: r"^test result: ok\. 1 passed; 0 failed; 0 ignored", 101: r"^test result: FAILED\. 0 passed"}
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        said, late = heard(process)
        verdict = verdicts.get(process.returncode)
        if late or verdict is None or not re.search(verdict, said, re.MULTILINE):
            how = f"not done after {CHECK_S:g} s" if late else f"exit code {process.returncode}"
            raise NotRun(f"{check}: {how}\n{said[-3000:]}")
        return process.returncode == 0, said


class NotRun(Exception):
    """A test neither passed nor failed: it is not there, was skipped, or broke off."""


def heard(process: subprocess.Popen[str]) -> tuple[str, bool]:
    """What a test said up to its end, and whether it had to be ended: first so that it can end what it has started."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            return process.communicate(timeout=CHECK_S)[0], number is not signal.SIGINT
        except subprocess.TimeoutExpired:
            process.send_signal(number)
    return process.communicate()[0], True


def is_test(artifact: dict[str, Any]) -> bool:
    """Whether a program that cargo has built is one of tests."""
    return bool(artifact["profile"]["test"])


def outcome(builds: Builds, check: Check, bug: str | None) -> tuple[bool, str]:
    """Whether a check did what it should, and how that showed."""
    began = time.monotonic()
    try:
        passed, said = builds.run(check, bug)
    except NotRun as why:
        say(f"{why}")
        return False, "it was not run"
    found = None if passed or bug is None else re.search(check.says, said)
    right = passed if bug is None else found is not None
    say(f"  {'as it should' if right else 'NOT AS IT SHOULD'}, {time.monotonic() - began:.1f} s: {check}")
    if found is not None:
        return True, line_around(said, found)
    if not right:
        say(said[-6000:])
    return right, "it passed" if passed else "it failed, but not for this"


def line_around(text: str, found: re.Match[str]) -> str:
    """The words that were found, with what stands in their line, on one line of bounded length."""
    begin = text.rfind("\n", 0, found.start()) + 1
    end = text.find("\n", found.end())
    line = " ".join(text[begin : end if end >= 0 else len(text)].replace("`", "'").split())
    words = " ".join(found[0].replace("`", "'").split())
    place = max(0, line.find(words) - 20)
    cut = line[place : place + HOW_LENGTH]
    return ("…" if place else "") + cut + ("…" if place + len(cut) < len(line) else "")


def main(names: list[str]) -> int:
    """Plants the named bugs, or all; the exit code."""
    unknown = set(names) - {bug.name for bug in BUGS}
    if unknown:
        say(f"no such bug: {', '.join(sorted(unknown))}; there are {', '.join(bug.name for bug in BUGS)}")
        return 2
    there = re.findall(r'^ {4}\w+ = "(.+)",$', (ROOT / "src" / "mutants.rs").read_text(), re.MULTILINE)
    if there != [bug.name for bug in BUGS]:
        say(f"src/mutants.rs has other bugs than this: {', '.join(there)}")
        return 1
    bugs = [bug for bug in BUGS if not names or bug.name in names]
    say("building with the feature")
    if not refuses_releases():
        say("the feature compiles for a release")
        return 1
    builds = Builds()
    say("nothing planted")
    checks = dict.fromkeys(replace(check, says="") for bug in bugs for check in bug.checks)
    sound = [outcome(builds, check, None)[0] for check in [TRACE, *checks]]
    rows, caught = [], 0
    for bug in bugs:
        say(f"planted: {bug.name}")
        outcomes = [outcome(builds, check, bug.name) for check in bug.checks]
        caught += all(right for right, _ in outcomes)
        for number, (check, (right, how)) in enumerate(zip(bug.checks, outcomes, strict=True)):
            cells = [bug.what if number == 0 else "", str(check), f"`{how}`" if right else f"**{how}**"]
            rows.append(" | ".join(cell.replace("|", "\\|") for cell in cells))
    lines = ["bug | check that catches it | how it showed", "--- | --- | ---", *rows]
    table = "".join(f"| {line} |\n" for line in lines)
    (BUILD / "table.md").write_text(table, encoding="utf-8")
    sys.stdout.write(f"\n{table}\n{caught} of {len(bugs)} caught; ")
    sys.stdout.write(f"without a bug {sum(sound)} of {len(sound)} checks pass\n")
    return 0 if caught == len(bugs) and all(sound) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
