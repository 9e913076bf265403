#!/usr/bin/env python3
"""make_bnb_8bit.py [TO [RANDOM]]: makes bnb_8bit.safetensors and bnb_8bit.json with bitsandbytes on a CPU.

Each case is a Linear8bitLt's state dict (<case>.weight, .SCB, .weight_format), quantized by the library from the first
N*K elements of `pool` (from `skip` on, times `factor`, rows `zero` set to 0, rounded to the case's dtype), and the SHA-256
of the library's own dequantized f32 values (-0.0 as +0.0). TO: where to; RANDOM: so many random cases instead of the
listed ones. Needs bitsandbytes 0.50.2, torch, numpy, safetensors.
"""
import hashlib, json, os, sys
import numpy as np
import torch
import bitsandbytes
import bitsandbytes.functional as F
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
D = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
CASES = [  # dtype, N, K, factor, rows of zeros
    ("float16", 8, 64, 1, []), ("bfloat16", 16, 128, 1, []), ("float32", 5, 33, 1, []), ("float16", 1, 1, 1, []),
    ("float32", 37, 50, 1, [0, 36]), ("float16", 33, 257, 1, [7]), ("float32", 3, 96, 40000, []),
    ("float32", 6, 40, 1e-6, [2]), ("bfloat16", 100, 31, 3, []), ("float16", 4, 32, 1, [0, 1, 2, 3]),
]


def main(to=HERE, count=0):
    rng = np.random.default_rng(20261124)
    pool = (rng.standard_normal(16384) * 0.05).astype(np.float32)
    pool[::97] *= 8
    cases = CASES if not count else [
        (str(rng.choice(list(D))), int(rng.integers(1, 60)), int(rng.integers(1, 260)), float(10.0 ** rng.integers(-6, 5)),
         rng.integers(0, 1, 1).tolist() if rng.random() < 0.2 else []) for _ in range(count)]
    tensors, rows = {"pool": torch.from_numpy(pool.copy())}, []
    for i, (dtype, n, k, factor, zero) in enumerate(cases):
        name, skip = "case%02d" % i, (i * 131) % (16385 - n * k)
        w = torch.from_numpy(pool[skip:skip + n * k] * np.float32(factor)).reshape(n, k)
        w[zero] = 0
        layer = bitsandbytes.nn.Linear8bitLt(k, n, bias=False, has_fp16_weights=False)
        layer.weight = bitsandbytes.nn.Int8Params(w.to(D[dtype]), requires_grad=False, has_fp16_weights=False)
        layer = layer.to("cpu")
        state = layer.state_dict()
        tensors.update({f"{name}.{key}": value.clone() for key, value in state.items()})
        values = F.int8_vectorwise_dequant(state["weight"], state["SCB"]).to(torch.float32).numpy() + np.float32(0)
        rows.append({"name": name, "dtype": dtype, "n": n, "k": k, "skip": skip, "factor": factor, "zero": zero,
                     "sha256": hashlib.sha256(np.ascontiguousarray(values).astype("<f4").tobytes()).hexdigest()})
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(to, "bnb_8bit.safetensors"))
    with open(os.path.join(to, "bnb_8bit.json"), "w") as f:
        json.dump({"bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__.split("+")[0], "cases": rows}, f,
                  indent=1)
        f.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:2], count=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
