#!/usr/bin/env bash
# install-mcp.sh MAJOR: `mcp`, clients of the tests are written on it. Prints the path of its Python.
exec "$(dirname "$0")/python-part.sh" "mcp-$1" python
