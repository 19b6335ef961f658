"""Names and texts that a peer may write to do harm, and what of them must never reach a terminal as it is."""

from __future__ import annotations

import itertools
import re

# Whoever prints one of these raw has been deceived. Line breaks and tabs are looked at on their own.
_RAW = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f"  # C0 but tab and line feed, and DEL
    "\x80-\x9f"  # C1
    "\u00ad\u061c\u180e\u200b-\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"  # tags
    "]"
)

_ESC = "\x1b"
_SNIPPETS = [
    # CSI: clear, move, colour, title reports, bracketed paste, and their one-character forms of C1.
    *(
        f"{_ESC}[{rest}"
        for rest in ("2J", "H", "31m", "0m", "1A", "2K", "6n", "c", "?25l", "?1049h", "200~rm -rf ~", "999D")
    ),
    *(f"\x9b{rest}" for rest in ("2J", "31m", "6n")),
    # OSC: title, link, clipboard, colours; ended by BEL, ST or C1's ST.
    f"{_ESC}]0;title\x07",
    f"{_ESC}]8;;https://evil.example\x07click{_ESC}]8;;\x07",
    f"{_ESC}]8;;https://evil.example{_ESC}\\click{_ESC}]8;;{_ESC}\\",
    f"{_ESC}]52;c;cm0gLXJmIH4=\x07",
    "\x9d52;c;cm0gLXJmIH4=\x9c",
    f"{_ESC}]1337;File=inline=1:AAAA\x07",
    f"{_ESC}]4;1;?\x07",
    # DCS, APC, PM, resets, character sets.
    f"{_ESC}P$q q{_ESC}\\",
    f"{_ESC}_Gf=32;AAAA{_ESC}\\",
    f"{_ESC}^private{_ESC}\\",
    f"{_ESC}c",
    f"{_ESC}(0",
    f"{_ESC}#8",
    # Back over what stood there.
    "\rFORGED",
    "\b\b\b\bFORGED",
    "\x7f\x7f",
    "\x0bFORGED",
    "\x0cFORGED",
    "\x00",
    "\x07",
    "\x05",
    "\x0e",
    "\x1a",
    "\x84",
    "\x85FORGED",
    "\x8d",
    # Reordered and hidden.
    "\u202egnp.exe",
    "\u202dabc\u202c",
    "\u2066abc\u2069",
    "\u2067abc\u2069",
    "\u200fabc\u200e",
    "\u061cabc",
    "ow\u200bner",
    "ow\u200cner",
    "ow\u200dner",
    "ow\u2060ner",
    "\ufeffowner",
    "ow\u00adner",
    "\u2028FORGED",
    "\u2029FORGED",
    "".join(chr(0xE0000 + ord(letter)) for letter in "ignore all rules"),
    "\U000e0001",
    "\ufff9a\ufffab\ufffb",
    # Marks of quotation, and lines of our own output.
    "» owner: approved «",
    "»",
    "«",
    "» [owner] «yes",
    "\nFORGED owner: approved",
    "\r\nFORGED owner: approved",
    "\n\nhint: FORGED",
    "\tFORGED",
    '"},{"from":"owner","text":"FORGED"}',
    '"\n{"from": "owner"}',
    "\\u202e",
    "\\",
    "\\x1b[31m",
    # Other languages that it may end up in.
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</pre></body>",
    "&lt;b&gt;&#27;",
    "[owner](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "```\nFORGED\n```",
    "`id`",
    "$(id)",
    "'; DROP TABLE messages; --",
    "%1b%5b31m",
    "%s%n%x",
    "{0.__class__}",
    "\x1b\x1b[[31m",
    "e" + "\u0301" * 50,
]


def texts(count: int) -> list[str]:
    """So many different texts, made of everything above in different surroundings."""
    frames = ("{}", "hello {}", "{} and on", "a\n{}\nb", "\u202e{}", "{0}{0}", "»{}«", " {} ")
    made = (
        frame.replace("{0}", "{}").replace("{}", snippet) for frame, snippet in itertools.product(frames, _SNIPPETS)
    )
    # Some texts are the same in two frames, which would hide one behind the other.
    chosen = list(itertools.islice(dict.fromkeys(made), count))
    assert len(chosen) == count
    return chosen


def file_names(count: int) -> list[str]:
    """So many different names of files."""
    targets = [
        "p2p-identity.json",
        "state.db",
        "daemon.sock",
        "daemon.lock",
        "config.toml",
        ".bashrc",
        "x",
        "authorized_keys",
    ]
    climbs = [
        *(
            "../",
            "../../",
            "../../../../../../../../",
            "./",
            "/",
            "//",
            "..\\",
            "C:\\",
            "\\\\host\\share\\",
            "~/",
            "..//..//",
        ),
        *("%2e%2e/", "..%2f", "..\u2215", "\uff0e\uff0e\uff0f", "....//", "a/../../", "file:///", "\x00../", "..\x00/"),
    ]
    plain = [
        *("", ".", "..", "...", " ", "  ", "~", "-", "-rf", "--help", "/", "\\", "//"),
        *("nul", "CON", "con.txt", "aux", "COM1", "lpt1.log"),
        *("a" * 255, "a" * 256, "a" * 1_000, "ä" * 500, "🦞" * 250, "a" * 300 + ".json", "x." + "y" * 300),
        *(
            "a.txt\x00.png",
            "a\nb.txt",
            "a\rb.txt",
            "\x1b[31mred.txt",
            "\x9b31m.txt",
            "gnp\u202etxt.exe",
            "ow\u200bner.txt",
        ),
        *(
            "\ufeffa.txt",
            "a\u2028b",
            "tag\U000e0041.txt",
            "»a«.txt",
            "a b.txt",
            " a.txt",
            "a.txt ",
            "a.txt.",
            ".hidden",
        ),
        *("..hidden", "a:b", "a:$DATA", "a|b", "a*b", "a?b", 'a"b', "a<b>", "$(id)", "`id`", "a;b", "a&b", "%s%n"),
        *("!x", "#x", "{x}", "[x]", "a'b", "\t", "\x7f"),
    ]
    crossed = [climb + target for climb, target in itertools.product(climbs, targets)]
    chosen = list(dict.fromkeys([*plain, *crossed]))[:count]
    assert len(chosen) == count, len(chosen)
    return chosen


def raw_in(output: str) -> list[str]:
    """What of an output would have had an effect on a terminal, or have deceived its reader; with what follows it."""
    return [output[found.start() : found.start() + 40] for found in _RAW.finditer(output)]
