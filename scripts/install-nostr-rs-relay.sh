#!/usr/bin/env bash
# Builds the relay `nostr-rs-relay` under build/parts (about 17 CPU minutes, hence only for `make soak`), and prints the
# path of its program. Does nothing when it is in place, or when P2P_TEST_NOSTR_RS_RELAY names one.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.8.12
root=$PWD/build/parts/nostr-rs-relay-$version
program=${P2P_TEST_NOSTR_RS_RELAY:-$root/bin/nostr-rs-relay}

if [[ ! -x $program ]]; then
    if ! command -v protoc >/dev/null; then
        if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
            apt-get update -qq >&2
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends protobuf-compiler >&2
        else
            echo "error: protoc is missing" >&2
            echo "hint: install protobuf-compiler with your package manager, then run again" >&2
            exit 1
        fi
    fi
    # Without --locked: the `time` of its lock file does not compile with Rust 1.80 and later.
    cargo install nostr-rs-relay --version "$version" --root "$root" --target-dir "$root/target" >&2
    rm -rf "$root/target"
fi
echo "$program"
