#!/usr/bin/env bash
# install-slim.sh: `slim-bindings`, which `make bench` compares with, and beside its Python the shim of benches/nodelay.c
# (where there is a C compiler). Prints the path of that Python.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(scripts/python-part.sh slim python)
shim=${python%/bin/python}/nodelay.so
if [[ ! $shim -nt benches/nodelay.c ]] && command -v cc >/dev/null; then
    cc -shared -fPIC -O2 -o "$shim" benches/nodelay.c -ldl >&2
fi
echo "$python"
