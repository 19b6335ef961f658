#!/usr/bin/env bash
# Installs strace, with which tests kill a daemon at the moment at which it makes something durable, and prints the path
# of its program. Does nothing when it is in place.
set -euo pipefail

if ! command -v strace >/dev/null; then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends strace >&2
    else
        echo "error: strace is missing" >&2
        echo "hint: install strace with your package manager, then run again" >&2
        exit 1
    fi
fi
command -v strace
