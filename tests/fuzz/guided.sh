#!/usr/bin/env bash
# guided.sh PROGRAM SECONDS: runs a target that was built with libFuzzer from its corpus, then adds to the corpus the
# inputs that reach branches nothing there reaches. A crash is left in ./crash-fuzz_TARGET-*, and ends it with 1.
set -u
target=$(basename "$1")
corpus=tests/fuzz/corpus/${target#fuzz_}
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
echo "$target"
if ! "$1" -max_total_time="$2" -max_len=65536 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="./crash-$target-" "$found" "$corpus" >"$found.log" 2>&1; then
    tail -n 60 "$found.log"
    rm -f "$found.log"
    exit 1
fi
grep -E 'INITED|DONE|number_of_executed' "$found.log"
rm -f "$found.log"
"$1" -merge=1 -use_counters=0 "$corpus" "$found" 2>&1 | grep -E 'MERGE-OUTER: [0-9]+ new'
exit 0
