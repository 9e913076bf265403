#!/usr/bin/env bash
# run.sh [SHAPE[:FORMAT]...]: every measure of this machine, as a table beside the goals. SHAPE is 110M (the default), 1.1B or
# tiny, FORMAT one of make_model.py's (nf4). Models are made below $SCRATCH (a temporary folder, removed at the end, unless it is
# set: then what is there is used again). BENCH_FLAGS go to `oftd bench`, KERNELS=0 leaves the kernels out. Exit 0 when
# everything was measured; a missed goal is printed, and fails only with STRICT=1.
set -eu
cd "$(dirname "$0")/../.."
tests/packages.sh bench
build=${BUILD:-build}
if [ -n "${SCRATCH:-}" ]; then
    mkdir -p "$SCRATCH"
else
    SCRATCH=$(mktemp -d)
    trap 'rm -rf "$SCRATCH"' EXIT
fi
missed=0
measure() {
    local shape=${1%%:*} format=nf4 model adapters=() a
    [ "$1" = "$shape" ] || format=${1#*:}
    model=$SCRATCH/$shape-$format
    [ -e "$model/made" ] || { python3 tests/bench/make_model.py "$shape" "$model" --format "$format" && touch "$model/made"; }
    for a in "$model"/adapters/*; do adapters+=(--adapter "$(basename "$a")=$a"); done
    echo "== $shape $format"
    # shellcheck disable=SC2086
    "$build/oftd" bench --model "$model/base" "${adapters[@]}" --json ${BENCH_FLAGS:-} >"$model/bench.json"
    isa=$(sed -n 's/^ *"isa": "\([a-z0-9]*\)".*/\1/p' "$model/bench.json")
    BUILD=$build python3 tests/bench/outside.py "$model" >"$model/outside.json"
    python3 tests/bench/table.py "$model/bench.json" "$model/outside.json" || missed=1
}
for model in "${@:-110M}"; do measure "$model"; done
if [ "${KERNELS:-1}" != 0 ]; then
    echo "== kernels"
    "$build/check_kernels" --time --isa "$isa"
fi
[ "${STRICT:-0}" = 0 ] || exit $missed
