#!/usr/bin/env python3
"""Makes aqlm.safetensors and aqlm.json beside this file with the aqlm library on a CPU.

Each case is a module with random codes and codebooks, packed by the library (<case>.codes and so on), and
the SHA-256 of the f32 values of its _dequantize_weight (-0.0 as +0.0). `turned`: codes as the library leaves
them after a forward on a CPU. BF16 cases have one book: torch on a CPU rounds BF16 sums half away
from zero, unlike anything else. Needs aqlm 1.1.7, torch, numpy, safetensors.
"""
import hashlib, json, os
os.environ["AQ_USE_JIT"] = "0"
import numpy as np
import torch
from aqlm.inference import QuantizedLinear
from aqlm.utils import _dequantize_weight, pack_int_data
from importlib.metadata import version
from safetensors.torch import save_file

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
D = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
CASES = [  # books, bits, out_group, in_group, N, K, dtype, turned
    (1, 8, 1, 8, 20, 64, "float16", False),
    (2, 8, 1, 8, 16, 40, "float16", True),
    (8, 8, 1, 8, 9, 16, "float16", False),
    (1, 12, 1, 8, 8, 48, "float16", False),
    (1, 16, 1, 1, 3, 9, "float16", False),
    (4, 1, 1, 3, 5, 21, "float16", False),
    (3, 5, 2, 4, 14, 32, "float16", False),
    (2, 8, 4, 2, 16, 24, "float32", False),
    (5, 7, 1, 5, 6, 35, "float32", False),
    (1, 9, 3, 5, 9, 25, "bfloat16", False),
    (1, 8, 1, 16, 4, 64, "bfloat16", False),  # as many rows as columns of codes
    (16, 4, 1, 32, 7, 64, "float16", False),
]

rng = torch.Generator().manual_seed(20261124)
tensors, cases = {}, []
for i, (books, bits, go, gi, n, k, dtype, turned) in enumerate(CASES):
    name = "case%02d" % i
    layer = QuantizedLinear(k, n, gi, go, books, bits, bias=i % 3 == 0, device="cpu", dtype=D[dtype])
    codes = torch.randint(0, 2 ** bits, (n // go, k // gi, books), generator=rng)
    codes[0, 0, 0], codes[-1, -1, -1] = 2 ** bits - 1, 2 ** (bits - 1)
    layer.codebooks.data = torch.randn(layer.codebooks.shape, generator=rng).to(D[dtype])
    layer.scales.data = (torch.randn(layer.scales.shape, generator=rng) * 0.1).to(D[dtype])
    out = _dequantize_weight(codes, layer.codebooks.data, layer.scales.data).to(torch.float32).numpy() + np.float32(0)
    layer.codes.data = pack_int_data(codes.clone(), bits)
    if turned:
        try:
            layer.prepare_matmul_op(torch.zeros(1, k))
        except ModuleNotFoundError:  # numba, which it looks for after it has turned the codes
            pass
        assert list(layer.codes.shape[:2]) == [k // gi, n // go]
    if layer.bias is not None:
        layer.bias.data = torch.zeros(n, dtype=D[dtype])
    for key, value in layer.state_dict().items():
        tensors[name + "." + key] = value.clone().contiguous()
    cases.append({"name": name, "n": n, "k": k, "num_codebooks": books, "nbits_per_codebook": bits,
                  "out_group_size": go, "in_group_size": gi,
                  "sha256": hashlib.sha256(out.astype("<f4").tobytes()).hexdigest()})
save_file(tensors, os.path.join(HERE, "aqlm.safetensors"))
with open(os.path.join(HERE, "aqlm.json"), "w") as f:
    json.dump({"aqlm": version("aqlm"), "torch": torch.__version__.split("+")[0], "cases": cases}, f, indent=1)
    f.write("\n")
