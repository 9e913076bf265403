#!/usr/bin/env python3
"""make_model.py 110M|1.1B|slice|tiny DIR [--adapters N] [--pool N] [--format F]: a Llama checkpoint of a real size for measuring.

Writes DIR/base and DIR/adapters/a0... Weights are random, N(0, 0.02), quantized as the format's own
library does it; F is nf4 (default), nf4-dq, gptq4, gptq8, awq or f16. DIR/pool has as many adapters as
--pool says, which cost nothing: their weights are links to those of DIR/adapters. Adapters are OFT on all seven
linears, block size 32, Cayley-Neumann with 5 terms, entries N(0, 0.01). No tokenizer: prompts are
ids. The same arguments give the same bytes.

Only a pool of 2^20 weights is drawn and quantized; a tensor is random pieces of it. A piece is
16384 weights, a whole number of blocks (64) and of nested blocks (256 * 64), so that codes and
scales stay together. Standard library only.
"""
import argparse
import array
import bisect
import json
import math
import os
import random
import struct

SHAPES = {  # hidden, feed-forward, layers, heads, key-value heads, vocabulary
    "110M": (768, 2048, 12, 12, 12, 32000),
    "1.1B": (2048, 5632, 22, 32, 4, 32000),
    "slice": (2048, 5632, 4, 32, 4, 4096),  # four layers of 1.1B
    "tiny": (256, 512, 2, 4, 2, 512),
}
PIECE, PIECES, BLOCK, NESTED, GROUP = 16384, 64, 64, 256, 128
SIGMA, ADAPTER_SIGMA, OFT_BLOCK = 0.02, 0.01, 32
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
       0.7229568362236023, 1.0]
DTYPE_BYTES = {"U8": 1, "F16": 2, "F32": 4, "I32": 4}


def nearest(table):
    """A function that gives the index of the entry of a sorted table nearest to x."""
    bounds = [(a + b) / 2 for a, b in zip(table, table[1:])]
    return lambda x: bisect.bisect_left(bounds, x)


def dynamic_map():
    """bitsandbytes' signed 8-bit map for nested absmax."""
    values = [0.0, 1.0]
    for i in range(7):
        points = [0.1 + 0.9 * k / 2 ** i for k in range(2 ** i + 1)]
        for a, b in zip(points, points[1:]):
            values += [(a + b) / 2 * 10 ** (i - 6), -(a + b) / 2 * 10 ** (i - 6)]
    return sorted(values)


def packed(fmt, values):
    return struct.pack(f"<{len(values)}{fmt}", *values)


class Pool:
    """PIECES pieces of weights; what a format keeps of each is made when it is first asked for."""

    def __init__(self, rng):
        self.rng = rng
        self.weights = [[rng.gauss(0, SIGMA) for _ in range(PIECE)] for _ in range(PIECES)]
        self.made = {}

    def parts(self, make):
        if make not in self.made:
            self.made[make] = [make(w) for w in self.weights]
        return self.made[make]

    def tensor(self, make, count):
        """count weights as random pieces: for each part of make's tuples, its bytes."""
        parts = self.parts(make)
        chosen = self.rng.choices(parts, k=-(-count // PIECE))
        joined = [b"".join(p[i] for p in chosen) for i in range(len(chosen[0]))]
        share = count / (PIECE * len(chosen))
        return [j[:round(len(j) * share)] for j in joined]


def halves(weights):
    return (packed("e", weights),)


def nf4_codes(weights):
    """(packed codes, absmax of each block)"""
    code, codes, absmax = nearest(NF4), bytearray(), []
    for b in range(0, PIECE, BLOCK):
        block = weights[b:b + BLOCK]
        m = max(map(abs, block))
        q = [code(w / m) for w in block]
        codes += bytes(q[i] << 4 | q[i + 1] for i in range(0, BLOCK, 2))
        absmax.append(m)
    return bytes(codes), absmax


def nf4(weights):
    codes, absmax = nf4_codes(weights)
    return codes, packed("f", absmax)


def nf4_nested(weights):
    """(codes, absmax codes, nested absmax): one nested block is one piece."""
    codes, absmax = nf4_codes(weights)
    centred = [a - NESTED_OFFSET for a in absmax]
    m, code = max(map(abs, centred)), nearest(DYNAMIC)
    return codes, bytes(code(c / m) for c in centred), packed("f", [m])


def gptq(bits):
    """(words, scales): groups run down the columns, so any order of the pool's values will do."""
    def make(weights):
        zero, words, scales = 2 ** (bits - 1), array.array("I"), []
        for g in range(0, PIECE, GROUP):
            group = weights[g:g + GROUP]
            scale = max(map(abs, group)) / (zero - 0.5)
            q = [min(2 * zero - 1, max(0, round(w / scale) + zero)) for w in group]
            per = 32 // bits
            words.extend(sum(q[i + j] << bits * j for j in range(per)) for i in range(0, GROUP, per))
            scales.append(scale)
        return words.tobytes(), packed("e", scales)
    return make


DYNAMIC = dynamic_map()
NESTED_OFFSET = SIGMA * 2.4  # near the mean of the largest of 64
GPTQ = {"gptq4": (4, gptq(4)), "gptq8": (8, gptq(8))}


class Writer:
    """A safetensors file: shapes first, then each tensor's bytes as they are made."""

    def __init__(self):
        self.tensors = []

    def add(self, name, dtype, shape, make):
        self.tensors.append((name, dtype, shape, make))

    def write(self, path):
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for name, dtype, shape, _ in self.tensors:
            end = at + math.prod(shape) * DTYPE_BYTES[dtype]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
            at = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            for name, dtype, shape, make in self.tensors:
                data = make()
                assert len(data) == math.prod(shape) * DTYPE_BYTES[dtype], name
                f.write(data)


def linears(shape):
    """(name, outputs, inputs) of every linear of the network."""
    h, ff, layers, heads, kv_heads, _ = shape
    kv = h // heads * kv_heads
    for layer in range(layers):
        p = f"model.layers.{layer}."
        yield from ((p + "self_attn.q_proj", h, h), (p + "self_attn.k_proj", kv, h),
                    (p + "self_attn.v_proj", kv, h), (p + "self_attn.o_proj", h, h),
                    (p + "mlp.gate_proj", ff, h), (p + "mlp.up_proj", ff, h),
                    (p + "mlp.down_proj", h, ff))


class Lazy:
    """The parts of one tensor's pieces, chosen when the first of them is written, kept until the last."""

    def __init__(self, pool, make, count, uses):
        self.pool, self.make, self.count, self.uses, self.parts = pool, make, count, uses, None

    def part(self, i):
        def get():
            self.parts = self.parts or self.pool.tensor(self.make, self.count)
            data = self.parts[i]
            self.uses -= 1
            if not self.uses:
                self.parts = None
            return data
        return get


def add_nf4(w, pool, name, n, k, nested):
    count = n * k
    blocks = count // BLOCK
    state = {"quant_type": "nf4", "blocksize": BLOCK, "dtype": "float16", "shape": [n, k]}
    t = Lazy(pool, nf4_nested if nested else nf4, count, 3 if nested else 2)
    w.add(f"{name}.weight", "U8", [count // 2, 1], t.part(0))
    if nested:
        state |= {"nested_blocksize": NESTED, "nested_dtype": "float32", "nested_offset": NESTED_OFFSET}
        w.add(f"{name}.weight.absmax", "U8", [blocks], t.part(1))
        w.add(f"{name}.weight.nested_absmax", "F32", [blocks // NESTED], t.part(2))
        w.add(f"{name}.weight.nested_quant_map", "F32", [256], lambda: packed("f", DYNAMIC))
    else:
        w.add(f"{name}.weight.absmax", "F32", [blocks], t.part(1))
    w.add(f"{name}.weight.quant_map", "F32", [16], lambda: packed("f", NF4))
    text = json.dumps(state).encode()
    w.add(f"{name}.weight.quant_state.bitsandbytes__nf4", "U8", [len(text)], lambda: text)


def add_gptq(w, pool, name, n, k, bits, make):
    t = Lazy(pool, make, n * k, 2)
    per, groups = 32 // bits, k // GROUP
    stored_zero = sum((2 ** (bits - 1) - 1) << bits * j for j in range(per))
    w.add(f"{name}.qweight", "I32", [k // per, n], t.part(0))
    w.add(f"{name}.scales", "F16", [groups, n], t.part(1))
    w.add(f"{name}.qzeros", "I32", [groups, n // per], lambda: struct.pack("<I", stored_zero) * (groups * n // per))
    w.add(f"{name}.g_idx", "I32", [k], lambda: packed("i", [i // GROUP for i in range(k)]))


def add_awq(w, pool, name, n, k):
    """The words lie otherwise than GPTQ's, which random codes do not show."""
    t = Lazy(pool, GPTQ["gptq4"][1], n * k, 2)
    groups = k // GROUP
    w.add(f"{name}.qweight", "I32", [k, n // 8], t.part(0))
    w.add(f"{name}.scales", "F16", [groups, n], t.part(1))
    w.add(f"{name}.qzeros", "I32", [groups, n // 8], lambda: b"\x88" * (groups * n // 2))


def quantization(fmt):
    if fmt == "awq":
        return {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm",
                "modules_to_not_convert": None}
    if fmt in GPTQ:
        return {"quant_method": "gptq", "bits": GPTQ[fmt][0], "group_size": GROUP, "desc_act": False, "sym": True,
                "checkpoint_format": "gptq"}
    return {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False,
            "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "float16", "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_use_double_quant": fmt == "nf4-dq", "llm_int8_skip_modules": None}


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)


def make_base(shape, fmt, folder, pool):
    h, ff, layers, heads, kv_heads, vocab = shape
    os.makedirs(folder, exist_ok=True)
    w = Writer()
    ones = packed("e", [1.0] * h)

    def dense(name, n, k):
        w.add(f"{name}.weight", "F16", [n, k], Lazy(pool, halves, n * k, 1).part(0))

    dense("model.embed_tokens", vocab, h)
    for name, n, k in linears(shape):
        if fmt in GPTQ:
            add_gptq(w, pool, name, n, k, *GPTQ[fmt])
        elif fmt == "awq":
            add_awq(w, pool, name, n, k)
        elif fmt == "f16":
            dense(name, n, k)
        else:
            add_nf4(w, pool, name, n, k, fmt == "nf4-dq")
    for layer in range(layers):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            w.add(f"model.layers.{layer}.{norm}.weight", "F16", [h], lambda: ones)
    w.add("model.norm.weight", "F16", [h], lambda: ones)
    dense("lm_head", vocab, h)
    w.write(f"{folder}/model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": h,
              "intermediate_size": ff, "num_hidden_layers": layers, "num_attention_heads": heads,
              "num_key_value_heads": kv_heads, "hidden_act": "silu", "max_position_embeddings": 4096,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": vocab, "tie_word_embeddings": False,
              "torch_dtype": "float16", "bos_token_id": 1, "eos_token_id": 2}
    if fmt != "f16":
        config["quantization_config"] = quantization(fmt)
    write_json(f"{folder}/config.json", config)


def make_adapter(shape, folder, rng):
    os.makedirs(folder, exist_ok=True)
    w, entries = Writer(), OFT_BLOCK * (OFT_BLOCK - 1) // 2
    row = [packed("f", [rng.gauss(0, ADAPTER_SIGMA) for _ in range(entries)]) for _ in range(256)]
    for name, _, k in linears(shape):
        rows = k // OFT_BLOCK
        w.add(f"base_model.model.{name}.oft_R.weight", "F32", [rows, entries],
              lambda rows=rows: b"".join(rng.choices(row, k=rows)))
    w.write(f"{folder}/adapter_model.safetensors")
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    write_json(f"{folder}/adapter_config.json", {
        "peft_type": "OFT", "task_type": "CAUSAL_LM", "r": 0, "oft_block_size": OFT_BLOCK, "target_modules": targets,
        "bias": "none", "coft": False, "eps": 6e-5, "block_share": False, "use_cayley_neumann": True,
        "num_cayley_neumann_terms": 5, "module_dropout": 0.0, "fan_in_fan_out": False, "init_weights": True,
        "inference_mode": True, "modules_to_save": None, "layers_to_transform": None, "layers_pattern": None,
        "exclude_modules": None, "base_model_name_or_path": "base", "revision": None, "peft_version": "0.21.2"})


def make_pool(folder, adapters, count):
    """The i-th has the files of adapter i mod adapters, under a name of its own."""
    for i in range(count):
        to = f"{folder}/pool/p{i:04}"
        os.makedirs(to, exist_ok=True)
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            if not os.path.exists(f"{to}/{name}"):
                os.link(f"{folder}/adapters/a{i % adapters}/{name}", f"{to}/{name}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("shape", choices=SHAPES)
    p.add_argument("dir")
    p.add_argument("--adapters", type=int, default=8)
    p.add_argument("--pool", type=int, default=0)
    p.add_argument("--format", choices=["nf4", "nf4-dq", "gptq4", "gptq8", "awq", "f16"], default="nf4")
    a = p.parse_args()
    shape = SHAPES[a.shape]
    make_base(shape, a.format, f"{a.dir}/base", Pool(random.Random(f"{a.shape} {a.format}")))
    for i in range(a.adapters):
        make_adapter(shape, f"{a.dir}/adapters/a{i}", random.Random(f"{a.shape} adapter {i}"))
    make_pool(a.dir, a.adapters, a.pool)


if __name__ == "__main__":
    main()
