#!/usr/bin/env python3
"""Makes inc.safetensors and inc.json beside this file: Neural Compressor's FP8, and auto-round.

The packers are written from the description of the layouts and share nothing with the reader: a row of
codes becomes one Python integer and then words; an 8-bit float is decoded by its definition. Needs
numpy. Each case has its own quantization_config and its module's name is the case's; sha256 is over the
f32 values of the decoded W [n, k], row-major (-0.0 as +0.0).
"""
import hashlib, json, os, struct
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
GPTQ, AWQ = "auto_round:auto_gptq", "auto_round:auto_awq"
CODES = [  # bits, packing_format (None: absent), group, n, k, g_idx, more config
    (4, None, 32, 32, 64, False, {}),
    (2, GPTQ, 32, 32, 64, False, {}),
    (3, GPTQ, 32, 64, 96, False, {"sym": False}),
    (4, "auto_round:auto_gptq:exllamav2", -1, 32, 128, False, {}),
    (5, GPTQ, 32, 32, 64, False, {"sym": False}),
    (6, "auto_round:gptq", 64, 64, 64, False, {}),
    (7, "auto", 32, 32, 96, False, {}),
    (8, GPTQ, 128, 32, 128, False, {"sym": False}),
    (2, "auto_round", 32, 32, 64, False, {"sym": False}),
    (3, "auto_round", 32, 32, 64, False, {"sym": False}),
    (4, "auto_round:gptqmodel", 64, 32, 128, True, {"sym": False}),
    (5, "auto_round:gptqmodel", 32, 64, 64, True, {"sym": False}),
    (6, "auto_round:tritonv2", 32, 32, 96, False, {"sym": False}),
    (7, "auto_round", 128, 64, 128, False, {"sym": False}),
    (8, "auto_round", 48, 32, 96, False, {"sym": False}),
    (4, AWQ, 64, 40, 128, False, {"sym": False}),
    (5, AWQ, 32, 32, 64, False, {"sym": False}),
    (6, "auto_round:awq", 32, 64, 96, False, {"sym": False}),
    (7, AWQ, -1, 32, 64, False, {}),
    # the overrides of one module, by its name and by a regex; the rest of the config says otherwise
    (8, GPTQ, 32, 32, 64, False, {"bits": 4, "extra_config": {"other": {"bits": 2}, "case19": {"bits": 8}}}),
    (3, GPTQ, 64, 32, 64, False, {"bits": 4, "group_size": 128, "extra_config": {
        "[": {"bits": 5}, ".*\\.e20.*": {"bits": 6}, ".*se20$": {"bits": 3, "group_size": 64}, "case2": {"bits": 2}}}),
    # the key of older files
    (4, None, 32, 32, 64, False, {"quant_method": "intel/auto-round", "backend": GPTQ + ":exllamav2"}),
    (4, None, 32, 32, 64, False, {"quant_method": "intel/auto-round", "backend": "auto_round:exllamav2"}),
]
INC = {"fp8_config": "E4M3", "mode": "LOAD", "hp_dtype": "bf16", "use_qdq": "False", "fake_quant": "False"}
E5 = {"fp8_config": "E5M2"}
FLOATS = [  # stored, codes, scale: its suffix, dtype and shape; rows and columns that share one; D; config
    ("kn", "E4M3", "scale_weight", "BF16", (), None, "BF16", INC),
    ("kn", "E4M3", "scale_weight", "BF16", (1,), None, "BF16", INC),
    ("kn", "E4M3", "scale_weight", "BF16", (24,), (1, 40), "BF16", {**INC, "scale_format": "const"}),
    ("kn", "E5M2", "scale_weight", "BF16", (), None, "BF16", {**INC, **E5}),
    ("kn", "E5M2", "scale_weight", "F32", (24,), (1, 40), "F32", {**INC, **E5, "hp_dtype": "fp32"}),
    ("kn", "E4M3", "scale_weight", "F16", (), None, "F16", {**INC, "hp_dtype": "fp16"}),
    ("kn", "E4M3", "dequant_weights.scale", "BF16", (), None, "BF16", {**INC, "use_qdq": "True"}),
    ("kn", "E4M3", "dequant_weights.scale", "F32", (24,), (1, 40), "BF16", {**INC, "use_qdq": "True"}),
    ("nk", "E4M3", "weight_scale", "BF16", (24,), (1, 40), "BF16",
     {"quant_method": "auto-round", "packing_format": "auto_round:fp8_static", "bits": 8, "fmt": "e4m3", "act_bits": 8}),
    ("nk", "E4M3", "weight_scale", "BF16", (24, 1), (1, 40), "BF16",
     {"quant_method": "auto-round", "packing_format": "auto_round:fp8_static", "bits": 8, "data_type": "fp"}),
    ("nk", "E5M2", "weight_scale", "F16", (1,), None, "F16",
     {"quant_method": "auto-round", "packing_format": "auto_round:fp8", "bits": 8, "fmt": "e5m2", "group_size": 0}),
    ("nk", "E4M3", "weight_scale", "F32", (72,), (1, 16), "F32",
     {"quant_method": "auto-round", "bits": 8, "data_type": "fp8", "group_size": 16}),
    ("nk", "E4M3", "weight_scale_inv", "BF16", (3, 3), (8, 16), "BF16",
     {"quant_method": "auto-round", "packing_format": "auto_round:fp8", "bits": 8, "group_size": [8, 16]}),
    ("nk", "E4M3", "weight_scale_inv", "F32", (2, 2), (16, 32), "F32",
     {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [16, 32]}),
    ("nk", "E4M3", "weight_scale_inv", "F32", (1, 1), (128, 128), "F32",
     {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}),
]


def stream(codes, bits):
    """A row of codes -> its stream of bits in 32-bit words."""
    value = sum(int(c) << (bits * j) for j, c in enumerate(codes))
    return [(value >> (32 * i)) & 0xFFFFFFFF for i in range(-(-len(codes) * bits // 32))]


def pack(matrix, bits):
    return np.array([stream(row, bits) for row in matrix], np.uint32)


def float8(codes, kind):
    """Exact values of finite codes."""
    exponent, bias = (4, 7) if kind == "E4M3" else (5, 15)
    mantissa = 7 - exponent
    sign = np.where(codes & 0x80, -1.0, 1.0)
    e, m = (codes & 0x7F) >> mantissa, (codes & ((1 << mantissa) - 1)) / (1 << mantissa)
    return sign * np.where(e == 0, m * 2.0 ** (1 - bias), (1 + m) * 2.0 ** (e - float(bias)))


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


rng = np.random.default_rng(12)
header, blob, cases = {}, b"", []


def add(name, dtype, shape, data):
    global blob
    header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(blob), len(blob) + len(data)]}
    blob += data


def finish(name, n, k, config, w):
    cases.append({"name": name, "n": n, "k": k, "config": config,
                  "sha256": hashlib.sha256(np.ascontiguousarray(w + np.float32(0), "<f4").tobytes()).hexdigest()})


for i, (bits, packing, group, n, k, g_idx, more) in enumerate(CODES):
    name, top = "case%02d" % i, 1 << bits
    G = k if group == -1 else group
    groups = k // G
    awq = packing and "awq" in packing
    v1 = not awq and (packing in (None, "auto") or packing.split(":")[1:2] in (["auto_gptq"], ["gptq"]))
    q = rng.integers(0, top, (k, n))
    if more.get("sym", True):
        z = np.full((groups, n), top // 2)
    else:
        z = rng.integers(1 if v1 else 0, top, (groups, n))  # v1 cannot hold 0
    scale_bytes, scale = round_to(rng.random((groups, n)) * 0.02 + 1e-3, "F16")
    of = np.arange(k) // G
    if awq:
        shuffle = np.arange(n).reshape(-1, 8)[:, ORDER].ravel()
        qweight, qzeros = pack(q[:, shuffle], bits), pack(z[:, shuffle], bits)
    else:
        qweight, qzeros = np.ascontiguousarray(pack(q.T, bits).T), pack(z - v1, bits)
    add(name + ".qweight", "I32", qweight.shape, qweight.tobytes())
    add(name + ".qzeros", "I32", qzeros.shape, qzeros.tobytes())
    add(name + ".scales", "F16", (groups, n), scale_bytes)
    if g_idx:
        add(name + ".g_idx", "I32", (k,), of.astype(np.int32).tobytes())
    w = ((q - z[of]) * scale[of].astype(np.float64)).astype(np.float32).T
    config = {"quant_method": "auto-round", "bits": bits, "group_size": group, "data_type": "int", "sym": True}
    if packing:
        config["packing_format"] = packing
    finish(name, n, k, {**config, **more}, round_to(w, "F16")[1])

n, k = 24, 40
for i, (stored, kind, suffix, dtype, shape, share, D, config) in enumerate(FLOATS):
    name = "case%02d" % (len(CODES) + i)
    codes = rng.integers(0, 256, (n, k)).astype(np.uint8)
    codes[(codes & 0x7F) >= (0x7F if kind == "E4M3" else 0x7C)] = 0x01  # finite; Gaudi 2 stops at 0x77
    scale_bytes, scale = round_to(np.atleast_1d(rng.random(shape) * 0.01 + 1e-3), dtype)
    rows, cols = share or (n, k)
    grid = scale.reshape(-(-n // rows), -(-k // cols))
    each = grid[np.arange(n)[:, None] // rows, np.arange(k)[None, :] // cols]
    add(name + ".weight", "F8_" + kind, (k, n) if stored == "kn" else (n, k),
        np.ascontiguousarray(codes.T if stored == "kn" else codes).tobytes())
    add(name + "." + suffix, dtype, shape, scale_bytes)
    if suffix == "scale_weight":
        add(name + ".scale_input", "BF16", (), b"\x80\x3f")
        add(name + ".quant_input.scale_inv", "BF16", (), b"\x80\x3f")
    elif suffix == "dequant_weights.scale":
        add(name + ".quant_input.scale", "BF16", (), b"\x80\x3f")
        add(name + ".dequant_weights.zero_point", "F32", (), b"\0\0\0\0")
    elif config.get("act_bits") == 8:
        add(name + ".input_scale", "BF16", (1,), b"\x80\x3f")
    w = (float8(codes.astype(int), kind) * each.astype(np.float64)).astype(np.float32)
    finish(name, n, k, config, round_to(w, D)[1])

text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(os.path.join(HERE, "inc.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + blob)
with open(os.path.join(HERE, "inc.json"), "w") as f:
    json.dump({"cases": cases}, f, indent=1)
    f.write("\n")
