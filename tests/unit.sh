#!/usr/bin/env bash
# Runs libcheck programs (arguments) and sums them up: one line each, then `N passed, N failed`. A program that dies or
# says nothing counts as one failure. TEST_TIMEOUT seconds each; TEST_UNDER="qemu-... ": what they run under.
set -u
pass=0 fail=0
for t in "$@"; do
    start=$(date +%s)
    # shellcheck disable=SC2086
    out=$(CK_DEFAULT_TIMEOUT="${CK_DEFAULT_TIMEOUT:-120}" timeout "${TEST_TIMEOUT:-600}" ${TEST_UNDER:-} "$t" 2>&1)
    rc=$?
    line=$(printf '%s\n' "$out" | grep -E '^[0-9]+%: Checks: ' | tail -n 1)
    n=$(sed -n 's/.*Checks: \([0-9]*\),.*/\1/p' <<<"$line") f=$(sed -n 's/.*Failures: \([0-9]*\), Errors: \([0-9]*\).*/\1+\2/p' <<<"$line")
    if [ -z "$line" ] || { [ $rc -ne 0 ] && [ $((f)) -eq 0 ]; }; then
        fail=$((fail + 1))
        printf 'not ok - %s (exit %s)\n%s\n' "${t#"${BUILD:-build}"/}" $rc "$(tail -n 30 <<<"$out")"
        continue
    fi
    pass=$((pass + n - (f))) fail=$((fail + f))
    if [ $((f)) -eq 0 ]; then
        printf 'ok - %s (%s checks, %s s)\n' "${t#"${BUILD:-build}"/}" "$n" $(($(date +%s) - start))
    else
        printf 'not ok - %s\n%s\n' "${t#"${BUILD:-build}"/}" \
            "$(grep -m 1 -A 40 -E '(WARNING|ERROR): [A-Za-z]*Sanitizer' <<<"$out"; tail -n 40 <<<"$out")"
    fi
done
echo "$pass passed, $fail failed"
[ $fail -eq 0 ] && [ $pass -gt 0 ]
