#!/usr/bin/env bash
# The relay `nostr-relay`: the tests run against it because nobody here wrote it. Prints the path of its program.
exec "$(dirname "$0")/python-part.sh" nostr-relay nostr-relay
