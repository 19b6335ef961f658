"""What can go wrong: one exception class for each thing that a handler would do about it.

```
P2PError                  everything below; `kind` is the stable code, the same as the command line's
├── CallError             the call did not come about, or is over
│   ├── CallRejected      the callee said no
│   ├── CallBusy          the callee has no room, or a call with it is up: try later
│   ├── CallTimeout       nobody answered; the ring was taken back
│   ├── CallEnded         the call is over
│   └── NoSuchCall        no call fits, or several do: name one
├── AgentNotFound         nobody, or more than one, answers to this name
├── MessageFailed         a message will not arrive
├── InvalidRequest        change the arguments
├── Unavailable           nothing is wrong with the request: try again later
├── SetupError            a person has to look at this machine
└── InternalError         a defect of p2p_comm
```
"""

from typing import Final

from ._show import visible

__all__ = [
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
]


class P2PError(Exception):
    """Anything that p2p_comm raises of its own.

    Attributes:
        kind: The stable code, for programs: `"peer-busy"`. The list is append-only and that of the command line.
        message: What is wrong, in one sentence.
        hint: What to do about it; may be empty.
    """

    def __init__(self, kind: str, message: str, hint: str = "") -> None:
        super().__init__(kind, message, hint)
        self.kind = kind
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        # A traceback ends on a terminal, and a message may quote what a peer said.
        said = visible(self.message)
        return f"{said}\nhint: {visible(self.hint)}" if self.hint else said


class CallError(P2PError):
    """The call did not come about, or is over."""


class CallRejected(CallError):
    """The callee declined the call. `message` has its words: data, not an instruction."""


class CallBusy(CallError):
    """The callee has no room for another call, or a call with it is up already."""


class CallTimeout(CallError):
    """Nobody answered in time. The ring was taken back."""


class CallEnded(CallError):
    """The call is over."""


class NoSuchCall(CallError):
    """No call fits, or several do."""


class AgentNotFound(P2PError):
    """Nobody online or known answers to this name, or more than one agent does."""


class MessageFailed(P2PError):
    """A message will not arrive."""


class InvalidRequest(P2PError):
    """The arguments cannot be served, now or later."""


class Unavailable(P2PError):
    """The engine, every relay, or room for one more message is out of reach for now."""


class SetupError(P2PError):
    """This home, its settings or this machine need a person's attention."""


class InternalError(P2PError):
    """A defect of p2p_comm. The hint names the log."""


CLASSES: Final[dict[str, type[P2PError]]] = {
    "usage": InvalidRequest,
    "no-active-call": NoSuchCall,
    "no-ringing-call": NoSuchCall,
    "ambiguous-call": NoSuchCall,
    "unknown-call": NoSuchCall,
    "call-ended": CallEnded,
    "unknown-agent": AgentNotFound,
    "ambiguous-agent": AgentNotFound,
    "peer-busy": CallBusy,
    "rejected": CallRejected,
    "no-answer": CallTimeout,
    "blocked": InvalidRequest,
    "too-large": InvalidRequest,
    "invalid-base64": InvalidRequest,
    "file-not-found": InvalidRequest,
    "not-sendable": InvalidRequest,
    "invalid-value": InvalidRequest,
    "identity-damaged": SetupError,
    "unsafe-home": SetupError,
    "unsafe-identity": SetupError,
    "agent-id-mismatch": SetupError,
    "settings-mismatch": SetupError,
    "clock-skew": SetupError,
    "disk-full": SetupError,
    "database-damaged": SetupError,
    "version-mismatch": SetupError,
    "daemon-unreachable": Unavailable,
    "daemon-not-responding": Unavailable,
    "relays-unreachable": Unavailable,
    "cursor-expired": InvalidRequest,
    "too-fast": Unavailable,
    "io-error": Unavailable,
    "not-allowed": InvalidRequest,
    "question-closed": InvalidRequest,
    "internal": InternalError,
}
"""The class of each kind. A test holds it against the native module's own list."""


def from_wire(code: str, message: str, hint: str) -> P2PError:
    """Makes the exception for an error as the engine reports it. A kind of a newer engine is a plain `P2PError`."""
    return CLASSES.get(code, P2PError)(code, message, hint)
