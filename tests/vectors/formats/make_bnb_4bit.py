#!/usr/bin/env python3
"""Makes bnb_4bit.safetensors and bnb_4bit.json beside this file with bitsandbytes on a CPU.

Each case is a module quantized by the library: the tensors as it saves them (<case>.weight and what
follows), made from the first N*K elements of `pool` (from `skip` on, rounded to the case's dtype, the
elements of `zero` set to 0), and the SHA-256 of the library's own dequantized f32 values (-0.0 as
+0.0). Needs bitsandbytes 0.50.2, torch, numpy, safetensors; one thread, because torch's sums depend
on the number of threads.
"""
import hashlib, json, os
import numpy as np
import torch
import bitsandbytes
import bitsandbytes.functional as F
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from safetensors.torch import save_file

# The library's torch rule. Its compiled AVX-512 kernel (0.50.2, csrc/cpu_ops.cpp) agrees where
# blocks do not straddle rows; where they do and K is a multiple of 16 it takes wrong absmax values.
dequantize = getattr(_dequantize_4bit_compute, "__wrapped__", _dequantize_4bit_compute)

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
D = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32,
     "float64": torch.float64, "uint8": torch.uint8, "int8": torch.int8}
CASES = [  # type, block, dtype, storage, N, K, nested, zeroed ranges
    ("nf4", 64, "float16", "uint8", 8, 64, False, []),
    ("nf4", 64, "bfloat16", "bfloat16", 16, 128, True, []),
    ("nf4", 32, "float32", "float32", 5, 96, False, []),
    ("fp4", 128, "float16", "float16", 7, 256, False, []),
    ("fp4", 256, "bfloat16", "int8", 7, 100, False, []),
    ("nf4", 512, "float16", "float64", 10, 96, False, []),
    ("nf4", 1024, "float32", "uint8", 3, 1024, False, []),
    ("fp4", 2048, "float16", "uint8", 2, 2048, True, []),
    ("nf4", 4096, "bfloat16", "uint8", 3, 3000, False, []),
    ("nf4", 64, "float16", "uint8", 3, 5, False, []),
    ("fp4", 64, "float32", "uint8", 9, 33, True, []),
    ("nf4", 64, "float16", "uint8", 37, 50, True, []),
    ("nf4", 64, "float16", "uint8", 5, 30, False, [[0, 64], [128, 150]]),
    ("fp4", 64, "float32", "uint8", 5, 30, False, [[0, 64], [128, 150]]),
    ("nf4", 32, "float16", "uint8", 100, 100, True, []),
    ("fp4", 32, "bfloat16", "uint8", 17, 64, True, []),
    ("nf4", 64, "float32", "uint8", 1, 1, False, []),
    ("nf4", 64, "bfloat16", "uint8", 4, 64, True, [[0, 256]]),
]

rng = np.random.default_rng(20261123)
pool = (rng.standard_normal(10000) * 0.05).astype(np.float32)
pool[::97] *= 8
tensors, cases = {"pool": torch.from_numpy(pool.copy())}, []
for i, (kind, block, dtype, storage, n, k, nested, zero) in enumerate(CASES):
    name, skip = "case%02d" % i, (i * 131) % (10001 - n * k)
    w = torch.from_numpy(pool[skip:skip + n * k].copy())
    for a, b in zero:
        w[a:b] = 0
    w = w.reshape(n, k).to(D[dtype])
    q, state = F.quantize_4bit(w.clone(), blocksize=block, compress_statistics=nested,
                               quant_type=kind, quant_storage=D[storage])
    tensors[name + ".weight"] = q
    for key, value in state.as_dict(packed=True).items():
        tensors[name + ".weight." + key] = value
    absmax = state.absmax
    if nested:
        absmax = F.dequantize_blockwise(absmax, state.state2) + state.offset
    out = dequantize(q.contiguous().view(torch.uint8).reshape(-1), absmax, state.code, block, (n, k), D[dtype])
    if k % block == 0:
        assert torch.equal(out, F.dequantize_4bit(q, state))
    out = out.to(torch.float32).numpy() + np.float32(0)
    cases.append({"name": name, "type": kind, "block": block, "dtype": dtype, "storage": storage,
                  "n": n, "k": k, "nested": nested, "skip": skip, "zero": zero,
                  "sha256": hashlib.sha256(out.astype("<f4").tobytes()).hexdigest()})
save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(HERE, "bnb_4bit.safetensors"))
with open(os.path.join(HERE, "bnb_4bit.json"), "w") as f:
    json.dump({"bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__.split("+")[0],
               "cases": cases}, f, indent=1)
    f.write("\n")
