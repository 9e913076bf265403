#!/usr/bin/env bash
# peers.sh [--quick] [SHAPE]: ours beside other programs on one machine (peers.py), at 1.1B or another shape; prints the table and
# draws the plot. Nothing is fetched or built: what is not there is left out. Environment:
#   PEERS   "NAME=BIN_DIR ..."  folders with llama-bench, llama-batched-bench, llama-server; the first one's server is asked
#   REPACK  "NAME ..."          of these, those that are run with -rtr
#   GGUF    a folder with SHAPE-q4_0.gguf, SHAPE-q4_k_s.gguf, SHAPE-q8_0.gguf, SHAPE-f16.gguf and SHAPE-lora-0.gguf ... -31.gguf
#   PEFT    a Python that has torch, transformers, peft and bitsandbytes
#   SCRATCH a folder for our models (kept) and results: SCRATCH/SHAPE-peers.json, SCRATCH/SHAPE-adapters.svg
#   FORMAT4 ours with 4 bits: gptq4 (groups of 128, the default) or nf4-dq;  FAST: its flags ("--head 8")
#   FLAGS   of ours in every row ("--isa avx2")
# By estimate it takes 20 minutes at 1.1B on two idle cores, with --quick 8: two pairs, Q4_0 alone of the 4-bit files, the plot at
# 1 and 32 adapters.
set -eu
cd "$(dirname "$0")/../.."
more=() files=(q4_0 q4_k_s q8_0 f16)
[ "${1:-}" != --quick ] || { more=(--pairs 2 --seconds 6 --plot 1 32) files=(q4_0 q8_0 f16); shift; }
shape=${1:-1.1B} four=${FORMAT4:-gptq4}
: "${SCRATCH:?a folder for models and results}"
mkdir -p "$SCRATCH"
model() {
    local to=$SCRATCH/$shape-$1
    [ -e "$to/made" ] || { python3 tests/bench/make_model.py "$shape" "$to" --format "$1" --adapters "$2" && touch "$to/made"; }
}
model "$four" 32
model nf4 8
model gptq8 0
model f16 0
flags=(--ours "4bit=$SCRATCH/$shape-$four/base" --ours "nf4=$SCRATCH/$shape-nf4/base" --ours "8bit=$SCRATCH/$shape-gptq8/base"
       --ours "f16=$SCRATCH/$shape-f16/base" --fast "${FAST---head 8}" --flags="${FLAGS:-}")
for p in ${PEERS:-}; do flags+=(--peer "$p"); done
for p in ${REPACK:-}; do flags+=(--repack "$p"); done
for f in "${files[@]}"; do [ ! -e "${GGUF:-}/$shape-$f.gguf" ] || flags+=(--file "$f=$GGUF/$shape-$f.gguf"); done
adapters=() lora=()
for i in $(seq 0 31); do
    adapters+=("$SCRATCH/$shape-$four/adapters/a$i")
    [ ! -e "${GGUF:-}/$shape-lora-$i.gguf" ] || lora+=("$GGUF/$shape-lora-$i.gguf")
done
flags+=(--adapters "${adapters[@]}")
[ ${#lora[@]} = 0 ] || flags+=(--lora "${lora[@]}")
[ -z "${PEFT:-}" ] || flags+=(--peft "$PEFT")
out=$SCRATCH/$shape-peers.json
python3 tests/bench/peers.py --out "$out" "${flags[@]}" "${more[@]}"
python3 tests/bench/plot.py "$out" "$SCRATCH/$shape-adapters.svg"
python3 tests/bench/table.py "$out" || true
