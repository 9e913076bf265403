#!/usr/bin/env python3
"""outside.py MODEL_DIR [--idle SECONDS]: what a client and an operator see of a daemon; prints JSON.

MODEL_DIR holds base/ and adapters/*/ (make_model.py), or is a base by itself. Measured: seconds from
exec until /health is ready, the first token of a prompt of 512, the waits between tokens of eight
streams with distinct adapters, and the processor time of the idle daemon with every adapter loaded.
The program is $BUILD/oftd; standard library only.
"""
import argparse
import json
import os
import random
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "live"))
from daemon import Daemon, Stream  # noqa: E402

PROMPT, STREAMS, TOKENS, ROUNDS, SETTLE = 512, 8, 32, 5, 1.0
TICKS = os.sysconf("SC_CLK_TCK")


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


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


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


def follow(daemon, ids, fields, times):
    """A base without a tokenizer has no text: the ids make a frame of every token."""
    stream = Stream(daemon, ids, max_tokens=TOKENS, ignore_eos=True, return_token_ids=True, **fields)
    for _, data in stream.frames():
        if data != "[DONE]":
            times.append(time.monotonic())
    stream.close()


def crowd(daemon, adapters, rng, vocab):
    """Eight streams at once: the time of every token of each, and when they were sent."""
    times = [[] for _ in range(STREAMS)]
    names = list(adapters)
    threads = []
    for i, t in enumerate(times):
        fields = {"model": names[i % len(names)]} if names else {}
        threads.append(threading.Thread(target=follow, args=(daemon, prompt(rng, 32, vocab), fields, t)))
    begin = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(times), "a stream brought nothing"
    return begin, times


def waits(times):
    """Between two tokens of a stream, while all streams run."""
    first, last = max(t[0] for t in times), min(t[-1] for t in times)
    return [b - a for t in times for a, b in zip(t, t[1:]) if first <= a and b <= last]


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(p * len(values)))] if values else 0.0


def measure(model, idle):
    base, adapters = folders(model)
    with open(f"{base}/config.json") as f:
        config = json.load(f)
    vocab, rng = config["vocab_size"], random.Random(1)
    length = min(PROMPT, config.get("max_position_embeddings", PROMPT) // 2)
    bare, ready = start(base, {})
    with bare:
        pass
    daemon, ready_with_adapters = start(base, adapters)
    with daemon:
        pid = daemon.process.pid
        firsts = [first_token_seconds(daemon, prompt(rng, length, vocab)) for _ in range(ROUNDS + 1)][1:]
        between, first_waits = [], []
        for _ in range(ROUNDS):
            begin, times = crowd(daemon, adapters, rng, vocab)
            between += waits(times)
            first_waits += [t[0] - begin for t in times]
        time.sleep(SETTLE)
        before = processor_seconds(pid)
        time.sleep(idle)
        idle_seconds = processor_seconds(pid) - before
        resident, peak = resident_bytes(pid)
    return {
        "adapters": len(adapters), "ready_seconds": ready, "ready_with_adapters_seconds": ready_with_adapters,
        "prompt": length, "first_token_seconds": statistics.median(firsts),
        "streams": STREAMS, "token_wait_p50": percentile(between, 0.5), "token_wait_p99": percentile(between, 0.99),
        "first_token_p50": percentile(first_waits, 0.5), "first_token_p99": percentile(first_waits, 0.99),
        "idle_seconds": idle, "idle_processor_seconds": idle_seconds, "resident_bytes": resident, "peak_bytes": peak}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--idle", type=float, default=10, metavar="SECONDS")
    a = p.parse_args()
    json.dump(measure(a.model, a.idle), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
