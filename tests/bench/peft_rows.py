#!/usr/bin/env python3
"""peft_rows.py MODEL THREADS ADAPTER...: what PEFT does with the same base and adapters, on the CPU; for peers.py.

Wants torch, transformers, peft and bitsandbytes. Says its versions when it is ready; then for each line N on standard
input decodes one token of N sequences, sequence i with adapter i, and answers with tokens a second. PEFT computes one
adapter at a time, so the sequences go one after another, as a program around it would do it. Prompts have 32 tokens, and
are computed once. Of one thread and THREADS the one that decodes faster is taken.
"""
import json
import sys
import time

import peft
import torch
import transformers

PROMPT, TOKENS = 32, 2


def say(value):
    print(json.dumps(value), flush=True)


class Sequences:
    def __init__(self, model, names):
        self.model, self.names, self.caches, self.ids = model, names, {}, {}

    def begin(self, i):
        """The prompt of sequence i, with adapter i."""
        generator = torch.Generator().manual_seed(i)
        ids = torch.randint(300, self.model.config.vocab_size, (1, PROMPT), generator=generator)
        self.model.set_adapter(self.names[i])
        out = self.model(input_ids=ids, use_cache=True)
        self.caches[i], self.ids[i] = out.past_key_values, out.logits[:, -1:].argmax(-1)

    def step(self, i):
        self.model.set_adapter(self.names[i])
        out = self.model(input_ids=self.ids[i], past_key_values=self.caches[i], use_cache=True)
        self.caches[i], self.ids[i] = out.past_key_values, out.logits[:, -1:].argmax(-1)

    def rate(self, n, tokens):
        for i in range(n):
            if i not in self.caches:
                self.begin(i)
        start = time.monotonic()
        for _ in range(tokens):
            for i in range(n):
                self.step(i)
        return n * tokens / (time.monotonic() - start)


def main():
    path, threads, *adapters = sys.argv[1:]
    torch.set_num_threads(1)
    base = transformers.AutoModelForCausalLM.from_pretrained(path, device_map="cpu", dtype=torch.float32)
    for module in base.modules():  # half precision is several times slower on a CPU
        if hasattr(module, "compute_dtype"):
            module.compute_dtype, module.compute_type_is_set = torch.float32, True
    model = peft.PeftModel.from_pretrained(base, adapters[0], adapter_name="a0")
    for i, folder in enumerate(adapters[1:], 1):
        model.load_adapter(folder, adapter_name=f"a{i}")
    model.eval()
    with torch.inference_mode():
        sequences = Sequences(model, [f"a{i}" for i in range(len(adapters))])
        sequences.rate(1, 1)
        rates = {}
        for n in {1, int(threads)}:
            torch.set_num_threads(n)
            rates[n] = sequences.rate(1, 1)
        torch.set_num_threads(max(rates, key=rates.get))
        say({"peft": peft.__version__, "transformers": transformers.__version__, "torch": torch.__version__,
             "threads": torch.get_num_threads()})
        for line in sys.stdin:
            n = int(line)
            say({"tokens_per_second": sequences.rate(n, TOKENS if n == 1 else 1)})


if __name__ == "__main__":
    main()
