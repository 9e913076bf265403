#!/usr/bin/env python3
"""Makes awq.safetensors and awq.json beside this file.

The packers are written from the description of the layouts and share nothing with the reader: codes
are Python integers spread over the bits of words; GEMV-fast goes by whole-array transpositions. Needs
numpy. Each case has its own quantization_config; sha256 is over the f32 values of the decoded W [n, k],
row-major (-0.0 as +0.0): D((code - zero) * scale), or f16(code * scale + zeros) for GEMV-fast.
"""
import hashlib, json, os, struct
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
CASES = [  # kind, bits, group, n, k, scales, more config
    ("gemm", 4, 32, 40, 64, "F16", {}),
    ("gemm", 4, 64, 16, 192, "BF16", {"format": "gemm", "checkpoint_format": "gemm", "method": "awq"}),
    ("gemm", 4, -1, 24, 80, "F16", {"version": "GEMM"}),
    ("gemm", 4, 128, 64, 128, "F16", {"version": "exllama", "zero_point": False}),
    ("gemm", 2, 32, 24, 96, "F16", {"format": "gemm"}),
    ("gemm", 3, 16, 40, 48, "BF16", {"format": "gemm"}),
    ("gemm", 5, 32, 24, 64, "F16", {"format": "gemm"}),
    ("gemm", 8, 64, 8, 128, "F16", {"format": "gemm"}),
    ("gemm", 5, 32, 32, 64, "F16", {"version": "gemm", "provider": "auto-round"}),
    ("gemm", 6, 32, 64, 32, "F16", {"version": "gemm", "provider": "auto-round"}),
    ("gemm", 7, -1, 32, 40, "F16", {"version": "gemm", "provider": "auto-round"}),
    ("gemv", 4, 32, 24, 288, "F16", {"version": "gemv"}),
    ("gemv", 4, 64, 16, 128, "F16", {"version": "gemv"}),
    ("gemv", 4, 128, 33, 1152, "F16", {"version": "gemv"}),
    ("gemv", 4, -1, 16, 256, "F16", {"format": "gemv"}),
    ("gemv_fast", 4, 128, 20, 256, "F16", {"version": "gemv_fast"}),
    ("gemv_fast", 4, 64, 32, 192, "F16", {"version": "gemv_fast"}),
    ("gemv_fast", 4, 32, 16, 64, "F16", {"format": "gemv_fast"}),
    ("gemv_fast", 4, 128, 16, 128, "F16", {"backend": "llm-awq", "version": "gemm"}),
    ("gemv_fast", 4, 16, 8, 128, "F16", {"format": "llm-awq"}),
]


def words(codes, bits):
    """A row of codes -> its stream of bits in 32-bit words."""
    value = sum(int(c) << (bits * j) for j, c in enumerate(codes))
    return [(value >> (32 * i)) & 0xFFFFFFFF for i in range(-(-len(codes) * bits // 32))]


def pack(matrix, bits, interleave):
    """[rows, columns] of codes -> I32 [rows, words], packed along the columns."""
    if interleave:
        matrix = matrix.reshape(len(matrix), -1, 8)[:, :, ORDER].reshape(matrix.shape)
    return np.array([words(row, bits) for row in matrix], np.uint32)


def pack_fast(q):
    """[n, k] of 4-bit codes -> I16 [n / 4, k]"""
    n, k = q.shape
    q = q.reshape(n, k // 32, 4, 4, 2).transpose(0, 1, 3, 2, 4).reshape(n, k // 32, 4, 8)
    q = q.reshape(n, k // 32, 4, 4, 2).transpose(0, 1, 2, 4, 3).reshape(n, k)
    q = q.reshape(n // 4, 4, k // 64, 64).transpose(0, 2, 1, 3).reshape(n // 4, k // 64, 64, 4)
    return (q << (4 * np.arange(4))).sum(-1).astype(np.uint16).reshape(n // 4, k)


def width(k, group):
    m = {64: 2, 32: 4, 16: 8}.get(group, 1)
    return -(-(-(-(k // group) // 8)) // m) * m


def round_to(x, dtype):
    """f32 array -> (bytes in the file, f32 values)"""
    x = np.asarray(x, np.float32)
    if dtype == "F16":
        h = x.astype(np.float16)
        return h.tobytes(), h.astype(np.float32)
    u = x.view(np.uint32).astype(np.uint64)
    u = ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint32)
    return u.astype(np.uint16).tobytes(), (u << 16).astype(np.uint32).view(np.float32)


rng = np.random.default_rng(11)
header, blob, cases = {}, b"", []


def add(name, dtype, shape, data):
    global blob
    header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(blob), len(blob) + len(data)]}
    blob += data


for i, (kind, bits, group, n, k, dtype, more) in enumerate(CASES):
    name, top = "case%02d" % i, 1 << bits
    G = k if group == -1 else group
    groups = k // G
    q = rng.integers(0, top, (n, k))
    z = rng.integers(0, top, (n, groups))
    raw = rng.random((n, groups)) * 0.02 + 1e-3
    of = np.arange(k) // G
    if kind == "gemm":
        order = bits == 4 or "provider" in more
        scale = round_to(raw.T, dtype)
        add(name + ".qweight", "I32", (k, -(-n * bits // 32)), pack(q.T, bits, order).tobytes())
        add(name + ".qzeros", "I32", (groups, -(-n * bits // 32)), pack(z.T, bits, order).tobytes())
        add(name + ".scales", dtype, (groups, n), scale[0])
        w = ((q - z[:, of]) * scale[1].T[:, of].astype(np.float64)).astype(np.float32)
    else:
        Z = width(k, G)
        scales, zeros = np.zeros((n, 8 * Z), np.float32), np.zeros((n, 8 * Z), int)
        scales[:, :groups], zeros[:, :groups] = raw, z
        scale = round_to(scales, dtype)
        if kind == "gemv":
            add(name + ".qweight", "I32", (n, k // 8), pack(q, 4, False).tobytes())
            add(name + ".qzeros", "I32", (n, Z), pack(zeros, 4, False).tobytes())
            add(name + ".scales", dtype, (n, 8 * Z), scale[0])
            w = ((q - z[:, of]) * scale[1][:, of].astype(np.float64)).astype(np.float32)
        else:
            product = round_to(-(scale[1] * zeros).T, dtype)
            llm = "llm-awq" in more.values()
            add(name + ".qweight", "I16", (n // 4, k), pack_fast(q).tobytes())
            add(name + (".scaled_zeros" if llm else ".qzeros"), dtype, (8 * Z, n), product[0])
            add(name + ".scales", dtype, (8 * Z, n), round_to(scales.T, dtype)[0])
            w = q * scale[1][:, of].astype(np.float64) + product[1].T[:, of]  # exact in double
            w = w.astype(np.float16).astype(np.float32)
    w = round_to(w, dtype)[1] + np.float32(0)
    config = {"quant_method": "awq", "bits": bits, "group_size": group, **more}
    cases.append({"name": name, "kind": kind, "n": n, "k": k, "config": config,
                  "sha256": hashlib.sha256(np.ascontiguousarray(w, "<f4").tobytes()).hexdigest()})
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(os.path.join(HERE, "awq.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + blob)
with open(os.path.join(HERE, "awq.json"), "w") as f:
    json.dump({"cases": cases}, f, indent=1)
    f.write("\n")
