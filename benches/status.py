"""How long `p2p-comm status` takes as a whole process, beside the interpreter that does nothing.

`python benches/status.py BINARY`, with an interpreter beside which the console script is installed; BINARY is the
command line without Python. The runs are interleaved, so that a busy moment of the machine hits all alike.
"""

from __future__ import annotations

import sys

from support import CONSOLE_SCRIPT, PYTHON, Usage, daemon, environment_of, home, quantile, relays, run_once, show, tell

RUNS = 60


def main(binary: str) -> None:
    """Measures and prints."""
    commands = {
        "python -I -S -c pass": [PYTHON, "-I", "-S", "-c", "pass"],
        "python -c pass": [PYTHON, "-c", "pass"],
        "p2p-comm status, console script": [CONSOLE_SCRIPT, "status"],
        "p2p-comm status, without Python": [binary, "status"],
    }
    with relays(binary, 1) as urls, home() as folder:
        environment = environment_of(folder, urls)
        with daemon(CONSOLE_SCRIPT, environment, connected_to=1):
            rounds = [[run_once(command, environment) for command in commands.values()] for _ in range(RUNS + 1)]
    # The first round only brings everything into memory.
    bare, interpreter, script, without = zip(*rounds[1:], strict=True)
    measured = dict(zip(commands, map(figures, (bare, interpreter, script, without)), strict=True))
    differences = {
        "console script above python -c pass": above(script, interpreter),
        "console script above python -I -S -c pass": above(script, bare),
    }

    columns = ["wall_p50_ms", "wall_p90_ms", "cpu_p50_ms"]
    rows = [(name, [f"{figure[column]:.1f}" for column in columns]) for name, figure in measured.items()]
    rows += [(name, [f"{milliseconds:.1f}"]) for name, milliseconds in differences.items()]
    show(f"status, {RUNS} runs of each", ["p50 ms", "p90 ms", "CPU ms"], rows)
    tell({"bench": "status", "runs": RUNS, "processes": measured, "differences_p50_ms": differences})


def figures(runs: tuple[Usage, ...]) -> dict[str, float]:
    """The figures of one program."""
    walls = [run.wall for run in runs]
    return {
        "wall_p50_ms": round(quantile(walls, 0.5), 2),
        "wall_p90_ms": round(quantile(walls, 0.9), 2),
        "cpu_p50_ms": round(quantile([run.cpu for run in runs], 0.5), 2),
    }


def above(one: tuple[Usage, ...], other: tuple[Usage, ...]) -> float:
    """How much longer one program takes than another that ran beside it: the median over the rounds."""
    return round(quantile([mine.wall - theirs.wall for mine, theirs in zip(one, other, strict=True)], 0.5), 2)


if __name__ == "__main__":
    main(sys.argv[1])
