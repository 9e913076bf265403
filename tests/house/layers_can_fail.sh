#!/usr/bin/env bash
# The layer check must fail on a planted violation of each kind, and pass without.
set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"/{core/{run,adapters,model,merge,files,tokenizer},backends/{kernels,encodings},server,config}
for f in core/a core/run/a core/model/a backends/a backends/kernels/a server/a server/http config/a; do : >"$dir/$f.c"; done
"$here/tests/house/layers.sh" "$dir" || { echo "the check fails on a clean tree"; exit 1; }
planted=0
plant() { # FILE INCLUDE
    echo "#include $2" >"$dir/$1"
    if "$here/tests/house/layers.sh" "$dir" >/dev/null; then echo "not found: $1 includes $2"; exit 1; fi
    : >"$dir/$1"
    planted=$((planted + 1))
}
plant core/a.c '"server/http.h"'
plant core/run/a.c '"backends/chain.h"'
plant core/model/a.c '"core/run/batch.h"'
plant core/model/a.c '"core/adapters/registry.h"'
plant backends/a.c '"core/model/model.h"'
plant backends/a.c '"config/config.h"'
plant backends/kernels/a.c '"backends/gptq.h"'
plant server/a.c '"backends/chain.h"'
plant server/a.c '<microhttpd.h>'
plant core/a.c '<cblas.h>'
plant core/a.c '<immintrin.h>'
plant config/a.c '"core/engine.h"'
echo "layers: $planted planted violations found"
