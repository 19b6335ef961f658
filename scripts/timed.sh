#!/usr/bin/env bash
# timed.sh NAME COMMAND…: runs the command, says how long it took, and fails as it failed.
set -u
name=$1
shift
begun=$SECONDS
printf '\n==> %s\n' "$name" >&2
"$@"
code=$?
printf '<== %s: %s in %d s\n' "$name" "$([[ $code == 0 ]] && echo done || echo "FAILED ($code)")" $((SECONDS - begun)) >&2
exit "$code"
