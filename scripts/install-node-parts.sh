#!/usr/bin/env bash
# Installs the libraries of the parts of tests/interop that are written for Node.js, as their lock file names them, and
# prints the folder of the Node.js to run them with. Does nothing when they are in place.
set -euo pipefail
cd "$(dirname "$0")/.."
node_folder=$(scripts/node.sh)
parts=tests/interop
stamp=$parts/node_modules/.installed

if ! cmp -s "$parts/package-lock.json" "$stamp"; then
    (cd "$parts" && PATH=$node_folder:$PATH npm ci --no-audit --no-fund --no-update-notifier --loglevel=error >&2)
    cp "$parts/package-lock.json" "$stamp"
fi
echo "$node_folder"
