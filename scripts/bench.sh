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

echo "others, to compare with" >&2
relay=$(scripts/install-nostr-rs-relay.sh)
node=$(scripts/install-node-parts.sh)
slim=$(scripts/install-slim.sh)

echo "building" >&2
"${PYTHON:-python3}" -m venv "$venv"
"$maturin" build --quiet --release --locked --interpreter "$venv/bin/python" --out "$out/wheel"
wheel=$(echo "$out"/wheel/*.whl)
"$venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall "$wheel"
cargo build --quiet --release --locked --bin p2p-comm
# Its last words name the program.
messages=$(cargo bench --locked --bench messages --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
cargo bench --quiet --locked --bench growth --no-run

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
run table "$venv/bin/python" benches/table.py "$binary" "$messages" "$relay" "$node" tests/interop "$slim"
run start "$venv/bin/python" benches/start.py "$binary" "$wheel"
run status "$venv/bin/python" benches/status.py "$binary"
run files "$venv/bin/python" benches/files.py "$binary"
run files_3 "$venv/bin/python" benches/files.py "$binary" 100 3
run idle "$venv/bin/python" benches/idle.py "$binary"
if command -v valgrind >/dev/null; then
    run hot scripts/callgrind.sh
fi
run growth cargo bench --quiet --locked --bench growth
"$venv/bin/python" benches/growth.py "$out/growth.txt" docs/growth.svg
echo
"$venv/bin/python" benches/collect.py "$out" "$busy"
echo
"$venv/bin/python" benches/report.py "$out/results.json" | tee "$out/report.md"
