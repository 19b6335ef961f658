"""How values look in a notebook and in Markdown. Whatever a peer wrote is shown as text, and fetches nothing.

The expressions are compiled, and `html` is loaded, when they are needed first: no agent waits for them.
"""

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models import AgentSelf, CallInfo, Message, Peer, Progress, Transcript

_DECEPTIVE = (
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u00ad\u034f\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u3164\ufeff\uffa0"
    "\u061c\u200e-\u200f\u202a-\u202e\u2066-\u206f"
    "\u2028-\u2029"
    "\ufe00-\ufe0f\ufff0-\ufffb\ufffe-\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "]"
)
"""Characters that control a terminal, reorder what stands around them, or hide in it: the list of the command line
(src/proto/text.rs), but for tabs and line feeds."""

_MARKDOWN = r"([\\`*_{}\[\]()<>#+\-.!|~&:@=])"
"""Every character that CommonMark, or a common extension of it, may take as markup."""


def visible(text: str) -> str:
    """Replaces what controls, reorders or hides by its escape; line feeds and tabs stay."""
    return re.sub(_DECEPTIVE, lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def escape(text: str) -> str:
    """A text as it stands in HTML, in an attribute as well."""
    import html

    return html.escape(text)


def line(text: str) -> str:
    """A text on one line."""
    return visible(" ".join(text.split()))


_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "«": "\\u00ab", "»": "\\u00bb"})


def quote(text: str) -> str:
    """A text of somebody else on one line, in the marks of the command line, which it cannot leave."""
    return f"«{visible(text.translate(_ESCAPES))}»"


def bundle(value: Any, html: str) -> dict[str, str]:
    """What IPython asks of `_repr_mimebundle_`."""
    return {"text/plain": repr(value), "text/html": html}


def agent(me: "AgentSelf | None", state: str) -> str:
    """An agent of this process."""
    if me is None:
        return f"<p>Agent, {escape(state)}</p>"
    rows = {"id": me.id, "name": me.name, "npub": me.npub, "capabilities": ", ".join(me.capabilities)}
    return _table(f"Agent, {state}", rows)


def peer(peer: "Peer") -> str:
    """Another agent."""
    rows = {
        "id": peer.id,
        "name": peer.name,
        "npub": peer.npub,
        "capabilities": ", ".join(peer.capabilities),
        "tier": peer.tier or "",
        "contact": peer.contact or "",
    }
    return _table("Peer", rows)


def call(call: "CallInfo") -> str:
    """A call."""
    rows = {
        "call": call.call,
        "state": call.state if call.end_reason is None else f"{call.state}: {call.end_reason}",
        "peer": f"{call.peer.id} ({call.peer.npub})",
        "topic": call.topic,
        "protocol": call.protocol,
        "started": _clock(call.started_at),
        "messages": str(call.messages),
    }
    return _table("Outgoing call" if call.direction == "out" else "Incoming call", rows)


def progress(progress: "Progress") -> str:
    """How far a file is on its way."""
    share = f"{progress.done:,} of {progress.size:,} bytes"
    return f'<progress value="{progress.done}" max="{max(progress.size, 1)}"></progress> {share}'


def transcript(transcript: "Transcript") -> str:
    """A transcript in HTML."""
    rows = {
        "from": transcript.caller,
        "to": transcript.callee,
        "topic": transcript.topic,
        "started": _clock(transcript.started_at),
        "ended": _clock(transcript.ended_at) if transcript.ended_at else "not yet",
    }
    messages = "".join(
        f"<dt>{_html(_speaker(message))}, {_clock(message.at)}{_html(_mark(message))}, "
        f"message {escape(message.message)}</dt>"
        f'<dd style="white-space: pre-wrap">{_html(_words(message))}</dd>'
        for message in transcript.messages
    )
    return f"{_table('Transcript', rows)}<dl>{messages}</dl>"


def transcript_markdown(transcript: "Transcript") -> str:
    """A transcript in CommonMark."""
    ended = _clock(transcript.ended_at) if transcript.ended_at else "not yet"
    parts = [
        f"# {_markdown(line(transcript.caller))} calls {_markdown(line(transcript.callee))}",
        "\n".join(
            (
                f"* Topic: {_markdown(line(transcript.topic))}",
                f"* Started: {_clock(transcript.started_at)}",
                f"* Ended: {ended}",
                f"* Messages: {transcript.message_count}",
            )
        ),
    ]
    for message in transcript.messages:
        speaker = _markdown(line(_speaker(message)))
        quoted = "\n".join(f"> {_markdown(text)}  " for text in visible(_words(message)).splitlines() or [""])
        parts += [f"**{speaker}**, {_clock(message.at)}{_mark(message)}, message {message.message}", quoted]
    return "\n\n".join(parts) + "\n"


def _speaker(message: "Message") -> str:
    match message.sender:
        case "owner":
            return "my owner"
        case "peer":
            return f"peer ({message.tier})"
        case "me":
            return "me"


def _words(message: "Message") -> str:
    if message.file is None:
        return message.text
    described = f"{message.file.name} ({message.file.size} bytes, SHA-256 {message.file.sha256})"
    return f"{described}\n{message.text}" if message.text else described


def _mark(message: "Message") -> str:
    kind = "" if message.kind == "text" else f", {message.kind}"
    return f"{kind}, failed: {line(message.reason or '')}" if message.state == "failed" else kind


def _clock(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _html(text: str) -> str:
    return f"<bdi>{escape(visible(text))}</bdi>"


def _markdown(text: str) -> str:
    text = text.expandtabs(4)
    words = text.lstrip(" ")
    # Four plain spaces would begin a code block, in which nothing can be escaped.
    return "\u00a0" * (len(text) - len(words)) + re.sub(_MARKDOWN, r"\\\1", words)


def _table(title: str, rows: dict[str, str]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{_html(line(text))}</td></tr>" for name, text in rows.items())
    return f"<table><caption>{escape(title)}</caption>{cells}</table>"
