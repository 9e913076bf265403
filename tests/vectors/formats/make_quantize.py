#!/usr/bin/env python3
"""make_quantize.py FAMILIES OUT.json: what transformers and bitsandbytes make of plain checkpoints.

Every folder FAMILIES/NAME of the list below is loaded with each quantization, saved again, and its
tensors are hashed (digest). Python 3.11, torch 2.15.0, transformers 5.23.0, bitsandbytes 0.50.2,
accelerate, on a CPU.
"""
import glob
import hashlib
import json
import os
import struct
import sys
import tempfile

NAMES = ("llama", "qwen2", "gemma2", "gpt2", "gpt_neox", "opt", "phi3", "mixtral")


def digest(folder):
    """SHA-256 over name, dtype, shape and bytes of every tensor, by name."""
    tensors = {}
    for path in glob.glob(folder + "/*.safetensors"):
        with open(path, "rb") as f:
            data = f.read()
        size = struct.unpack("<Q", data[:8])[0]
        for name, t in json.loads(data[8:8 + size]).items():
            if name != "__metadata__":
                first, end = t["data_offsets"]
                tensors[name] = (t["dtype"], t["shape"], data[8 + size + first:8 + size + end])
    return digest_of(tensors)


def digest_of(tensors):
    h = hashlib.sha256()
    for name in sorted(tensors):
        dtype, shape, data = tensors[name]
        h.update(f"{name} {dtype} {shape}\n".encode() + data)
    return h.hexdigest()


def main():
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    def four(kind, nested):
        return dict(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=nested)

    schemes = {"bnb-nf4": four("nf4", False), "bnb-nf4-dq": four("nf4", True), "bnb-fp4": four("fp4", False),
               "bnb-fp4-dq": four("fp4", True), "bnb-int8": dict(load_in_8bit=True)}
    torch.set_num_threads(1)
    result = {"configs": {}, "tensors": {}}
    for name in NAMES:
        result["tensors"][name] = {}
        for scheme, options in schemes.items():
            with tempfile.TemporaryDirectory() as out:
                model = AutoModelForCausalLM.from_pretrained(os.path.join(sys.argv[1], name), device_map="cpu",
                                                             quantization_config=BitsAndBytesConfig(**options))
                model.save_pretrained(out)
                with open(out + "/config.json") as f:
                    result["configs"][scheme] = json.load(f)["quantization_config"]
                result["tensors"][name][scheme] = digest(out)
    with open(sys.argv[2], "w") as f:
        json.dump(result, f, indent=1, sort_keys=True)
        f.write("\n")


if __name__ == "__main__":
    main()
