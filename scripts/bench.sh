#!/usr/bin/env bash
# bench.sh: builds what users get (a wheel in an environment of its own, and the command line without Python, both with
# the release profile), runs every benchmark, prints their tables, and writes build/bench/results.json.
#
# docs/performance.md tells what is measured. The machine should have nothing else to do: the last table says how busy
# others kept it before and after.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/build/bench
venv=$out/venv
binary=${CARGO_TARGET_DIR:-$PWD/target}/release/p2p-comm
maturin=${VIRTUAL_ENV:-$PWD/.venv}/bin/maturin

# On the disk, where homes are: /tmp may be memory.
export TMPDIR=$out/tmp
rm -rf "$out"/{tmp,wheel,*.txt,results.json}
mkdir -p "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT

echo "building" >&2
"${PYTHON:-python3}" -m venv "$venv"
"$maturin" build --quiet --release --locked --interpreter "$venv/bin/python" --out "$out/wheel"
"$venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall "$out"/wheel/*.whl
cargo build --quiet --release --locked --bin p2p-comm
cargo bench --quiet --locked --bench messages --no-run

# Two cores everywhere, so that the figures of different machines mean the same.
pinned=()
if [[ $(nproc) -gt 2 ]] && command -v taskset >/dev/null; then
    pinned=(taskset --cpu-list 0,1)
fi

# The last line of every benchmark is for collect.py, the rest for people.
run() {
    echo "measuring: $1" >&2
    "${pinned[@]}" "${@:2}" >"$out/$1.txt"
    echo
    sed '$d' "$out/$1.txt"
}

busy=$("$venv/bin/python" benches/collect.py busy)
run messages cargo bench --quiet --locked --bench messages
run conversation "$venv/bin/python" benches/conversation.py "$binary"
run status "$venv/bin/python" benches/status.py "$binary"
run files "$venv/bin/python" benches/files.py "$binary"
run files_3 "$venv/bin/python" benches/files.py "$binary" 100 3
run idle "$venv/bin/python" benches/idle.py "$binary"
echo
"$venv/bin/python" benches/collect.py "$out" "$busy"
