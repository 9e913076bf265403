#!/usr/bin/env python3
"""Makes gptq.safetensors and gptq.json beside this file.

The packer is written from the description of the layout, one bit at a time, with no code in common
with the reader: every code is a Python integer that is spread over the bits of 32-bit words. Needs
numpy and safetensors. Each case has its own quantization_config; sha256 is over the f32 values of
D((code - zero) * scale), D the dtype of scales (-0.0 as +0.0), W [n, k] row-major.
"""
import hashlib, json, os, struct
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
PLANES = {2: [2], 3: [2, 1], 4: [4], 5: [4, 1], 6: [4, 2], 7: [4, 2, 1], 8: [8]}
CASES = [  # bits, format (None: absent), group, n, k, order, scales, symmetric
    (4, "gptq", 32, 24, 64, "none", "F16", True),
    (4, None, 32, 24, 64, "act", "F16", False),
    (4, "gptq_v2", 48, 20, 100, "regular", "BF16", False),
    (4, "gptq", -1, 33, 40, "absent", "F32", False),
    (4, "gptq", 1024, 16, 96, "absent", "F16", True),
    (4, "gptq", 32, 40, 96, "irregular", "F16", False),
    (2, "gptq", 16, 19, 64, "act", "F16", False),
    (2, "gptq_v2", 32, 16, 70, "regular", "F16", False),
    (3, "gptq", 32, 32, 64, "regular", "F16", False),
    (3, "gptq_v2", 64, 32, 160, "act", "BF16", False),
    (3, "gptq_p", 32, 32, 96, "act", "F16", False),
    (3, "gptq", 40, 21, 75, "absent", "F16", False),
    (5, "gptq", 32, 32, 64, "regular", "F16", False),
    (6, "gptq_p", 32, 64, 96, "absent", "F16", False),
    (7, "gptq_v2", 64, 32, 128, "act", "F32", False),
    (8, "gptq", 128, 18, 192, "act", "F16", False),
    (8, "gptq_v2", -1, 16, 33, "regular", "F16", True),
    (4, "gptq_p", 16, 32, 64, "act", "F16", False),
    (5, "auto-round", 32, 32, 64, "regular", "F16", False),  # provider: streams, not planes
    (6, "auto-round", 64, 64, 128, "absent", "F16", False),
    (7, "auto-round", 32, 32, 96, "regular", "F16", True),
]


def pack_run(codes, bits, planar):
    """32 or fewer codes -> ceil(len * bits / 32) words."""
    value = 0
    if planar:
        base = shift = 0
        for width in PLANES[bits]:
            for j, c in enumerate(codes):
                value |= ((c >> shift) & ((1 << width) - 1)) << (base + j * width)
            base += 32 * width
            shift += width
    else:
        for j, c in enumerate(codes):
            value |= c << (j * bits)
    return [(value >> (32 * i)) & 0xFFFFFFFF for i in range(-(-len(codes) * bits // 32))]


def pack(codes, bits, planar):
    words = []
    for i in range(0, len(codes), 32):
        words += pack_run(codes[i:i + 32], bits, planar)
    return words


def round_to(x, dtype):
    """f32 array -> (bytes in the file, f32 values)"""
    x = np.asarray(x, np.float32)
    if dtype == "F32":
        return x.tobytes(), x
    if dtype == "F16":
        h = x.astype(np.float16)
        return h.tobytes(), h.astype(np.float32)
    u = x.view(np.uint32).astype(np.uint64)
    u = ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint32)
    return u.astype(np.uint16).tobytes(), (u << 16).astype(np.uint32).view(np.float32)


rng = np.random.default_rng(9)
header, blob, cases = {}, b"", []


def add(name, dtype, shape, data):
    global blob
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(blob), len(blob) + len(data)]}
    blob += data


for i, (bits, fmt, group, n, k, order, dtype, sym) in enumerate(CASES):
    name, top = "case%02d" % i, 1 << bits
    G = k if group == -1 or group > k else group
    groups = -(-k // G)
    planar = (bits in (5, 6, 7) and fmt != "auto-round") or (fmt == "gptq_p" and bits == 3)
    v1 = fmt in (None, "gptq", "auto-round")
    q = rng.integers(0, top, (k, n))
    z = np.full((groups, n), top // 2) if sym else rng.integers(0, top, (groups, n))
    if v1 and not sym and bits in (3, 5, 6, 7):
        z[0, 0] = 0  # field by field: stored 2^b - 1
    scale_bytes, scale = round_to(rng.random((groups, n)) * 0.02 + 1e-3, dtype)
    regular = np.arange(k) // G
    g_idx = {"act": rng.permutation(regular), "irregular": rng.integers(0, groups, k)}.get(order, regular)
    words = np.array([pack([int(c) for c in q[:, c]], bits, planar) for c in range(n)], np.uint32).T
    stored = []
    for g in range(groups):
        zeros = [int(x) for x in z[g]]
        if v1 and bits in (2, 4, 8):  # from whole words, borrows and all
            one = sum(1 << (bits * j) for j in range(32 // bits))
            fields = pack(zeros, bits, False)
            stored.append([(w - one) & 0xFFFFFFFF for w in fields])
        else:
            stored.append(pack([(x - 1) % top for x in zeros] if v1 else zeros, bits, planar))
    add(name + ".qweight", "I32", list(words.shape), np.ascontiguousarray(words).tobytes())
    stored = np.array(stored, np.uint32)
    add(name + ".qzeros", "I32", list(stored.shape), stored.tobytes())
    add(name + ".scales", dtype, [groups, n], scale_bytes)
    if order != "absent":
        add(name + ".g_idx", "I32", [k], g_idx.astype(np.int32).tobytes())
    exact = (q - z[g_idx]).astype(np.float64) * scale[g_idx].astype(np.float64)
    w = round_to(exact.astype(np.float32), dtype)[1].T + np.float32(0)
    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": order == "act",
              "sym": sym}
    if fmt:
        config["provider" if fmt == "auto-round" else "checkpoint_format"] = fmt
    cases.append({"name": name, "n": n, "k": k, "order": order, "config": config,
                  "sha256": hashlib.sha256(np.ascontiguousarray(w, "<f4").tobytes()).hexdigest()})
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(os.path.join(HERE, "gptq.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + blob)
with open(os.path.join(HERE, "gptq.json"), "w") as f:
    json.dump({"cases": cases}, f, indent=1)
    f.write("\n")
