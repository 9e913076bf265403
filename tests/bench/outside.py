#!/usr/bin/env python3
"""outside.py MODEL_DIR [--idle SECONDS]: what a client and an operator see of a daemon; prints JSON.

MODEL_DIR holds base/ and adapters/*/ (make_model.py), or is a base by itself. Measured: seconds from
exec until /health is ready and until a first token, the first token of a prompt of 512; with eight
streams on distinct adapters, each one request after another, the waits for first tokens and between
tokens; with 64 streams of the base the share of a step that no pass through the model takes; and the
processor time of the idle daemon with every adapter loaded. The program is $BUILD/oftd; standard
library only.
"""
import argparse
import json
import os
import random
import statistics
import sys
import time

import machine
import traffic

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "live"))
from daemon import Daemon, Stream  # noqa: E402

PROMPT, SHORT, STREAMS, TOKENS, ROUNDS, SETTLE = 512, 64, 8, 32, 5, 1.0
CROWD, CROWD_TOKENS, STARTS = 64, 64, 3


def folders(model):
    """(base, {name: adapter folder})"""
    if not os.path.isdir(f"{model}/base"):
        return model, {}
    root = f"{model}/adapters"
    names = sorted(os.listdir(root)) if os.path.isdir(root) else []
    return f"{model}/base", {n: f"{root}/{n}" for n in names if os.path.isdir(f"{root}/{n}")}


def start(base, adapters):
    """The daemon, and the seconds from exec until /health said that it serves."""
    args = [a for name, path in adapters.items() for a in ("--adapter", f"{name}={path}")]
    begin = time.monotonic()
    daemon = Daemon(*args, "--served-model-name", "base", model=base)
    daemon.ok("GET", "/health")
    return daemon, time.monotonic() - begin


def resident_bytes(pid):
    """(now, peak)"""
    with open(f"/proc/{pid}/status") as f:
        sizes = {l.split(":")[0]: l.split()[1] for l in f if l.startswith(("VmRSS", "VmHWM"))}
    return int(sizes["VmRSS"]) * 1024, int(sizes["VmHWM"]) * 1024


def prompt(rng, length, vocab):
    return [rng.randrange(vocab) for _ in range(length)]


def first_token_seconds(daemon, ids):
    """As the client sees it: from the request until the status line, which waits for the first token."""
    begin = time.monotonic()
    stream = Stream(daemon, ids, max_tokens=1, ignore_eos=True)
    assert stream.status == 200, stream.status
    seconds = time.monotonic() - begin
    stream.r.read()
    stream.close()
    return seconds


def body(rng, length, vocab, tokens, name):
    """A base without a tokenizer has no text: the ids make a frame of every token."""
    return "/v1/completions", {"model": name, "prompt": prompt(rng, length, vocab), "max_tokens": tokens, "stream": True,
                               "temperature": 0, "ignore_eos": True, "return_token_ids": True}


def eight(daemon, adapters, rng, vocab, seconds):
    """Waits for first tokens and between tokens of eight streams, stream i on adapter i."""
    names = list(adapters) or ["base"]
    window = traffic.Window(STREAMS, seconds)
    ended, cut = traffic.run(daemon.port, STREAMS, TOKENS,
                             lambda i, _: body(rng, SHORT, vocab, TOKENS, names[i % len(names)]), window)
    every = ended + cut
    return (traffic.first_waits(every, window.start, window.end), traffic.waits(every, window.start, window.end))


def share_outside(daemon, rng, vocab, seconds):
    """(seconds of a step, of which in passes through the model) with 64 streams of the base."""
    marks = []

    def mark():
        m = daemon.metrics()
        marks.append((time.monotonic(), m["oftd_steps_total"], m["oftd_pass_seconds_total"]))
    window = traffic.Window(CROWD, seconds, mark)
    traffic.run(daemon.port, CROWD, CROWD_TOKENS, lambda i, _: body(rng, SHORT, vocab, CROWD_TOKENS, "base"), window)
    (t0, n0, c0), (t1, n1, c1) = marks
    return (t1 - t0) / (n1 - n0), (c1 - c0) / (n1 - n0)


def measure(model, idle, seconds):
    base, adapters = folders(model)
    with open(f"{base}/config.json") as f:
        config = json.load(f)
    vocab, rng = config["vocab_size"], random.Random(1)
    length = min(PROMPT, config.get("max_position_embeddings", PROMPT) // 2)
    readies, loads = [], []
    for _ in range(STARTS):
        begin = time.monotonic()
        bare, ready = start(base, {})
        with bare:
            first_token_seconds(bare, prompt(rng, SHORT, vocab))
            readies.append(ready)
            loads.append(time.monotonic() - begin)
    daemon, ready_with_adapters = start(base, adapters)
    with daemon:
        pid = daemon.process.pid
        firsts = [first_token_seconds(daemon, prompt(rng, length, vocab)) for _ in range(ROUNDS + 1)][1:]
        first_waits, between = eight(daemon, adapters, rng, vocab, seconds)
        step, busy = share_outside(daemon, rng, vocab, seconds)
        time.sleep(SETTLE)
        before = machine.process_seconds(pid)
        time.sleep(idle)
        idle_seconds = machine.process_seconds(pid) - before
        resident, peak = resident_bytes(pid)
    return {
        "adapters": len(adapters), "ready_seconds": statistics.median(readies),
        "load_to_first_token_seconds": statistics.median(loads), "ready_with_adapters_seconds": ready_with_adapters,
        "prompt": length, "first_token_seconds": statistics.median(firsts),
        "streams": STREAMS, "token_wait_p50": traffic.percentile(between, 0.5),
        "token_wait_p99": traffic.percentile(between, 0.99), "first_token_p50": traffic.percentile(first_waits, 0.5),
        "first_token_p99": traffic.percentile(first_waits, 0.99), "first_tokens": len(first_waits),
        "crowd": CROWD, "step_seconds": step, "compute_seconds": busy,
        "idle_seconds": idle, "idle_processor_seconds": idle_seconds, "resident_bytes": resident, "peak_bytes": peak}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--idle", type=float, default=10, metavar="SECONDS")
    p.add_argument("--seconds", type=float, default=10, help="of each measure with streams")
    a = p.parse_args()
    json.dump(measure(a.model, a.idle, a.seconds), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
