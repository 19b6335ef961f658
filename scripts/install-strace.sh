#!/usr/bin/env bash
# strace, with which tests kill a daemon at the moment at which it makes something durable. Prints the path of its program.
exec "$(dirname "$0")/debian-part.sh" strace strace
