#!/usr/bin/env bash
# install-a2a.sh: `a2a-sdk`, a client of the tests is written on it. Prints the path of its Python.
exec "$(dirname "$0")/python-part.sh" a2a python
