#!/usr/bin/env python3
"""streams.py MODEL_DIR [--streams 64] [--tokens 48] [--rounds 5] [--temperature 0]: what chat and HTTP cost while many streams run.

MODEL_DIR is make_model.py's. It brings no tokenizer: its weights are served with the demo's, filled up with words to
the model's vocabulary, and with the demo's chat template. Printed, each with both parts:

  chat, of completions   the time of so many chat streams, of as many completions streams on the same rendered prompt,
                         taken in turn (median of the ratios); the same of the daemon's processor time, which a busy
                         machine moves less; and of what the daemon does outside of passes through the model, which
                         are the same in both
  more, of all           what chat costs more there, of all processor time of completions: the passes, whose time is
                         the machine's, do not blur it
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
    """Seconds of processor time by thread."""
    spent = {}
    for t in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{t}/schedstat") as f:
            spent[t] = int(f.read().split()[0]) / 1e9
    return spent


def counted(daemon):
    """What grows: all processor time, that of threads other than the two that compute, steps, their time, their passes'."""
    spent, metrics = sorted(threads(daemon.process.pid).values(), reverse=True), daemon.metrics()
    return {"cpu": sum(spent), "http": sum(spent[2:]), "steps": metrics["oftd_steps_total"],
            "step": metrics["oftd_step_seconds_total"], "pass": metrics["oftd_pass_seconds_total"]}


def measure(model, streams, tokens, rounds, temperature=0):
    """[what counted() counts, with the seconds and the bytes, of each round] of either kind."""
    with tempfile.TemporaryDirectory() as base:
        folder(model, base)
        with Daemon("--max-sequences", str(streams), model=base) as d:
            fields = {"max_tokens": tokens, "ignore_eos": True, "temperature": temperature, "seed": 1}
            prompt = d.ok("POST", "/apply-template", {"messages": MESSAGES})["prompt"]
            kinds = {"chat": ("/v1/chat/completions", {"messages": MESSAGES, **fields}),
                     "completions": ("/v1/completions", {"prompt": prompt, "add_special_tokens": False, **fields})}
            for kind in kinds:
                crowd(d, *kinds[kind], streams)
            all_rounds = {k: [] for k in kinds}
            for i in range(rounds):
                for kind in sorted(kinds, reverse=i % 2):
                    before = counted(d)
                    seconds, size = crowd(d, *kinds[kind], streams)
                    after = counted(d)
                    all_rounds[kind].append({"seconds": seconds, "bytes": size, **{k: after[k] - before[k] for k in after}})
            return all_rounds


def column(rounds, key):
    return [r["step"] - r["pass"] + r["http"] if key == "no pass" else r[key] for r in rounds]


def more_of_completions(rounds):
    """What chat costs more outside of passes, of all that completions cost."""
    chat, plain = (statistics.median(column(rounds[k], "no pass")) for k in ("chat", "completions"))
    return (chat - plain) / statistics.median(column(rounds["completions"], "cpu"))


def show(o):
    rounds = measure(o.model, o.streams, o.tokens, o.rounds, o.temperature)
    total = lambda key: sum(sum(column(r, key)) for r in rounds.values())
    print(f"{o.streams} streams of {o.tokens} tokens, {total('steps'):.0f} steps")
    for what, key, unit in (("chat, of completions", "seconds", " s"), ("  of processor time", "cpu", " s"), ("  of bytes", "bytes", ""),
                            ("  of steps", "steps", ""), ("  of passes", "pass", " s"), ("  of what is no pass", "no pass", " s")):
        chat, plain = column(rounds["chat"], key), column(rounds["completions"], key)
        ratios = [a / b for a, b in zip(chat, plain)]
        print(f"{what:<24}{statistics.median(ratios):.3f}  {min(ratios):.3f} to {max(ratios):.3f}; "
              f"{statistics.median(chat):.4g} and {statistics.median(plain):.4g}{unit}")
    print(f"  more, of all          {more_of_completions(rounds):+.4f}")
    print(f"outside of passes       {1 - total('pass') / total('step'):.4f} {total('step') - total('pass'):.3f} of {total('step'):.3f} s")
    print(f"HTTP's processor time   {total('http') / total('cpu'):.4f} {total('http'):.2f} of {total('cpu'):.2f} s")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--streams", type=int, default=64)
    p.add_argument("--tokens", type=int, default=48)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--temperature", type=float, default=0)
    show(p.parse_args())
