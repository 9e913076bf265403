#!/usr/bin/env bash
# The service unit is valid and hardened, and the manifests agree with the image: port, probes, user, read-only root.
set -u
cd "$(dirname "$0")/../.." || exit 1
pass=0 fail=0
check() { local what=$1; shift; if "$@" >/dev/null 2>&1; then pass=$((pass + 1)); echo "ok - $what"; else fail=$((fail + 1)); echo "not ok - $what"; fi; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
sed "s|/usr/local/bin/oftd|$PWD/${BUILD:-build}/oftd|" deploy/oftd.service >"$dir/oftd.service"
cp deploy/oftd.socket "$dir/oftd.socket"
check 'systemd-analyze verify' systemd-analyze verify --man=no --recursive-errors=one "$dir/oftd.service" "$dir/oftd.socket"
check 'systemd-analyze security: exposure at most 2.0' systemd-analyze security --offline=yes --threshold=20 "$dir/oftd.service"
port=$(sed -n 's/^EXPOSE //p' Dockerfile) user=$(sed -n 's/^USER \([0-9]*\):.*/\1/p' Dockerfile)
for d in deploy/kubernetes/deployment.yaml deploy/kserve/runtime.yaml; do
    check "$d: the port is the one that the image exposes" grep -q "containerPort: $port" $d
    check "$d: the user is that of the image" grep -q "runAsUser: $user" $d
    check "$d: root file system is read-only" grep -q 'readOnlyRootFilesystem: true' $d
    for path in $(sed -n 's/.*path: \(\/[a-z0-9/]*\)[,}]*.*/\1/p' $d | sort -u); do check "$d: $path is a route" grep -q "\"$path\"" server/routes.c; done
done
check 'gateway: the port is the one that the image exposes' grep -q "number: $port" deploy/gateway/pool.yaml
for path in $(sed -n 's/.*value: \(\/v[a-z0-9/]*\)}*/\1/p' deploy/gateway/route.yaml); do check "gateway: $path is a route" grep -q "\"$path" server/routes.c; done
for k in kubernetes gateway sidecar; do
    command -v kubectl >/dev/null && check "deploy/$k: kubectl kustomize" kubectl kustomize deploy/$k
done
check 'compose: the port is the one that the image exposes' grep -q ":$port\"" deploy/compose.yaml
check 'installed: make install DESTDIR' make -s install DESTDIR="$dir/root" PREFIX=/usr
check 'installed: the program says its version' sh -c "'$dir/root/usr/bin/oftd' --version | grep -q $(cat VERSION)"
check 'installed: the units are there' test -s "$dir/root/usr/lib/systemd/system/oftd.socket" -a -s "$dir/root/usr/lib/systemd/system/oftd.service"
check 'installed: the manual page is there' test -s "$dir/root/usr/share/man/man1/oftd.1"
echo "$pass passed, $fail failed"
[ $fail -eq 0 ]
