"""The command line: `p2p-comm`, and `python -m p2p_comm`. Loads the native module and nothing else."""

# The C half of `signal`. The other half makes enums of it, which takes longer than most commands.
import _signal as signal  # type: ignore[import-not-found]  # typeshed has the public half only
import sys


def main() -> int:
    """Runs the command line on `sys.argv`; returns the exit code."""
    # Python ignores the one and defers the other: a closed pipe and Ctrl-C would go unnoticed.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ._native import cli_main

    # Inside a virtual environment, only Python knows which interpreter this is.
    return cli_main(sys.argv[1:], sys.executable)


if __name__ == "__main__":
    sys.exit(main())
