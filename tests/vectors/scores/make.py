#!/usr/bin/env python3
"""make.py: the cross encoders of this folder and expected.json, made with transformers, tokenizers, PEFT and
sentence-transformers (versions inside; not needed to run the tests).

    bert      WordPiece, pairs with token types, the sigmoid that sentence-transformers takes by itself; an adapter `a` with
              a head of its own (SEQ_CLS, OFT)
    roberta   byte-level BPE, RobertaProcessing, the logit itself (config.json says Identity)
    llama     a decoder's classifier; byte-level BPE without a template for pairs, saved by sentence-transformers with Identity

Scores are CrossEncoder.predict's, the order is CrossEncoder.rank's; with the adapter, PEFT's logits through the sigmoid."""
import json
import os
import shutil

import peft
import sentence_transformers
import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
QUERY = "how many people live in berlin?"
DOCUMENTS = ["Berlin had a population of 3,520,031 registered inhabitants.", "New York is famous for its museum.",
             "people live in houses", "", "3 people", "how many people live in berlin?"]
TEXTS = [QUERY, *DOCUMENTS, "an area of 891 square kilometers", "the na\u00efve museum is in the city"]


def wordpiece():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer, t.decoder = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=160, special_tokens=special))
    t.post_processor = processors.TemplateProcessing("[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
                                                     [("[CLS]", 2), ("[SEP]", 3)])
    return t, {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "mask_token": "[MASK]",
               "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}  # as BertTokenizer has them


def bytelevel(special, size=300):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=size, special_tokens=special,
                                                     initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def roberta_tokenizer():
    t = bytelevel(["<s>", "<pad>", "</s>", "<unk>"])
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return t, {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>",
               "unk_token": "<unk>"}


def llama_tokenizer():
    return bytelevel(["<pad>", "<eos>"]), {"pad_token": "<pad>", "eos_token": "<eos>"}


SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_labels=1)
MODELS = {
    "bert": (wordpiece, transformers.BertForSequenceClassification,
             lambda n: transformers.BertConfig(vocab_size=n, max_position_embeddings=64, **SMALL)),
    "roberta": (roberta_tokenizer, transformers.RobertaForSequenceClassification,
                lambda n: transformers.RobertaConfig(vocab_size=n, max_position_embeddings=130, type_vocab_size=1, pad_token_id=1,
                                                     bos_token_id=0, eos_token_id=2, **SMALL)),
    "llama": (llama_tokenizer, transformers.LlamaForSequenceClassification,
              lambda n: transformers.LlamaConfig(vocab_size=n, max_position_embeddings=128, num_key_value_heads=1, pad_token_id=0,
                                                 eos_token_id=1, bos_token_id=None, **SMALL)),
}


def save(name):
    make_tokenizer, kind, config = MODELS[name]
    raw, special = make_tokenizer()
    folder = name  # no file tells where it was made
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(len(name))
    model = kind(config(raw.get_vocab_size())).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3) if p.dim() > 1 else torch.nn.init.normal_(p, 1.0, 0.1)
    model.save_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=60, **special)
    tokenizer.save_pretrained(folder)
    if name == "roberta":
        c = json.load(open(f"{folder}/config.json"))
        c["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.0.0"}
        json.dump(c, open(f"{folder}/config.json", "w"), indent=1)
    if name == "llama":
        ce = sentence_transformers.CrossEncoder(folder, device="cpu", local_files_only=True, activation_fn=torch.nn.Identity())
        ce.save_pretrained(folder)  # with modules.json and config_sentence_transformers.json
    return folder


def adapter(folder):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    torch.manual_seed(9)
    model = peft.get_peft_model(model, peft.OFTConfig(task_type="SEQ_CLS", target_modules=["query", "value"], oft_block_size=16,
                                                      init_weights=False, use_cayley_neumann=False))
    for n, p in model.named_parameters():
        if "modules_to_save" in n:
            torch.nn.init.normal_(p, std=0.5)
    model.save_pretrained(f"{folder}/adapters/a")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    whole = peft.PeftModel.from_pretrained(transformers.AutoModelForSequenceClassification.from_pretrained(folder),
                                           f"{folder}/adapters/a").eval()
    out = []
    with torch.no_grad():
        for d in DOCUMENTS:
            e = tokenizer([[QUERY, d]], return_tensors="pt")  # by itself an empty text would be none
            out.append(torch.sigmoid(whole(**e).logits[0, 0]).item())
    return out


def main():
    os.chdir(HERE)
    out = {"generator": "tests/vectors/scores/make.py", "query": QUERY, "documents": DOCUMENTS, "models": {},
           "library": {m.__name__: m.__version__ for m in (transformers, tokenizers, peft, sentence_transformers)}}
    for name in MODELS:
        folder = save(name)
        ce = sentence_transformers.CrossEncoder(folder, device="cpu", local_files_only=True)
        pairs = [(QUERY, d) for d in DOCUMENTS]
        entry = {"scores": [float(f"{x:.7g}") for x in ce.predict(pairs)],
                 "rank": [r["corpus_id"] for r in ce.rank(QUERY, DOCUMENTS)],
                 "activation": type(ce.activation_fn).__name__}
        if name == "bert":
            entry["adapter"] = [float(f"{x:.7g}") for x in adapter(folder)]
        out["models"][name] = entry
        for d, _, files in os.walk(folder):
            for f in files:
                if f in ("README.md", "special_tokens_map.json", "training_args.bin"):
                    os.remove(f"{d}/{f}")
    json.dump(out, open("expected.json", "w"), indent=1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
