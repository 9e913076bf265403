#!/usr/bin/env python3
"""make_quantized.py [NAME...]: golden checkpoints of quantized non-Llama families, fixtures/bnb4-* and fixtures/gptq4-*, and the dynamic rope
of families/llama-dynamic. Made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, bitsandbytes 0.50.2; none of it is needed to run the tests.

bnb4-*   transformers' own from_pretrained(quantization_config) and save_pretrained; decoded by bitsandbytes
gptq4-*  round to nearest, packed here as formats.md 9 says (4 bits, groups of 16, v1 zero points; phi3 with act-order); decoded by definition
Logits and texts: float32 on the decoded weights, rotations by PEFT's own forward; merge errors: PEFT's merge, bitsandbytes' quantizer.
llama-dynamic: greedy texts of transformers' generate from a fresh model each, some of which cross max_position_embeddings."""
import hashlib, json, math, os, shutil, sys, tempfile

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import OFTConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

HERE = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
COMMON = dict(vocab_size=48, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
              max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
FAMILIES = {"gpt_neox": dict(), "phi3": dict(num_key_value_heads=1)}
TARGETS = {"gpt_neox": ["query_key_value"], "phi3": ["qkv_proj", "down_proj"]}
GROUP = 16


def seeded(family, seed, hidden):
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{**COMMON, **FAMILIES[family], "hidden_size": hidden}, dtype="float16")
    model = AutoModelForCausalLM.from_config(config).float().eval()
    for p in model.parameters():
        p.data += torch.randn_like(p) * (0.3 if p.dim() == 2 else 0.1)
        p.data = p.data.half().float()
    return config, model


def linears(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}


def save_half(model, to):
    """The checkpoint as transformers writes it, in float16; the model stays as it is."""
    half = AutoModelForCausalLM.from_config(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(to)


# ---- bitsandbytes ----

def make_bnb(model, to, double):
    with tempfile.TemporaryDirectory() as plain:
        save_half(model, plain)
        quant = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double,
                                   bnb_4bit_compute_dtype=torch.float16)
        q = AutoModelForCausalLM.from_pretrained(plain, quantization_config=quant, dtype=torch.float16, device_map="cpu")
    q.save_pretrained(to)
    return {n: dequantize_4bit(m.weight.data, m.weight.quant_state).float()
            for n, m in q.named_modules() if isinstance(m, bnb.nn.Linear4bit)}


def requantized(w, double):
    packed, state = quantize_4bit(w.half(), blocksize=64, quant_type="nf4", compress_statistics=double)
    return dequantize_4bit(packed, state).float()


# ---- GPTQ ----

def pack_rows(codes):
    """[K, N] 4-bit codes -> int32 [K / 8, N], the first code in the lowest bits."""
    out = torch.zeros(codes.shape[0] // 8, codes.shape[1], dtype=torch.int64)
    for i in range(8):
        out |= codes[i::8].long() << (4 * i)
    return torch.where(out >= 2 ** 31, out - 2 ** 32, out).to(torch.int32)


def quantize_gptq(w, act_order):
    """w [N, K] -> tensors and the decoded matrix."""
    n, k = w.shape
    g_idx = torch.arange(k, dtype=torch.int32) // GROUP
    if act_order:
        g_idx = g_idx[torch.randperm(k)]
    scales, zeros = torch.zeros(k // GROUP, n), torch.zeros(k // GROUP, n, dtype=torch.int64)
    codes = torch.zeros(k, n, dtype=torch.int64)
    for g in range(k // GROUP):
        rows = w[:, g_idx == g]
        lo, hi = rows.min(1).values.clamp(max=0), rows.max(1).values.clamp(min=0)
        scales[g] = ((hi - lo) / 15).half().float()
        zeros[g] = torch.round(-lo / scales[g]).long().clamp(1, 15)
        codes[g_idx == g] = (torch.round(rows / scales[g][:, None]).long() + zeros[g][:, None]).clamp(0, 15).t()
    decoded = ((codes - zeros[g_idx.long()]).float() * scales[g_idx.long()]).half().float().t().contiguous()
    return {"qweight": pack_rows(codes), "qzeros": pack_rows((zeros - 1).t().contiguous()).t().contiguous(),
            "scales": scales.half(), "g_idx": g_idx}, decoded


def make_gptq(model, to, act_order):
    save_half(model, to)
    tensors = load_file(f"{to}/model.safetensors")
    decoded = {}
    for name, m in linears(model).items():
        packed, decoded[name] = quantize_gptq(m.weight.data, act_order)
        del tensors[f"{name}.weight"]
        tensors.update({f"{name}.{suffix}": t for suffix, t in packed.items()})
    save_file(tensors, f"{to}/model.safetensors", {"format": "pt"})
    config = json.load(open(f"{to}/config.json"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": act_order, "sym": False,
                                     "checkpoint_format": "gptq", "lm_head": False}
    json.dump(config, open(f"{to}/config.json", "w"), indent=2)
    return decoded


# ---- what must come out ----

def adapters(model, family, to):
    setups = {"a": dict(oft_block_size=16, target_modules=TARGETS[family]),
              "all": dict(oft_block_size=8, target_modules="all-linear", use_cayley_neumann=False)}
    for name, setup in setups.items():
        copy = AutoModelForCausalLM.from_config(model.config).float().eval()
        copy.load_state_dict(model.state_dict())
        peft = get_peft_model(copy, OFTConfig(task_type="CAUSAL_LM", **setup))
        for n, p in peft.named_parameters():
            if "oft_" in n:
                p.data = torch.randn_like(p) * 0.06
        peft.save_pretrained(f"{to}/adapters/{name}")


def adapted(model, to, chain):
    copy = AutoModelForCausalLM.from_config(model.config).float().eval()
    copy.load_state_dict(model.state_dict())
    if not chain:
        return copy
    peft = PeftModel.from_pretrained(copy, f"{to}/adapters/{chain[0]}", adapter_name=chain[0])
    for name in chain[1:]:
        peft.load_adapter(f"{to}/adapters/{name}", adapter_name=name)
    for m in peft.modules():
        if isinstance(m, BaseTunerLayer):
            m.set_adapter([n for n in chain if n in m.oft_R])
    return peft.eval()


def greedy(model, ids, new):
    """Token by token over the whole text; the smallest margin of a choice."""
    margin = math.inf
    with torch.no_grad():
        for _ in range(new):
            top = model(input_ids=ids[None]).logits[0, -1].topk(2)
            margin = min(margin, float(top.values[0] - top.values[1]))
            ids = torch.cat([ids, top.indices[:1]])
    return ids[-new:].tolist(), margin


def digest(w):
    return hashlib.sha256((w + 0.0).contiguous().numpy().tobytes()).hexdigest()


def make(name):
    method, family = name.split("-")
    for seed in range(100):
        # bitsandbytes 0.50.2 decodes wrongly on a CPU where blocks of 64 straddle rows
        config, model = seeded(family, seed, 64 if method == "bnb4" else 32)
        to = f"{HERE}/fixtures/{name}"
        shutil.rmtree(to, ignore_errors=True)
        other = family == "phi3"
        decoded = make_bnb(model, to, other) if method == "bnb4" else make_gptq(model, to, other)
        for n, m in linears(model).items():
            m.weight.data = decoded[n].clone()
        adapters(model, family, to)
        ids = torch.randint(3, 48, (2, 10))
        out, texts, margin = {"input_ids": ids}, {}, math.inf
        for who in ("base", "a", "all", "a+all"):
            it = adapted(model, to, [] if who == "base" else who.split("+"))
            with torch.no_grad():
                out[f"logits.{who}"] = it(input_ids=ids).logits.contiguous()
            if "+" in who:
                continue
            got = [greedy(it, row[:8], 32) for row in ids]
            texts[who], margin = [t for t, _ in got], min(margin, *[m for _, m in got])
        if margin > 2e-3:
            break
    expected = {"library": {"transformers": "5.23.0", "peft": "0.21.2", "bitsandbytes": "0.50.2", "torch": "2.15.0"},
                "how": __doc__.split("\n\n")[1], "seed": seed, "greedy_min_margin": margin,
                "dequant_sha256": {n: digest(w) for n, w in sorted(decoded.items())}, "greedy": texts}
    if method == "bnb4":
        expected["merge"] = {}
        for who in ("a", "all"):
            merged = adapted(model, to, [who]).merge_and_unload()
            errors = {}
            for n, m in linears(merged).items():
                if not torch.equal(m.weight.data, decoded[n]):
                    exact = m.weight.data
                    errors[n] = float((requantized(exact, other) - exact).norm() / exact.norm())
            expected["merge"][who] = {"rel_fro": errors}
    json.dump(expected, open(f"{to}/expected.json", "w"), indent=1)
    save_file(out, f"{to}/expected.safetensors")
    tidy(to)
    print(name, "seed", seed, "margin", round(margin, 4))


def tidy(to):
    for root, _, files in os.walk(to):
        for f in files:
            if f in ("README.md", "generation_config.json"):
                os.remove(f"{root}/{f}")


# ---- rope that depends on the length ----

def make_dynamic():
    to = f"{HERE}/families/llama-dynamic"
    shutil.rmtree(to, ignore_errors=True)
    for seed in range(100):
        torch.manual_seed(seed)
        config = AutoConfig.for_model("llama", **{**COMMON, "max_position_embeddings": 16, "num_key_value_heads": 1, "eos_token_id": None},
                                      rope_parameters={"rope_type": "dynamic", "rope_theta": 100.0, "factor": 4.0})
        model = AutoModelForCausalLM.from_config(config).eval()
        for p in model.parameters():
            p.data += torch.randn_like(p) * (0.3 if p.dim() == 2 else 0.1)
            p.data = p.data.half().float()

        def fresh():
            m = AutoModelForCausalLM.from_config(config).float().eval()
            m.load_state_dict(model.state_dict())
            return m
        prompts = [torch.randint(3, 48, (n,)) for n in (4, 15, 16, 17, 30)]
        margin, texts = math.inf, []
        for p in prompts:
            r = fresh().generate(p[None], max_new_tokens=32, do_sample=False, return_dict_in_generate=True, output_scores=True)
            texts.append(r.sequences[0, len(p):].tolist())
            for s in r.scores:
                top = s[0].topk(2).values
                margin = min(margin, float(top[0] - top[1]))
        if margin > 5e-3:
            break
    save_half(model, to)
    # How far the texts are from those of a cache that is turned anew, and of a rope that stops growing: they must differ.
    anew = [greedy_anew(fresh, p) for p in prompts]
    save_file({"input_ids": prompts[4][None], "logits.base": fresh()(input_ids=prompts[4][None]).logits.detach()},
              f"{to}/forward.safetensors")
    json.dump({"prompts": [p.tolist() for p in prompts], "greedy": texts, "seed": seed, "margin": margin,
               "differs_from_recomputed": [a != b for a, b in zip(anew, texts)]}, open(f"{to}/greedy.json", "w"))
    tidy(to)
    print("llama-dynamic seed", seed, "margin", margin, [a != b for a, b in zip(anew, texts)])


def greedy_anew(fresh, ids):
    new = []
    for _ in range(32):
        with torch.no_grad():
            new.append(int(fresh()(input_ids=torch.cat([ids, torch.tensor(new, dtype=torch.int64)])[None]).logits[0, -1].argmax()))
    return new


NAMES = [f"{m}-{f}" for m in ("bnb4", "gptq4") for f in FAMILIES]
for name in sys.argv[1:] or NAMES + ["llama-dynamic"]:
    make_dynamic() if name == "llama-dynamic" else make(name)
