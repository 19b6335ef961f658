#!/usr/bin/env bash
# Installs `nostr-sdk` of the Python package registry into an environment of its own under build/parts, and prints the
# path of its Python. Does nothing when it is in place. A client of the tests is written on it: nobody here wrote it.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=tests/python/parts/nostr-sdk.txt
venv=$PWD/build/parts/nostr-sdk
stamp=$venv/.installed

if ! cmp -s "$wanted" "$stamp" || ! "$venv/bin/python" -c '' 2>/dev/null; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" >&2
    cp "$wanted" "$stamp"
fi
echo "$venv/bin/python"
