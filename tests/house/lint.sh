#!/usr/bin/env bash
# lint.sh BUILD "FLAGS" SOURCES...: clang-tidy (.clang-tidy) file by file, two at a time, then cppcheck over all. A file
# whose text, headers and flags have not changed since it was last clean is skipped (stamps under BUILD/lint).
# LINT_NODES=N: states that clang's analyzer visits in a function; without it the analyzer's own 225,000, which take three
# times as long as the 75,000 of its shallow mode.
set -u
build=$1 flags="$2${LINT_NODES:+ -Xclang -analyzer-config -Xclang max-nodes=$LINT_NODES}"
shift 2
stamps=$build/lint
mkdir -p "$stamps"
headers=$(cat $(git ls-files '*.h' '*.def' 2>/dev/null || find . -name '*.h' -o -name '*.def') .clang-tidy | sha256sum | cut -c1-16)
check_one() {
    local src=$1 isa='' key avx512='-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi -mavx512vnni -mavx512bf16 -mavx2 -mfma -mf16c'
    case $src in
    *_avx512*) isa=$avx512 ;;
    *_amx*) isa="$avx512 -mamx-tile -mamx-int8" ;;
    *_avxvnni*) isa='-mavx2 -mfma -mf16c -mavxvnni' ;;
    *_avx2*) isa='-mavx2 -mfma -mf16c' ;;
    esac
    key=$stamps/$(echo "$src $headers $(sha256sum <"$src") $flags" | sha256sum | cut -c1-24)
    [ -e "$key" ] && return 0
    local out
    # shellcheck disable=SC2086
    if out=$(clang-tidy --quiet "$src" -- $flags $isa 2>/dev/null); then touch "$key"; else echo "$out"; return 1; fi
}
export -f check_one
export flags stamps headers
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c 'check_one {}' || exit 1
cppcheck --quiet --std=c11 --language=c --error-exitcode=1 --inline-suppr --suppressions-list=tests/house/cppcheck.txt \
    --enable=warning,performance,portability -I. -D__x86_64__ -j "$(nproc)" "$@"
