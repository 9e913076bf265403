#!/usr/bin/env bash
# run.sh [SHAPE[:FORMAT]...]: every measure of this machine, as a table beside the goals. SHAPE is 110M (the default), 1.1B, slice
# or tiny, FORMAT one of make_model.py's (nf4). Models are made below $SCRATCH (a temporary folder, removed at the end, unless it
# is set: then what is there is used again). BENCH_FLAGS go to `oftd bench`, KERNELS=0 leaves the kernels out, POOL=N is the number
# of adapters of Zipf's traffic (1000; 0: none), with memory for 64. Exit 0 when everything was measured; a missed floor is
# printed, and fails only with STRICT=1.
set -eu
cd "$(dirname "$0")/../.."
tests/packages.sh bench
build=${BUILD:-build} pool=${POOL:-1000} adapters=32
if [ -n "${SCRATCH:-}" ]; then
    mkdir -p "$SCRATCH"
else
    SCRATCH=$(mktemp -d)
    trap 'rm -rf "$SCRATCH"' EXIT
fi
missed=0
# The memory that 64 adapters take when 32 of them are measured in FILE.
memory_of_64() {
    python3 -c 'import json, sys; b = json.load(open(sys.argv[1])); print(int(64.5 * b["memory"]["adapter_bytes"] / b["adapters"]))' "$1"
}
measure() {
    local shape=${1%%:*} format=nf4 model flags=() results a
    [ "$1" = "$shape" ] || format=${1#*:}
    model=$SCRATCH/$shape-$format
    [ -e "$model/made" ] || {
        python3 tests/bench/make_model.py "$shape" "$model" --format "$format" --adapters $adapters --pool "$pool"
        touch "$model/made"
    }
    for a in "$model"/adapters/*; do flags+=(--adapter "$(basename "$a")=$a"); done
    echo "== $shape $format"
    results=("$model/bench.json" "$model/outside.json")
    # shellcheck disable=SC2086
    "$build/oftd" bench --model "$model/base" "${flags[@]}" --adapter-memory 64G --batch $adapters --json \
        ${BENCH_FLAGS:-} >"$model/bench.json"
    isa=$(sed -n 's/^ *"isa": "\([a-z0-9]*\)".*/\1/p' "$model/bench.json")
    BUILD=$build python3 tests/bench/outside.py "$model" >"$model/outside.json"
    if [ "$pool" != 0 ]; then
        # shellcheck disable=SC2086
        "$build/oftd" bench --model "$model/base" --measure traffic --adapter-dir "$model/pool" \
            --adapter-memory "$(memory_of_64 "$model/bench.json")" --json ${BENCH_FLAGS:-} >"$model/traffic.json"
        results+=("$model/traffic.json")
    fi
    python3 tests/bench/table.py "${results[@]}" || missed=1
}
for model in "${@:-110M}"; do measure "$model"; done
if [ "${KERNELS:-1}" != 0 ]; then
    echo "== kernels"
    "$build/check_kernels" --time --isa "$isa"
fi
[ "${STRICT:-0}" = 0 ] || exit $missed
