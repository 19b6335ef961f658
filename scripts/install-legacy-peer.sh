#!/usr/bin/env bash
# Installs the libraries of the legacy peer (tests/interop/legacy) as its lock file names them, and prints the folder
# of the Node.js to run it with. Does nothing when they are in place.
set -euo pipefail
cd "$(dirname "$0")/.."
node_folder=$(scripts/node.sh)
peer=tests/interop/legacy
stamp=$peer/node_modules/.installed

if ! cmp -s "$peer/package-lock.json" "$stamp"; then
    (cd "$peer" && PATH=$node_folder:$PATH npm ci --no-audit --no-fund --no-update-notifier --loglevel=error >&2)
    cp "$peer/package-lock.json" "$stamp"
fi
echo "$node_folder"
