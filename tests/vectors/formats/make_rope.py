#!/usr/bin/env python3
"""make_rope.py OUT: inverse frequencies as the transformers library computes them (rope.json)."""
import json
import sys

import torch
from transformers import LlamaConfig, Phi3Config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

SIZES = {"hidden_size": 128, "num_attention_heads": 2, "max_position_embeddings": 4096}
CASES = [
    {"rope_type": "default", "rope_theta": 10000.0},
    {"rope_type": "default", "rope_theta": 500000.0},
    {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
    {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 512},
    {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 1024},
    {"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "original_max_position_embeddings": 256, "beta_fast": 20,
     "beta_slow": 2, "truncate": False, "mscale": 0.9, "mscale_all_dim": 0.7},
    {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 1024,
     "short_factor": [1 + 0.03 * i for i in range(32)], "long_factor": [1 + 0.9 * i for i in range(32)]},
]


def main(out):
    cases = []
    for rope in CASES:
        phi = rope["rope_type"] == "longrope"
        extra = {"original_max_position_embeddings": 1024, "pad_token_id": 0} if phi else {}
        config = (Phi3Config if phi else LlamaConfig)(rope_parameters=dict(rope), **SIZES, **extra)
        made = (Phi3RotaryEmbedding if phi else LlamaRotaryEmbedding)(config)
        cases.append({"rope_parameters": rope, "attention_factor": float(made.attention_scaling),
                      "inverse": [float(x) for x in made.inv_freq.to(torch.float64)]})
    json.dump(cases, open(out, "w"), indent=1)


main(sys.argv[1])
