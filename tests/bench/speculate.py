#!/usr/bin/env python3
"""speculate.py MODEL_DIR [--rounds N] [--tokens N]: what --speculate ngram gains and costs; prints JSON.

MODEL_DIR holds base/ (make_model.py) or is a base by itself. Two daemons, one of them guessing, answer
the same request one after the other; of each case the median over the rounds of (seconds without /
seconds with), with the least and the greatest, and the share of guesses that were right:

  circles   greedy: a random network soon repeats itself, as a text does that copies its prompt
  chance    sampled from few tokens: what stood before is found nearly always, and hardly ever right
  new       sampled from all tokens: nothing is found

The program is $BUILD/oftd; standard library only.
"""
import argparse
import json
import os
import random
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "live"))
from daemon import Daemon  # noqa: E402

FEW = {str(i): 100 for i in range(40, 56)}
CASES = {"circles": {"temperature": 0}, "chance": {"temperature": 1, "logit_bias": FEW}, "new": {"temperature": 1}}


def figures(daemon):
    m = daemon.metrics()
    return [m["oftd_spec_decode_num_draft_tokens_total"], m["oftd_spec_decode_num_accepted_tokens_total"], m["oftd_steps_total"]]


def seconds(daemon, ids, fields):
    begin = time.monotonic()
    daemon.complete(ids, ignore_eos=True, **fields)
    return time.monotonic() - begin


def measure(daemons, rng, tokens, rounds, fields):
    ratios, before = [], figures(daemons[1])
    for i in range(rounds):
        ids = [rng.randrange(40, 56) for _ in range(64)]
        asked = {**fields, "seed": i, "max_tokens": tokens}
        pair = [0, 0]
        for which in ((0, 1) if i % 2 else (1, 0)):
            pair[which] = seconds(daemons[which], ids, asked)
        ratios.append(pair[0] / pair[1])
    drafted, accepted, steps = (b - a for a, b in zip(before, figures(daemons[1])))
    return {"ratio": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios), "drafted": drafted,
            "accepted": accepted, "steps": steps, "tokens": rounds * tokens}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--tokens", type=int, default=96)
    p.add_argument("--compute", default="fast")
    o = p.parse_args()
    base = f"{o.model}/base" if os.path.isdir(f"{o.model}/base") else o.model
    args = ("--served-model-name", "base", "--compute", o.compute, "--kv-memory", "256M")
    rng = random.Random(1)
    with Daemon(*args, model=base) as without, Daemon(*args, "--speculate", "ngram", model=base) as guessing:
        pair = without, guessing
        for d in pair:
            seconds(d, [1, 2, 3], {"max_tokens": 16})
        print(json.dumps({name: measure(pair, rng, o.tokens, o.rounds, fields) for name, fields in CASES.items()}, indent=2))


if __name__ == "__main__":
    main()
