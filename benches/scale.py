"""What many agents cost their relays and each other: the tables of docs/scale.md.

`python benches/scale.py` prints them; nothing is installed, and with the same seed they are the same everywhere. First
what follows from the protocol on paper, then a simulation of what paper does not tell: the peaks.
"""

from __future__ import annotations

import json
import math
import random
import sys
from typing import NamedTuple

SEED = 20261126
DAY_S = 86_400
# Agents announce themselves every 110 ± 10 s, on each of three relays; online is who did within 300 s.
PERIOD_S, JITTER_S, COPIES, ONLINE_S = 110, 10, 3, 300
# From so many agents on, who does not look does not listen; who looks listens for so long (src/engine/outlook.rs).
CROWD, LISTEN_S = 100, 120
# Most agents that a look brings (src/proto/presence.rs), and events of a page.
DIRECTORY, PAGE = 20_000, 500
# What an agent does in a day: looks, calls, and messages of 200 bytes in each.
LOOKS, CALLS, MESSAGES = 20, 20, 20
# What a relay is asked for in the tables: events stored, and events sent, in a second.
RELAY_IN, RELAY_OUT = 500, 5_000


def event(kind: int, tags: list[list[str]], content: str) -> int:
    """Bytes of an event as JSON."""
    shape = {
        "id": "0" * 64,
        "pubkey": "0" * 64,
        "created_at": 1_800_000_000,
        "kind": kind,
        "tags": tags,
        "content": content,
        "sig": "0" * 128,
    }
    return len(json.dumps(shape, separators=(",", ":")))


def padded(size: int, least: int) -> int:
    """NIP-44's bucket for so many bytes."""
    if size <= least:
        return least
    power = 1 << (size - 1).bit_length()
    chunk = max(32, power // 8)
    return chunk * math.ceil(size / chunk)


def base64(size: int) -> int:
    """Characters of so many bytes."""
    return 4 * math.ceil(size / 3)


def presence() -> int:
    """An agent with two capabilities and three inbox relays."""
    content = {
        "agentId": "agent-000000",
        "name": "Agent number 0",
        "capabilities": ["skill-0", "chat"],
        "timestamp": 1_800_000_000_000,
        "p2p": {"v": [2], "inbox": ["wss://auth.nostr1.com", "wss://relay.ditto.pub", "wss://nos.lol"], "pow": 0},
    }
    topics = [["t", word] for word in ("openclaw-p2p", "p2p-comm", "cap:skill-0", "cap:chat")]
    tags = [["d", "agent-000000"], *topics, ["v", "2"], ["expiration", "1800000300"]]
    return event(30078, tags, json.dumps(content, separators=(",", ":")))


def wrap(rumor: int) -> int:
    """A gift wrap around a rumor with so many bytes of content: two layers of NIP-44 (NIP-59)."""
    inner = event(25920, [], "x" * rumor) - 128 - 9
    seal = event(13, [], "x" * base64(65 + 2 + padded(inner, 32)))
    return event(1059, [["p", "0" * 64], ["expiration", "1800000300"]], "x" * base64(65 + 2 + padded(seal, 32)))


def frame(plaintext: int) -> int:
    """A session's frame: a header of 10 bytes, Noise's tag of 16, the bucket."""
    return event(21059, [["p", "0" * 64]], "#p2p1." + "x" * base64(10 + 16 + padded(2 + plaintext, 256)))


PRESENCE = presence()
# An offer holds labels, a topic, keys and relays; an acceptance keys and relays. A text has 40 bytes of entry.
OFFER, ACCEPT, TEXT, ACK = wrap(700), wrap(450), frame(240), frame(30)
# Of an event that is sent: the envelope, WebSocket, TCP. Of an answer to one: OK.
ENVELOPE, OK = 40, 130


class Load(NamedTuple):
    """What a relay has in a second, and an agent in a day."""

    stored: float
    sent: float
    sent_bytes: float
    agent_in: float
    agent_out: float


def presence_load(agents: int, relays: int, always: bool) -> Load:
    """Presence alone. `always`: everybody listens to everybody, as deployed agents do."""
    copies = min(COPIES, relays)
    here = agents * copies / relays
    each = here / PERIOD_S
    if always or here < CROWD:
        listening, looks = 1.0, 0.0
    else:
        # A look begins two minutes of listening; looks within them prolong it.
        looks = LOOKS / DAY_S
        listening = 1 - math.exp(-looks * LISTEN_S)
        # A walk is needed where nobody listened before.
        looks *= 1 - listening
    walk = min(here, DIRECTORY)
    received = each * listening + looks * walk
    sent = here * received
    size = PRESENCE + ENVELOPE
    return Load(
        stored=each,
        sent=sent,
        sent_bytes=sent * size,
        agent_in=(received * size + OK / PERIOD_S) * copies * DAY_S,
        agent_out=size / PERIOD_S * copies * DAY_S,
    )


def calls_load(agents: int, relays: int) -> Load:
    """Calls: an offer to three inbox relays, an acceptance, messages and their acknowledgements on two relays each."""
    copies = min(2, relays)
    wide = min(COPIES, relays)
    events = CALLS * (wide + copies + MESSAGES * 2 * copies)
    size = CALLS * (wide * OFFER + copies * ACCEPT + MESSAGES * copies * (TEXT + ACK))
    per_relay = agents * events / DAY_S / relays
    return Load(per_relay, per_relay, agents * size / DAY_S / relays, float(size), float(size))


def human(value: float, unit: str = "") -> str:
    """A figure that can be read aloud."""
    for name, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            shown = value / factor
            return f"{shown:.0f} {name}{unit}" if shown >= 10 else f"{shown:.1f} {name}{unit}"
    return (f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}").rstrip()


def table(head: list[str], rows: list[list[str]]) -> None:
    """Prints a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    sys.stdout.write("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n")


def on_paper() -> None:
    """Everybody listens to everybody, against who looks listens."""
    sizes = [("presence", PRESENCE), ("offer", OFFER), ("acceptance", ACCEPT)]
    sizes += [("text of 200 bytes", TEXT), ("acknowledgement", ACK)]
    table(["event", "bytes"], [[name, str(size)] for name, size in sizes])
    for always, title in ((True, "everybody listens all the time"), (False, "who looks, listens")):
        rows = []
        for agents, relays in (
            (100, 3),
            (10_000, 3),
            (10_000, 30),
            (1_000_000, 30),
            (1_000_000, 300),
            (1_000_000, 3_000),
        ):
            load = presence_load(agents, relays, always)
            rows.append(
                [
                    f"{agents:,}",
                    f"{relays:,}",
                    human(load.stored),
                    human(load.sent),
                    human(load.sent_bytes, "B"),
                    human(load.agent_out, "B"),
                    human(load.agent_in, "B"),
                ]
            )
        sys.stdout.write(f"Presence, {title}\n\n")
        head = ["agents", "relays", "stored/s a relay", "sent/s a relay", "bytes/s a relay"]
        table([*head, "an agent sends a day", "receives a day"], rows)
    rows = []
    for relays in (30, 300, 3_000):
        load = calls_load(1_000_000, relays)
        figures = [human(load.stored), human(load.sent_bytes, "B"), human(load.agent_out, "B")]
        rows.append([f"{relays:,}", *figures])
    sys.stdout.write(f"Calls, 1,000,000 agents, {CALLS} a day with {MESSAGES} messages each\n\n")
    table(["relays", "events/s a relay", "bytes/s a relay", "an agent a day, each way"], rows)


def capacity() -> None:
    """How many agents a relay carries that takes so much."""
    rows = []
    for always in (True, False):
        agents = 1
        while True:
            load = presence_load(agents, 1, always)
            more = presence_load(math.ceil(agents * 1.02) + 1, 1, always)
            if more.stored > RELAY_IN or more.sent > RELAY_OUT:
                break
            agents = math.ceil(agents * 1.02) + 1
        load = presence_load(agents, 1, always)
        bound = "sent" if presence_load(agents * 2, 1, always).sent > RELAY_OUT else "stored"
        title = "everybody listens all the time" if always else "who looks, listens"
        needed = math.ceil(1_000_000 * COPIES / agents)
        rows.append([title, f"{agents:,}", bound, human(load.stored), human(load.sent), f"{needed:,}"])
    sys.stdout.write(f"One relay that stores {RELAY_IN} and sends {RELAY_OUT:,} events a second\n\n")
    head = ["", "agents on it", "what ends it", "stored/s", "sent/s", "relays for 1,000,000"]
    table(head, rows)


def peaks(random_numbers: random.Random) -> None:
    """Announcements a second at a relay with 10,000 agents, second by second for an hour."""
    agents, seconds = 10_000, 3_600
    rows = []
    for title, spread, jitter in (
        ("agents that started over a day", PERIOD_S, JITTER_S),
        ("all connect within 12 s (the relay was away)", 12, JITTER_S),
        ("the same, without jitter", 12, 0),
    ):
        counts = [0] * (seconds + 2 * PERIOD_S)
        for _ in range(agents):
            at = random_numbers.random() * spread
            while at < seconds:
                counts[int(at)] += 1
                at += PERIOD_S + (2 * random_numbers.random() - 1) * jitter
        first, last = max(counts[:PERIOD_S]), max(counts[seconds - 4 * PERIOD_S : seconds])
        mean = sum(counts[:seconds]) / seconds
        rows.append([title, f"{mean:.0f}", f"{first:,}", f"{last:,}"])
    sys.stdout.write(f"Announcements a second at a relay with {agents:,} agents\n\n")
    table(["", "mean", "peak, first two minutes", "peak, after an hour"], rows)


def looks(random_numbers: random.Random) -> None:
    """Who listens at a time, and the walks, in an hour of 100,000 agents; beside the formula of the tables."""
    agents, seconds = 100_000, 3_600
    listening = [0] * (seconds + LISTEN_S + 1)
    walks = 0
    for _ in range(agents):
        # Looks from before still count: begin that much earlier.
        at, until = random_numbers.expovariate(LOOKS / DAY_S) - LISTEN_S, -math.inf
        while at < seconds:
            walks += at >= max(until, 0)
            begin, end = max(0, int(max(at, until))), int(at) + LISTEN_S
            if end > begin:
                listening[begin] += 1
                listening[end] -= 1
            until = at + LISTEN_S
            at += random_numbers.expovariate(LOOKS / DAY_S)
    now, total, most = 0, 0, 0
    for change in listening[:seconds]:
        now += change
        total += now
        most = max(most, now)
    formula = 1 - math.exp(-LOOKS / DAY_S * LISTEN_S)
    row = [
        f"{100 * total / seconds / agents:.2f} %",
        f"{100 * formula:.2f} %",
        f"{100 * most / agents:.2f} %",
        f"{walks / seconds:.1f}",
        f"{LOOKS / DAY_S * (1 - formula) * agents:.1f}",
    ]
    sys.stdout.write(f"{agents:,} agents that look {LOOKS} times a day\n\n")
    table(["listening, simulated", "by the formula", "at most", "walks/s, simulated", "by the formula"], [row])


def main() -> None:
    """Prints everything."""
    random_numbers = random.Random(SEED)
    sys.stdout.write(f"seed {SEED}\n\n")
    on_paper()
    capacity()
    peaks(random_numbers)
    looks(random_numbers)


if __name__ == "__main__":
    main()
