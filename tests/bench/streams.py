#!/usr/bin/env python3
"""streams.py MODEL_DIR [--streams 64] [--tokens 48] [--rounds 5] [--temperature 0]: what chat and HTTP cost while many streams run.

MODEL_DIR is make_model.py's. It brings no tokenizer: its weights are served with the demo's, filled up with words to
the model's vocabulary, and with the demo's chat template. Printed, each with both parts:

  chat, of completions   the time of so many chat streams, of as many completions streams on the same rendered prompt,
                         taken in turn (median of the ratios); and the same of the daemon's processor time, which a
                         busy machine moves less
  outside of passes      of the worker's steps, the time that is no pass through the model (/metrics)
  HTTP's processor time  of the daemon's, what threads other than the two that compute take

A connection's bytes are counted, not read, for the client shares the processor. Standard library only.
"""
import argparse
import json
import os
import selectors
import socket
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "live"))
from daemon import BASE, Daemon  # noqa: E402

MESSAGES = [{"role": "user", "content": "The wife of the captain saw the old house."}, {"role": "assistant", "content": "It is so."},
            {"role": "user", "content": "And then, what did the king say to the people of the land?"}]


def folder(model, to):
    """The weights of `model` with a tokenizer and a chat template."""
    source = f"{model}/base" if os.path.isdir(f"{model}/base") else model
    with open(f"{source}/config.json") as f:
        vocab = json.load(f)["vocab_size"]
    with open(f"{BASE}/tokenizer.json") as f:
        tokenizer = json.load(f)
    words, added = tokenizer["model"]["vocab"], {t["id"] for t in tokenizer["added_tokens"]}
    for i in range(vocab):
        if i not in added and i >= len(words):
            words[f"Ġw{i}"] = i
    assert max(words.values()) < vocab, "the model's vocabulary is smaller than the demo's"
    for name in os.listdir(source):
        if not name.startswith(("tokenizer", "chat_template")):
            os.symlink(os.path.abspath(f"{source}/{name}"), f"{to}/{name}")
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        os.symlink(f"{BASE}/{name}", f"{to}/{name}")
    with open(f"{to}/tokenizer.json", "w") as f:
        json.dump(tokenizer, f)


def crowd(daemon, path, body, streams):
    """Seconds from the first request until the last stream has ended, and the bytes of all."""
    text = json.dumps({**body, "stream": True}).encode()
    request = (f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
               f"Content-Length: {len(text)}\r\n\r\n").encode() + text
    sockets = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(streams)]
    waiting, total, tails = selectors.DefaultSelector(), 0, {}
    begin = time.monotonic()
    for s in sockets:
        s.sendall(request)
        waiting.register(s, selectors.EVENT_READ)
    while waiting.get_map():
        for key, _ in waiting.select():
            got = key.fileobj.recv(1 << 16)
            total += len(got)
            tails[key.fd] = (tails.get(key.fd, b"") + got)[-40:]
            if not got:
                waiting.unregister(key.fileobj)
    seconds = time.monotonic() - begin
    assert all(b"data: [DONE]" in t for t in tails.values()), "a stream did not end"
    for s in sockets:
        s.close()
    return seconds, total


def threads(pid):
    """Processor ticks by thread."""
    ticks = {}
    for t in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{t}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        ticks[t] = int(fields[11]) + int(fields[12])
    return ticks


def measure(o):
    with tempfile.TemporaryDirectory() as base:
        folder(o.model, base)
        with Daemon("--max-sequences", str(o.streams), model=base) as d:
            fields = {"max_tokens": o.tokens, "ignore_eos": True, "temperature": o.temperature, "seed": 1}
            prompt = d.ok("POST", "/apply-template", {"messages": MESSAGES})["prompt"]
            kinds = {"chat": ("/v1/chat/completions", {"messages": MESSAGES, **fields}),
                     "completions": ("/v1/completions", {"prompt": prompt, "add_special_tokens": False, **fields})}
            for kind in kinds:
                crowd(d, *kinds[kind], o.streams)
            before, cpu = d.metrics(), threads(d.process.pid)
            times, ticks = {k: [] for k in kinds}, {k: [] for k in kinds}
            for i in range(o.rounds):
                for kind in sorted(kinds, reverse=i % 2):
                    spent = sum(threads(d.process.pid).values())
                    times[kind].append(crowd(d, *kinds[kind], o.streams)[0])
                    ticks[kind].append(sum(threads(d.process.pid).values()) - spent)
            after, more = d.metrics(), threads(d.process.pid)
            grown = lambda name: after[name] - before[name]
            spent = sorted((more[t] - cpu.get(t, 0) for t in more), reverse=True)
            ratios, work = ([a / b for a, b in zip(x["chat"], x["completions"])] for x in (times, ticks))
            step, passes = grown("oftd_step_seconds_total"), grown("oftd_pass_seconds_total")
            print(f"{o.streams} streams of {o.tokens} tokens, {grown('oftd_steps_total'):.0f} steps")
            print(f"chat, of completions    {statistics.median(ratios):.3f}  {min(ratios):.3f} to {max(ratios):.3f}; "
                  f"{statistics.median(times['chat']):.3f} and {statistics.median(times['completions']):.3f} s")
            print(f"  of processor time     {statistics.median(work):.3f}  {min(work):.3f} to {max(work):.3f}; "
                  f"{statistics.median(ticks['chat']) / 100:.2f} and {statistics.median(ticks['completions']) / 100:.2f} s")
            print(f"outside of passes       {1 - passes / step:.4f} {step - passes:.3f} of {step:.3f} s")
            print(f"HTTP's processor time   {sum(spent[2:]) / sum(spent):.4f} {sum(spent[2:]) / 100:.2f} of {sum(spent) / 100:.2f} s")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--streams", type=int, default=64)
    p.add_argument("--tokens", type=int, default=48)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--temperature", type=float, default=0)
    measure(p.parse_args())
