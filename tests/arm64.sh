#!/usr/bin/env bash
# Builds the program and its tests for ARM64 and runs them by emulation: every kernel of the portable and the NEON table
# against the oracle, unit tests (all, or the programs given: tests/core/test_engine ...), and a short live run.
# BUILD (build-arm64), ROOT: a Debian root of that architecture, made by mmdebstrap if it is not there.
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build-arm64} ROOT=${ROOT:-$PWD/$BUILD/root}
tests/packages.sh arm64 test
[ -e "$ROOT/usr/include/microhttpd.h" ] || {
    mkdir -p "$(dirname "$ROOT")"
    mmdebstrap --quiet --variant=extract --architectures=arm64 bookworm "$ROOT" --include="libc6-dev,libgcc-12-dev,check,$(
        tests/packages.sh --list | tr ' ' '\n' | grep -- '-dev$' | paste -sd,)"
}
export PKG_CONFIG_SYSROOT_DIR=$ROOT PKG_CONFIG_LIBDIR=$ROOT/usr/lib/aarch64-linux-gnu/pkgconfig:$ROOT/usr/share/pkgconfig
emulate="qemu-aarch64-static -cpu max -L $ROOT"
arm() { make -s -j"$(nproc)" BUILD="$BUILD" SYSROOT="$ROOT" CC="${CCACHE:-} aarch64-linux-gnu-gcc --sysroot=$ROOT" "$@"; }

programs=("$@")
[ $# -gt 0 ] || mapfile -t programs < <(find tests -name 'test_*.c' | sed 's/\.c$//' | sort)
arm "$BUILD/oftd" "$BUILD/check_kernels" "${programs[@]/#/$BUILD/}"
status=0
for isa in portable neon; do
    if $emulate "$BUILD/check_kernels" --isa $isa; then echo "ok - kernels $isa"; else status=1; echo "not ok - kernels $isa"; fi
done
CK_TIMEOUT_MULTIPLIER=20 TEST_TIMEOUT=3600 TEST_UNDER="$emulate" BUILD=$BUILD tests/unit.sh "${programs[@]/#/$BUILD/}" || status=1
TEST_SLOW=20 TEST_UNDER="$emulate" BUILD=$BUILD python3 tests/live/run.py walk || status=1
exit $status
