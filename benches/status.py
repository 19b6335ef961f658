"""How long `p2p-comm status` takes as a whole process, beside the interpreter that does nothing.

`python benches/status.py BINARY`, with an interpreter beside which the console script is installed; BINARY is the
command line without Python. The runs are interleaved, so that a busy moment of the machine hits all alike.
"""

from __future__ import annotations

import sys

from support import CONSOLE_SCRIPT, PYTHON, daemon, environment_of, home, quantile, relays, run_once, show, tell

RUNS = 60
IMPORT = "import time; begun = time.perf_counter(); import p2p_comm; print((time.perf_counter() - begun) * 1e3)"
# Imports the package, measures itself, and throws the figure away: `samples` runs it with a pipe instead.
NAMES = {
    "bare": "python -I -S -c pass",
    "interpreter": "python -c pass",
    "import": "python -c 'import p2p_comm'",
    "script": "p2p-comm status, console script",
    "binary": "p2p-comm status, without Python",
}


def main(binary: str) -> None:
    """Measures and prints."""
    commands = {
        "bare": [PYTHON, "-I", "-S", "-c", "pass"],
        "interpreter": [PYTHON, "-c", "pass"],
        "import": [PYTHON, "-c", "import p2p_comm"],
        "script": [CONSOLE_SCRIPT, "status"],
        "binary": [binary, "status"],
    }
    with relays(binary, 1) as urls, home() as folder:
        environment = environment_of(folder, urls)
        with daemon(CONSOLE_SCRIPT, environment, connected_to=1):
            samples = {name: [] for name in commands}
            # The first round only brings everything into memory.
            for number in range(RUNS + 1):
                for name, command in commands.items():
                    usage = run_once(command, environment)
                    if number > 0:
                        samples[name].append(usage)

    figures = {
        name: {
            "wall_ms": {"p50": quantile([run.wall for run in runs], 0.5), "p90": quantile([run.wall for run in runs], 0.9)},
            "cpu_ms": {"p50": quantile([run.cpu for run in runs], 0.5)},
        }
        for name, runs in samples.items()
    }
    rows = [
        (NAMES[name], [f"{part['wall_ms']['p50']:.1f}", f"{part['wall_ms']['p90']:.1f}", f"{part['cpu_ms']['p50']:.1f}"])
        for name, part in figures.items()
    ]
    # Pairs of neighbours in time.
    overhead = {
        "script_over_interpreter_ms": difference(samples, "script", "interpreter"),
        "script_over_bare_ms": difference(samples, "script", "bare"),
        "import_ms": difference(samples, "import", "interpreter"),
    }
    rows += [
        ("console script above python -c pass", [f"{overhead['script_over_interpreter_ms']:.1f}"]),
        ("console script above python -I -S -c pass", [f"{overhead['script_over_bare_ms']:.1f}"]),
        ("import p2p_comm", [f"{overhead['import_ms']:.1f}"]),
    ]
    show(f"status, {RUNS} runs each", ["p50 ms", "p90 ms", "CPU ms"], rows)
    tell({"bench": "status", "runs": RUNS, **figures, **overhead})


def difference(samples: dict[str, list], one: str, other: str) -> float:
    """By how much a program takes longer than another: the median over the rounds."""
    return quantile([mine.wall - theirs.wall for mine, theirs in zip(samples[one], samples[other])], 0.5)


if __name__ == "__main__":
    main(sys.argv[1])
