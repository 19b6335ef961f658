"""How values look in a notebook and in Markdown. Whatever a peer wrote is shown as text, and fetches nothing."""

import re
import unicodedata
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models import AgentSelf, CallInfo, Message, Peer, Transcript

_DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of what stands around them: a text could forge its frame."""

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&:@=])")
"""Every character that CommonMark, or a common extension of it, may take as markup."""


def visible(text: str) -> str:
    """Replaces control characters and direction marks by their escapes; line feeds and tabs stay."""
    return "".join(
        character
        if character in "\n\t" or (unicodedata.category(character) != "Cc" and character not in _DIRECTION_MARKS)
        else character.encode("unicode_escape").decode()
        for character in text.replace("\r\n", "\n")
    )


def line(text: str) -> str:
    """A text on one line."""
    return visible(" ".join(text.split()))


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
        f"<dt>{_html(_speaker(message))}, {_clock(message.at)}{_html(_mark(message))}</dt>"
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
        parts += [f"**{speaker}**, {_clock(message.at)}{_mark(message)}", quoted]
    return "\n\n".join(parts) + "\n"


def _speaker(message: "Message") -> str:
    return "my owner" if message.sender == "owner" else message.sender


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
    return "\u00a0" * (len(text) - len(words)) + _MARKDOWN.sub(r"\\\1", words)


def _table(title: str, rows: dict[str, str]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{_html(line(text))}</td></tr>" for name, text in rows.items())
    return f"<table><caption>{escape(title)}</caption>{cells}</table>"
