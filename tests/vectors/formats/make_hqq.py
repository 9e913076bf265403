#!/usr/bin/env python3
"""Makes hqq.safetensors and hqq.json beside this file with the hqq library on a CPU.

Each case is a module that the library quantized: its state_dict as it is saved (<case>.W_q and so on),
made from the first N*K elements of `pool` (from `skip` on, times `gain`, rounded to the case's dtype, the
elements of `zero` set to 0), and the SHA-256 of the library's own dequantized f32 values (-0.0 as +0.0).
Needs hqq 0.2.8.post1, torch, numpy, safetensors; one thread, because torch's sums depend on their number.
"""
import hashlib, json, os
import numpy as np
import torch
from hqq.core.quantize import HQQLinear
from importlib.metadata import version
from safetensors.torch import save_file

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
D = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
CASES = [  # bits, axis, group, dtype, N, K, and what is unusual
    (4, 1, 64, "float16", 16, 64, {}),
    (4, 1, 64, "bfloat16", 20, 128, {"view_as_float": True}),
    (4, 0, 64, "float32", 16, 96, {}),
    (4, 1, 64, "float16", 4, 96, {}),                              # groups straddle rows
    (4, 1, None, "float16", 10, 48, {"bias": True}),               # one group a row
    (4, 0, None, "bfloat16", 24, 40, {}),
    (4, 1, 192, "float32", 8, 96, {}),                             # a group of two rows
    (4, 1, 8, "float16", 4, 40, {"optimize": False}),
    (4, 0, 16, "float16", 8, 34, {"round_zero": False}),
    (3, 1, 64, "float16", 16, 64, {}),                             # 16 rows of groups in words of ten
    (3, 1, 16, "bfloat16", 7, 48, {"view_as_float": True}),
    (3, 0, 64, "float16", 64, 33, {}),                             # 64 rows in words of ten
    (3, 0, 8, "float32", 9, 8, {}),                                # fewer rows than fields
    (2, 1, 16, "float16", 12, 64, {}),
    (2, 0, 16, "bfloat16", 16, 50, {"view_as_float": True}),
    (2, 1, 24, "float16", 9, 96, {"optimize": False, "round_zero": True}),
    (1.58, 1, 16, "float16", 8, 64, {}),
    (1, 1, 8, "float16", 16, 40, {}),
    (1, 0, 32, "float32", 32, 21, {}),
    (5, 1, 40, "float16", 7, 80, {}),
    (5, 0, 8, "bfloat16", 8, 19, {"bias": True}),
    (6, 1, 64, "float32", 5, 128, {}),
    (6, 0, 24, "float16", 12, 22, {"round_zero": True}),
    (8, 1, 128, "bfloat16", 17, 128, {}),
    (8, 0, 64, "float16", 16, 20, {"zero": [[0, 150]]}),
    (8, 1, 1600, "float16", 4, 800, {}),                           # sums of more than 16 rows of 32
    (8, 0, 600, "float32", 30, 100, {}),                           # five columns of groups
    (8, 0, 320, "float32", 20, 64, {"view_as_float": True}),
    (4, 1, 64, "float32", 8, 64, {"gain": 100}),                   # residuals that are shrunk
    (2, 0, 16, "float32", 16, 40, {"gain": 100}),
    (4, 1, 64, "float16", 4, 64, {"zero": [[0, 64], [100, 130]]}),  # a group of zeros
]

rng = np.random.default_rng(20261124)
pool = (rng.standard_normal(8000) * 0.05).astype(np.float32)
pool[::97] *= 8
tensors, cases = {"pool": torch.from_numpy(pool.copy())}, []
for i, (bits, axis, group, dtype, n, k, odd) in enumerate(CASES):
    name, skip = "case%02d" % i, (i * 131) % (8001 - n * k)
    w = torch.from_numpy(pool[skip:skip + n * k].copy()) * odd.get("gain", 1)
    for a, b in odd.get("zero", []):
        w[a:b] = 0
    linear = torch.nn.Linear(k, n, bias="bias" in odd)
    linear.weight.data = w.reshape(n, k).to(D[dtype])
    params = {"nbits": bits, "channel_wise": True, "group_size": group, "optimize": odd.get("optimize", True),
              "round_zero": odd.get("round_zero", bits == 4), "axis": axis,
              "view_as_float": odd.get("view_as_float", False)}
    config = {"weight_quant_params": params, "scale_quant_params": None, "zero_quant_params": None,
              "offload_meta": False}
    layer = HQQLinear(linear, config, compute_dtype=D[dtype], device="cpu")
    for key, value in layer.state_dict().items():
        tensors[name + "." + key] = value.data.clone()
    out = layer.dequantize().to(torch.float32).numpy() + np.float32(0)
    cases.append({"name": name, "n": n, "k": k, "dtype": dtype, "skip": skip, "gain": odd.get("gain", 1),
                  "zero": odd.get("zero", []), "params": params,
                  "sha256": hashlib.sha256(out.astype("<f4").tobytes()).hexdigest()})
save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(HERE, "hqq.safetensors"))
with open(os.path.join(HERE, "hqq.json"), "w") as f:
    json.dump({"hqq": version("hqq"), "torch": torch.__version__.split("+")[0], "cases": cases}, f, indent=1)
    f.write("\n")
