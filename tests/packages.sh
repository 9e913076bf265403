#!/usr/bin/env bash
# Installs with apt what is missing of: what the program needs to build, and (argument `test`) what its tests need.
# --list: prints what the program needs.
set -eu
build='gcc make pkg-config libmicrohttpd-dev libjansson-dev libopenblas-serial-dev libpcre2-dev nettle-dev libutf8proc-dev'
# shellcheck disable=SC2034
test='check python3 curl openssl g++'
# shellcheck disable=SC2034
demo='python3'
# shellcheck disable=SC2034
real='python3 python3-pip'
# shellcheck disable=SC2034
bench='python3'
# shellcheck disable=SC2034
page='chromium chromium-driver python3-selenium fonts-liberation'
# shellcheck disable=SC2034
recipes='curl nginx-light procps'
# shellcheck disable=SC2034
house='clang-format clang-tidy cppcheck valgrind clang libclang-rt-dev docker.io mmdebstrap systemd git'
# shellcheck disable=SC2034
arm64='gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static mmdebstrap python3'
[ "${1:-}" = --list ] && { echo "$build"; exit 0; }
want=$build
for group in "$@"; do want="$want ${!group}"; done
missing=''
for p in $want; do dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"; done
[ -z "$missing" ] && exit 0
sudo=''
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "please install as root:$missing" >&2; exit 1; }
    sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
