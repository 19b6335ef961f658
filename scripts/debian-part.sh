#!/usr/bin/env bash
# debian-part.sh PACKAGE NAME: installs a package of Debian unless it is there, and prints the path of its program or
# library NAME. Needs root only when something is missing.
set -euo pipefail

find_part() {
    command -v "$2" || { dpkg -L "$1" 2>/dev/null | grep -m 1 "/$2\$"; }
}

if ! find_part "$@" >/dev/null; then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >&2
    else
        echo "error: $1 is missing" >&2
        echo "hint: install $1 with your package manager, then run again" >&2
        exit 1
    fi
fi
find_part "$@"
