#!/usr/bin/env python3
"""make_pairs.py TOKENIZERS > pairs.json: pairs of texts through the real library (PyPI: tokenizers).

TOKENIZERS is the folder with bert-uncased/tokenizer.json and others. Each entry names its folder, a post_processor that takes
the place of the file's own (or none does), the two texts, whether special tokens are added, and the library's ids and types."""
import json
import sys

import tokenizers

TEXTS = [("how big is it?", "It is 3 feet."), ("", "alone"), ("na\u00efve", ""), ("a", "b")]
BERT = {"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]}
ROBERTA = {"type": "RobertaProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101], "trim_offsets": True, "add_prefix_space": True}
ODD = {"type": "TemplateProcessing",
       "single": [{"Sequence": {"id": "A", "type_id": 0}}],
       "pair": [{"Sequence": {"id": "B", "type_id": 3}}, {"SpecialToken": {"id": "x", "type_id": 2}},
                {"Sequence": {"id": "A", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 0}}],
       "special_tokens": {"x": {"id": "x", "ids": [7, 9], "tokens": ["[unused6]", "[unused8]"]}}}
WITH = [("bert-uncased", p) for p in (None, BERT, ROBERTA, ODD, {"type": "Sequence", "processors": [BERT]}, {})] + [
    (n, None) for n in ("gpt2", "llama3", "llama2", "qwen2", "gemma", "phi3", "t5")]


def main(folder):
    out = []
    for name, post in WITH:
        raw = json.load(open(f"{folder}/{name}/tokenizer.json"))
        raw["truncation"] = raw["padding"] = None
        if post is not None:
            raw["post_processor"] = post or None
        t = tokenizers.Tokenizer.from_str(json.dumps(raw))
        for a, b in TEXTS:
            for special in (True, False):
                e = t.encode(a, b, add_special_tokens=special)
                out.append({"tokenizer": name, "post_processor": raw["post_processor"] if post is not None else False,
                            "texts": [a, b], "add_special": special, "ids": e.ids, "types": e.type_ids})
    json.dump({"tokenizers": tokenizers.__version__, "cases": out}, sys.stdout)
    print()


if __name__ == "__main__":
    main(sys.argv[1])
