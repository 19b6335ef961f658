"""Records of an engine that is hosted in this process, under the logger `p2p_comm` and those below it."""

import logging

from . import _native

_logger = logging.getLogger("p2p_comm")
# Without it, Python prints warnings of a library that nobody has asked about.
_logger.addHandler(logging.NullHandler())


def forward() -> None:
    """Passes on what the loggers want now. Their levels are looked at each time an Agent starts."""
    _native.forward_log(min(_wanted(), 255), _tell)


def _wanted() -> int:
    """The lowest level that `p2p_comm` or a logger below it lets through."""
    below = [
        logger
        for name, logger in list(logging.root.manager.loggerDict.items())
        if name.startswith("p2p_comm.") and isinstance(logger, logging.Logger)
    ]
    return min(logger.getEffectiveLevel() for logger in (_logger, *below))


def _tell(level: int, target: str, message: str) -> None:
    """One record. `p2p_comm::transport::link` is the logger `p2p_comm.transport.link`."""
    logger = logging.getLogger(target.replace("::", "."))
    if logger.isEnabledFor(level):
        # As it is: a percent sign in it is no format.
        logger.handle(logger.makeRecord(logger.name, level, target, 0, message, (), None))
