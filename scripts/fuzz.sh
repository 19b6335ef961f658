#!/usr/bin/env bash
# make fuzz: libFuzzer on each input of src/fuzz.rs, guided by coverage. Works on stable Rust: what cargo-fuzz takes from
# nightly are the sanitizers, which find errors of memory that safe Rust does not have.
#
#   P2P_FUZZ_SECONDS   for each input (60)
#   P2P_FUZZ_INPUTS    their names (all)
#   P2P_FUZZ_SEED      of the first input's run; printed (random)
#
# A case that fails is kept in target/fuzz/<input>/ and named. Put it into fuzz/corpus/<input>/ with its mending.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${P2P_FUZZ_SECONDS:-60}
inputs=${P2P_FUZZ_INPUTS:-$(ls fuzz/corpus)}
seed=${P2P_FUZZ_SEED:-$RANDOM}
host=$(rustc --version --verbose | sed -n 's/^host: //p')

# With --target the flags reach neither build scripts nor macros, which would not link with them.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --quiet --locked --profile fuzz --features fuzz --bin p2p-comm-fuzz --target "$host"
fuzz=${CARGO_TARGET_DIR:-target}/$host/fuzz/p2p-comm-fuzz

echo "seed $seed, $seconds s an input"
failed=()
for input in $inputs; do
    work=target/fuzz/$input
    mkdir -p "$work/found"
    log=$work/log
    # The time limit of a case is its processor time (src/fuzz.rs); libFuzzer's own is for what never ends.
    if ! P2P_FUZZ_INPUT=$input "$fuzz" -seed="$seed" -max_total_time="$seconds" -max_len=65536 -len_control=50 \
        -timeout=30 -rss_limit_mb=1024 -dict=fuzz/words.dict -artifact_prefix="$work/" -print_final_stats=1 \
        "$work/found" "fuzz/corpus/$input" >"$log" 2>&1; then
        failed+=("$input")
        tail -n 30 "$log"
    fi
    cases=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
    speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    covered=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 || true)
    printf '%-14s %10s cases  %8s/s  %s\n' "$input" "${cases:-?}" "${speed:-?}" "$covered"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}; the cases are in target/fuzz/" >&2
    exit 1
fi
