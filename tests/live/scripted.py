"""A base that says what it is told: a one-layer Llama whose every token has one successor, so that greedy decoding
walks along a script. Its pieces are tokens of their own, cut wherever the script cuts them."""
import json
import os
import struct
import tempfile

from daemon import Daemon

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"


def byte_letters():
    """The letters that byte-level vocabularies write bytes with, in the order of bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


def tokenizer_json(tokens, special):
    letters = byte_letters()
    added = [{"id": 256 + i, "content": t if t.isascii() else "".join(letters[b] for b in t.encode()), "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": t in (BEGIN, END, PAD, *special) or t.startswith("<|say")} for i, t in enumerate(tokens)]
    vocab = {c: i for i, c in enumerate(letters)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    begin = {"SpecialToken": {"id": BEGIN, "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {BEGIN: {"id": BEGIN, "ids": [256], "tokens": [BEGIN]}}}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": level, "post_processor": template, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []}}


def matrix(n, k, ones):
    """[n, k] of zeros with ones at (row, column), as bytes."""
    m = bytearray(4 * n * k)
    for row, column in ones:
        m[4 * (row * k + column):4 * (row * k + column) + 4] = struct.pack("<f", 1)
    return bytes(m)


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (shape, content) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


class Scripted:
    """A folder to serve. scripts: {"<|say...|>": [piece, ...]}: the answer to a prompt that ends with that token; no
    piece may come twice, nor be a byte alone. template: its chat template. special: pieces that are special tokens."""

    def __init__(self, scripts, template, special=()):
        tokens = [BEGIN, END, PAD, *scripts, *(p for pieces in scripts.values() for p in pieces)]
        assert len(set(tokens)) == len(tokens), "a piece comes twice"
        n = -(-(256 + len(tokens)) // 64) * 64
        ids = {t: 256 + i for i, t in enumerate(tokens)}
        follows = [(257, i) for i in range(n) if i < 256]
        for say, pieces in scripts.items():
            chain = [say, *pieces, END]
            follows += [(ids[b], ids[a]) for a, b in zip(chain, chain[1:])]
        self.folder = tempfile.TemporaryDirectory()
        self.name = self.folder.name
        self.write("config.json", {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": n, "intermediate_size": 64,
            "num_hidden_layers": 1, "num_attention_heads": n // 64, "num_key_value_heads": n // 64, "head_dim": 64,
            "vocab_size": n, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "tie_word_embeddings": False, "torch_dtype": "float32", "hidden_act": "silu", "bos_token_id": 256,
            "eos_token_id": 257})
        self.write("tokenizer.json", tokenizer_json(tokens, special))
        self.write("tokenizer_config.json", {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD})
        with open(f"{self.name}/chat_template.jinja", "w", encoding="utf-8") as f:
            f.write(template)
        layer = {f"self_attn.{p}_proj": (n, n) for p in "qkvo"}
        layer |= {"mlp.gate_proj": (64, n), "mlp.up_proj": (64, n), "mlp.down_proj": (n, 64)}
        tensors = {f"model.layers.0.{k}.weight": ([a, b], matrix(a, b, [])) for k, (a, b) in layer.items()}
        ones = struct.pack("<f", 1) * n
        for norm in ("model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"):
            tensors[f"{norm}.weight"] = ([n], ones)
        tensors["model.embed_tokens.weight"] = ([n, n], matrix(n, n, [(i, i) for i in range(n)]))
        tensors["lm_head.weight"] = ([n, n], matrix(n, n, follows))
        write_safetensors(f"{self.name}/model.safetensors", tensors)

    def write(self, name, value):
        with open(os.path.join(self.name, name), "w", encoding="utf-8") as f:
            json.dump(value, f)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()


class Served:
    """A daemon whose base is a Scripted."""

    def __init__(self, scripts, template, *flags):
        self.scripts, self.template, self.flags = scripts, template, flags

    def __enter__(self):
        self.model = Scripted(self.scripts, self.template)
        self.daemon = Daemon(*self.flags, model=self.model.name)
        return self.daemon

    def __exit__(self, *_):
        self.daemon.__exit__()
        self.model.folder.cleanup()
