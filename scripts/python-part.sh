#!/usr/bin/env bash
# python-part.sh NAME PROGRAM: installs what tests/python/parts/NAME.txt lists from the Python package registry into an
# environment of its own under build/parts, and prints the path of PROGRAM there. Does nothing when it is in place.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=tests/python/parts/$1.txt
venv=$PWD/build/parts/$1
stamp=$venv/.installed

if ! cmp -s "$wanted" "$stamp" || ! "$venv/bin/python" -c '' 2>/dev/null; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" >&2
    cp "$wanted" "$stamp"
fi
echo "$venv/bin/$2"
