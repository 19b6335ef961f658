"""Reads the ledgers of an exchange and counts the seven kinds of harm.

    python checker.py alice.jsonl bob.jsonl …

Prints one JSON object: the seven counts under `harms`, the messages concerned under `examples`, and what there was to
check under `seen`. Exit code 0: no harm; 1: harm; 2: the ledgers cannot be read, or nothing was accepted at all.

It is independent on purpose: the standard library alone, nothing of the product and nothing of the tests. What it
reads is described in `parts/ledger.py`.

What each count means. A message is known by its id; `accepted` and `tried` are of its sender, `surfaced` of a
receiver, `told` of its sender. Each message that is missing counts once, each surfacing counts under each harm that
it shows.

lost               accepted, never surfaced by its receiver, and its sender was told neither that it failed nor that it
                   was delivered (which is worse, and counted there)
falsely_delivered  its sender was told delivered or read, and its receiver never surfaced it
duplicated         each surfacing at its receiver after the first
reordered          a first surfacing, where a text that its sender accepted later, in the same call and to the same
                   receiver, was surfaced before. Escalations are texts here; a file may come after later texts, and is
                   not looked at
phantom            surfaced, and nobody accepted or tried to send it. A file whose sender never learned its id is known
                   by its hash
corrupted          surfaced with another text, another hash or as another kind than was accepted or tried
misattributed      surfaced as another key's than its sender's, in another call than the sender's, or by somebody whom
                   it was not for

What is surfaced as a phantom, corrupted or misattributed is looked at no further; but where it was for this
receiver, it is not missing either.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

HARMS = ("lost", "duplicated", "reordered", "phantom", "corrupted", "misattributed", "falsely_delivered")
MEMBERS = {
    "side": {"agent", "pubkey"},
    "call": {"call", "name"},
    "tried": {"message", "to", "call", "kind", "body"},
    "accepted": {"message", "to", "call", "kind", "body"},
    "told": {"message", "state", "reason"},
    "surfaced": {"message", "from", "call", "kind", "body"},
}
ORDERED = ("text", "escalation")
EXAMPLES = 10


class Unusable(Exception):
    """The ledgers say nothing that could be checked."""


class Side:
    """One ledger, read."""

    def __init__(self, path):
        self.lines = defaultdict(list)
        with Path(path).open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                try:
                    line = json.loads(text)
                    what = line.pop("what")
                    if set(line) != MEMBERS[what]:
                        raise ValueError(f"members {sorted(line)}")
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise Unusable(f"{path}, line {number}: {error!r}") from error
                if (what == "side") != (number == 1):
                    raise Unusable(f"{path}, line {number}: the first line, and no other, says whose ledger it is")
                self.lines[what].append(line)
        if not self.lines["side"]:
            raise Unusable(f"{path}: empty")
        self.pubkey = self.lines["side"][0]["pubkey"]
        self.calls = {line["call"]: line["name"] for line in self.lines["call"]}

    def name_of(self, call):
        """The name that all sides know a call by; None where it has none, or none was said."""
        return self.calls.get(call)


class Sent:
    """A message, as its sender knows it."""

    def __init__(self, side, line, place):
        self.sender, self.receiver = side.pubkey, line["to"]
        self.call, self.kind, self.body = side.name_of(line["call"]), line["kind"], line["body"]
        # Its number among what its sender accepted; None while it was only tried.
        self.place = place
        self.told = set()
        self.surfaced = 0


def check(sides):
    """The seven lists of message ids."""
    harms = {harm: [] for harm in HARMS}
    sent, nameless = all_sent(sides)
    for side in sides:
        newest = {}
        for line in side.lines["surfaced"]:
            message = sent.get(line["message"]) or nameless.get((line["from"], side.pubkey, line["body"]))
            for harm in harms_of(side, line, message, newest):
                harms[harm].append(line["message"])
    for name, message in sent.items():
        if message.place is None or message.surfaced:
            continue
        if message.told & {"delivered", "read"}:
            harms["falsely_delivered"].append(name)
        elif "failed" not in message.told:
            harms["lost"].append(name)
    return harms


def all_sent(sides):
    """Every message by its id, and what was tried without one by sender, receiver and hash."""
    sent, nameless = {}, {}
    for side in sides:
        for line in side.lines["tried"]:
            if line["message"] is None:
                nameless[(side.pubkey, line["to"], line["body"])] = Sent(side, line, None)
            else:
                sent.setdefault(line["message"], Sent(side, line, None))
        for place, line in enumerate(side.lines["accepted"]):
            known = sent.get(line["message"])
            if known is not None and known.place is not None:
                raise Unusable(f"{line['message']} was accepted twice")
            sent[line["message"]] = Sent(side, line, place)
        for line in side.lines["told"]:
            message = sent.get(line["message"])
            if message is not None and message.sender == side.pubkey:
                message.told.add(line["state"])
    return sent, nameless


def harms_of(side, line, message, newest):
    """What is wrong with one surfacing; notes what it shows."""
    if message is None:
        return ["phantom"]
    if side.pubkey != message.receiver:
        return ["misattributed"]
    message.surfaced += 1
    call = side.name_of(line["call"])
    wrong = []
    if line["from"] != message.sender or (call is not None and message.call is not None and call != message.call):
        wrong.append("misattributed")
    if (line["kind"], line["body"]) != (message.kind, message.body):
        wrong.append("corrupted")
    if message.surfaced > 1:
        wrong.append("duplicated")
    if wrong or message.place is None or message.kind not in ORDERED:
        return wrong
    stream = (message.sender, message.call)
    if message.place < newest.get(stream, -1):
        return ["reordered"]
    newest[stream] = message.place
    return []


def say(**result):
    """Prints the one object."""
    sys.stdout.write(json.dumps(result) + "\n")


def main(paths):
    """Checks the ledgers at these paths, and prints what there is to say."""
    try:
        if len(paths) < 2:
            raise Unusable("usage: checker.py LEDGER LEDGER …")
        sides = [Side(path) for path in paths]
        seen = {what: sum(len(side.lines[what]) for side in sides) for what in ("accepted", "told", "surfaced")}
        if not seen["accepted"]:
            raise Unusable("nothing was accepted")
        harms = check(sides)
    except (Unusable, OSError, UnicodeDecodeError) as error:
        say(error=str(error))
        return 2
    say(
        harms={harm: len(messages) for harm, messages in harms.items()},
        examples={harm: messages[:EXAMPLES] for harm, messages in harms.items() if messages},
        seen=seen,
    )
    return 1 if any(harms.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
