#!/usr/bin/env bash
# cargo-deny by deny.toml. The advisories come from a database on the network: without it, that check is left out, and
# said to be.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo deny --locked check bans licenses sources
if cargo deny --locked fetch db 2>/dev/null; then
    cargo deny --locked check --disable-fetch advisories
else
    echo 'cargo deny: the database of advisories cannot be fetched; advisories and yanked crates not checked' >&2
fi
