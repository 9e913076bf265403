#!/usr/bin/env python3
"""make.py [FAMILY...]: the golden classifiers of this folder, made with transformers 5.23.0 and peft 0.21.2 (not needed to run the tests).

One folder per family: a tiny seeded ...ForSequenceClassification checkpoint with three labels, adapters written by PEFT

    a     SEQ_CLS, PEFT's default targets, block 8, Neumann 5; a head of its own (PEFT saves it with every SEQ_CLS adapter)
    b     SEQ_CLS, "all-linear", block 4, exact Cayley; a head of its own
    rot   no task: rotations only, so it keeps the base's head
    t     TOKEN_CLS (families that have the class), a head of four labels over the same backbone

and expected.safetensors: `input_ids` [2, 9], row 1 ends in two padding tokens where there is one; `logits.<who>` of the class itself
(who: base, a, b, rot, rot+a, t), float32, no attention mask. `plain/` (llama, gemma, bert): the backbone in its plain class, for heads that
adapters bring along; `logits.plain` are its own. `token/` (bert, gpt2): a ForTokenClassification checkpoint; `logits.token`."""
import json, os, shutil, sys

import torch
from peft import OFTConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import save_file
from transformers import (AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification,
                          AutoModelForTokenClassification)
from transformers.pytorch_utils import Conv1D

HERE = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
COMMON = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
              max_position_embeddings=32, pad_token_id=0, bos_token_id=1, eos_token_id=2)
FAMILIES = {
    "llama": dict(num_hidden_layers=2, num_key_value_heads=1),
    "mistral": dict(num_key_value_heads=1, sliding_window=4),
    "qwen2": dict(num_key_value_heads=1),
    "qwen3": dict(num_key_value_heads=1, head_dim=8),
    "gemma": dict(num_key_value_heads=1, head_dim=8),
    "gemma2": dict(num_key_value_heads=1, head_dim=8, query_pre_attn_scalar=8, sliding_window=4),
    "phi3": dict(num_key_value_heads=1),
    "gpt2": dict(n_embd=16, n_layer=1, n_head=2, n_inner=24, n_positions=32),
    "opt": dict(ffn_dim=24, word_embed_proj_dim=8, pad_token_id=1),
    "gpt_neox": dict(),
    "falcon": dict(pad_token_id=None),
    "bert": dict(num_hidden_layers=2),
    "roberta": dict(pad_token_id=1),
}
DROP = {"gpt2": ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"],
        "opt": ["intermediate_size"], "falcon": ["intermediate_size"]}
TARGETS = {"phi3": ["qkv_proj"], "gpt2": ["c_attn"]}


def stir(model):
    for name, p in model.named_parameters():
        p.data += torch.randn_like(p) * (0.25 if p.dim() == 2 else 0.1)


def linears(model):
    """PEFT refuses GPT-2's Conv1D for OFT: the same product as a Linear."""
    for parent in list(model.modules()):
        for name, m in list(parent.named_children()):
            if isinstance(m, Conv1D):
                new = torch.nn.Linear(m.weight.shape[0], m.weight.shape[1])
                new.weight.data, new.bias.data = m.weight.data.t().contiguous(), m.bias.data
                setattr(parent, name, new)
    return model


def same_backbone(model, other):
    state = {k: v for k, v in other.state_dict().items() if not k.startswith(("score", "classifier"))}
    left = model.load_state_dict(state, strict=False)
    assert not left.unexpected_keys or all("pooler" in k for k in left.unexpected_keys), left
    assert all(k.startswith(("score", "classifier", "lm_head")) for k in left.missing_keys), left
    return model.eval()


def train(peft):
    for name, p in peft.named_parameters():
        if "oft_" in name:
            p.data = torch.randn_like(p) * 0.1
        elif "modules_to_save" in name:
            p.data = torch.randn_like(p) * 0.4


def logits(model, ids):
    with torch.no_grad():
        if model.config.pad_token_id is None:
            return torch.cat([model(input_ids=row[None]).logits for row in ids])
        return model(input_ids=ids).logits


def make(family):
    torch.manual_seed(sorted(set(FAMILIES) - {"gemma"} | {family}).index(family) + 7)  # others keep theirs
    keys = {**COMMON, **FAMILIES[family], "num_labels": 3}
    for key in DROP.get(family, []):
        del keys[key]
    config = AutoConfig.for_model(family, **keys)
    config._attn_implementation = "eager" if family == "gemma2" else "sdpa"
    to = f"{HERE}/{family}"
    shutil.rmtree(to, ignore_errors=True)
    base = AutoModelForSequenceClassification.from_config(config).eval()
    stir(base)
    base.save_pretrained(to)
    ids = torch.randint(3, 40, (2, 9))
    if config.pad_token_id is not None:
        ids[1, 7:] = config.pad_token_id
    out = {"input_ids": ids, "logits.base": logits(base, ids)}
    targets = TARGETS.get(family)
    setups = {"a": dict(task_type="SEQ_CLS", oft_block_size=8, target_modules=targets),
              "b": dict(task_type="SEQ_CLS", oft_block_size=4, target_modules="all-linear", use_cayley_neumann=False),
              "rot": dict(oft_block_size=8, target_modules=targets)}
    for name, setup in setups.items():
        model = linears(same_backbone(AutoModelForSequenceClassification.from_config(config), base))
        head = {k: v for k, v in base.state_dict().items() if k.startswith(("score", "classifier"))}
        model.load_state_dict(head, strict=False)
        peft = get_peft_model(model, OFTConfig(**setup)).eval()
        train(peft)
        peft.save_pretrained(f"{to}/adapters/{name}")
        out[f"logits.{name}"] = logits(peft, ids)
    both = linears(same_backbone(AutoModelForSequenceClassification.from_config(config), base))
    from peft import PeftModel
    both = PeftModel.from_pretrained(both, f"{to}/adapters/rot", adapter_name="rot")
    both.load_adapter(f"{to}/adapters/a", adapter_name="a")
    for m in both.modules():
        if isinstance(m, BaseTunerLayer):
            m.set_adapter([n for n in ("rot", "a") if n in m.oft_R])
        elif isinstance(m, ModulesToSaveWrapper):
            m.set_adapter("a")
    out["logits.rot+a"] = logits(both.eval(), ids)
    if family != "opt":
        config.num_labels = 4
        token = same_backbone(AutoModelForTokenClassification.from_config(config), base)
        if family in ("bert", "gpt2"):
            token.save_pretrained(f"{to}/token")
            out["logits.token"] = logits(token, ids)
        peft = get_peft_model(linears(token), OFTConfig(task_type="TOKEN_CLS", oft_block_size=8, target_modules=targets)).eval()
        train(peft)
        peft.save_pretrained(f"{to}/adapters/t")
        out["logits.t"] = logits(peft, ids)
    if family in ("llama", "bert", "gemma"):
        auto = AutoModel if family == "bert" else AutoModelForCausalLM
        plain = auto.from_config(config)
        if family != "bert":
            same_backbone(plain, base)
            out["logits.plain"] = logits(plain.eval(), ids)
        else:
            plain.load_state_dict({k[5:]: v for k, v in base.state_dict().items() if k.startswith("bert.")})
        plain.save_pretrained(f"{to}/plain")
    save_file({k: v.contiguous() for k, v in out.items()}, f"{to}/expected.safetensors")
    for root, _, files in os.walk(to):
        for f in files:
            if f in ("README.md", "generation_config.json"):
                os.remove(f"{root}/{f}")
    for name in ("base", "a", "b", "rot", "rot+a", "t"):
        if f"logits.{name}" in out:
            print(family, name, [round(float(x), 3) for x in out[f"logits.{name}"].flatten()[:6]])


for family in sys.argv[1:] or FAMILIES:
    make(family)
