#!/usr/bin/env bash
# Checks what a fresh machine must have before anything is built: Rust, a C compiler (SQLite is compiled in) and
# Python 3.10 with venv. What apt-get can supply is installed when we are root; the rest is said in plain words.
set -euo pipefail
python=${1:-python3}

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v "$python" >/dev/null || missing+=(python3)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if ((${#missing[@]})); then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "error: missing system packages: ${missing[*]}" >&2
        echo "hint: install them (Debian names) with your package manager, then run make again" >&2
        exit 1
    fi
fi

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "error: $("$python" --version) is too old: Python 3.10 or later is needed" >&2
    echo "hint: name another one with make PYTHON=/path/to/python3" >&2
    exit 1
fi
if ! command -v cargo >/dev/null; then
    echo "error: cargo is not in PATH" >&2
    echo "hint: install Rust (the least version is rust-version in Cargo.toml) with rustup" >&2
    exit 1
fi
