#!/usr/bin/env python3
"""make.py FAMILIES > expected.json: what sentence-transformers makes of the golden families' hidden states.

FAMILIES is the folder with llama, gpt2, gemma2, bert, roberta (tests/vectors/families). Real models (transformers), real
adapters (PEFT), and the real Pooling and Normalize modules of sentence-transformers on padded batches. Each entry: the
family, the pooling mode ("" is the family's own: a decoder's last token, an encoder's pooler), the adapter ("" is the
base), rows of token ids, and their embeddings, of length 1 where "normalize" says so. Two spellings of the same mode's
config.json lie beside."""
import json
import os
import random
import sys
import tempfile

import peft
import sentence_transformers
import torch
import transformers
from sentence_transformers.base.modules.normalize import Normalize
from sentence_transformers.sentence_transformer.modules.pooling import Pooling

MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
FLAGS = ["pooling_mode_cls_token", "pooling_mode_max_tokens", "pooling_mode_mean_tokens", "pooling_mode_mean_sqrt_len_tokens",
         "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"]
CASES = [("llama", "", ""), ("llama", "mean", "a"), ("gpt2", "", ""), ("gpt2", "weightedmean", ""), ("gemma2", "mean", ""),
         ("roberta", "", ""), ("roberta", "cls", ""), ("bert", "", "a"), *(("bert", m, "") for m in ["", *MODES])]


def hidden_states(folder, adapter, ids, mask):
    """(last hidden states after the final norm, the pooler's output or None)"""
    config = transformers.AutoConfig.from_pretrained(folder)
    decoder = config.model_type not in ("bert", "roberta")
    kind = transformers.AutoModelForCausalLM if decoder else transformers.AutoModel
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    if adapter:
        model = peft.PeftModel.from_pretrained(model, f"{folder}/adapters/{adapter}").eval()
    inner = model.get_base_model() if adapter else model
    with torch.no_grad():
        if decoder:
            return inner.base_model(input_ids=ids, attention_mask=mask).last_hidden_state, None
        r = inner(input_ids=ids, attention_mask=mask)
        return r.last_hidden_state, r.pooler_output


def embed(folder, mode, adapter, normalize, rows):
    n = max(map(len, rows))
    ids = torch.tensor([r + [0] * (n - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (n - len(r)) for r in rows])
    hidden, pooled = hidden_states(folder, adapter, ids, mask)
    features = {"token_embeddings": hidden, "attention_mask": mask}
    if mode or pooled is None:
        features = Pooling(hidden.shape[-1], pooling_mode=mode or "lasttoken")(features)
    else:
        features["sentence_embedding"] = pooled
    return (Normalize()(features) if normalize else features)["sentence_embedding"]


def config(mode):
    with tempfile.TemporaryDirectory() as d:
        Pooling(64, pooling_mode=mode).save(d)
        return json.load(open(f"{d}/config.json"))


def main(families):
    random.seed(5)
    rows = [[random.randrange(5, 90) for _ in range(n)] for n in (11, 1, 23)]
    out = []
    for family, mode, adapter in CASES:
        normalize = mode != "mean_sqrt_len_tokens"  # else it is the mean's
        e = embed(f"{families}/{family}", mode, adapter, normalize, rows)
        out.append({"family": family, "mode": mode, "adapter": adapter, "normalize": normalize,
                    "embeddings": [[float(f"{x:.7g}") for x in row.tolist()] for row in e]})
    old = {m: {"word_embedding_dimension": 64, **{f: f == g for f in FLAGS}} for m, g in zip(MODES, FLAGS)}
    json.dump({"generator": "tests/vectors/embeddings/make.py",
               "library": {"sentence_transformers": sentence_transformers.__version__, "torch": torch.__version__.split("+")[0],
                           "transformers": transformers.__version__, "peft": peft.__version__},
               "modules": ["sentence_transformers.models.Transformer", Pooling.__module__ + ".Pooling", "sentence_transformers.models.Normalize"],
               "config": {m: config(m) for m in MODES}, "config_before_6": old, "rows": rows, "cases": out}, sys.stdout)
    print()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
