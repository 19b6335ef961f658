#!/usr/bin/env bash
# callgrind.sh: how many instructions the hot functions take, each counted by callgrind at FEW and at MANY repetitions;
# the difference is theirs alone. The last line is one JSON object. Needs valgrind (apt-get install valgrind).
set -euo pipefail
cd "$(dirname "$0")/.."
few=10
many=60

hot=$(cargo bench --locked --bench hot --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')

count() { # count NAME REPETITIONS: instructions of the whole program
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$hot" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

printf '%-48s%16s\n' 'instructions, counted by callgrind' 'each'
json=
while read -r name; do
    each=$((($(count "$name" "$many") - $(count "$name" "$few")) / (many - few)))
    printf '%-48s%16d\n' "$name" "$each"
    json+="${json:+, }\"$name\": $each"
done < <("$hot")
printf '{"bench": "hot", "instructions": {%s}}\n' "$json"
