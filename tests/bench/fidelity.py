#!/usr/bin/env python3
"""fidelity.py [--model DIR] [--adapter NAME=DIR]... [--head 8] [--tokens N] [--json]: what --compute fast costs.

The base and each adapter write texts of their own (sampled in exact arithmetic, fixed seeds); each
text then goes through /v1/forward in both modes, and every position is compared:

    KL           sum over the vocabulary of p_exact (log p_exact - log p_fast), mean and maximum, nats
    perplexity   of the text under each mode, and the relative difference
    greedy       share of positions whose most likely token is the same
    log p        the largest difference of a log probability above -20

Without --model: the demo base and its adapters. A base without tokenizer starts from random ids. The
program is $BUILD/oftd; standard library only. Exit code 1 when the mean KL exceeds --max-kl.
"""
import argparse
import json
import math
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "live"))
from daemon import ADAPTERS, BASE, Daemon  # noqa: E402

OPENINGS = ("The old house was", "In the beginning", "She said that", "To be or not")
FLOOR = -20.0  # log probabilities below it are compared by KL alone


class Comparison:
    """Sums over all positions of one subject."""

    def __init__(self):
        self.positions = self.agreed = 0
        self.kl = self.worst_kl = self.worst_difference = self.exact = self.fast = 0.0

    def add(self, exact, fast, following):
        """One position: both modes' log probabilities and the token that follows."""
        kl = math.fsum(math.exp(e) * (e - f) for e, f in zip(exact, fast) if e != f)
        self.positions += 1
        self.kl += kl
        self.worst_kl = max(self.worst_kl, kl)
        self.agreed += exact.index(max(exact)) == fast.index(max(fast))
        self.exact -= exact[following]
        self.fast -= fast[following]
        if exact != fast:
            differences = (abs(e - f) for e, f in zip(exact, fast) if max(e, f) > FLOOR)
            self.worst_difference = max(self.worst_difference, max(differences, default=0.0))

    def figures(self):
        n = self.positions
        exact, fast = math.exp(self.exact / n), math.exp(self.fast / n)
        return {"positions": n, "kl_mean": self.kl / n, "kl_max": self.worst_kl, "perplexity_exact": exact,
                "perplexity_fast": fast, "perplexity_difference": fast / exact - 1, "greedy_agreement": self.agreed / n,
                "logprob_difference_max": self.worst_difference}


def openings(daemon, vocab):
    """Ids that the texts start with."""
    if daemon.post("/tokenize", {"content": "a"}).status == 200:
        return [daemon.ok("POST", "/tokenize", {"content": t})["tokens"] for t in OPENINGS]
    rng = random.Random(1)
    return [[rng.randrange(vocab) for _ in range(8)] for _ in OPENINGS]


def text_of(daemon, subject, start, tokens, seed):
    reply = daemon.ok("POST", "/v1/completions", {
        "model": subject, "prompt": start, "max_tokens": tokens, "temperature": 1, "seed": seed, "ignore_eos": True,
        "compute": "exact", "return_token_ids": True}, timeout=600)
    return start + reply["choices"][0]["token_ids"]


def logprobs(daemon, adapter, ids, compute):
    """[T][V]"""
    body = {"input_ids": [ids], "outputs": ["logprobs"], "compute": compute, "adapter": adapter}
    reply = daemon.ok("POST", "/v1/forward", {k: v for k, v in body.items() if v is not None}, timeout=600)
    tensor = reply["rows"][0]["logprobs"]
    rows, width = tensor["shape"]
    return [tensor["data"][i * width:(i + 1) * width] for i in range(rows)]


def compare(daemon, adapter, starts, tokens):
    result = Comparison()
    for seed, start in enumerate(starts):
        ids = text_of(daemon, adapter or "base", start, tokens, seed)
        modes = [logprobs(daemon, adapter, ids, compute) for compute in ("exact", "fast")]
        for i, (exact, fast) in enumerate(zip(*modes)):
            if i + 1 < len(ids):
                result.add(exact, fast, ids[i + 1])
    return result.figures()


def print_figures(figures):
    print(f"{'':16}{'positions':>10}{'KL mean':>11}{'KL max':>11}{'perplexity exact, fast':>26}{'difference':>12}"
          f"{'greedy':>9}{'log p':>10}")
    for subject, f in figures.items():
        print(f"{subject:16}{f['positions']:10d}{f['kl_mean']:11.2e}{f['kl_max']:11.2e}{f['perplexity_exact']:13.4f}"
              f"{f['perplexity_fast']:13.4f}{f['perplexity_difference']:12.1e}{f['greedy_agreement']:9.4f}"
              f"{f['logprob_difference_max']:10.1e}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", help="a base (default: the demo)")
    p.add_argument("--adapter", action="append", metavar="NAME=DIR")
    p.add_argument("--head", default="16", help="8: with an output layer of bytes")
    p.add_argument("--tokens", type=int, default=64, help="of each text")
    p.add_argument("--max-kl", type=float, default=math.inf)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    adapters = dict(x.split("=", 1) for x in a.adapter or [])
    if not a.model and not a.adapter:
        adapters = {n: f"{ADAPTERS}/{n}" for n in sorted(os.listdir(ADAPTERS))}
    model = a.model or BASE
    with open(f"{model}/config.json") as f:
        vocab = json.load(f)["vocab_size"]
    flags = [x for name, path in adapters.items() for x in ("--adapter", f"{name}={path}")]
    with Daemon(*flags, "--head", a.head, "--served-model-name", "base", model=model) as daemon:
        starts = openings(daemon, vocab)
        figures = {name or "(base)": compare(daemon, name, starts, a.tokens) for name in (None, *adapters)}
    if a.json:
        json.dump(figures, sys.stdout, indent=1)
        print()
    else:
        print_figures(figures)
    return 1 if any(f["kl_mean"] > a.max_kl for f in figures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
