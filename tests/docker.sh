#!/usr/bin/env bash
# Proves a Dockerfile: builds it with a real container engine, runs the image as
# an orchestrator would (non-root, read-only, no capabilities) and talks to it.
#
#   tests/docker.sh [CONTEXT_DIR]
#
# Engine: ENGINE=docker|dockerd|podman, or the first of these that is there:
#   docker   an engine that already answers `docker info`; it pulls the real base image
#   dockerd  Debian's docker.io, started here on a private socket and data folder (root)
#   podman   Debian's podman with runc, in a private store (root)
# The private two need no registry: their base image is a stand-in that mmdebstrap
# makes from Debian's own packages, with the official image's package set and settings.
#   apt-get install -y --no-install-recommends docker.io curl mmdebstrap     (dockerd)
#   apt-get install -y --no-install-recommends podman runc curl mmdebstrap   (podman)
#
# Exit status: 0 all passed, 1 something failed, 77 skipped (REQUIRE=1: 1 instead).
# BASE_TAR=FILE keeps the stand-in's root file system there and uses it again.
set -uo pipefail

CONTEXT=${1:-${CONTEXT:-.}}
DOCKERFILE=${DOCKERFILE:-$CONTEXT/Dockerfile}
SUITE=${SUITE:-bookworm}
BASE_IMAGE=${BASE_IMAGE:-debian:$SUITE-slim}
TARGET=${TARGET:-}               # of the Dockerfile; empty: its last stage
GET=${GET:-/health}              # what to ask the server for
EXPECT=${EXPECT:-'"status":"ok"'}   # what the answer must hold
FORBID=${FORBID:-gcc make}       # programs that must not be in the final image
CONTROL=${CONTROL:-}             # sed script that breaks the Dockerfile: that image must not get healthy
read -ra RUN_ARGS <<<"${RUN_ARGS:-}" # more `run` options: --env X=y, --volume ...

# Exact tokens, whatever the machine.
GREEDY='"max_tokens": 8, "temperature": 0, "ignore_eos": true, "return_token_ids": true'
pass=0 fail=0 private='' ctr='' dockerd_pid=''
dir=$(mktemp -d "${TMPDIR:-/tmp}/docker-proof.XXXXXX")
ok()    { pass=$((pass + 1)); echo "ok - $*"; }
notok() { fail=$((fail + 1)); echo "not ok - $*"; }
check() { local what=$1; shift; if "$@"; then ok "$what"; else notok "$what"; fi; }
skip()  {
    echo "skip - $*"; echo "0 passed, 0 failed, 1 skipped"
    [ -n "${REQUIRE:-}" ] && exit 1
    exit 77
}
cleanup() {
    [ -n "$ctr" ] && E rm -f "$ctr" >/dev/null 2>&1
    [ -n "$dockerd_pid" ] && kill "$dockerd_pid" 2>/dev/null && wait "$dockerd_pid" 2>/dev/null
    awk -v d="$dir/" 'index($2, d) == 1 {print $2}' /proc/mounts 2>/dev/null | sort -r |
        while read -r m; do umount "$m" 2>/dev/null || umount -l "$m"; done
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP
have() { command -v "$1" >/dev/null 2>&1; }

# --- engine -----------------------------------------------------------------
root_or_skip() { [ "$(id -u)" = 0 ] || skip "a private $ENGINE needs root"; }
need() { local p; for p; do have "$p" || skip "$ENGINE: no $p here (see the apt-get line in $0)"; done; }
if [ -z "${ENGINE:-}" ]; then
    if have docker && docker info >/dev/null 2>&1; then ENGINE=docker
    elif have dockerd; then ENGINE=dockerd
    elif have podman; then ENGINE=podman
    else skip "no container engine: neither a running Docker, nor dockerd, nor podman"; fi
fi
case $ENGINE in
docker)
    need docker curl
    E() { docker "$@"; }
    BUILD=(build) ;;
dockerd)
    need dockerd containerd runc mmdebstrap nsenter curl; root_or_skip; private=1
    # Debian's client has BuildKit built in; a newer client would need the buildx plugin.
    CLIENT=/usr/bin/docker; [ -x $CLIENT ] || CLIENT=docker
    E() { DOCKER_BUILDKIT=1 DOCKER_HOST=unix://$dir/sock DOCKER_CONFIG=$dir/cfg "$CLIENT" "$@"; }
    BUILD=(build --network host --progress plain)
    dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" \
        -H "unix://$dir/sock" --bridge=none --iptables=false --ip6tables=false \
        --ip-forward=false --ip-masq=false >"$dir/dockerd.log" 2>&1 &
    dockerd_pid=$!
    for _ in $(seq 100); do
        E info >/dev/null 2>&1 && break
        kill -0 "$dockerd_pid" 2>/dev/null || break
        sleep 0.2
    done
    E info >/dev/null 2>&1 || { tail -5 "$dir/dockerd.log"; skip "dockerd does not start on this machine"; } ;;
podman)
    need podman runc mmdebstrap nsenter curl; root_or_skip; private=1
    # runc: crun 1.8 refuses hybrid cgroups. ulimits: podman's own defaults need CAP_SYS_RESOURCE.
    printf '%s\n' '[containers]' 'default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]' \
        '[engine]' 'runtime = "runc"' 'cgroup_manager = "cgroupfs"' 'events_logger = "file"' >"$dir/containers.conf"
    printf '%s\n' '[storage]' 'driver = "overlay"' "graphroot = \"$dir/graph\"" "runroot = \"$dir/run\"" >"$dir/storage.conf"
    E() { CONTAINERS_CONF=$dir/containers.conf CONTAINERS_STORAGE_CONF=$dir/storage.conf podman "$@"; }
    # format docker: the OCI format has no HEALTHCHECK. chroot: RUN steps need the host's network.
    BUILD=(build --pull-never --isolation chroot --format docker) ;;
*)  echo "ENGINE=$ENGINE: not docker, dockerd or podman"; exit 1 ;;
esac
[ -z "$TARGET" ] || BUILD+=(--target "$TARGET")
echo "# engine: $ENGINE, $(E version --format '{{.Server.Version}}' 2>/dev/null || E --version)"

# --- base image -------------------------------------------------------------
stand_in() { # the official slim image is minbase + usr-is-merged + these settings
    local tar=$1 src=() f hooks=/usr/share/mmdebstrap/hooks/maybe-merged-usr
    if grep -qs "^VERSION_CODENAME=$SUITE\$" /etc/os-release; then # this machine's own package sources
        for f in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do [ -s "$f" ] && src+=("$f"); done
    fi
    { apt-config dump 2>/dev/null | grep -E '^Acquire::(Check-|Retries|https?::)'
      echo 'Acquire::Languages "none";'; echo 'Acquire::GzipIndexes "true";'
      echo 'APT::AutoRemove::SuggestsImportant "false";'
      echo 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };'
    } >"$dir/apt.conf"
    # shellcheck disable=SC2016
    mmdebstrap --quiet --format=tar --mode=root --variant=minbase --include=usr-is-merged --hook-dir="$hooks" \
        --aptopt="$dir/apt.conf" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/locale/locale.alias' \
        --dpkgopt='path-exclude=/usr/share/lintian/*' \
        --customize-hook='printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"' \
        --customize-hook='rm -f "$1/etc/resolv.conf" "$1/etc/hostname"' \
        "$SUITE" "$tar.new" "${src[@]}" >"$dir/base.log" 2>&1 && mv "$tar.new" "$tar"
}
if [ -n "$private" ]; then
    tar=${BASE_TAR:-$dir/base.tar}
    if [ ! -s "$tar" ]; then
        t=$SECONDS
        stand_in "$tar" || { tail -20 "$dir/base.log"; skip "the stand-in for $BASE_IMAGE could not be made"; }
        echo "# stand-in for $BASE_IMAGE made in $((SECONDS - t)) s"
    fi
    E import --change 'CMD ["bash"]' \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        "$tar" "docker.io/library/$BASE_IMAGE" >"$dir/import.log" 2>&1 ||
        { cat "$dir/import.log"; notok "import the base image"; echo "$pass passed, $fail failed"; exit 1; }
fi

# --- build ------------------------------------------------------------------
img=docker-proof:$$
build() { E "${BUILD[@]}" -t "$2" -f "$1" "$CONTEXT" >"$dir/build.log" 2>&1; }
t=$SECONDS
if build "$DOCKERFILE" "$img"; then ok "the image builds ($((SECONDS - t)) s)"; else
    tail -40 "$dir/build.log"; notok "the image builds"; echo "$pass passed, $fail failed"; exit 1
fi

# --- what the image says of itself --------------------------------------------
cfg() { E image inspect --format "$1" "$img"; }
user=$(cfg '{{.Config.User}}')
port=$(cfg '{{range $p, $_ := .Config.ExposedPorts}}{{println $p}}{{end}}' | sed -n 's|/tcp$||p' | head -1)
check "USER is set and is not root (USER ${user:-unset})" [ -n "$user" -a "$user" != root -a "${user%%:*}" != 0 ]
check "EXPOSE names a TCP port (${port:-none})" [ -n "$port" ]
check "ENTRYPOINT is in exec form" [ "$(cfg '{{json .Config.Entrypoint}}' | grep -cE 'null|/bin/sh","-c|^\[\]$')" = 0 ]
health=.Config.Healthcheck; [ "$ENGINE" = podman ] && health=.HealthCheck
health=$(cfg "{{json $health}}" 2>/dev/null | grep -oE '"Test":\["CMD[^]]*\]')
check "HEALTHCHECK is in the image" [ -n "$health" ]
for p in $FORBID; do
    E run --rm --network none --entrypoint sh "$img" -c "command -v $p" >/dev/null 2>&1
    check "$p is not in the final image" [ $? = 127 -o $? = 1 ]
done

# --- run ----------------------------------------------------------------------
if [ -n "$private" ]; then net=(--network none); else net=(-p "127.0.0.1::${port:-8080}"); fi
start() { # IMAGE [more options]
    local image=$1; shift
    ctr=$(E run -d "${net[@]}" --read-only --cap-drop ALL --security-opt no-new-privileges \
        --memory 512m --pids-limit 128 "${RUN_ARGS[@]}" "$@" "$image" 2>"$dir/run.log") && [ -n "$ctr" ]
}
state() { E inspect --type container --format "{{.State.$1}}" "$ctr"; }
healthy() { # within $1 seconds; podman without systemd has no timer, so ask for each check
    local end=$((SECONDS + $1))
    while [ "$SECONDS" -lt "$end" ]; do
        if [ "$ENGINE" = podman ]; then E healthcheck run "$ctr" >/dev/null 2>&1 && return 0
        else case $(state Health.Status 2>/dev/null) in healthy) return 0 ;; unhealthy) return 1 ;; esac; fi
        [ "$(state Running)" = true ] || return 1
        sleep 0.5
    done
    return 1
}
ask() { # HOST PATH [curl's options]: inside the container's own network, or through the published port
    local at=$1:$port path=$2; shift 2
    if [ -n "$private" ]; then nsenter -t "$pid" -n curl -sS -m 20 "$@" "http://$at$path"
    else curl -sS -m 20 "$@" "http://$(E port "$ctr" "$port/tcp" | head -1)$path"; fi
}
complete() { # BODY: the token ids of a greedy answer
    ask 127.0.0.1 /v1/completions -H 'Content-Type: application/json' -d "$1" 2>&1 |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["token_ids"])' 2>&1
}
in_ctr() { E exec "$ctr" sh -c "$1" >/dev/null 2>&1; }

if start "$img"; then ok "the container starts, read-only, without capabilities"; else
    cat "$dir/run.log"; notok "the container starts"; echo "$pass passed, $fail failed"; exit 1
fi
t=$SECONDS
if healthy 60; then ok "HEALTHCHECK turns healthy ($((SECONDS - t)) s)"; else notok "HEALTHCHECK turns healthy"; E logs "$ctr" 2>&1 | tail -20; fi
pid=$(state Pid)
answer=$(ask 127.0.0.1 "$GET" 2>&1)
check "GET $GET answers: $(printf %.60s "$answer")" [ "${answer#*"$EXPECT"}" != "$answer" ]
[ -n "$private" ] && # a server bound to 127.0.0.1 alone would not answer here, nor through a published port
    check "it listens on all addresses, not on 127.0.0.1 alone" [ -n "$(ask 127.0.0.2 "$GET" 2>/dev/null)" ]
uid=$(E exec "$ctr" id -u)
check "it runs as a user, not as root (uid $uid)" [ "${uid:-0}" != 0 ]
in_ctr 'test "$(awk "/^CapEff/{print \$2}" /proc/1/status)" = 0000000000000000'; check "PID 1 holds no capability" [ $? = 0 ]
in_ctr 'echo x >/usr/local/bin/x'; check "the root file system is not writable" [ $? != 0 ]
want='[654, 845, 34, 308, 499, 990, 341, 455]' # demo/expected.json
check "the demo answers" [ "$(complete '{"prompt": "What is a", "compute": "exact", '"$GREEDY"'}')" = "$want" ]
t=$SECONDS
E stop -t 10 "$ctr" >/dev/null 2>&1
check "SIGTERM as PID 1 stops it cleanly: exit $(state ExitCode) in $((SECONDS - t)) s" [ "$(state ExitCode)" = 0 -a $((SECONDS - t)) -lt 9 ]
E rm -f "$ctr" >/dev/null 2>&1; ctr=''

# --- a model and adapters of one's own, mounted ------------------------------------
own=$CONTEXT/tests/vectors/fixtures/bnb4-nf4-dq
cp -r "$own" "$dir/own" && chmod -R a+rX "$dir/own"
if start "$img" -v "$dir/own:/models/base:ro" -v "$dir/own/adapters:/models/adapters:ro" && healthy 60; then
    ok "it serves a mounted model"
else E logs "$ctr" 2>&1 | tail -20; notok "it serves a mounted model"; fi
pid=$(state Pid)
expected() { # WHO, and the first prompt's answer as the library gives it
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["greedy"][sys.argv[2]][0][:8])' "$own/expected.json" "$1"
}
prompt=$(python3 - "$own/expected.safetensors" <<'EOF'
import json, struct, sys
with open(sys.argv[1], "rb") as f:
    data = f.read()
size, = struct.unpack("<Q", data[:8])
t = json.loads(data[8:8 + size])["input_ids"]
assert t["dtype"] == "I64", t
print(list(struct.unpack_from("<8q", data, 8 + size + t["data_offsets"][0])))
EOF
)
for who in base qv; do
    adapter=$([ $who = base ] && echo null || echo "\"$who\"")
    got=$(complete '{"prompt": '"$prompt"', "adapter": '"$adapter"', "compute": "exact", '"$GREEDY"'}')
    check "its $who answers as the library does: $(printf %.60s "$got")" [ "$got" = "$(expected $who)" ]
done
E rm -f "$ctr" >/dev/null 2>&1; ctr=''

# --- control: a Dockerfile broken on purpose must be caught --------------------
if [ -n "$CONTROL" ]; then
    sed "$CONTROL" "$DOCKERFILE" >"$dir/Broken.Dockerfile"
    if cmp -s "$DOCKERFILE" "$dir/Broken.Dockerfile"; then notok "control: '$CONTROL' changes nothing"
    elif ! build "$dir/Broken.Dockerfile" "$img-broken"; then ok "control: the broken Dockerfile does not build"
    elif ! start "$img-broken" || ! healthy 20; then
        ok "control: the broken image does not get healthy: $(E logs "$ctr" 2>&1 | tail -1 | cut -c1-120)"
    else notok "control: the broken image passes"; fi
    [ -n "$ctr" ] && E rm -f "$ctr" >/dev/null 2>&1; ctr=''
    [ -z "$private" ] && E rmi "$img-broken" >/dev/null 2>&1
fi
[ -z "$private" ] && E rmi "$img" >/dev/null 2>&1
[ -n "$private" ] && echo "# disk at its end: $(du -sm "$dir" 2>/dev/null | cut -f1) MiB"
echo "$pass passed, $fail failed"
[ "$fail" = 0 ]
