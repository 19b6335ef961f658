#!/usr/bin/env bash
# `nostr-sdk`: a client of the tests is written on it, because nobody here wrote it. Prints the path of its Python.
exec "$(dirname "$0")/python-part.sh" nostr-sdk python
