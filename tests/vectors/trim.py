#!/usr/bin/env python3
"""trim.py FROM [NAME...]: copies golden checkpoints (all, or those named) from a folder with fixtures/, families/, tokenizers/
to this one, trimmed.

The originals were made with the real libraries (torch, transformers, PEFT, bitsandbytes, gptqmodel, tokenizers; versions in
each expected.json). Kept: the checkpoint, the adapters, expected.json, and of expected.safetensors the inputs and outputs;
dropped: decoded and merged weights, which expected.json has as hashes. Writes manifest.json (SHA-256 of every file)."""
import hashlib, json, os, shutil, struct, sys

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = ["plain-bf16", "bnb8", "bnb4-nf4-dq", "eetq8", "gptq3", "gptq4-g32-actorder", "awq4-gemm-g128",
            "autoround4", "inc-fp8",
            "aqlm-2x8", "hqq2-g16-axis0"]
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt_neox", "falcon", "opt", "gpt2", "mixtral",
            "qwen3_moe", "bert", "roberta", "resnet", "vit"]
TOKENIZERS = ["gpt2", "opt", "llama3", "qwen2", "deepseek-v3", "falcon", "gpt-neox", "llama2", "llama1-normalized", "phi3", "gemma",
              "bert-uncased", "t5"]


def trim(src, dst):
    raw = open(src, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8:8 + n])
    head.pop("__metadata__", None)
    out, data = {}, b""
    for k, v in head.items():
        if k.split(".")[0] in ("dequant", "merged"):
            continue
        a, b = v["data_offsets"]
        out[k] = {"dtype": v["dtype"], "shape": v["shape"], "data_offsets": [len(data), len(data) + b - a]}
        data += raw[8 + n + a:8 + n + b]
    j = json.dumps(out).encode()
    j += b" " * (-len(j) % 8)
    open(dst, "wb").write(struct.pack("<Q", len(j)) + j + data)


def main(src, only):
    for kind, names in (("fixtures", FIXTURES), ("families", FAMILIES), ("tokenizers", TOKENIZERS)):
        for name in names:
            if only and name not in only:
                continue
            a, b = f"{src}/{kind}/{name}", f"{HERE}/{kind}/{name}"
            shutil.rmtree(b, ignore_errors=True)
            for root, _, files in os.walk(a):
                for f in files:
                    if kind == "tokenizers" and f not in ("tokenizer.json", "cases.json"):
                        continue
                    to = f"{b}/{os.path.relpath(root, a)}"
                    os.makedirs(to, exist_ok=True)
                    if f == "expected.safetensors":
                        trim(f"{root}/{f}", f"{to}/{f}")
                    else:
                        shutil.copyfile(f"{root}/{f}", f"{to}/{f}")
    manifest = {}
    for root, dirs, files in os.walk(HERE):
        dirs.sort()
        for f in sorted(files):
            p = os.path.relpath(f"{root}/{f}", HERE)
            if p.split("/")[0] in ("fixtures", "families", "tokenizers"):
                manifest[p] = hashlib.sha256(open(f"{root}/{f}", "rb").read()).hexdigest()
    json.dump(manifest, open(f"{HERE}/manifest.json", "w"), indent=0)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
