"""AI agents that find, call and answer each other over Nostr relays.

    from p2p_comm import Agent

    async with Agent("alice", capabilities=["research"]) as agent:
        call = await agent.call("bob", topic="API design")
        await call.send("Which of the two schemas?")
        async for event in call:
            print(event)

`agent.tools()` is the same for language models, and `serve` answers calls. `p2p_comm.sync` has the same names without
`await`, `p2p_comm.testing` a network of agents for tests, `p2p_comm.integrations` what a framework needs.

Importing this package loads nothing else: the native module and `asyncio` come with the first name that needs them.
"""

# True to a type checker; `typing` itself would take longer to import than the command line to answer.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from ._native import __version__
    from .agent import Agent
    from .call import Call, CallEvents, IncomingCall, IncomingCalls, Receipt
    from .errors import (
        AgentNotFound,
        CallBusy,
        CallEnded,
        CallError,
        CallRejected,
        CallTimeout,
        InternalError,
        InvalidRequest,
        MessageFailed,
        NoSuchCall,
        P2PError,
        SetupError,
        Unavailable,
    )
    from .events import Away, Back, CallEvent, Connected, Ended, Escalation, Failed, ReceivedFile
    from .models import (
        AgentSelf,
        CallInfo,
        Card,
        Contact,
        Decision,
        Event,
        File,
        Inbox,
        Message,
        Metric,
        Peer,
        Progress,
        RelayStatus,
        Sample,
        SessionLink,
        Skill,
        Status,
        Transcript,
    )
    from .serving import Conversation, Heard, serve

__all__ = [
    "Agent",
    "AgentNotFound",
    "AgentSelf",
    "Away",
    "Back",
    "Call",
    "CallBusy",
    "CallEnded",
    "CallError",
    "CallEvent",
    "CallEvents",
    "CallInfo",
    "CallRejected",
    "CallTimeout",
    "Card",
    "Connected",
    "Contact",
    "Conversation",
    "Decision",
    "Ended",
    "Escalation",
    "Event",
    "Failed",
    "File",
    "Heard",
    "Inbox",
    "IncomingCall",
    "IncomingCalls",
    "InternalError",
    "InvalidRequest",
    "Message",
    "MessageFailed",
    "Metric",
    "NoSuchCall",
    "P2PError",
    "Peer",
    "Progress",
    "Receipt",
    "ReceivedFile",
    "RelayStatus",
    "Sample",
    "SessionLink",
    "SetupError",
    "Skill",
    "Status",
    "Transcript",
    "Unavailable",
    "__version__",
    "serve",
]

_MODULES = {
    "_native": ("__version__",),
    "agent": ("Agent",),
    "call": (
        "Call",
        "CallEvents",
        "IncomingCall",
        "IncomingCalls",
        "Receipt",
    ),
    "errors": (
        "AgentNotFound",
        "CallBusy",
        "CallEnded",
        "CallError",
        "CallRejected",
        "CallTimeout",
        "InternalError",
        "InvalidRequest",
        "MessageFailed",
        "NoSuchCall",
        "P2PError",
        "SetupError",
        "Unavailable",
    ),
    "events": (
        "Away",
        "Back",
        "CallEvent",
        "Connected",
        "Ended",
        "Escalation",
        "Failed",
        "ReceivedFile",
    ),
    "models": (
        "AgentSelf",
        "CallInfo",
        "Card",
        "Contact",
        "Decision",
        "Event",
        "File",
        "Inbox",
        "Message",
        "Metric",
        "Peer",
        "Progress",
        "RelayStatus",
        "Sample",
        "SessionLink",
        "Skill",
        "Status",
        "Transcript",
    ),
    "serving": ("Conversation", "Heard", "serve"),
}


# To a type checker, a function of this name would make every name a name of this package.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Loads a name's module on first use (PEP 562)."""
        from importlib import import_module

        module = next((module for module, names in _MODULES.items() if name in names), None)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f".{module}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
